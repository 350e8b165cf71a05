"""Every estimate in a result by its place, where rows of a list go by their names; and differences of two estimates.

The estimates are written as one CSV table too. The differences are those of independent runs, with p values.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["Found", "Place", "difference", "find_estimates", "freedom", "holm", "result_csv", "surprise", "where"]

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


_FEW = 100
_END = 1.96


def difference(before: Estimate, after: Estimate) -> Estimate:
    """Return after minus before, with a 95 % interval by the method of variance estimates recovery.

    Each end combines in quadrature the two arms that it depends on ("square and add"), so that asymmetric intervals,
    such as those of shares near 1 and of high quantiles, stay asymmetric: Newcombe 1998, Statistics in Medicine 17:873;
    Zou and Donner 2008, Statistics in Medicine 27:1693. For symmetric intervals it is the usual interval.
    """
    value = after.value - before.value
    low, high = math.hypot(*_arms(before, after, rose=True)), math.hypot(*_arms(before, after, rose=False))
    return Estimate(value, value - low, value + high, min(before.n, after.n))


def surprise(before: Estimate, after: Estimate, freedoms: tuple[float, float]) -> float:
    """Return the two-sided p value of no change between the runs.

    It is .05 exactly where the 95 % interval of the difference ends at 0. Elsewhere the arm towards 0 is scaled by a t
    distribution with Welch's degrees of freedom, so that small samples need larger differences.

    Args:
        before: The estimate of the first run.
        after: The estimate of the second run.
        freedoms: The degrees of freedom of their intervals, from `freedom`.
    """
    change = after.value - before.value
    arms = _arms(before, after, rose=change > 0)
    longest = max(arms)
    if change == 0:
        return 1.0
    if longest == 0:  # two constants
        return 0.0
    from scipy.stats import t

    squares = [(arm / longest) ** 2 for arm in arms]
    welch = sum(squares) ** 2 / sum(square**2 / of for square, of in zip(squares, freedoms, strict=True))
    return float(2 * t.sf(abs(change) / math.hypot(*arms) * t.ppf(0.975, welch), welch))


def freedom(n: int, quantile: float | None) -> float:
    """Return the degrees of freedom of an interval from n values.

    Between order statistics, an arm is the sum of k = 1.96 sqrt(n q (1 - q)) gaps, so its length varies by one part in
    sqrt(k), as that of a standard deviation with k / 2 degrees of freedom does: far fewer than n.

    Args:
        n: The number of values.
        quantile: q for the q-quantile; None for a mean or a share, which counts as a median below n = 100, to be safe.
    """
    if quantile is None and n >= _FEW:
        return n - 1.0
    q = 0.5 if quantile is None else quantile
    return max(1.0, _END * math.sqrt(n * q * (1 - q)) / 2)


def holm(surprises: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number by Holm's method, in the order given.

    Rejecting those of at most .05 makes any false rejection in at most 5 % of cases, whatever their dependence
    (Holm 1979, Scandinavian Journal of Statistics 6:65).
    """
    adjusted = [1.0] * len(surprises)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(surprises)), key=surprises.__getitem__)):
        highest = max(highest, min(1.0, (len(surprises) - rank) * surprises[index]))
        adjusted[index] = highest
    return adjusted


def _arms(before: Estimate, after: Estimate, *, rose: bool) -> tuple[float, float]:
    """Return the arms of both intervals that face each other after a rise, or else after a fall."""
    if rose:
        return max(0.0, before.high - before.value), max(0.0, after.value - after.low)
    return max(0.0, before.value - before.low), max(0.0, after.high - after.value)
