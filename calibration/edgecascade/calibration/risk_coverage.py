"""Selective prediction: how wrong a model is on the inputs that it is surest of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.judged_scores import check_judged_scores

__all__ = ["RiskCoverage", "risk_coverage"]


@dataclass(frozen=True)
class RiskCoverage:
    """The error among the k surest inputs, for every k from 1 to n.

    Attributes:
        coverage: float64 [n], k / n.
        risk: float64 [n], the share of wrong answers among them.
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]

    @property
    def area(self) -> float:
        """AURC, the mean risk over all coverages (Geifman and El-Yaniv, NeurIPS 2017); in [0, 1], lower is better.

        >>> risk_coverage(np.array([0.9, 0.6]), np.array([True, False])).area
        0.25
        """
        return float(self.risk.mean())

    @property
    def excess_area(self) -> float:
        """E-AURC, the area above that of an oracle with as many errors, which is least sure of just those.

        Geifman et al., "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers" (ICLR 2019), with the
        oracle's area summed where they take its limit for many inputs.

        >>> risk_coverage(np.array([0.9, 0.6]), np.array([False, True])).excess_area
        0.5
        """
        n = len(self.risk)
        errors = round(self.risk[-1] * n)
        oracle = np.sum(np.arange(1, errors + 1) / np.arange(n - errors + 1, n + 1)) / n
        return max(0.0, float(self.area - oracle))


def risk_coverage(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> RiskCoverage:
    """The risk-coverage curve by falling score.

    Tied inputs have no order, so each counts as the mean of its ties: the curve expected of a random order.

    Args:
        score: floating [n], finite, the higher the surer, on any scale.
        correct: bool [n], whether the answer was right.

    Raises:
        CalibrationError: other shapes, types or numbers.

    >>> curve = risk_coverage(np.array([0.9, 0.6, 0.6, 0.5]), np.array([True, False, True, True]))
    >>> curve.coverage, curve.risk.round(3)
    (array([0.25, 0.5 , 0.75, 1.  ]), array([0.   , 0.25 , 0.333, 0.25 ]))
    """
    check_judged_scores(score, correct)
    order = np.argsort(-score.astype(np.float64))
    ordered = score[order]
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    length = np.diff(starts, append=len(ordered))
    wrong = np.repeat(np.add.reduceat(~correct[order], starts, dtype=np.float64) / length, length)
    so_far = np.arange(1, len(wrong) + 1)
    return RiskCoverage(so_far / len(wrong), np.cumsum(wrong) / so_far)
