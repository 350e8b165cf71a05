"""Isotonic regression: a rising function from score to probability, where no formula fits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_scored_answers
from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.scaling.platt import prior_corrected_targets, row_weights
from edgecascade.types.confidence_map import ConfidenceMap

__all__ = ["fit_isotonic", "grouped"]


def fit_isotonic(
    score: NDArray[np.floating],
    correct: Correct,
    weight: ArrayLike | None = None,
    *,
    groups: int | None = None,
) -> ConfidenceMap:
    """Fit the never falling function with the least squared error from prior-corrected targets.

    Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates" (KDD 2002),
    section 3.2, by pool-adjacent-violators. With 1 and 0 as targets both ends would be certain; with Platt's the
    probabilities stay inside (0, 1).

    Args:
        score: [n], floating and finite, on any scale.
        correct: bool [n], whether the answer was right; or floating [n] in [0, 1], how good it was.
        weight: [n], numbers above 0 on any scale, by which each row counts; None for equal weights.
        groups: most knots: the scores are first averaged in so many groups of equal weight, as in `grouped`. None
            gives each distinct score its own group.

    Raises:
        CalibrationError: other shapes, types or numbers.

    >>> found = fit_isotonic(np.array([0.9, 0.8, 0.7, 0.4]), np.array([True, False, True, False]))
    >>> found(np.array([0.3, 0.7, 0.75, 0.85, 1.0])).round(3)
    array([0.25 , 0.5  , 0.5  , 0.625, 0.75 ])
    """
    from scipy.optimize import isotonic_regression

    check_scored_answers(score, correct, graded=True)
    weight = row_weights(weight, len(score))
    knots, right, total = grouped(score, correct, weight, groups)
    fitted = isotonic_regression(right, weights=total)
    first, last = fitted.blocks[:-1], fitted.blocks[1:] - 1
    ends = np.unique(np.concatenate([first, last]))  # a constant stretch needs no points between its ends
    if_wrong, if_right = prior_corrected_targets(correct, weight)  # an affine map, which commutes with the fit
    values = if_wrong + (if_right - if_wrong) * np.asarray(fitted.x[ends], np.float64)
    return ConfidenceMap(tuple(knots[ends].tolist()), tuple(np.maximum.accumulate(values).tolist()))


def grouped(
    score: NDArray[np.floating], values: NDArray[np.generic], weight: NDArray[np.float64], groups: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean score, mean value and total weight of each group, by rising score.

    Args:
        score: floating [n].
        values: numbers [n].
        weight: float64 [n].
        groups: most groups, of equal weight as far as ties allow, which stay together; None makes one for each
            distinct score.
    """
    distinct, row = np.unique(score.astype(np.float64), return_inverse=True)
    total = np.asarray(np.bincount(row, weight), np.float64)
    summed = np.bincount(row, weight * values.astype(np.float64))
    if groups is None or len(distinct) <= groups:
        return distinct, summed / total, total
    middle = np.cumsum(total) - total / 2
    _, group = np.unique((middle * groups / total.sum()).astype(int), return_inverse=True)
    mass = np.asarray(np.bincount(group, total), np.float64)
    return np.bincount(group, total * distinct) / mass, np.bincount(group, summed) / mass, mass
