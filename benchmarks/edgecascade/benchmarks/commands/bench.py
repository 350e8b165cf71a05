"""`edgecascade bench`: measure a cascade model, the user's or a built-in one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from importlib import import_module
from typing import Any

from edgecascade.types.errors import BenchmarkError, CalibrationError

__all__ = ["configure", "execute"]

_BENCHMARKS = {
    "offload": "Measure accuracy against offload rate of a cascade model on your data.",
    "latency": "Measure latencies in MLPerf LoadGen's scenarios: local only, remote only and cascade, on any network.",
    "demo": "Run a built-in pair of models, from public weights or data to a report.",
    "chat": "Compare two chat endpoints as a cascade with other ways to choose between them, on the same replies.",
    "choices": "Measure an endpoint or a file on multiple-choice questions in the form of MMLU, by subject.",
    "clean": "Find planted wrong labels in public data, beside cleanlab on the same outputs.",
    "compare": "List what changed between two results, beyond noise.",
}


def configure(parser: ArgumentParser) -> None:
    """Add the benchmarks and their arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="BENCHMARK", required=True)
    for name, summary in _BENCHMARKS.items():
        _module(name).configure(kinds.add_parser(name, help=summary, description=summary))


def execute(arguments: Namespace) -> int:
    """Run one benchmark."""
    try:
        return int(_module(arguments.kind).execute(arguments))
    except CalibrationError as error:
        raise BenchmarkError(str(error)) from error


def _module(name: str) -> Any:
    return import_module(f"edgecascade.benchmarks.commands.{name}")
