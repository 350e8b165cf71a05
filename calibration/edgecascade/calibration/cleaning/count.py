"""How many rows have a property, from a random sample of them that a person judged.

Where every row has the same chance, the bounds are exact. Where chances differ, each verdict yields an estimate of the
whole number that is bounded and right on average, and the ends of the interval come from these estimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.estimate import Estimate

__all__ = [
    "TAILS",
    "Prior",
    "at_least",
    "bounded_ends",
    "count_ends",
    "least_count",
    "percent_down",
    "percent_up",
    "percent_with_ends",
    "total_ends",
    "total_estimates",
]

TAILS = (0.01, 0.04)  # of 5 %: that the number is below the interval, and above it

_DRAWS = 10_000  # of weights, for the ends; the same in every call
_ROUNDING = 1e-6
_EXACT = 1e-9  # of a printed digit: what is lost to binary fractions
_BLOCK = 128  # samples whose ends are found at once

Floats = NDArray[np.float64]


def least_count(seen: int, judged: int, total: int, risk: float = 0.05) -> int:
    """Return the exact lower bound of how many of all rows have a property, from a sample without replacement.

    The least number at which a sample has `seen` or more of them with a probability above `risk` (Buonaccorsi, The
    American Statistician 41, 1987).

    Args:
        seen: rows of the sample that have it.
        judged: rows of the sample.
        total: all rows.
        risk: probability that the number is below the bound, at most.

    >>> least_count(95, 100, 2500), least_count(95, 100, 100)
    (2247, 95)
    """
    low, high = seen, total - judged + seen  # the bound is in [low, high]
    while low < high:
        middle = (low + high) // 2
        if at_least(middle + 1, seen, judged, total, risk):
            low = middle + 1
        else:
            high = middle
    return low


def at_least(number: float, seen: int, judged: int, total: int, risk: float = 0.05) -> bool:
    """Return whether a sample without replacement proves that at least `number` of all rows have a property.

    Args:
        number: of rows.
        seen: rows of the sample that have it.
        judged: rows of the sample.
        total: all rows.
        risk: of a proof where fewer rows have it, at most.

    >>> at_least(0.7 * 2500, 80, 100, 2500), at_least(0.7 * 2500, 76, 100, 2500)
    (True, False)
    """
    from scipy.stats import hypergeom

    most = int(np.ceil(number - _ROUNDING)) - 1  # rows that have it, where fewer do
    return most < 0 or bool(hypergeom.sf(seen - 1, total, most, judged) <= risk)


def count_ends(seen: int, judged: int, total: int, tails: tuple[float, float] = TAILS) -> tuple[int, int]:
    """Return the exact interval of how many of all rows have a property, from a sample without replacement.

    Args:
        seen: rows of the sample that have it.
        judged: rows of the sample.
        total: all rows.
        tails: probabilities that the number is below the interval, and above it, at most.

    >>> count_ends(0, 100, 50_000)
    (0, 1582)
    """
    return least_count(seen, judged, total, tails[0]), total - least_count(judged - seen, judged, total, tails[1])


def percent_down(share: float, digits: int = 1) -> str:
    """Return a lower bound in percent, rounded down, so that it stays true.

    >>> percent_down(64 / 65), percent_down(0.985), percent_down(-0.0)
    ('98.4', '98.5', '0.0')
    """
    scale = 10**digits
    return f"{floor(100 * scale * share + _EXACT) / scale:.{digits}f}"


def percent_up(share: float, digits: int = 1) -> str:
    """Return an upper bound in percent, rounded up, so that it stays true.

    >>> percent_up(1 / 65), percent_up(0.015)
    ('1.6', '1.5')
    """
    scale = 10**digits
    return f"{ceil(100 * scale * share - _EXACT) / scale:.{digits}f}"


def percent_with_ends(one: Estimate, digits: int = 1) -> str:
    """Return a share in percent with its interval, whose ends are rounded outwards; without one where they are equal.

    >>> percent_with_ends(Estimate(0.5, 1 / 3, 2 / 3, 9)), percent_with_ends(Estimate(1 / 3, 1 / 3, 1 / 3, 3))
    ('50.0 % (33.3 to 66.7)', '33.3 %')
    """
    value = f"{100 * one.value:.{digits}f} %"
    ends = f" ({percent_down(one.low, digits)} to {percent_up(one.high, digits)})"
    return value if one.low == one.high else value + ends


@dataclass(frozen=True)
class Prior:
    """What was thought before of the rows that a weighted sample was drawn from.

    Attributes:
        total: the sum over all rows of the chance that they have the property.
        above: the most that (1 - chance of the property) / (chance of a draw) is for a row that may have it.
        below: the most that (chance of the property) / (chance of a draw) is for a row.
    """

    total: float
    above: float
    below: float

    @staticmethod
    def of(expected: NDArray[Any], chances: Floats, possible: NDArray[np.bool_] | None = None) -> Prior:
        """Return that of all rows.

        Args:
            expected: [n], chances that the rows have the property.
            chances: float64 [n], of each row to be drawn first.
            possible: bool [n], which rows may have it; all if None. The others have an expected chance of 0.
        """
        expected = np.asarray(expected, np.float64)
        over = (1 - expected) / chances if possible is None else np.where(possible, (1 - expected) / chances, 0.0)
        return Prior(float(expected.sum()), float(over.max()), float((expected / chances).max()))


def total_estimates(has: NDArray[Any], expected: Floats, chances: Floats, total: float) -> Floats:
    """Return the estimate of how many of all rows have a property that each judged row yields, float64 [..., judged].

    The difference estimator of Des Raj for draws in order without replacement (JASA 51, 1956): what the rows before
    have, what is expected of the others, and the difference of this row, over its chance to be drawn then. Given the
    rows before, each is right on average, however good the expectation is.

    Args:
        has: [..., judged], 1 for rows that have the property and else 0, in the order of the draws.
        expected: float64 [..., judged], the chances that they have it.
        chances: float64 [..., judged], of each row to be drawn first.
        total: the sum of all rows' expected chances.
    """

    def before(values: NDArray[Any]) -> Floats:
        return np.asarray(np.cumsum(values, axis=-1) - values, np.float64)

    has = np.asarray(has, np.float64)
    left = total - before(expected)
    return np.asarray(before(has) + left + (has - expected) * (1 - before(chances)) / chances)


def bounded_ends(values: Floats, low: float, high: float, tails: tuple[float, float] = TAILS) -> tuple[Floats, Floats]:
    """Return the ends of the interval of the mean of bounded values, float64 [...] each.

    The bound of Gaffke (Mathematical Methods of Statistics 14, 2005; Learned-Miller and Thomas, arXiv 1905.06208):
    quantiles of the mean under random weights, with one more value at the limit. On values of 0 and 1 it is Clopper
    and Pearson's. That it covers is proved for two values only; no distribution is known where it does not. Bounds by
    betting are proved to cover, and wider by a fifth to a third (`studies.audits`).

    Args:
        values: float64 [..., judged].
        low: the least that a value can be.
        high: the most.
        tails: probabilities that the mean is below the interval, and above it.

    >>> low, high = bounded_ends(np.repeat([0.0, 1.0], [95, 5]), 0.0, 1.0, (0.025, 0.025))
    >>> round(float(low), 3), round(float(high), 3)
    (0.016, 0.114)
    """
    return _quantile(values, low, tails[0]), _quantile(values, high, 1 - tails[1])


def _quantile(values: Floats, limit: float, share: float) -> Floats:
    """Return a quantile of the mean of values [..., judged] and a limit under random weights, float64 [...]."""
    flat, weights = values.reshape(-1, values.shape[-1]), _weights(values.shape[-1])
    found = np.empty(len(flat))
    for start in range(0, len(flat), _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = np.quantile(flat[block] @ weights[:-1] + limit * weights[-1], share, axis=1)
    return found.reshape(values.shape[:-1])


def total_ends(least: Floats, most: Floats, prior: Prior, tails: tuple[float, float] = TAILS) -> tuple[Floats, Floats]:
    """Return the ends of the interval of how many of all rows have a property, float64 [...] each.

    Args:
        least: float64 [..., judged], `total_estimates` where doubtful rows do not have it; for the lower end.
        most: float64 [..., judged], the same where they have it; for the upper end.
        prior: of all rows.
        tails: probabilities that the number is below the interval, and above it.
    """
    low, high = prior.total - prior.below, prior.total + prior.above
    return _quantile(least, low, tails[0]), _quantile(most, high, 1 - tails[1])


@lru_cache(1)
def _weights(judged: int) -> Floats:
    """Return random weights that sum to 1, float64 [judged + 1, draws]: uniform on the simplex."""
    drawn = np.random.default_rng(0).standard_exponential((judged + 1, _DRAWS))
    drawn /= drawn.sum(axis=0)
    return drawn
