"""`edgecascade bench`: measure a cascade model, the user's or a built-in one; one module for each benchmark."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from importlib import import_module
from typing import Any

from edgecascade.types.errors import BenchmarkError, CalibrationError

__all__ = ["configure", "execute"]

_BENCHMARKS = {
    "offload": "accuracy against offload rate, of your cascade model on your data",
    "latency": "MLPerf LoadGen's scenarios: local only, remote only and the cascade, on any network",
    "demo": "a built-in pair, from public weights or data to a report",
    "compare": "what changed between two results, beyond noise",
    "table": "the README's table, from the kept results",
    "guard": "every ratio that this project promises, with its goal",
    "promises": "do calibration and plan keep their word, on the three built-in pairs",
    "corruptions": "the flagship pair on images as a worse camera would give them",
    "runtime": "what the runtime costs: time, throughput, import, memory and disk",
}


def configure(parser: ArgumentParser) -> None:
    """Add the benchmarks and their arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="BENCHMARK", required=True)
    for name, summary in _BENCHMARKS.items():
        _module(name).configure(kinds.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."))


def execute(arguments: Namespace) -> int:
    """Run one."""
    try:
        return int(_module(arguments.kind).execute(arguments))
    except CalibrationError as error:
        raise BenchmarkError(str(error)) from error


def _module(name: str) -> Any:
    return import_module(f"edgecascade.benchmarks.commands.{name}")
