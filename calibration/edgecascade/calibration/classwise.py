"""Calibration of every class's probability, where the expected calibration error looks at the likeliest only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.labelled_probabilities import check_labelled_probabilities
from edgecascade.calibration.reliability import Reliability, reliability

__all__ = ["classwise_calibration_error", "classwise_reliability"]


def classwise_calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int = 15
) -> float:
    """Mean over classes of the calibration error of "it is this class", over bins of equal width; in [0, 1].

    Kull et al., "Beyond temperature scaling" (NeurIPS 2019), section 2. With many classes most probabilities are
    near 0 and so is the error: compare it only between models of the same classes.

    Args:
        probabilities: floating [n, classes], every row a distribution.
        labels: integer [n], in 0..classes - 1.
        bins: how many, for each class.

    Raises:
        CalibrationError: other shapes, types or numbers.

    >>> probabilities = np.array([[0.75, 0.25, 0.0]] * 4)
    >>> classwise_calibration_error(probabilities, np.array([0, 0, 0, 1]))
    0.0
    >>> round(classwise_calibration_error(probabilities, np.array([0, 0, 0, 2])), 3)    # (0 + 1/4 + 1/4) / 3
    0.167
    """
    tables = classwise_reliability(probabilities, labels, bins)
    gaps = [np.nansum(table.count * np.abs(table.confidence - table.accuracy)) for table in tables]
    return float(np.sum(gaps) / len(tables) / len(labels))


def classwise_reliability(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int = 15
) -> tuple[Reliability, ...]:
    """For each class, the reliability bins of its probability; arguments and errors as above.

    >>> tables = classwise_reliability(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1]), bins=2)
    >>> tables[1].accuracy
    array([0.25,  nan])
    """
    check_labelled_probabilities(probabilities, labels)
    inside = np.clip(probabilities, 0.0, 1.0)  # a float32 softmax may round to just above 1
    return tuple(reliability(inside[:, one], labels == one, bins) for one in range(inside.shape[1]))
