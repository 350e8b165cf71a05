"""95 % intervals of shares, differences, means and quantiles, and numbers that carry theirs as `Estimate`.

Shares are binomial: their intervals are exact, so they hold near 0 and 1. Inputs may have weights (importance weights,
for example); the intervals then use an effective number of inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.weights import normalised
from edgecascade.types.estimate import Estimate

__all__ = [
    "accuracy_interval",
    "loss_interval",
    "mean",
    "paired_difference_interval",
    "proportion",
    "proportion_interval",
    "quantile",
    "simultaneous_band",
    "skewed_interval",
]

_DRAWS = 5000  # of the largest deviation among all columns
_HALVINGS = 30  # of a bracket, which leave 1e-9 of it

Floats = NDArray[np.float64]


@overload
def proportion_interval(count: int, n: int, level: float = 0.95) -> tuple[float, float]: ...


@overload
def proportion_interval(
    count: NDArray[np.integer], n: int, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...


def proportion_interval(
    count: int | NDArray[np.integer], n: int, level: float = 0.95
) -> tuple[float, float] | tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the interval of a proportion observed as `count` out of `n`, by Blaker's exact method; arrays elementwise.

    Its coverage is at least `level` for every proportion and n, and closer to it than that of Clopper and Pearson's
    interval, which contains it (Blaker, Canadian Journal of Statistics 28, 2000).

    >>> low, high = proportion_interval(780, 1000)
    >>> round(low, 3), round(high, 3)
    (0.753, 0.805)
    """
    counts = np.atleast_1d(count).astype(np.float64)
    low, high = _blaker(counts, n, 1 - level), 1 - _blaker(n - counts, n, 1 - level)
    return (float(low[0]), float(high[0])) if np.ndim(count) == 0 else (low, high)


def accuracy_interval(
    correct: NDArray[np.bool_] | NDArray[np.floating], weight: Floats | None = None, level: float = 0.95
) -> tuple[Any, Any]:
    """Return the interval of the accuracy, the weighted mean of `correct`.

    Right and wrong answers of equal weight get `proportion_interval`. Otherwise it is Clopper and Pearson's interval
    for the effective number of inputs: as many as would give the mean its variance (Korn and Graubard, Survey
    Methodology 24, 1998), with one unseen input added to the variance, so that equal values have a width.

    Args:
        correct: bool [n], or floating [n] in [0, 1], such as a verifier's scores; or [n, points], for each column.
        weight: numbers [n] above 0; None for equal weights.
        level: coverage, of each column on its own.

    Returns:
        The ends: floats, or float64 [points].
    """
    columns, weight = correct.reshape(len(correct), -1), normalised(weight, len(correct))
    if weight is None and (columns.dtype == np.bool_ or np.isin(columns, (0, 1)).all()):
        found = proportion_interval(np.sum(columns, axis=0).astype(np.int64), len(columns), level)
    else:
        found = _shares(np.asarray(columns, np.float64), _parts(weight, len(columns)), 1 - level)
    return _as_given(found, correct.ndim)


def paired_difference_interval(
    first: NDArray[np.bool_] | NDArray[np.floating],
    second: NDArray[np.bool_] | NDArray[np.floating],
    weight: Floats | None = None,
    level: float = 0.95,
    unseen: float = 1.0,
) -> tuple[Any, Any]:
    """Return the interval of the accuracy of `first` minus that of `second` on the same inputs.

    Tango's score interval (Statistics in Medicine 17, 1998), which has a width even where all answers agree. With
    weights, or values other than 0 and 1, it takes the effective numbers of differences and of inputs. Where few
    answers differ, the coverage is above `level`: how often each side is better is unknown then, and the interval
    holds for all rates that the data allow.

    Args:
        first: bool [n], or floating [n] in [0, 1]; or [n, points], for each column.
        second: the same for the other answers; [n] is compared with each column.
        weight: numbers [n] above 0; None for equal weights.
        level: coverage, of each column on its own.
        unseen: how large a difference is that these inputs may not show, above 0; that of a right and a wrong answer
            is 1.

    Returns:
        The ends: floats, or float64 [points].

    >>> low, high = paired_difference_interval(np.ones(100, bool), np.arange(100) < 90)
    >>> round(low, 3), round(high, 3)
    (0.055, 0.174)
    """
    gain = _gain(first, second)
    share = _parts(normalised(weight, len(gain)), len(gain))
    return _as_given(_differences(gain, share, 1 - level, unseen), max(first.ndim, second.ndim))


def simultaneous_band(
    correct: NDArray[np.bool_] | NDArray[np.floating],
    weight: Floats | None = None,
    level: float = 0.95,
    *,
    against: NDArray[np.bool_] | NDArray[np.floating] | None = None,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Return bounds float64 [points] that hold the accuracies of all columns of `correct` at once.

    The critical value of the sup-t band (Montiel Olea and Plagborg-Moller, Journal of Applied Econometrics 34, 2019)
    says which pointwise level makes all intervals hold together, given how the columns go together. At that level each
    column gets an interval that is exact near 0 and 1, where the sup-t band itself is too narrow: Clopper and
    Pearson's for accuracies, Tango's for differences, as in `accuracy_interval` and `paired_difference_interval`.

    Args:
        correct: bool [n, points], or floating [n, points] in [0, 1].
        weight: numbers [n] above 0; None for equal weights.
        level: simultaneous coverage.
        against: bool or floating, [n] or [n, points]; the bounds are then those of the accuracy of `correct` minus
            that of `against`, on the same inputs.
        seed: of the draws that the critical value comes from.
    """
    values = np.asarray(correct, np.float64) if against is None else _gain(correct, against)
    share = _parts(normalised(weight, len(values)), len(values))
    risk = _pointwise_risk(values, share, level, seed)
    return (_shares if against is None else _differences)(values, share, risk)


def _parts(weight: Floats | None, n: int) -> Floats:
    """Return the share of each input in a mean, float64 [n]."""
    return np.full(n, 1 / n) if weight is None else weight / weight.sum()


def _gain(first: NDArray[Any], second: NDArray[Any]) -> Floats:
    """Return first minus second, float64 [n, points]."""
    one, other = (np.asarray(some, np.float64).reshape(len(some), -1) for some in (first, second))
    return one - other


def _as_given(ends: tuple[Floats, Floats], dimensions: int) -> tuple[Any, Any]:
    """Return floats for a single column that came as [n]."""
    return ends if dimensions > 1 else (float(ends[0][0]), float(ends[1][0]))


def _pointwise_risk(values: Floats, share: Floats, level: float, seed: int) -> float:
    """Return the risk at which normal intervals of all columns [n, points] hold at once with probability `level`.

    A column whose variance is below that of a single input has that variance; what is added is common to all columns.
    """
    from scipy.stats import norm

    influence = (values - share @ values) * share[:, None]
    covariance = influence.T @ influence
    variance = np.maximum(covariance.diagonal(), np.sum(share**2) ** 2)
    common = np.sqrt(1 - covariance.diagonal() / variance)
    correlation = covariance / np.sqrt(np.outer(variance, variance)) + np.outer(common, common)
    root = np.linalg.cholesky(correlation + 1e-8 * np.eye(len(variance)))  # equal columns are singular
    drawn = np.random.default_rng(seed).standard_normal((_DRAWS, len(variance))) @ root.T
    return float(2 * norm.sf(np.quantile(np.abs(drawn).max(axis=1), level)))


def _shares(values: Floats, share: Floats, risk: float) -> tuple[Floats, Floats]:
    """Return Clopper and Pearson's interval of the mean of each column [n, points] for its effective n."""
    from scipy.special import betaincinv

    mean = np.clip(share @ values, 0.0, 1.0)
    one = np.sum(share**2)  # the share of one input
    variance = np.sum(((values - mean) * share[:, None]) ** 2, axis=0)
    n = (mean * (1 - mean) + one) / (variance + one**2)
    right, wrong = n * mean, n * (1 - mean)
    low = np.where(right > 0, betaincinv(np.maximum(right, 1e-9), wrong + 1, risk / 2), 0.0)
    high = np.where(wrong > 0, betaincinv(right + 1, np.maximum(wrong, 1e-9), 1 - risk / 2), 1.0)
    return np.minimum(low, mean), np.maximum(high, mean)


def _differences(gain: Floats, share: Floats, risk: float, unseen: float = 1.0) -> tuple[Floats, Floats]:
    """Return Tango's interval of the mean of each column [n, points] for its effective counts."""
    parts = gain * share[:, None]
    one = np.sum(share**2) * unseen
    n = (np.abs(parts).sum(axis=0) + one) / (np.sum(parts**2, axis=0) + one**2)  # 1 / share of one difference
    better, worse = n * parts.clip(0).sum(axis=0), n * (-parts).clip(0).sum(axis=0)
    return _tango(better, worse, n, risk), -_tango(worse, better, n, risk)


def _tango(better: Floats, worse: Floats, n: Floats, risk: float) -> Floats:
    """Return the least difference that the score test does not reject, given counts [points]."""
    from scipy.stats import norm

    seen, z = better - worse, norm.isf(risk / 2)

    def holds(difference: Floats) -> NDArray[np.bool_]:
        linear = (2 * n - seen) * difference - better - worse
        square = linear**2 + 8 * n * worse * difference * (1 - difference)
        rate = (np.sqrt(square.clip(0)) - linear) / (4 * n)  # of `worse`, the likeliest given the difference
        variance = n * (2 * rate + difference * (1 - difference))
        return np.asarray(seen - n * difference <= z * np.sqrt(variance.clip(0)))

    return _least(holds, np.full(len(n), -1.0), seen / n)


def _blaker(count: Floats, n: int, risk: float) -> Floats:
    """Return the least proportions [points] that Blaker's test does not reject, given counts [points] out of n.

    The test adds to P(X >= count) the probability of the lower tail that is at most as large. The tail grows by one
    count at a time; between these jumps, the sum crosses the risk at most once.
    """
    from scipy.special import betainc, betaincinv
    from scipy.stats import binom

    seen = np.maximum(count, 1.0)
    start = betaincinv(seen, n - seen + 1, risk / 2)  # where P(X >= count) = risk / 2
    next_in = binom.ppf(risk / 2, n, start)  # the largest count of the tail after the next jump

    def upper_tail(p: Floats) -> Floats:
        return np.asarray(betainc(seen, n - seen + 1, p))

    def lower_tail(largest: Floats, p: Floats) -> Floats:
        return np.where(largest < 0, 0.0, 1 - betainc(np.maximum(largest, 0) + 1, n - largest, p))

    jump = _least(lambda p: upper_tail(p) >= lower_tail(next_in, p), start, seen / n)
    low = _least(lambda p: upper_tail(p) + lower_tail(next_in - 1, p) >= risk, start, jump)
    return np.where(count == 0, 0.0, low)


def _least(holds: Callable[[Floats], NDArray[np.bool_]], low: Floats, high: Floats) -> Floats:
    """Return the points from which on `holds` is true, or `high` where it is not, less at most 1e-9 of the bracket."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        true = holds(middle)
        low, high = np.where(true, low, middle), np.where(true, middle, high)
    return low


def proportion(value: float, n: int) -> Estimate:
    """Return a share of n inputs with the interval of `proportion_interval`.

    >>> proportion(0.78, 1000).percent()
    '78.0 % (75.3 to 80.5)'
    """
    return Estimate(value, *proportion_interval(round(value * n), n), n)


def mean(values: NDArray[Any], weight: Floats | None = None) -> Estimate:
    """Return the weighted mean of values [n], such as paired differences, with an interval that allows for skewness.

    Hall's transformation of the t statistic (JRSS-B 54, 1992), which is about as close to its level as the bootstrap-t
    and needs no resamples. Where all values are equal, the interval has no width: use `accuracy_interval` or
    `paired_difference_interval` for values in a known range.

    >>> found = mean(np.arange(20.0) ** 2)
    >>> found.value, round(found.low, 1), round(found.high, 1)
    (123.5, 74.0, 185.0)
    """
    from scipy.stats import t

    share = _parts(normalised(weight, len(values)), len(values))
    value, one = float(share @ values), float(share @ share)
    if np.ptp(values) == 0:
        return Estimate(value, value, value, len(values))
    parts = share * (values - value)
    error = float(np.sqrt(parts @ parts / (1 - one)))
    skewness, z = float(np.sum(parts**3)) / error**3, float(t.ppf(0.975, 1 / one - 1))
    low, high = (value - error * _unskewed(end, skewness) for end in (z, -z))
    return Estimate(value, min(low, value), max(high, value), len(values))


def loss_interval(
    losses: Floats, unseen: float = 0.0, weight: Floats | None = None, *, most: float = np.inf
) -> tuple[float, float]:
    """Return the interval of the weighted mean of losses of 0 or more, which are skewed: few of them are large.

    See `skewed_interval`. A sample without a large loss does not show how large one would be, so `unseen` says it.

    Args:
        losses: float64 [n].
        unseen: how large a loss is that these inputs may not show, such as that of a wrong answer.
        weight: numbers [n] above 0; None for equal weights.
        most: the largest mean that there can be.

    >>> losses = np.array([0.0] * 98 + [2.0, 3.0])
    >>> low, high = loss_interval(losses)
    >>> round(low, 3), round(high, 3)
    (0.006, 0.163)
    """
    if not np.isfinite(losses).all():
        return 0.0, most
    share = _parts(normalised(weight, len(losses)), len(losses))
    value, one = float(share @ losses), float(share @ share)
    typical = float(np.sum((share * losses) ** 2)) / value if value > 0 else 0.0
    variance = float(np.sum((share * (losses - value)) ** 2))
    low, high = skewed_interval(value, variance, max(typical, unseen * one))
    return low, min(high, most)


def skewed_interval(value: float, variance: float, event: float) -> tuple[float, float]:
    """Return the interval of a quantity of 0 or more that comes from few events, given its estimate.

    The interval from the gamma distribution of Fay and Feuer (Statistics in Medicine 16, 1997) for weighted sums of
    Poisson counts. It is exact, up to the mid-P correction, where all events are alike, is never below 0, and has a
    width even where there was no event.

    Args:
        value: the estimate.
        variance: of the estimate.
        event: what one more event would add to it. Half of one is added for the upper end (Fay and Kim, Biometrical
            Journal 59, 2017).
    """
    from scipy.special import gammaincinv

    low = float(gammaincinv(value**2 / variance, 0.025)) * variance / value if value > 0 and variance > 0 else value
    upper, spread = value + event / 2, variance + event**2 / 2
    high = float(gammaincinv(upper**2 / spread, 0.975)) * spread / upper if spread > 0 else value
    return min(low, value), max(high, value)


def _unskewed(z: float, skewness: float) -> float:
    """Return the t statistic that Hall's cubic transformation takes to z; `skewness` is that of the mean."""
    if abs(skewness) < 1e-6:
        return z
    return float(3 / skewness * (np.cbrt(1 + skewness * (z - skewness / 6)) - 1))


def quantile(values: NDArray[np.float64], q: float) -> Estimate:
    """Return the q-quantile of values [n] with the exact, distribution-free interval between order statistics.

    Where n is too small for an end of the interval, that end is the smallest or the largest value.
    """
    from scipy.stats import binom

    ordered, n = np.sort(values), len(values)
    low, high = binom.ppf([0.025, 0.975], n, q).astype(int)
    at = [ordered[min(max(position, 0), n - 1)] for position in (low - 1, high)]
    return Estimate(float(np.quantile(ordered, q)), float(at[0]), float(at[1]), n)
