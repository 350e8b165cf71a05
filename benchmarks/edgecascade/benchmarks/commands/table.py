"""`edgecascade bench table`: the README's table of the built-in pairs, from their kept results."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from edgecascade.benchmarks.readme_table import readme_table, with_table
from edgecascade.export.graph import write_whole
from edgecascade.types.errors import BenchmarkError

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = "exit code: 0, 1 if --check finds another table, 2 if a file cannot be read"
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("benchmarks/results"),
        metavar="DIR",
        help="kept results, a folder for each pair (default: benchmarks/results)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--check", type=Path, metavar="README", help="whether this page has the table, and nothing else")
    where.add_argument("--write", type=Path, metavar="README", help="put the table between this page's markers")


def execute(arguments: Namespace) -> int:
    """Print, check or write the table."""
    table = readme_table(arguments.results)
    page = arguments.check or arguments.write
    if page is None:
        print(table)
        return 0
    text = _read(page)
    wanted = with_table(text, table)
    if text == wanted:
        return 0
    if arguments.check:
        print(f"{page}: its table is not what {arguments.results} gives; `bench table --write {page}`", file=sys.stderr)
        return 1
    write_whole(wanted.encode(), page)
    return 0


def _read(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{page}: expected a text file, got: {error}") from error
