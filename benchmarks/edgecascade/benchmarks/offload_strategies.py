"""What else one could do with the same two models, at the same offload rate where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.verdicts import Verdicts
from edgecascade.calibration import mean, paired_difference_interval, proportion
from edgecascade.types.estimate import Estimate

__all__ = ["RULE", "Strategy", "lowest", "strategies"]

RULE = 0.8  # the threshold that people write by hand


@dataclass(frozen=True)
class Strategy:
    """One way to use the two models.

    Attributes:
        name: what it is called in tables.
        offload: share of inputs forwarded.
        accuracy: share of right answers.
        gap: accuracy of the cascade minus this one's, on the same inputs; None for the cascade itself.
    """

    name: str
    offload: Estimate
    accuracy: Estimate
    gap: Estimate | None


def strategies(v: Verdicts, merge: str, kept: int, correct: NDArray[np.bool_]) -> tuple[Strategy, ...]:
    """Local, remote and cascade, then all others.

    Args:
        v: what both models say.
        merge: the file's rule.
        kept: inputs that the served cascade did not forward.
        correct: bool [n], whether its answers were right.
    """
    n, forwarded = len(correct), len(correct) - kept
    rate = forwarded / n
    local, remote, merged = (c.astype(np.float64) for c in (v.local_correct, v.remote_correct, v.merged_correct))

    def strategy(name: str, sent: NDArray[np.floating], reply: NDArray[np.float64] = merged) -> Strategy:
        right = sent * reply + (1 - sent) * local
        return Strategy(
            name, proportion(float(sent.mean()), n), proportion(float(right.mean()), n), _gap(correct, right)
        )

    planned, by_hand = v.forward.astype(np.float64), (v.raw_confidence < RULE).astype(np.float64)
    orders: dict[str, NDArray[Any]] = {
        "lowest confidence": v.scores["confidence"],
        "lowest margin": v.scores["margin"],
        "highest entropy": v.scores["entropy"],  # the score is its negative
        "lowest raw confidence": v.raw_confidence,
        "oracle": v.local_correct.astype(np.int8) - v.merged_correct,
    }
    return (
        strategy("local only", np.zeros(n)),
        strategy("remote only", np.ones(n), remote),
        Strategy("cascade", proportion(rate, n), proportion(float(correct.mean()), n), None),
        strategy("random, same rate", np.full(n, rate)),
        *(strategy(f"{name}, same rate", lowest(key, forwarded)) for name, key in orders.items()),
        strategy(f"raw confidence < {RULE}", by_hand, remote),
        *(
            strategy(f"plan, merge {rule}{' (the file)' * (rule == merge)}", planned, right.astype(np.float64))
            for rule, right in v.merged.items()
        ),
    )


def _gap(correct: NDArray[np.bool_], right: NDArray[np.float64]) -> Estimate:
    """The mean difference; where all answers agree, its interval still has a width."""
    if not np.isin(right, (0.0, 1.0)).all():  # ties, in expectation
        return mean(correct - right)
    low, high = paired_difference_interval(correct, right == 1)
    value = float((correct - right).mean())
    return Estimate(value, min(low, value), max(high, value), len(right))


def lowest(key: NDArray[Any], count: int) -> NDArray[np.float64]:
    """How often each input [n] is among the `count` of lowest key, ties broken at random: 0, 1, or a share.

    >>> lowest(np.array([3, 1, 1, 1]), 2).round(2)
    array([0.  , 0.67, 0.67, 0.67])
    """
    _, group, size = np.unique(key, return_inverse=True, return_counts=True)
    before = np.cumsum(size) - size
    share = np.clip((count - before) / size, 0.0, 1.0)
    chosen: NDArray[np.float64] = share[group.reshape(-1)]
    return chosen
