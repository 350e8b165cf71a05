"""Accuracy against offload rate, for any rule that orders inputs by how much they deserve to be sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["OffloadCurve", "offload_curve"]


@dataclass(frozen=True)
class OffloadCurve:
    """Accuracy when the lowest-keyed inputs are forwarded and the remote's answer replaces the local one.

    Attributes:
        rate: [points], offload rates from 0 to 1, one wherever the key changes.
        accuracy: [points], share of right answers there.
    """

    rate: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    def at(self, rate: float) -> float:
        """Expected accuracy at a rate; between two points, ties are broken at random."""
        return float(np.interp(rate, self.rate, self.accuracy))


def offload_curve(
    key: NDArray[Any], local_correct: NDArray[np.bool_], remote_correct: NDArray[np.bool_]
) -> OffloadCurve:
    """The curve of forwarding inputs [n] by rising key.

    A constant key is random offloading. The key `local_correct - remote_correct` is the oracle: no rule
    that sees the inputs one by one can be above it.

    >>> curve = offload_curve(np.zeros(2), np.array([True, False]), np.array([True, True]))
    >>> curve.at(0.0), curve.at(0.5), curve.at(1.0)
    (0.5, 0.75, 1.0)
    """
    n = len(key)
    order = np.argsort(key, kind="stable")
    gain = remote_correct[order].astype(np.float64) - local_correct[order]
    right = local_correct.sum() + np.concatenate([[0.0], np.cumsum(gain)])
    ordered = np.asarray(key)[order]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    points = np.concatenate([[0], changes, [n]])
    return OffloadCurve(points / n, right[points] / n)
