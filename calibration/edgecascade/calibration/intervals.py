"""95 % intervals, from scipy: an estimate is never printed without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bootstrap", "bootstrap", "proportion_interval"]


def proportion_interval(count: int, n: int) -> tuple[float, float]:
    """Wilson score interval (95 %) of a proportion seen as `count` out of `n`.

    >>> low, high = proportion_interval(780, 1000)
    >>> round(low, 3), round(high, 3)
    (0.753, 0.805)
    """
    from scipy.stats import binomtest

    interval = binomtest(int(count), int(n)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


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
