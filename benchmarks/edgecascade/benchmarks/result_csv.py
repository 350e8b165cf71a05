"""Every figure of a result as one long table: for a spreadsheet, or two lines of pandas."""

from __future__ import annotations

import csv
import io
from typing import Any

from edgecascade.benchmarks.found import find_estimates, where

__all__ = ["result_csv"]

_COLUMNS = ("kind", "row", "figure", "value", "low", "high", "n")


def result_csv(document: dict[str, Any]) -> str:
    """One line per estimate, numbers as numbers, in the order of the document; curves are in the JSON only.

    One table in this form, and not one for each table of the page: those hold text for a reader
    ("83.0 % (81.8 to 84.1)"), with which nobody can calculate, and differ from kind to kind. From this one a pivot over
    `row` and `figure` makes any of them. Shares are fractions, times are in the document's units.

    Args:
        document: of schema 2.

    Returns:
        Columns kind ("offload"), row ("strategies / cascade"), figure ("accuracy"), value, low, high (95 % interval)
        and n; RFC 4180 but for line ends, which are plain.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for (kind, *rest), found in find_estimates(document).items():
        names = (kind, where(tuple(rest[:-1])), rest[-1] if rest else "")
        estimate = found.estimate
        writer.writerow((*map(_inert, names), estimate.value, estimate.low, estimate.high, estimate.n))
    return text.getvalue()


def _inert(text: str) -> str:
    """A spreadsheet would run a name that looks like a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
