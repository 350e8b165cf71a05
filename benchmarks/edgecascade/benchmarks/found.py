"""Every estimate in a result, by where it is: rows of a list by their name, so that their order means nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["Found", "Place", "find_estimates", "where"]

Place = tuple[str, ...]
_ROW_NAMES = (
    ("name",),
    ("plan.subject", "plan.scenario", "plan.network"),
    ("subject", "scenario", "network"),
    ("corruption", "severity"),
    ("scenario",),
    ("profile",),
    ("rate",),
    ("q",),
)  # what tells rows apart, by the first of these that all of them have
_ABOUT = frozenset({"schema", "kind", "title", "command", "method", "environment"})
_DEEPEST = 60
_LARGEST = 1e100  # beyond it, differences and squares of the ends would overflow


@dataclass(frozen=True)
class Found:
    """One estimate.

    Attributes:
        estimate: with its 95 % interval.
        at_least: whether more of it is better, if the result itself says so (ratios do).
        quantile: which one it is, if it is one: "p99" or a `q` beside it says so, and a ratio is a median.
    """

    estimate: Estimate
    at_least: bool | None = None
    quantile: float | None = None


def find_estimates(document: dict[str, Any]) -> dict[Place, Found]:
    """Everything with value, low, high and n, in the order of the document; those without a number are left out.

    Raises:
        BenchmarkError: it is nested more than 60 deep.
    """
    found: dict[Place, Found] = {}
    for name, value in document.items():
        if name not in _ABOUT:
            found.update(_walk((name,), value))
    return found


def where(place: Place) -> str:
    """As it is printed."""
    return " / ".join(place)


def _walk(place: Place, node: Any, q: Any = None) -> Iterator[tuple[Place, Found]]:
    if len(place) > _DEEPEST:
        raise BenchmarkError(f"{where(place[:3])} / ...: expected at most {_DEEPEST} levels")
    if isinstance(node, dict):
        if {"value", "low", "high", "n"} <= node.keys():
            estimate = _estimate(node)
            if estimate is not None:
                told = node.get("at_least")
                yield place, Found(estimate, told if isinstance(told, bool) else None, _quantile(place[-1], node, q))
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


def _quantile(name: str, node: dict[str, Any], q: Any) -> float | None:
    if named := re.fullmatch(r"p(\d\d)[._]?(\d{0,9})", name):
        return float(f"0.{named[1]}{named[2]}")
    if isinstance(q, float) and 0 < q < 1:
        return q
    return 0.5 if {"ours", "theirs"} <= node.keys() else None


def _row_names(rows: list[Any]) -> list[str]:
    for keys in _ROW_NAMES:
        values = [[_inside(row, key) for key in keys] for row in rows]
        if all(isinstance(value, str | int | float) for row in values for value in row):
            names = [" ".join(map(str, row)) for row in values]
            if len(set(names)) == len(names):
                return names
    return [f"[{index}]" for index in range(len(rows))]


def _inside(row: Any, key: str) -> Any:
    for name in key.split("."):
        row = row.get(name) if isinstance(row, dict) else None
    return row
