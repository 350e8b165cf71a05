"""The operating curve: offload rate and accuracy at every threshold, with pointwise and simultaneous intervals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.intervals import accuracy_interval, paired_difference_interval, simultaneous_band
from edgecascade.types.estimate import Estimate, OperatingPoint, Point

__all__ = ["FORWARD_NOTHING", "differences", "measured_curve", "operating_curve", "operating_points", "shares"]

FORWARD_NOTHING = -1.0  # no advantage is below it


def operating_points(
    advantage: NDArray[np.float32],
    local_correct: Correct,
    merged_correct: Correct,
    weight: NDArray[np.float64] | None = None,
) -> tuple[Point, ...]:
    """Return every point of `operating_curve` without intervals; arguments as there."""
    values, index = np.unique(advantage, return_inverse=True)
    size = np.ones(len(advantage)) if weight is None else weight
    local = local_correct.astype(np.float64)
    gain = np.bincount(index, (merged_correct - local) * size, len(values))
    right = np.concatenate([[0], np.cumsum(gain)]) + (local * size).sum()
    forwarded = np.concatenate([[0], np.cumsum(np.bincount(index, size, len(values)))])
    thresholds = [FORWARD_NOTHING, *(_cut(low, high) for low, high in pairwise([*values.tolist(), 2.0]))]
    n = forwarded[-1]
    return tuple(Point(t, float(f / n), float(r / n)) for t, f, r in zip(thresholds, forwarded, right, strict=True))


def operating_curve(
    advantage: NDArray[np.float32],
    local_correct: Correct,
    merged_correct: Correct,
    weight: NDArray[np.float64] | None = None,
) -> tuple[OperatingPoint, ...]:
    """Return every operating point that a threshold can reach, from forwarding nothing to forwarding everything.

    The table that gave the advantages must come from other inputs, or the accuracies are too high.

    Args:
        advantage: float32 [n].
        local_correct: bool [n], whether the local answer is right, or floating in [0, 1].
        merged_correct: bool [n], whether the answer is right once the remote has replied, or floating in [0, 1].
        weight: float64 [n], how much each input counts.

    >>> curve = operating_curve(np.float32([-0.5, 0.5]), np.array([False, True]), np.array([True, True]))
    >>> [(point.threshold, point.offload_rate, point.accuracy) for point in curve]
    [(-1.0, 0.0, 0.5), (0.0, 0.5, 1.0), (1.25, 1.0, 1.0)]
    """
    points = operating_points(advantage, local_correct, merged_correct, weight)
    forward = advantage[:, None] < np.array([point.threshold for point in points], np.float32)
    right = np.where(forward, merged_correct[:, None], local_correct[:, None])
    return measured_curve([point.threshold for point in points], forward, right, weight)


def measured_curve(
    thresholds: Sequence[float],
    forward: NDArray[np.bool_],
    right: Correct,
    weight: NDArray[np.float64] | None = None,
    remote_correct: Correct | None = None,
) -> tuple[OperatingPoint, ...]:
    """Return the operating points of decisions and of the answers that follow from them, with intervals.

    Args:
        thresholds: of the points.
        forward: bool [n, points], whether each input is forwarded.
        right: [n, points], whether each answer is right, or floating in [0, 1].
        weight: float64 [n], how much each input counts.
        remote_correct: [n], whether the remote's own answers are right; None to leave out the losses against them.
    """
    rates, accuracies, band = shares(forward, weight), shares(right, weight), simultaneous_band(right, weight)
    losses = [None] * len(thresholds) if remote_correct is None else differences(remote_correct, right, weight)
    return tuple(
        OperatingPoint(
            threshold=threshold,
            offload_rate=rate.value,
            accuracy=accuracy.value,
            offload_interval=(rate.low, rate.high),
            accuracy_interval=(accuracy.low, accuracy.high),
            accuracy_band=(low, high),
            n=len(right),
            loss=loss,
        )
        for threshold, rate, accuracy, low, high, loss in zip(
            thresholds, rates, accuracies, *(end.tolist() for end in band), losses, strict=True
        )
    )


def shares(values: Correct, weight: NDArray[np.float64] | None = None) -> list[Estimate]:
    """Return the weighted mean of each column of values [n, points] that are bool or in [0, 1], with its interval."""
    means = values.mean(axis=0) if weight is None else weight @ values / weight.sum()
    return _estimates(means, accuracy_interval(values, weight), len(values))


def differences(
    first: Correct, second: Correct, weight: NDArray[np.float64] | None = None, *, level: float = 0.95
) -> list[Estimate]:
    """Return the accuracy of `first` [n] minus that of each column of `second` [n, points], with its interval."""
    gap = first.astype(np.float64)[:, None] - second
    means = gap.mean(axis=0) if weight is None else weight @ gap / weight.sum()
    return _estimates(means, paired_difference_interval(first, second, weight, level), len(first))


def _estimates(
    values: NDArray[np.float64], ends: tuple[NDArray[np.float64], NDArray[np.float64]], n: int
) -> list[Estimate]:
    low, high = np.minimum(ends[0], values), np.maximum(ends[1], values)
    return [Estimate(*one, n) for one in zip(values.tolist(), low.tolist(), high.tolist(), strict=True)]


def _cut(low: float, high: float) -> float:
    """Return a float32 in (low, high]: zero if it lies there, else the middle."""
    if low < 0.0 <= high:
        return 0.0
    middle = float(np.float32((low + high) / 2))
    return middle if middle > low else high
