"""95 % intervals, from scipy: an estimate is never printed without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bootstrap", "bootstrap", "paired_difference_interval", "proportion_interval", "simultaneous_band"]


def proportion_interval(count: int, n: int) -> tuple[float, float]:
    """Wilson score interval (95 %) of a proportion seen as `count` out of `n`.

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
    """Interval of the accuracy of `first` minus that of `second`, bool [n], on the same inputs.

    The adjusted Wald interval of Agresti and Min (Statistics in Medicine 24, 2005), which adds half an input
    to each of the four ways in which two answers can agree or differ; so it has a width even where all agree.

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
    """Bounds [points] that hold the accuracies of all columns of correct [n, points] at once.

    The sup-t band by the Gaussian multiplier bootstrap (Montiel Olea and Plagborg-Moller, Journal of Applied
    Econometrics 34, 2019). A column on which all inputs agree has the exact bound for its n.
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
    """What resampling says about a statistic.

    Attributes:
        low: lower end of the basic (reverse percentile) 95 % interval.
        high: its upper end.
        bias: how far resampling moves the statistic on average. A statistic that finite data inflates, such
            as the expected calibration error, is that far above its true value too; the interval allows for it.
    """

    low: float
    high: float
    bias: float


def bootstrap(statistic: Callable[..., float], *arrays: NDArray[Any], resamples: int = 500, seed: int = 0) -> Bootstrap:
    """Resample rows of paired arrays [n] together (Efron and Tibshirani 1993, chapters 10 and 13)."""
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
