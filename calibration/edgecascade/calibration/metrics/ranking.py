"""How well a score separates right answers from wrong ones: AUROC, and the risk-coverage curve.

A score can order answers well without being calibrated, and the reverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_scored_answers
from edgecascade.calibration.intervals import skewed_interval
from edgecascade.calibration.weights import normalised, weighted_mean
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate

__all__ = ["RiskCoverage", "auroc", "auroc_interval", "risk_coverage", "risk_coverage_area"]

_BLIND = 0.5  # the area of a score without information


def auroc(score: NDArray[np.floating], correct: NDArray[np.bool_], weight: ArrayLike | None = None) -> float:
    """Return the probability that a right answer scores higher than a wrong one, ties counting one half; in [0, 1].

    The area under the ROC curve of correctness, as the Mann-Whitney statistic: Hanley and McNeil (Radiology 143,
    1982). A score without information has 0.5.

    Args:
        score: floating [n], finite; higher is surer, on any scale.
        correct: bool [n], whether the answer was right.
        weight: numbers [n] above 0; None for equal weights.

    Raises:
        CalibrationError: other shapes, types or numbers, or the answers are all right or all wrong.

    >>> auroc(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    placement, each = _placements(score, correct, weight)
    return weighted_mean(placement[correct], each[correct])


def auroc_interval(
    score: NDArray[np.floating], correct: NDArray[np.bool_], weight: ArrayLike | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of `auroc`, which has a width even where the separation is perfect.

    The variance is that of DeLong et al. (Biometrics 44, 1988). What the area lacks to 1 (or, below 0.5, to 0) comes
    from few answers, and its interval is `skewed_interval`; one more answer would be placed as if the score were blind.
    Arguments and errors as `auroc`.

    >>> low, high = auroc_interval(np.arange(20.0), np.arange(20) >= 10)
    >>> round(low, 2), high
    (0.87, 1.0)
    """
    placement, each = _placements(score, correct, weight)
    area = weighted_mean(placement[correct], each[correct])
    missing = 1 - placement if area > _BLIND else placement
    variance = event = 0.0
    for kind in (correct, ~correct):
        share = each[kind] / each[kind].sum()
        parts, lacks = share * (missing[kind] - share @ missing[kind]), share * missing[kind]
        one = float(share @ share)
        variance += float(parts @ parts) / (1 - one) if one < 1 else 0.0
        event = max(event, _BLIND * one, float(lacks @ lacks / lacks.sum()) if lacks.any() else 0.0)
    low, high = skewed_interval(min(area, 1 - area), variance, event)
    high = min(high, 1.0)
    return (1 - high, 1 - low) if area > _BLIND else (low, high)


def _placements(
    score: NDArray[np.floating], correct: NDArray[np.bool_], weight: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how often each answer is in order with one of the other kind, and the weights, both float64 [n]."""
    check_scored_answers(score, correct)
    right = int(np.count_nonzero(correct))
    if right in (0, len(correct)):
        raise CalibrationError(
            f"correct: expected right and wrong answers, got {right} right and {len(correct) - right} wrong"
        )
    each = normalised(weight, len(score))
    each = np.ones(len(score)) if each is None else each
    _, index = np.unique(score, return_inverse=True)
    of_right, of_wrong = (np.bincount(index, each * kind) for kind in (correct, ~correct))
    below = (np.cumsum(of_wrong) - of_wrong / 2) / of_wrong.sum()  # weight of wrong answers with a lower score
    above = (np.cumsum(of_right[::-1])[::-1] - of_right / 2) / of_right.sum()
    return np.where(correct, below[index], above[index]), each


@dataclass(frozen=True)
class RiskCoverage:
    """The error among the k surest inputs, for every k from 1 to n: selective prediction.

    Attributes:
        coverage: float64 [n], k / n; with weights, the share of all weight that the k surest have.
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
        return float(self.risk @ np.diff(self.coverage, prepend=0.0))


def risk_coverage(
    score: NDArray[np.floating], correct: NDArray[np.bool_], weight: ArrayLike | None = None
) -> RiskCoverage:
    """Return the risk-coverage curve by falling score.

    Tied inputs have no order, so each counts as the mean of its ties: the expectation over random orders.

    Args:
        score: floating [n], finite; higher is surer, on any scale.
        correct: bool [n], whether the answer was right.
        weight: numbers [n] above 0; None for equal weights.

    Raises:
        CalibrationError: other shapes, types or numbers.

    >>> curve = risk_coverage(np.array([0.9, 0.6, 0.6, 0.5]), np.array([True, False, True, True]))
    >>> curve.coverage, curve.risk.round(3)
    (array([0.25, 0.5 , 0.75, 1.  ]), array([0.   , 0.25 , 0.333, 0.25 ]))
    """
    ordered = _surest_first(score, correct, weight)
    coverage = np.cumsum(ordered.share)
    return RiskCoverage(coverage / coverage[-1], np.cumsum(ordered.share * ordered.wrong) / coverage)


def risk_coverage_area(
    score: NDArray[np.floating], correct: NDArray[np.bool_], weight: ArrayLike | None = None
) -> Estimate:
    """Return the area under `risk_coverage`, AURC, with its 95 % interval.

    Each input's influence on the area gives the variance: through its own error, and through the ranks of the others'.
    The interval is `skewed_interval`, in which one more error has a random rank. Arguments and errors as there.

    >>> found = risk_coverage_area(np.linspace(0.0, 1.0, 100), np.arange(100) >= 10)
    >>> round(found.low, 4), round(found.value, 4), round(found.high, 4)
    (0.001, 0.0057, 0.0307)
    """
    ordered = _surest_first(score, correct, weight)
    share, wrong, coverage = ordered.share, ordered.wrong, np.cumsum(ordered.share)
    own, errs = ordered.own_share, ordered.own_wrong
    by_error = errs * ordered.over_ties(np.cumsum((share / coverage)[::-1])[::-1])
    value = float(own @ by_error)
    by_rank = ordered.over_ties(np.cumsum((share * wrong / coverage)[::-1])[::-1] - share * wrong / coverage)
    influence = own * (by_error - value - by_rank + share @ wrong)
    one = float(own @ own)
    typical = float(np.sum((own * by_error) ** 2)) / value if value > 0 else 0.0
    low, high = skewed_interval(value, float(influence @ influence), max(typical, one))
    return Estimate(value, low, min(high, 1.0), len(score))


@dataclass(frozen=True)
class _Ordered:
    """Inputs by falling score.

    Attributes:
        share: float64 [n], of the weight, the mean of its ties.
        wrong: float64 [n], how often its ties err.
        own_share: float64 [n], the input's own share of the weight.
        own_wrong: float64 [n], 1 if the input itself is wrong, else 0.
        starts: intp [distinct scores], where each score begins.
    """

    share: NDArray[np.float64]
    wrong: NDArray[np.float64]
    own_share: NDArray[np.float64]
    own_wrong: NDArray[np.float64]
    starts: NDArray[np.intp]

    def over_ties(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of values [n] over the ties of each input: the expectation over random orders."""
        length = np.diff(self.starts, append=len(values))
        return np.asarray(np.repeat(np.add.reduceat(values, self.starts) / length, length))


def _surest_first(score: NDArray[np.floating], correct: NDArray[np.bool_], weight: ArrayLike | None) -> _Ordered:
    check_scored_answers(score, correct)
    each = normalised(weight, len(score))
    share = np.full(len(score), 1 / len(score)) if each is None else each / each.sum()
    order = np.argsort(-score.astype(np.float64))
    ordered = score[order]
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    length = np.diff(starts, append=len(ordered))
    total, error = (np.add.reduceat(some[order], starts) for some in (share, share * ~correct))
    return _Ordered(
        np.repeat(total / length, length),
        np.repeat(error / total, length),
        share[order],
        (~correct[order]).astype(np.float64),
        starts,
    )
