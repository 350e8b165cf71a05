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
    """Measure, print, and write the result."""
    from edgecascade.benchmarks.pairs import fashion_pair, flagship_pairs
    from edgecascade.benchmarks.promises import measure_promises, summarize
    from edgecascade.benchmarks.results import write_result
    from edgecascade.export.cache import cache_folder

    cache = cache_folder()
    pairs = (*flagship_pairs(cache), fashion_pair(cache))
    found = measure_promises(pairs, splits=arguments.splits, draws=arguments.draws)
    write_result(Path(arguments.report), found, summarize(found))
    print(summarize(found))
    return 0
