"""A learned routing score: linear in the calibrated probabilities, fitted to what forwarding gains.

Confidence, margin and entropy say how sure the local model is. They do not say that the remote knows some classes
better than others, or that labels of some classes are noisy, so that no model helps (Jitkrittum et al., "When Does
Confidence-Based Cascade Deferral Suffice?", NeurIPS 2023: a post-hoc deferral rule). A plan uses this score only where
cross-fitting shows that it gains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LearnedScore", "fit_learned_score"]

_PENALTIES = np.logspace(-4, 1, 16)  # per input, of standardised features
_BLOCK = 1 << 18  # probabilities of the rows that are in memory in float64 at once
_LEAST_DEVIATION = 0.02  # of a feature: a class that is never likely gets no large weight


@dataclass(frozen=True)
class LearnedScore:
    """A weighted sum of the largest probability and of all probabilities.

    Attributes:
        confidence: weight of the largest probability.
        classes: weight of the probability of each class, one per class.
    """

    confidence: float
    classes: tuple[float, ...]

    def __call__(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores float32 [n] of calibrated probabilities [n, classes], as the graph computes them.

        >>> LearnedScore(1.0, (0.0, -0.5))(np.float32([[0.25, 0.75]]))
        array([0.375], dtype=float32)
        """
        weights = np.array(self.classes, np.float32)
        sums = (probabilities * weights).sum(axis=1, dtype=np.float32)
        found: NDArray[np.float32] = sums + probabilities.max(axis=1) * np.float32(self.confidence)
        return found


def fit_learned_score(
    probabilities: NDArray[np.float32],
    local_correct: NDArray[np.bool_] | NDArray[np.floating],
    merged_correct: NDArray[np.bool_] | NDArray[np.floating],
    weight: NDArray[np.float64] | None = None,
) -> LearnedScore:
    """Fit the score to local minus merged correctness by ridge regression.

    The penalty has the least error by generalised cross-validation (Golub, Heath and Wahba, Technometrics 21, 1979).

    Args:
        probabilities: float32 [n, classes], the local model's, calibrated; a row of NaN is left out. Without any other
            row, all weights are 0.
        local_correct: [n], whether the local answer is right, or floating in [0, 1].
        merged_correct: [n], likewise of the answer once the remote has replied.
        weight: float64 [n], how much each input counts.

    >>> rng = np.random.default_rng(0)
    >>> probabilities = rng.dirichlet([1.0, 1.0, 1.0], 3000).astype(np.float32)
    >>> helps = probabilities.argmax(axis=1) == 2           # the remote knows the last class only
    >>> fit_learned_score(probabilities, ~helps, helps).classes[2] < 0
    True
    """
    known = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    if len(known) == 0:
        return LearnedScore(0.0, (0.0,) * probabilities.shape[1])
    size = np.ones(len(known)) if weight is None else weight[known]
    gain = (np.asarray(local_correct, np.float64) - merged_correct)[known]
    target, n = gain - np.average(gain, weights=size), len(known)

    def features(rows: slice) -> NDArray[np.float64]:
        table = probabilities[known[rows]].astype(np.float64)
        return np.concatenate([table.max(axis=1, keepdims=True), table], axis=1)

    step = max(1, _BLOCK // probabilities.shape[1])
    blocks = [slice(start, start + step) for start in range(0, n, step)]
    mean = sum(size[rows] @ features(rows) for rows in blocks) / size.sum()
    products, along = np.zeros((len(mean), len(mean))), np.zeros(len(mean))
    for rows in blocks:
        centred = features(rows) - mean
        weighted = centred * size[rows, None]
        products += weighted.T @ centred
        along += weighted.T @ target[rows]
    deviation = np.maximum(np.sqrt(np.diag(products) / size.sum()), _LEAST_DEVIATION)
    power, axes = np.linalg.eigh(products / np.outer(deviation, deviation))
    power, along = power.clip(0.0), axes.T @ (along / deviation)
    total = float(size @ target**2)

    def error(penalty: float) -> float:
        left = power / (power + penalty)
        explained = np.sum(along**2 * (power + 2 * penalty) / (power + penalty) ** 2)
        return float((total - explained) / max(1 - (left.sum() + 1) / n, 1 / n) ** 2)

    penalty = min((_PENALTIES * n).tolist(), key=error)
    slopes = axes @ (along / (power + penalty)) / deviation
    return LearnedScore(float(slopes[0]), tuple(slopes[1:].astype(np.float32).tolist()))
