"""The decision of a general task in numpy, from raw scores: the reference for every written file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import AdvantageTable
from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.platt import Platt

__all__ = ["TaskDecision", "TaskRule", "decide_task"]


@dataclass(frozen=True)
class TaskRule:
    """Everything that turns the score of a general task into a decision.

    Attributes:
        confidence: from the score to the confidence, which changes no decision.
        table: the advantage table.
        threshold: inputs whose advantage is below it are forwarded.
    """

    confidence: Platt | ConfidenceMap
    table: AdvantageTable
    threshold: float


@dataclass(frozen=True)
class TaskDecision:
    """What the graph of a general task adds to the body's outputs for a batch.

    Attributes:
        score: float32 [n].
        confidence: float32 [n], the expected value of the local answer; NaN where the score is NaN.
        advantage: float32 [n]; NaN where the score is NaN, for which the graph may give any advantage.
        forward: bool [n], whether the advantage is below the threshold or the score is NaN.
    """

    score: NDArray[np.float32]
    confidence: NDArray[np.float32]
    advantage: NDArray[np.float32]
    forward: NDArray[np.bool_]


def decide_task(score: NDArray[np.floating], rule: TaskRule) -> TaskDecision:
    """Return the decision on scores [n], in float32 as in the graph of a cascade file.

    >>> table = AdvantageTable(np.float32([0.5]), np.float32([-0.2, 0.1]), np.array([10, 10]))
    >>> found = decide_task(np.array([0.0, 1.0, np.nan]), TaskRule(Platt(2.0, -1.0), table, 0.0))
    >>> found.forward, found.confidence.round(3)
    (array([ True, False,  True]), array([0.269, 0.731,   nan], dtype=float32))
    """
    score = np.asarray(score, np.float32)
    if isinstance(rule.confidence, Platt):
        slope, intercept = np.float32(rule.confidence.slope), np.float32(rule.confidence.intercept)
        with np.errstate(over="ignore", invalid="ignore"):
            confidence: NDArray[np.float32] = 1 / (1 + np.exp(-(slope * score + intercept)))
    else:
        confidence = rule.confidence(score).astype(np.float32)
    advantage = rule.table(score)
    return TaskDecision(
        score=score,
        confidence=confidence,
        advantage=advantage,
        forward=(advantage < np.float32(rule.threshold)) | np.isnan(score),
    )
