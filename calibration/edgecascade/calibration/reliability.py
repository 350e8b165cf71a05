"""Is a confidence of 0.8 right 80 % of the time? Reliability bins, and the error they add up to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.errors import CalibrationError

__all__ = ["Reliability", "expected_calibration_error", "reliability"]


@dataclass(frozen=True)
class Reliability:
    """Equal-width confidence bins; an empty bin has count 0 and NaN in it.

    Attributes:
        edges: [bins + 1], from 0 to 1.
        count: [bins], how many inputs fell into each.
        confidence: [bins], their mean confidence.
        accuracy: [bins], the share of them that was right.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> Reliability:
    """Reliability diagram data over equal-width bins (lower, upper], from two arrays [n].

    Naeini et al. (AAAI 2015); 15 bins as in Guo et al. (ICML 2017).
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct)
    if confidence.ndim != 1 or confidence.shape != correct.shape or len(confidence) == 0:
        raise CalibrationError(
            f"confidence, correct: expected two arrays [n] with n > 0, "
            f"got {list(confidence.shape)} and {list(correct.shape)}"
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise CalibrationError("confidence: expected numbers in [0, 1], got one outside or NaN")
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges,
            count,
            np.bincount(index, confidence, bins) / count,
            np.bincount(index, correct, bins) / count,
        )


def expected_calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """ECE: the mean distance of confidence from accuracy over equal-width bins, weighted by count.

    >>> expected_calibration_error(np.array([0.8, 0.8]), np.array([True, False]))
    0.30000000000000004
    """
    table = reliability(confidence, correct, bins)
    gap = np.abs(table.confidence - table.accuracy)
    return float(np.nansum(table.count * gap) / table.count.sum())
