"""Percentiles of latencies with exact intervals, or none where there are too few."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import quantile
from edgecascade.types.estimate import Estimate

__all__ = ["QUANTILES", "Distribution", "distribution", "least"]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}
_TAIL = 0.025  # on either side of a 95 % interval


@dataclass(frozen=True)
class Distribution:
    """Latencies in seconds, summed up; a percentile is None where there are too few for its interval.

    Attributes:
        n: how many; 0 if there were none.
        mean: of them; None if there were none.
        worst: the longest; None if there were none.
        p50: median.
        p90: 90th percentile.
        p99: 99th percentile.
        p99_9: 99.9th percentile.
    """

    n: int
    mean: float | None
    worst: float | None
    p50: Estimate | None
    p90: Estimate | None
    p99: Estimate | None
    p99_9: Estimate | None

    def at(self, name: str) -> Estimate | None:
        """The percentile with one of the names of `QUANTILES`."""
        found: Estimate | None = getattr(self, name)
        return found


def least(q: float) -> int:
    """The fewest values whose extremes enclose the q-quantile with 2.5 % at most on either side, whatever they follow.

    All n lie below it with probability q^n, and all above it with (1 - q)^n.

    >>> [least(q) for q in QUANTILES.values()]
    [6, 36, 368, 3688]
    """
    return math.ceil(math.log(_TAIL) / math.log(max(q, 1 - q)))


def distribution(seconds: NDArray[Any]) -> Distribution:
    """Percentiles of latencies [n] in seconds.

    The intervals are exact for independent latencies; those of one run follow each other, and say nothing of another
    run, of a warmer board, or of another network.
    """
    n, values = len(seconds), np.asarray(seconds, np.float64)
    found = {name: quantile(values, q) if n >= least(q) else None for name, q in QUANTILES.items()}
    return Distribution(n, float(values.mean()) if n else None, float(values.max()) if n else None, **found)
