"""`edgecascade bench promises`: the plan against every fixed score, and certificates against what happened."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from edgecascade.benchmarks.commands.report_argument import add_report

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--splits", type=int, default=100, help="random splits behind each figure (default 100)")
    parser.add_argument("--draws", type=int, default=1000, help="certificates in each row (default 1000)")
    add_report(parser)


def execute(arguments: Namespace) -> int:
    """Measure what an interrupted run did not, print, and write the result."""
    from edgecascade.benchmarks.cache import cache_folder
    from edgecascade.benchmarks.pairs import fashion_pair, flagship_pairs
    from edgecascade.benchmarks.promises import measure_promises, promises_steps, summarize
    from edgecascade.benchmarks.results import write_result
    from edgecascade.benchmarks.steps import kept_steps

    cache, folder = cache_folder(), Path(arguments.report)
    pairs = (*flagship_pairs(cache), fashion_pair(cache))
    asked = {"splits": arguments.splits, "draws": arguments.draws}
    about = {**asked, "outputs": [pair.digest for pair in pairs]}
    with kept_steps(folder / "steps", about, promises_steps(pairs)) as steps:
        found = measure_promises(pairs, steps, **asked)
        write_result(folder, found, summarize(found))
    print(summarize(found))
    return 0
