"""The Brier score: how far probabilities are from what happened, calibration and sharpness in one number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.labelled_probabilities import check_labelled_probabilities

__all__ = ["brier_score", "squared_distances"]


def brier_score(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Mean over inputs of the squared distance between the probabilities and the class that it was; in [0, 2].

    Brier, "Verification of Forecasts Expressed in Terms of Probability" (Monthly Weather Review 78, 1950): the sum
    over all classes, so for two classes twice what is often called by this name.

    Args:
        probabilities: floating [n, classes], every row a distribution.
        labels: integer [n], in 0..classes - 1.

    Raises:
        CalibrationError: other shapes, types or numbers.

    >>> brier_score(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1]))
    0.25
    """
    return float(squared_distances(probabilities, labels).mean())


def squared_distances(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """What each input adds to the Brier score, float64 [n]; arguments and errors as there.

    >>> squared_distances(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1]))
    array([0. , 0.5])
    """
    check_labelled_probabilities(probabilities, labels)
    distance = probabilities.astype(np.float64)
    distance[np.arange(len(labels)), labels] -= 1
    return np.asarray(np.einsum("ij,ij->i", distance, distance))
