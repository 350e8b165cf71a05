"""Isotonic regression: any rising function from score to probability, for scores that no formula fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.judged_scores import check_judged_scores, prior_corrected_targets

__all__ = ["Isotonic", "fit_isotonic"]


@dataclass(frozen=True)
class Isotonic:
    """Straight lines between points, level beyond the first and the last.

    Attributes:
        scores: float64 [points], rising.
        probabilities: float64 [points], never falling, inside (0, 1).
    """

    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    def __call__(self, score: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability float64 [n] that answers with these scores [n] are right; NaN stays NaN."""
        return np.asarray(np.interp(score, self.scores, self.probabilities), np.float64)


def fit_isotonic(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> Isotonic:
    """The never falling function with the least squared error from prior-corrected targets.

    Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates" (KDD 2002),
    section 3.2; pool-adjacent-violators by `scipy.optimize.isotonic_regression`, the same function as
    scikit-learn's `IsotonicRegression`. Of 1 and 0 as targets it would make certainties at both ends, which one
    surprise refutes; with Platt's it stays inside (0, 1).

    Args:
        score: [n], floating and finite, on any scale.
        correct: bool [n], whether the answer was right.

    Raises:
        CalibrationError: other shapes, types or numbers.

    >>> found = fit_isotonic(np.array([0.9, 0.8, 0.7, 0.4]), np.array([True, False, True, False]))
    >>> found(np.array([0.3, 0.7, 0.75, 0.85, 1.0])).round(3)
    array([0.25 , 0.5  , 0.5  , 0.625, 0.75 ])
    """
    from scipy.optimize import isotonic_regression

    check_judged_scores(score, correct)
    scores, row, count = np.unique(score.astype(np.float64), return_inverse=True, return_counts=True)
    fitted = isotonic_regression(np.bincount(row, correct) / count, weights=count)
    first, last = fitted.blocks[:-1], fitted.blocks[1:] - 1
    ends = np.unique(np.concatenate([first, last]))  # a level stretch needs no points between its ends
    if_wrong, if_right = prior_corrected_targets(correct)  # may come last: an affine map of what is fitted
    return Isotonic(scores[ends], if_wrong + (if_right - if_wrong) * np.asarray(fitted.x[ends], np.float64))
