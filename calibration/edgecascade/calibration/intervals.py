"""95 % intervals, and numbers that carry theirs as `Estimate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.estimate import Estimate

__all__ = [
    "Bootstrap",
    "bootstrap",
    "mean",
    "paired_difference_interval",
    "proportion",
    "proportion_interval",
    "quantile",
    "simultaneous_band",
]


def proportion_interval(count: int, n: int) -> tuple[float, float]:
    """Return the Wilson score interval (95 %) of a proportion observed as `count` out of `n`.

    >>> low, high = proportion_interval(780, 1000)
    >>> round(low, 3), round(high, 3)
    (0.753, 0.805)
    """
    from scipy.stats import binomtest

    interval = binomtest(int(count), int(n)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference_interval(
    first: NDArray[np.bool_], second: NDArray[np.bool_], level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of the accuracy of `first` minus that of `second`, bool [n], on the same inputs.

    The adjusted Wald interval of Agresti and Min (Statistics in Medicine 24, 2005) adds half an input to each of the
    four ways in which two answers can agree or differ, so the interval has a width even where all agree.

    >>> low, high = paired_difference_interval(np.ones(100, bool), np.arange(100) < 90)
    >>> round(low, 3), round(high, 3)
    (0.037, 0.159)
    """
    from scipy.stats import norm

    n = len(first) + 2
    better = int(np.sum(first & ~second)) + 0.5
    worse = int(np.sum(~first & second)) + 0.5
    difference = (better - worse) / n
    half = float(norm.ppf((1 + level) / 2)) * float(np.sqrt(((better + worse) / n - difference**2) / n))
    return max(-1.0, difference - half), min(1.0, difference + half)


def simultaneous_band(
    correct: NDArray[np.bool_], level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return bounds float64 [points] that hold the accuracies of all columns of `correct` at once.

    The sup-t band by the Gaussian multiplier bootstrap (Montiel Olea and Plagborg-Moller, Journal of Applied
    Econometrics 34, 2019). A column on which all inputs agree gets the exact bound for its n.

    Args:
        correct: bool [n, points].
        level: simultaneous coverage.
        resamples: number of resamples.
        seed: of the resampling.
    """
    n, points = correct.shape
    mean = correct.mean(axis=0)
    deviation = np.sqrt(mean * (1 - mean) / n)
    varies = deviation > 0
    largest = 1.96
    if varies.any():
        centred = (correct[:, varies] - mean[varies]) / deviation[varies] / n
        noise = np.random.default_rng(seed).standard_normal((resamples, n), np.float32)
        largest = float(np.quantile(np.abs(noise @ centred.astype(np.float32)).max(axis=1), level))
    unseen = np.where(varies, 0.0, 1 - ((1 - level) / 2 / points) ** (1 / n))
    half = largest * deviation + unseen
    return np.maximum(mean - half, 0.0), np.minimum(mean + half, 1.0)


@dataclass(frozen=True)
class Bootstrap:
    """The result of resampling a statistic.

    Attributes:
        low: lower end of the basic (reverse percentile) 95 % interval.
        high: upper end.
        bias: mean of the resampled statistic minus the statistic. A statistic that finite data inflates, such as the
            expected calibration error, lies about that far above its true value; the interval allows for it.
    """

    low: float
    high: float
    bias: float


def bootstrap(statistic: Callable[..., float], *arrays: NDArray[Any], resamples: int = 500, seed: int = 0) -> Bootstrap:
    """Resample rows of paired arrays [n, ...] together (Efron and Tibshirani 1993, chapters 10 and 13)."""
    from scipy.stats import bootstrap as resample

    found = resample(
        arrays,
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=resamples,
        method="basic",
        rng=np.random.default_rng(seed),
    )
    interval = found.confidence_interval
    bias = float(found.bootstrap_distribution.mean() - statistic(*arrays))
    return Bootstrap(float(interval.low), float(interval.high), bias)


def proportion(value: float, n: int) -> Estimate:
    """Return a share of n inputs with Wilson's interval.

    >>> proportion(0.78, 1000).percent()
    '78.0 % (75.3 to 80.5)'
    """
    return Estimate(value, *proportion_interval(round(value * n), n), n)


def mean(values: NDArray[Any]) -> Estimate:
    """Return the mean of values [n], such as paired differences, with the bootstrap's interval."""
    if np.ptp(values) == 0:  # there is nothing to resample: the bootstrap would warn and give NaN
        return Estimate(float(values[0]), float(values[0]), float(values[0]), len(values))
    found = bootstrap(np.mean, values)
    return Estimate(float(values.mean()), found.low, found.high, len(values))


def quantile(values: NDArray[np.float64], q: float) -> Estimate:
    """Return the q-quantile of values [n] with the exact, distribution-free interval between order statistics.

    Where n is too small for an end of the interval, that end is the smallest or the largest value.
    """
    from scipy.stats import binom

    ordered, n = np.sort(values), len(values)
    low, high = binom.ppf([0.025, 0.975], n, q).astype(int)
    at = [ordered[min(max(position, 0), n - 1)] for position in (low - 1, high)]
    return Estimate(float(np.quantile(ordered, q)), float(at[0]), float(at[1]), n)
