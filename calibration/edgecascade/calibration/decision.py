"""The decision in numpy: the reference arithmetic that every written file must agree with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import AdvantageTable
from edgecascade.calibration.scores import routing_score
from edgecascade.types.softmax import softmax

__all__ = ["Decision", "DecisionRule", "decide"]


@dataclass(frozen=True)
class DecisionRule:
    """Everything that turns logits into a decision.

    Attributes:
        temperature: T that divides the logits.
        table: the advantage table.
        threshold: inputs whose advantage is below it are forwarded.
        score: what the table looks up: `confidence`, `margin` or `entropy`, as in `routing_score`.
    """

    temperature: float
    table: AdvantageTable
    threshold: float
    score: str = "confidence"


@dataclass(frozen=True)
class Decision:
    """The outputs of the cascade graph for a batch; where the confidence is NaN, the graph may give any advantage.

    Attributes:
        label: int64 [n], the first of the largest logits; meaningless where the confidence is NaN.
        confidence: float32 [n], calibrated.
        advantage: float32 [n], NaN where the confidence is.
        forward: bool [n], whether the advantage is below the threshold or the confidence is NaN.
        probabilities: float32 [n, classes], calibrated.
    """

    label: NDArray[np.int64]
    confidence: NDArray[np.float32]
    advantage: NDArray[np.float32]
    forward: NDArray[np.bool_]
    probabilities: NDArray[np.float32]


def decide(logits: NDArray[np.floating], rule: DecisionRule) -> Decision:
    """Return the decision on logits, floating [n, classes]."""
    probabilities = softmax(logits, rule.temperature)
    confidence = probabilities.max(axis=1)
    advantage = rule.table(routing_score(rule.score, logits, rule.temperature))
    return Decision(
        label=logits.argmax(axis=1).astype(np.int64),
        confidence=confidence,
        advantage=advantage,
        forward=(advantage < np.float32(rule.threshold)) | np.isnan(confidence),
        probabilities=probabilities,
    )
