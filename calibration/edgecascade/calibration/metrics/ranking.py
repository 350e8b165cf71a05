"""How well a score separates right answers from wrong ones: AUROC, and the risk-coverage curve.

A score can order answers well without being calibrated, and the reverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_scored_answers
from edgecascade.types.errors import CalibrationError

__all__ = ["RiskCoverage", "auroc", "auroc_interval", "risk_coverage"]

_Z = 1.959963984540054  # two-sided 95 % of a normal


def auroc(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Return the probability that a right answer scores higher than a wrong one, ties counting one half; in [0, 1].

    The area under the ROC curve of correctness, as the Mann-Whitney statistic: Hanley and McNeil (Radiology 143,
    1982). A score without information has 0.5.

    Args:
        score: floating [n], finite; higher is surer, on any scale.
        correct: bool [n], whether the answer was right.

    Raises:
        CalibrationError: other shapes, types or numbers, or the answers are all right or all wrong.

    >>> auroc(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    from scipy.stats import rankdata

    check_scored_answers(score, correct)
    right = int(np.count_nonzero(correct))
    wrong = len(correct) - right
    if not (right and wrong):
        raise CalibrationError(f"correct: expected right and wrong answers, got {right} right and {wrong} wrong")
    return float((rankdata(score)[correct].mean() - (right + 1) / 2) / wrong)


def auroc_interval(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95 % interval of `auroc`, which has a width even where the separation is perfect.

    It holds every area that is within 1.96 of its own standard errors of the observed one: method 5 of Newcombe
    (Statistics in Medicine 25, 2006, 559), with the variance of Hanley and McNeil. Arguments and errors as `auroc`.

    >>> low, high = auroc_interval(np.arange(20.0), np.arange(20) >= 10)
    >>> round(low, 2), high
    (0.8, 1.0)
    """
    from scipy.optimize import brentq

    seen = auroc(score, correct)
    right = int(np.count_nonzero(correct))
    wrong = len(correct) - right

    def beyond(area: float) -> float:
        dependence = (len(correct) / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        variance = area * (1 - area) * (1 + dependence) / (right * wrong)
        return float((area - seen) ** 2 - _Z**2 * variance)

    inside = min(max(seen, 1e-12), 1 - 1e-12)  # there is a second root at 0 and at 1
    low = 0.0 if seen == 0 else float(brentq(beyond, 0.0, inside))
    high = 1.0 if seen == 1 else float(brentq(beyond, inside, 1.0))
    return low, high


@dataclass(frozen=True)
class RiskCoverage:
    """The error among the k surest inputs, for every k from 1 to n: selective prediction.

    Attributes:
        coverage: float64 [n], k / n.
        risk: float64 [n], share of wrong answers among the k surest.
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


def risk_coverage(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> RiskCoverage:
    """Return the risk-coverage curve by falling score.

    Tied inputs have no order, so each counts as the mean of its ties: the expectation over random orders.

    Args:
        score: floating [n], finite; higher is surer, on any scale.
        correct: bool [n], whether the answer was right.

    Raises:
        CalibrationError: other shapes, types or numbers.

    >>> curve = risk_coverage(np.array([0.9, 0.6, 0.6, 0.5]), np.array([True, False, True, True]))
    >>> curve.coverage, curve.risk.round(3)
    (array([0.25, 0.5 , 0.75, 1.  ]), array([0.   , 0.25 , 0.333, 0.25 ]))
    """
    check_scored_answers(score, correct)
    order = np.argsort(-score.astype(np.float64))
    ordered = score[order]
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    length = np.diff(starts, append=len(ordered))
    wrong = np.repeat(np.add.reduceat(~correct[order], starts, dtype=np.float64) / length, length)
    so_far = np.arange(1, len(wrong) + 1)
    return RiskCoverage(so_far / len(wrong), np.cumsum(wrong) / so_far)
