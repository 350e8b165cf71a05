"""The decision in numpy, from logits to a routing score to `forward`: the reference for every written file.

A routing score orders inputs by how sure the local model is; higher is surer. Confidence is the score of Hao et al.,
arXiv 2601.07965. The margin looks at the two likeliest classes, the entropy at all of them. Which one finds the local
model's errors best depends on the model and is chosen on calibration data. A learned score is fitted to where the
remote does better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import AdvantageTable
from edgecascade.calibration.learned_score import LearnedScore
from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.costs import ErrorCosts, labels_of
from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import SMALLEST, softmax

__all__ = ["COST_SCORE", "LEARNED", "SCORES", "Decision", "DecisionRule", "decide", "routing_score"]

SCORES = ("confidence", "margin", "entropy")
COST_SCORE = "cost"  # where errors cost differently
LEARNED = "learned"  # the score that a plan fits; the others are fixed


@dataclass(frozen=True)
class DecisionRule:
    """Everything that turns logits into a decision.

    Attributes:
        temperature: T that divides the logits.
        table: the advantage table.
        threshold: inputs whose advantage is below it are forwarded.
        score: what the table looks up: one of the names that `routing_score` takes.
        costs: of the errors, by which the label is chosen; None if all cost the same.
        confidence_map: from the label's probability to the confidence, which changes no score and no decision; None
            if the two are the same.
        learned: the learned score; None with another score.
    """

    temperature: float
    table: AdvantageTable
    threshold: float
    score: str = "confidence"
    costs: ErrorCosts | None = None
    confidence_map: ConfidenceMap | None = None
    learned: LearnedScore | None = None


@dataclass(frozen=True)
class Decision:
    """The outputs of the cascade graph for a batch; where the confidence is NaN, the graph may give any advantage.

    Attributes:
        label: int64 [n], the first of the largest logits, or of the least expected costs if the rule has costs;
            meaningless where the confidence is NaN.
        confidence: float32 [n], the calibrated probability of the label. With costs it may be below that of another.
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
    label = np.asarray(logits).argmax(axis=1) if rule.costs is None else labels_of(probabilities, rule.costs)
    confidence: NDArray[np.float32] = np.take_along_axis(probabilities, label[:, None], axis=1)[:, 0]
    if rule.confidence_map is not None:
        confidence = rule.confidence_map(confidence).astype(np.float32)
    advantage = rule.table(routing_score(rule.score, logits, rule.temperature, rule.costs, rule.learned))
    return Decision(
        label=label.astype(np.int64),
        confidence=confidence,
        advantage=advantage,
        forward=(advantage < np.float32(rule.threshold)) | np.isnan(confidence),
        probabilities=probabilities,
    )


def routing_score(
    name: str,
    logits: NDArray[np.floating],
    temperature: float = 1.0,
    costs: ErrorCosts | None = None,
    learned: LearnedScore | None = None,
) -> NDArray[np.float32]:
    """Return a score float32 [n] of logits [n, classes], in the arithmetic of the cascade graph.

    Args:
        name: `confidence`, max softmax(z / T); `margin`, the top-2 log-odds (z_1 - z_2) / T; or `entropy`, the
            *negative* entropy of softmax(z / T) in nats; with costs also `cost`, the *negative* expected cost of the
            label, as a share of the costliest error; and with a learned score `learned`.
        logits: floating; a row with a NaN or +inf, or with nothing but -inf, scores NaN.
        temperature: T.
        costs: of the errors.
        learned: the learned score.

    Raises:
        CalibrationError: the name is unknown, or what its score is computed from is missing.

    >>> logits = np.array([[2.0, 0.0], [5.0, 0.0]])
    >>> routing_score("margin", logits, temperature=2.0)
    array([1. , 2.5], dtype=float32)
    """
    probabilities = softmax(logits, temperature)
    confidence: NDArray[np.float32] = probabilities.max(axis=1)
    if name == "confidence":
        return confidence
    if name == "margin":
        scaled = np.asarray(logits, np.float32) / np.float32(temperature)
        with np.errstate(invalid="ignore"):
            top = np.partition(scaled, -2, axis=1)[:, -2:]
            return np.where(np.isnan(confidence), np.float32(np.nan), top[:, 1] - top[:, 0])
    if name == "entropy":
        surprise = np.log(np.maximum(probabilities, np.float32(SMALLEST)))
        return np.asarray((probabilities * surprise).sum(axis=1), np.float32)
    if name == LEARNED and learned is not None:
        return learned(probabilities)
    if name == COST_SCORE and costs is not None:
        least: NDArray[np.float32] = costs.expected(probabilities).min(axis=1)
        return -least
    for needed, what in ((COST_SCORE, "costs of errors"), (LEARNED, "a learned score")):
        if name == needed:
            raise CalibrationError(f"score: expected {what} with the score `{name}`, got none")
    raise CalibrationError(f"score: expected one of {', '.join((*SCORES, LEARNED, COST_SCORE))}, got {name!r}")
