"""Every estimate in a result by its place, where rows of a list go by their names; and all of them as one CSV table."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["Found", "Place", "find_estimates", "result_csv", "where"]

Place = tuple[str, ...]
_ROW_NAMES = (("name",), ("corruption", "severity"), ("scenario",), ("profile",), ("rate",), ("q",))
_ABOUT = frozenset({"schema", "kind", "title", "command", "method", "environment"})
_DEEPEST = 60
_LARGEST = 1e100  # differences and squares of larger ends would overflow
_COLUMNS = ("kind", "row", "figure", "value", "low", "high", "n")


@dataclass(frozen=True)
class Found:
    """One estimate of a result.

    Attributes:
        estimate: The value with its 95 % interval.
        better: Which way is better, as the result says; None if it does not.
        quantile: Which quantile it is, by its name ("p99") or by `q` beside it; a ratio is a median. None for others.
    """

    estimate: Estimate
    better: Literal["higher", "lower"] | None = None
    quantile: float | None = None


def find_estimates(document: dict[str, Any]) -> dict[Place, Found]:
    """Return every object with value, low, high and n that holds numbers, in the order of the document.

    Raises:
        BenchmarkError: The document is nested more than 60 deep.
    """
    found: dict[Place, Found] = {}
    for name, value in document.items():
        if name not in _ABOUT:
            found.update(_walk((name,), value))
    return found


def where(place: Place) -> str:
    """Return a place as text."""
    return " / ".join(place)


def result_csv(document: dict[str, Any]) -> str:
    """Return one line per estimate: kind, row, figure, value, low, high (95 % interval) and n.

    One long table serves a pivot over the results of many runs; RFC 4180 except for plain line ends.
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
    """Return a name that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _walk(place: Place, node: Any, q: Any = None) -> Iterator[tuple[Place, Found]]:
    if len(place) > _DEEPEST:
        raise BenchmarkError(f"{where(place[:3])} / ...: expected at most {_DEEPEST} levels")
    if isinstance(node, dict):
        if {"value", "low", "high", "n"} <= node.keys():
            estimate = _estimate(node)
            if estimate is not None:
                yield place, Found(estimate, _better(node), _quantile(place[-1], node, q))
        for name, child in node.items():
            yield from _walk((*place, name), child, node.get("q"))
    elif isinstance(node, list):
        for name, child in zip(_row_names(node), node, strict=True):
            yield from _walk((*place, name), child)


def _estimate(node: dict[str, Any]) -> Estimate | None:
    numbers = [node[name] for name in ("value", "low", "high", "n")]
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers):
        return None
    if not all(math.isfinite(one) and abs(one) < _LARGEST for one in numbers):
        return None
    value, low, high, n = numbers
    return Estimate(float(value), float(low), float(high), int(n))


def _better(node: dict[str, Any]) -> Literal["higher", "lower"] | None:
    """Return what the result says."""
    told = node.get("better")
    return told if told in ("higher", "lower") else None


def _quantile(name: str, node: dict[str, Any], q: Any) -> float | None:
    if named := re.fullmatch(r"p(\d\d)[._]?(\d{0,9})", name):
        return float(f"0.{named[1]}{named[2]}")
    if isinstance(q, float) and 0 < q < 1:
        return q
    return 0.5 if {"ours", "theirs"} <= node.keys() else None


def _row_names(rows: list[Any]) -> list[str]:
    for keys in _ROW_NAMES:
        values = [[row.get(key) if isinstance(row, dict) else None for key in keys] for row in rows]
        if all(isinstance(value, str | int | float) for row in values for value in row):
            names = [" ".join(map(str, row)) for row in values]
            if len(set(names)) == len(names):
                return names
    return [f"[{index}]" for index in range(len(rows))]
