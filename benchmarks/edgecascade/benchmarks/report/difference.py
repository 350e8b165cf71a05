"""The difference of two estimates from independent runs, and which of many differences are significant."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgecascade.types.estimate import Estimate

__all__ = ["difference", "freedom", "holm", "surprise"]

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
