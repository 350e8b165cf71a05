"""`edgecascade bench compare`: list what changed between two results, beyond noise."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from edgecascade.benchmarks.report import compare_results, comparison_text, read_result

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "exit code: 0 if nothing got worse beyond noise, 1 if something did, 2 if a file cannot be read.\n"
        "example: edgecascade bench compare benchmarks/results/flagship/result.json report/result.json"
    )
    parser.add_argument("before", help="The first result.json.")
    parser.add_argument("after", help="The result.json to compare with it.")
    parser.add_argument("--all", action="store_true", help="List also the figures that did not change.")


def execute(arguments: Namespace) -> int:
    """Compare, print, and return 1 if something got worse."""
    found = compare_results(read_result(arguments.before), read_result(arguments.after))
    print(comparison_text(found, everything=arguments.all))
    return 1 if found.of("worse") else 0
