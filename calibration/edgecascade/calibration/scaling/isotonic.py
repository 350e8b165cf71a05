"""Isotonic regression: a rising function from score to probability, where no formula fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_scored_answers
from edgecascade.calibration.scaling.platt import prior_corrected_targets

__all__ = ["Isotonic", "fit_isotonic"]


@dataclass(frozen=True)
class Isotonic:
    """Linear interpolation between points, constant beyond the first and the last.

    Attributes:
        scores: float64 [points], ascending.
        probabilities: float64 [points], never falling, inside (0, 1).
    """

    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    def __call__(self, score: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probability float64 [n] that answers with these scores [n] are right; NaN stays NaN."""
        return np.asarray(np.interp(score, self.scores, self.probabilities), np.float64)


def fit_isotonic(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> Isotonic:
    """Fit the never falling function with the least squared error from prior-corrected targets.

    Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates" (KDD 2002),
    section 3.2, by pool-adjacent-violators. With 1 and 0 as targets both ends would be certain; with Platt's the
    probabilities stay inside (0, 1).

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

    check_scored_answers(score, correct)
    scores, row, count = np.unique(score.astype(np.float64), return_inverse=True, return_counts=True)
    fitted = isotonic_regression(np.bincount(row, correct) / count, weights=count)
    first, last = fitted.blocks[:-1], fitted.blocks[1:] - 1
    ends = np.unique(np.concatenate([first, last]))  # a constant stretch needs no points between its ends
    if_wrong, if_right = prior_corrected_targets(correct)  # an affine map, which commutes with the fit
    return Isotonic(scores[ends], if_wrong + (if_right - if_wrong) * np.asarray(fitted.x[ends], np.float64))
