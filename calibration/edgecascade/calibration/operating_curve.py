"""The operating curve: offload rate and accuracy at every threshold, with pointwise and simultaneous intervals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.intervals import proportion_interval, simultaneous_band
from edgecascade.types.estimate import OperatingPoint, Point

__all__ = ["FORWARD_NOTHING", "operating_curve", "operating_points"]

FORWARD_NOTHING = -1.0  # no advantage is below it


def operating_points(
    advantage: NDArray[np.float32], local_correct: NDArray[np.bool_], merged_correct: NDArray[np.bool_]
) -> tuple[Point, ...]:
    """Return every point of `operating_curve` without intervals; arguments as there."""
    values, index = np.unique(advantage, return_inverse=True)
    gain = np.bincount(index, merged_correct.astype(int) - local_correct, len(values))
    right = np.concatenate([[0], np.cumsum(gain)]) + local_correct.sum()
    forwarded = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=len(values)))])
    thresholds = [FORWARD_NOTHING, *(_cut(low, high) for low, high in pairwise([*values.tolist(), 2.0]))]
    n = len(advantage)
    return tuple(Point(t, f / n, r / n) for t, f, r in zip(thresholds, forwarded, right, strict=True))


def operating_curve(
    advantage: NDArray[np.float32], local_correct: NDArray[np.bool_], merged_correct: NDArray[np.bool_]
) -> tuple[OperatingPoint, ...]:
    """Return every operating point that a threshold can reach, from forwarding nothing to forwarding everything.

    Args:
        advantage: float32 [n].
        local_correct: bool [n], whether the local answer is right.
        merged_correct: bool [n], whether the answer is right once the remote has replied.

    >>> curve = operating_curve(np.float32([-0.5, 0.5]), np.array([False, True]), np.array([True, True]))
    >>> [(point.threshold, point.offload_rate, point.accuracy) for point in curve]
    [(-1.0, 0.0, 0.5), (0.0, 0.5, 1.0), (1.25, 1.0, 1.0)]
    """
    bare, n = operating_points(advantage, local_correct, merged_correct), len(advantage)
    forward = advantage[:, None] < np.array([point.threshold for point in bare], np.float32)
    correct = np.where(forward, merged_correct[:, None], local_correct[:, None])
    offload, accuracy = (np.transpose(proportion_interval(some.sum(axis=0), n)) for some in (forward, correct))
    band = np.transpose(simultaneous_band(correct))
    return tuple(
        OperatingPoint(
            threshold=point.threshold,
            offload_rate=float(point.offload_rate),
            accuracy=float(point.accuracy),
            offload_interval=(float(offload[at, 0]), float(offload[at, 1])),
            accuracy_interval=(float(accuracy[at, 0]), float(accuracy[at, 1])),
            accuracy_band=(float(band[at, 0]), float(band[at, 1])),
            n=n,
        )
        for at, point in enumerate(bare)
    )


def _cut(low: float, high: float) -> float:
    """Return a float32 in (low, high]: zero if it lies there, else the middle."""
    if low < 0.0 <= high:
        return 0.0
    middle = float(np.float32((low + high) / 2))
    return middle if middle > low else high
