"""`edgecascade bench corruptions`: one plan, and images that get worse."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from edgecascade.benchmarks.commands.report_argument import add_report

__all__ = ["configure", "execute"]

_FEWEST, _MOST = 1000, 4000


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--images",
        type=_images,
        default=2000,
        metavar="N",
        help=f"test images of each kind, from {_FEWEST} to {_MOST} (default 2000)",
    )
    add_report(parser)


def execute(arguments: Namespace) -> int:
    """Measure, print, and write the result with its picture."""
    from edgecascade.benchmarks.cache import cache_folder
    from edgecascade.benchmarks.corruptions import run_corruptions, summarize
    from edgecascade.benchmarks.plots import shift_svg
    from edgecascade.benchmarks.results import write_result

    found = run_corruptions(cache_folder(), arguments.images)
    folder = Path(arguments.report)
    write_result(folder, found, summarize(found))
    (folder / "shift.svg").write_text(shift_svg(found.clean, found.shifted) + "\n", encoding="utf-8")
    print(summarize(found))
    return 0


def _images(text: str) -> int:
    if text.isdecimal() and _FEWEST <= int(text) <= _MOST:
        return int(text)
    raise ArgumentTypeError(f"expected a number from {_FEWEST} to {_MOST}, got {text!r}")
