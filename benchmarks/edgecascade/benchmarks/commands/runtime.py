"""`edgecascade bench runtime`: what the device pays for having `Cascade` rather than a bare session."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from edgecascade.benchmarks.commands.report_argument import add_report

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--rounds", type=int, default=200, help="calls of each function, for each of 15 pairs of sessions (default 200)"
    )
    parser.add_argument("--no-triton", action="store_true", help="leave out tritonclient (an environment of 500 MB)")
    add_report(parser)


def execute(arguments: Namespace) -> int:
    """Measure, print, and write the result."""
    from edgecascade.benchmarks.results import write_result
    from edgecascade.benchmarks.runtime_cost import measure_runtime_cost
    from edgecascade.export.cache import cache_folder

    found = measure_runtime_cost(cache_folder(), rounds=arguments.rounds, triton=not arguments.no_triton)
    write_result(Path(arguments.report), found, str(found))
    print(found)
    return 0
