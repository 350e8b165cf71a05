"""Routing scores: the scalars that order inputs by how sure the local model is. Higher is surer.

Confidence is the score of Hao et al., arXiv 2601.07965. The margin looks at the two likeliest classes, the entropy at
all of them. Which one finds the local model's errors best depends on the model and is chosen on calibration data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import SMALLEST, softmax

__all__ = ["SCORES", "routing_score"]

SCORES = ("confidence", "margin", "entropy")


def routing_score(name: str, logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float32]:
    """Return a score float32 [n] of logits [n, classes], in the arithmetic of the cascade graph.

    Args:
        name: `confidence`, max softmax(z / T); `margin`, the top-2 log-odds (z_1 - z_2) / T; or `entropy`, the
            *negative* entropy of softmax(z / T) in nats.
        logits: floating; a row with a NaN or +inf, or with nothing but -inf, scores NaN.
        temperature: T.

    Raises:
        CalibrationError: the name is unknown.

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
    raise CalibrationError(f"score: expected one of {', '.join(SCORES)}, got {name!r}")
