"""What every threshold would do: offload rate and accuracy, with intervals for each and for all at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.intervals import proportion_interval, simultaneous_band
from edgecascade.types.estimate import OperatingPoint, Point

__all__ = ["FORWARD_NOTHING", "operating_curve", "points"]

FORWARD_NOTHING = -1.0  # no advantage is below it


def points(
    advantage: NDArray[np.float32], kept_correct: NDArray[np.bool_], forwarded_correct: NDArray[np.bool_]
) -> tuple[Point, ...]:
    """Every point of the curve, from forwarding nothing to forwarding everything; arguments as `operating_curve`."""
    values, index = np.unique(advantage, return_inverse=True)
    gain = np.bincount(index, forwarded_correct.astype(int) - kept_correct, len(values))
    right = np.concatenate([[0], np.cumsum(gain)]) + kept_correct.sum()
    forwarded = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=len(values)))])
    thresholds = [FORWARD_NOTHING, *(_cut(low, high) for low, high in pairwise([*values.tolist(), 2.0]))]
    n = len(advantage)
    return tuple(Point(t, f / n, r / n) for t, f, r in zip(thresholds, forwarded, right, strict=True))


def operating_curve(
    advantage: NDArray[np.float32], kept_correct: NDArray[np.bool_], forwarded_correct: NDArray[np.bool_]
) -> tuple[OperatingPoint, ...]:
    """Every operating point of the advantages, from forwarding nothing to forwarding everything.

    Args:
        advantage: float32 [n].
        kept_correct: bool [n], whether the local answer is right.
        forwarded_correct: bool [n], whether the answer is right once the remote has replied.
    """
    bare, n = points(advantage, kept_correct, forwarded_correct), len(advantage)
    forward = advantage[:, None] < np.array([point.threshold for point in bare], np.float32)
    low, high = simultaneous_band(np.where(forward, forwarded_correct[:, None], kept_correct[:, None]))
    return tuple(
        OperatingPoint(
            threshold=point.threshold,
            offload_rate=float(point.offload_rate),
            accuracy=float(point.accuracy),
            offload_interval=proportion_interval(round(point.offload_rate * n), n),
            accuracy_interval=proportion_interval(round(point.accuracy * n), n),
            accuracy_band=(float(bottom), float(top)),
            n=n,
        )
        for point, bottom, top in zip(bare, low, high, strict=True)
    )


def _cut(low: float, high: float) -> float:
    """A float32 in (low, high]: zero itself where it lies there, else halfway."""
    if low < 0.0 <= high:
        return 0.0
    middle = float(np.float32((low + high) / 2))
    return middle if middle > low else high
