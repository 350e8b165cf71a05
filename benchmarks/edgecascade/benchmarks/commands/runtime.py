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
    """Measure what an interrupted run did not, print, and write the result."""
    from edgecascade.benchmarks.cache import cache_folder
    from edgecascade.benchmarks.flagship import Protocol, prepare_flagship
    from edgecascade.benchmarks.packages import sha256_of
    from edgecascade.benchmarks.results import write_result
    from edgecascade.benchmarks.runtime_cost import measure_runtime_cost, runtime_steps
    from edgecascade.benchmarks.steps import kept_steps

    cache, folder, triton = cache_folder(), Path(arguments.report), not arguments.no_triton
    flagship = prepare_flagship(Protocol(), cache)
    about = {"rounds": arguments.rounds, "cascade": sha256_of(flagship.cascade)}
    with kept_steps(folder / "steps", about, runtime_steps(triton=triton)) as steps:
        found = measure_runtime_cost(flagship, cache, steps, rounds=arguments.rounds, triton=triton)
        write_result(folder, found, str(found))
    print(found)
    return 0
