"""The rows that a person judges: drawn at random, with what is shown of each."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgecascade.calibration.cleaning import DESIGNS, Audit, draw_audit
from edgecascade.calibration.commands.clean.media import KINDS, Shown, open_inputs
from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile
from edgecascade.cli import rare
from edgecascade.types.errors import CalibrationError

__all__ = ["Drawn", "Item", "add_draw_arguments", "draw", "drawn_again", "drawn_sentence"]

_TAG = re.compile(r"(flagged|all)-(\d{1,9})-(\d{1,20})-([0-9a-f]{16})")


@dataclass(frozen=True)
class Item:
    """One row of an audit.

    Attributes:
        row: its number among the judged rows.
        id: its id, or an empty text.
        labels: names of the given and the suggested class, in random order.
        given: which of the two is the given one, 0 or 1.
        shown: its input.
    """

    row: int
    id: str
    labels: tuple[str, str]
    given: int
    shown: Shown


@dataclass(frozen=True)
class Drawn:
    """A label audit.

    Attributes:
        audit: the rows in random order.
        tag: design, size and seed, by which it can be drawn again, and the start of its hash; every verdict carries it.
    """

    audit: Audit
    tag: str


def add_draw_arguments(parser: ArgumentParser) -> None:
    """Add how many rows are drawn, from which, and where their inputs are."""
    parser.add_argument("-n", type=int, default=100, metavar="N", help="Number of rows to judge (default 100).")
    text = (
        "Rows to draw from: the flagged ones, to prove how many of them are wrong (default), or all, to estimate how "
        "many labels are wrong in the whole set."
    )
    parser.add_argument("--design", choices=DESIGNS, default=DESIGNS[0], help=text)
    text = (
        "Where the inputs are: a folder that the ids are paths in; an .npy, .npz or .parquet file with the images "
        "(uint8 [n, height, width, 3]) or texts of all judged rows; or a .txt file with a text per line (default: the "
        "ids are paths, addresses or texts)."
    )
    parser.add_argument("--data", metavar="PATH", help=text)
    rare(parser.add_argument("--show", choices=KINDS, help="How inputs are shown (default: as the data suggest)."))
    rare(parser.add_argument("--seed", type=int, default=0, help="Seed of the draw and of the order (default 0)."))


def draw(file: SuspectsFile, arguments: Namespace, page: Path) -> tuple[Drawn, tuple[Item, ...]]:
    """Draw an audit, and read the inputs of its rows.

    Args:
        file: of suspects.
        arguments: those of `add_draw_arguments`.
        page: where links start from.

    Raises:
        CalibrationError: there is nothing to draw from, or an input cannot be read.
    """
    if arguments.design == "flagged" and not file.suspects.flagged.any():
        raise CalibrationError(
            "--design: expected flagged rows to draw from, got none; --design all draws from all rows"
        )
    inputs = open_inputs(arguments.data, file.ids, file.suspects.n, arguments.show)
    if getattr(arguments, "address", None) is not None:
        inputs = replace(inputs, address=arguments.address)
    most = int(file.suspects.flagged.sum()) if arguments.design == "flagged" else file.suspects.n
    drawn = _draw(file, arguments.design, min(arguments.n, most), arguments.seed)  # of the same rows, one audit
    if not _TAG.fullmatch(drawn.tag):
        raise CalibrationError(f"--seed: expected a number of at most 20 digits, got one of {len(str(arguments.seed))}")
    given_first = np.random.default_rng([arguments.seed, 1]).integers(0, 2, len(drawn.audit.rows)) == 0
    items = []
    for row, first in zip(drawn.audit.rows.tolist(), given_first.tolist(), strict=True):
        given, suggested = file.pair(row)
        labels = (given, suggested) if first else (suggested, given)
        shown = inputs.shown(row, page)
        items.append(Item(row, file.ids[row] if file.ids else "", labels, 0 if first else 1, shown))
    return drawn, tuple(items)


def drawn_sentence(file: SuspectsFile, arguments: Namespace, drawn: Drawn) -> str:
    """Return what was drawn, and whether fewer rows than asked for are there."""
    n, flagged = len(drawn.audit), arguments.design == "flagged"
    among = f"{int(file.suspects.flagged.sum())} flagged" if flagged else f"all {file.suspects.n}"
    fewer = f", fewer than -n {arguments.n}," if n < arguments.n else ""
    return f"drew {n} of {among} rows{fewer} as audit {drawn.tag}"


def drawn_again(file: SuspectsFile, tag: str) -> Drawn:
    """Return the audit that a verdict names.

    Raises:
        CalibrationError: the verdict is about other suspects.
    """
    found = _TAG.fullmatch(tag)
    if found is None:
        raise CalibrationError(
            f"audit: expected what `clean review` or `clean export` wrote, such as flagged-100-0-..., got {tag!r}"
        )
    drawn = _draw(file, found[1], int(found[2]), int(found[3]))
    if drawn.tag != tag:
        raise CalibrationError(
            f"audit: expected verdicts on these suspects ({drawn.tag}), got those of another set ({tag})"
        )
    return drawn


def _draw(file: SuspectsFile, design: str, n: int, seed: int) -> Drawn:
    audit = draw_audit(file.suspects, n, design=design, seed=seed)
    return Drawn(audit, f"{design}-{n}-{seed}-{audit.hash[:16]}")
