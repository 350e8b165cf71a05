"""Isotonic regression: a rising step function from score to probability, where no formula fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_labelled_logits, check_scored_answers
from edgecascade.calibration.scaling.platt import prior_corrected_targets
from edgecascade.calibration.scaling.temperature import fit_temperature

__all__ = ["Isotonic", "TopLabelIsotonic", "fit_isotonic", "fit_top_label_isotonic"]


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


@dataclass(frozen=True)
class TopLabelIsotonic:
    """Isotonic regression of the confidence max softmax(z / T).

    Attributes:
        temperature: T.
        isotonic: from that confidence to the probability that the label is right.
    """

    temperature: float
    isotonic: Isotonic

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return calibrated log-probabilities float64 [n, classes]; masked classes stay at -inf.

        The other classes keep their proportions; one of them becomes the label where it is now the likeliest.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            found = _log_softmax(np.asarray(logits, np.float64) / self.temperature)
            likeliest = found.argmax(axis=1)[:, None]
            right = self.isotonic(np.exp(np.take_along_axis(found, likeliest, axis=1)))
            np.put_along_axis(found, likeliest, np.where(np.isnan(right), right, -np.inf), axis=1)
            others = np.where(np.isneginf(found), found, _log_softmax(found) + np.log1p(-right))
            np.put_along_axis(others, likeliest, np.log(right), axis=1)
        return np.asarray(others)


def fit_top_label_isotonic(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> TopLabelIsotonic:
    """Fit the temperature, then isotonic regression of the confidence.

    Args:
        logits: [n, classes], floating; -inf masks a class.
        labels: [n], integer, in 0..classes - 1.

    Raises:
        CalibrationError: there is no finite temperature; the message says why.

    >>> logits = np.array([[4.0, 0.0, 0.0]] * 10 + [[1.0, 0.0, 0.0]] * 10)
    >>> labels = np.array([0] * 9 + [1] + [0] * 4 + [1] * 3 + [2] * 3)
    >>> np.exp(fit_top_label_isotonic(logits, labels)(logits[[0, -1]])).round(2)
    array([[0.85, 0.07, 0.07],
           [0.44, 0.28, 0.28]])
    """
    check_labelled_logits(logits, labels)
    temperature = fit_temperature(logits, labels)
    confidence = np.exp(_log_softmax(np.asarray(logits, np.float64) / temperature).max(axis=1))
    return TopLabelIsotonic(temperature, fit_isotonic(confidence, logits.argmax(axis=1) == labels))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-probabilities that, unlike scipy's, are NaN wherever `softmax` is."""
    below = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=1, keepdims=True)))
