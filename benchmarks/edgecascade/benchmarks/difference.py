"""The difference of two estimates from independent runs, and which of many differences are beyond noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgecascade.types.estimate import Estimate

__all__ = ["difference", "freedom", "holm", "surprise"]

_FEW = 100
_END = 1.96


def difference(before: Estimate, after: Estimate) -> Estimate:
    """After less before, with a 95 % interval by the method of variance estimates recovery.

    Each end takes the arm of either interval that it depends on, in quadrature ("square and add"), so that intervals
    that are longer on one side, as of shares near 1 and of high quantiles, stay so: Newcombe 1998, Statistics in
    Medicine 17:873; Zou and Donner 2008, Statistics in Medicine 27:1693. For symmetric intervals it is the usual one.
    """
    value = after.value - before.value
    low, high = math.hypot(*_arms(before, after, rose=True)), math.hypot(*_arms(before, after, rose=False))
    return Estimate(value, value - low, value + high, min(before.n, after.n))


def surprise(before: Estimate, after: Estimate, freedoms: tuple[float, float]) -> float:
    """The two-sided p value: how often runs between which nothing changed would differ by this much.

    .05 exactly where the 95 % interval of the difference ends at 0. Beyond that, the arm towards 0 is read as that of
    a t distribution, with Welch's degrees of freedom: what is known from little is doubted longer.

    Args:
        before: of the first run.
        after: of the second.
        freedoms: of their intervals, as `freedom` gives them.
    """
    change = after.value - before.value
    arms = _arms(before, after, rose=change > 0)
    longest = max(arms)
    if change == 0:
        return 1.0
    if longest == 0:  # two constants: nothing varied in either run
        return 0.0
    from scipy.stats import t

    squares = [(arm / longest) ** 2 for arm in arms]
    welch = sum(squares) ** 2 / sum(square**2 / of for square, of in zip(squares, freedoms, strict=True))
    return float(2 * t.sf(abs(change) / math.hypot(*arms) * t.ppf(0.975, welch), welch))


def freedom(n: int, quantile: float | None) -> float:
    """Degrees of freedom of an interval from n values: how well its own length is known.

    Between order statistics, an arm is the sum of k = 1.96 sqrt(n q (1 - q)) gaps, so its length varies by one part in
    sqrt(k), as that of a standard deviation with k / 2 degrees of freedom does. That is far fewer than n.

    Args:
        n: values.
        quantile: q, if it is a quantile's; None for a mean or a share, unless n is below 100: then a median's, to be
            on the safe side.
    """
    if quantile is None and n >= _FEW:
        return n - 1.0
    q = 0.5 if quantile is None else quantile
    return max(1.0, _END * math.sqrt(n * q * (1 - q)) / 2)


def holm(surprises: Sequence[float]) -> list[float]:
    """P values adjusted for their number by Holm's method, in the order given.

    Calling changed what is at most .05 is wrong about any of them at most 5 times in 100, however they depend on each
    other (Holm 1979, Scandinavian Journal of Statistics 6:65).
    """
    adjusted = [1.0] * len(surprises)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(surprises)), key=surprises.__getitem__)):
        highest = max(highest, min(1.0, (len(surprises) - rank) * surprises[index]))
        adjusted[index] = highest
    return adjusted


def _arms(before: Estimate, after: Estimate, *, rose: bool) -> tuple[float, float]:
    """Of both, on the sides that face each other if the second is the higher one, or else the lower one."""
    if rose:
        return max(0.0, before.high - before.value), max(0.0, after.value - after.low)
    return max(0.0, before.value - before.low), max(0.0, after.high - after.value)
