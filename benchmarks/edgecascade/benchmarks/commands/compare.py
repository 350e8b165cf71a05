"""`edgecascade bench compare`: what changed between two results beyond noise."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

from edgecascade.benchmarks.circumstances import compare_circumstances
from edgecascade.benchmarks.compare import compare_results
from edgecascade.benchmarks.comparison_text import comparison_text
from edgecascade.benchmarks.result_file import read_result

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = (
        "exit code: 0 if nothing got worse beyond noise, 1 if something did, 2 if a file cannot be read.\n"
        "example: edgecascade bench compare benchmarks/results/flagship/result.json report/result.json"
    )
    parser.add_argument("before", help="a result.json")
    parser.add_argument("after", help="another, to be compared with it")
    parser.add_argument("--all", action="store_true", help="list the figures that did not change, too")


def execute(arguments: Namespace) -> int:
    """Compare, print, and tell by the exit code whether something got worse."""
    before, after = read_result(arguments.before), read_result(arguments.after)
    found = compare_results(before, after)
    print(comparison_text(found, compare_circumstances(before, after), everything=arguments.all))
    return 1 if found.of("worse") else 0
