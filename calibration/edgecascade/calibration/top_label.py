"""Isotonic calibration of a classifier: the likeliest class gets its probability, the others share the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.isotonic import Isotonic, fit_isotonic
from edgecascade.calibration.labelled_logits import check_labelled_logits
from edgecascade.calibration.temperature import fit_temperature

__all__ = ["TopLabelIsotonic", "fit_top_label_isotonic"]


@dataclass(frozen=True)
class TopLabelIsotonic:
    """Isotonic regression of the confidence max softmax(z / T).

    Attributes:
        temperature: T.
        isotonic: from that confidence to the probability that the class is right.
    """

    temperature: float
    isotonic: Isotonic

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Logits float64 [n, classes] whose softmax is calibrated: log-probabilities, masked classes at -inf.

        The classes that were not the likeliest keep their proportions; where the likeliest turns out to be less
        likely than one of them, that one becomes the label.
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
    """The temperature first, then isotonic regression of what confidence it leaves.

    Only the confidence is fitted, because that is what a cascade routes by. Beside temperature scaling the
    negative log-likelihood changes by just as much as that of right and wrong does.

    Args:
        logits: [n, classes], floating; -inf masks a class.
        labels: [n], integer, in 0..classes - 1.

    Raises:
        CalibrationError: where there is no temperature, with the reason.

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
    """Unlike scipy's, NaN wherever `softmax` is."""
    below = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=1, keepdims=True)))
