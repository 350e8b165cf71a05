"""95 % intervals, from scipy: an estimate is never printed without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_interval", "proportion_interval"]


def proportion_interval(count: int, n: int) -> tuple[float, float]:
    """Wilson score interval (95 %) of a proportion seen as `count` out of `n`.

    >>> low, high = proportion_interval(780, 1000)
    >>> round(low, 3), round(high, 3)
    (0.753, 0.805)
    """
    from scipy.stats import binomtest

    interval = binomtest(int(count), int(n)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    statistic: Callable[..., float], *arrays: NDArray[Any], resamples: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval (95 %) of a statistic of paired arrays [n], rows drawn together."""
    from scipy.stats import bootstrap

    interval = bootstrap(
        arrays,
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
