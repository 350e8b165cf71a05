"""From an advantage table to a policy: which inputs are worth asking about, within a budget."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import AdvantageTable
from edgecascade.calibration.errors import CalibrationError
from edgecascade.calibration.intervals import proportion_interval

__all__ = ["FORWARD_NOTHING", "OperatingPoint", "Policy", "operating_curve", "plan"]

FORWARD_NOTHING = -1.0  # no advantage is below it


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold does on labelled inputs, with 95 % intervals.

    Attributes:
        threshold: inputs whose advantage is below it are forwarded.
        offload_rate: forwarded inputs / all inputs, in [0, 1].
        accuracy: share of right answers when the remote's answer replaces the local one.
        n: how many inputs both were measured on.
    """

    threshold: float
    offload_rate: float
    offload_interval: tuple[float, float]
    accuracy: float
    accuracy_interval: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Policy:
    """What the device needs to decide, and the evidence for it.

    Attributes:
        table: the advantage table.
        threshold: inputs whose advantage is below it are forwarded.
        estimate: where the advantage came from: `confidences` (the paper's rule) or `labels`.
        budget: the offload rate that was allowed, in [0, 1].
        chosen: the operating point of `threshold` on the calibration data.
        curve: every operating point that the table can reach, by rising offload rate.
    """

    table: AdvantageTable
    threshold: float
    estimate: str
    budget: float
    chosen: OperatingPoint
    curve: tuple[OperatingPoint, ...]


def plan(
    score: NDArray[np.float32],
    local_correct: NDArray[np.bool_],
    remote_correct: NDArray[np.bool_],
    table: AdvantageTable,
    *,
    budget: float,
    estimate: str,
) -> Policy:
    """The threshold that asks wherever the remote is expected to do better, lowest advantage first,
    and no more often than the budget allows on the calibration data.

    Forwarding stops where the advantage crosses zero even if budget is left, because beyond that the
    table itself says that the remote's answer is the worse one.

    Args:
        score: float32 [n], the scores that the table was built from.
        local_correct: bool [n].
        remote_correct: bool [n].
        table: built by `advantage_table`.
        budget: the largest offload rate wanted, in [0, 1].
        estimate: `confidences` or `labels`, recorded with the policy.

    Raises:
        CalibrationError: a budget outside [0, 1].
    """
    if not 0.0 <= budget <= 1.0:
        raise CalibrationError(f"budget: expected an offload rate from 0 to 1, got {budget}")
    curve = operating_curve(table(score), local_correct, remote_correct)
    chosen = max(
        (point for point in curve if point.offload_rate <= budget + 1e-9 and point.threshold <= 0.0),
        key=lambda point: point.offload_rate,
    )
    return Policy(table, chosen.threshold, estimate, budget, chosen, curve)


def operating_curve(
    advantage: NDArray[np.float32], local_correct: NDArray[np.bool_], remote_correct: NDArray[np.bool_]
) -> tuple[OperatingPoint, ...]:
    """Every operating point of the advantages [n], from forwarding nothing to forwarding everything."""
    values = np.unique(advantage.astype(np.float64))
    between = [_cut(low, high) for low, high in pairwise([*values, 2.0])]
    thresholds = [FORWARD_NOTHING, *between]
    return tuple(_point(t, advantage < np.float32(t), local_correct, remote_correct) for t in thresholds)


def _cut(low: float, high: float) -> float:
    """A float32 in (low, high]: zero itself where it lies there, else halfway."""
    if low < 0.0 <= high:
        return 0.0
    middle = float(np.float32((low + high) / 2))
    return middle if middle > low else high


def _point(
    threshold: float,
    forward: NDArray[np.bool_],
    local_correct: NDArray[np.bool_],
    remote_correct: NDArray[np.bool_],
) -> OperatingPoint:
    n = len(forward)
    forwarded = int(forward.sum())
    right = int(np.where(forward, remote_correct, local_correct).sum())
    return OperatingPoint(
        threshold=threshold,
        offload_rate=forwarded / n,
        offload_interval=proportion_interval(forwarded, n),
        accuracy=right / n,
        accuracy_interval=proportion_interval(right, n),
        n=n,
    )
