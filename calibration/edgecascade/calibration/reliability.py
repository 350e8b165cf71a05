"""Is a confidence of 0.8 right 80 % of the time? Reliability bins, and the errors they add up to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import CalibrationError

__all__ = ["Reliability", "expected_calibration_error", "maximum_calibration_error", "reliability"]


@dataclass(frozen=True)
class Reliability:
    """Confidence bins (lower, upper], of which the first holds 0 too; an empty bin has count 0 and NaN in it.

    Attributes:
        edges: float64 [bins + 1], from 0 to 1.
        count: int64 [bins], how many inputs fell into each.
        confidence: float64 [bins], their mean confidence.
        accuracy: float64 [bins], the share of them that was right.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15, spacing: str = "width"
) -> Reliability:
    """Reliability diagram data over bins (lower, upper].

    Bins of equal width: Naeini et al. (AAAI 2015), 15 of them as in Guo et al. (ICML 2017). Bins of equal mass hold
    equally many inputs each, to within one (Nguyen and O'Connor, EMNLP 2015), and are never empty; tied confidences
    stay in one bin, the one that the first of them belongs to, so ties can leave fewer bins.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right.
        bins: how many.
        spacing: `width` or `mass`.

    Raises:
        CalibrationError: shapes that differ, no inputs, a confidence outside [0, 1], or another number or spacing
            of bins.

    >>> table = reliability(np.array([0.2, 0.8, 0.9, 0.9]), np.array([False, True, True, False]), 2, "mass")
    >>> table.edges, table.count, table.accuracy
    (array([0. , 0.8, 1. ]), array([2, 2]), array([0.5, 0.5]))
    """
    wide = np.asarray(confidence, np.float64)
    if wide.ndim != 1 or wide.shape != np.shape(correct) or len(wide) == 0:
        raise CalibrationError(
            f"confidence, correct: expected two arrays [n] with n > 0, "
            f"got {list(wide.shape)} and {list(np.shape(correct))}"
        )
    if not ((wide >= 0) & (wide <= 1)).all():
        raise CalibrationError("confidence: expected numbers in [0, 1], got one outside or NaN")
    edges = _edges(wide, bins, spacing)
    bins = len(edges) - 1
    index = np.clip(np.searchsorted(edges, wide, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges,
            count,
            np.bincount(index, wide, bins) / count,
            np.bincount(index, correct, bins) / count,
        )


def expected_calibration_error(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_],
    bins: int = 15,
    *,
    spacing: str = "width",
    debiased: bool = False,
) -> float:
    """ECE: the mean distance of confidence from accuracy over bins, weighted by count; in [0, 1].

    Chance moves the accuracy of a bin away from its confidence more often than toward it, so the error of finite
    data is too large. Debiased, each bin loses what chance would add if the gap seen were the true one, the
    accuracy being normal around it: Kumar et al., "Verified Uncertainty Calibration" (NeurIPS 2019), section 4,
    whose mean over samples is here the mean of a folded normal. Of the error that a calibrated model seems to
    have this takes some two fifths away, not all; of a gap of one or two standard errors a little too much.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right.
        bins: how many.
        spacing: `width` or `mass`, as in `reliability`.
        debiased: less the bias of finite data, down to 0.

    Raises:
        CalibrationError: as `reliability`.

    >>> expected_calibration_error(np.array([0.8, 0.8]), np.array([True, False]))
    0.30000000000000004
    >>> round(expected_calibration_error(np.array([0.8, 0.8]), np.array([True, False]), debiased=True), 3)
    0.222
    """
    table = reliability(confidence, correct, bins, spacing)
    gap = np.abs(table.confidence - table.accuracy)
    if debiased:
        gap = gap - _added_by_chance(gap, table)
    return max(0.0, float(np.nansum(table.count * gap) / table.count.sum()))


def maximum_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15, *, spacing: str = "width"
) -> float:
    """MCE: the largest distance of confidence from accuracy in any bin that is not empty; in [0, 1].

    Naeini et al. (AAAI 2015). One input alone in a bin of equal width can decide it; bins of equal mass are steadier.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right.
        bins: how many.
        spacing: `width` or `mass`, as in `reliability`.

    Raises:
        CalibrationError: as `reliability`.

    >>> maximum_calibration_error(np.array([0.75, 0.75, 1.0]), np.array([True, False, True]))
    0.25
    """
    table = reliability(confidence, correct, bins, spacing)
    return float(np.nanmax(np.abs(table.confidence - table.accuracy)))


def _edges(confidence: NDArray[np.float64], bins: int, spacing: str) -> NDArray[np.float64]:
    if bins < 1:
        raise CalibrationError(f"bins: expected at least 1, got {bins}")
    if spacing == "width":
        return np.linspace(0.0, 1.0, bins + 1)
    if spacing == "mass":
        last = -(-np.arange(1, bins) * len(confidence) // bins) - 1  # rounding up, without a float to be off by one
        ordered = np.sort(confidence)
        inner = np.unique(ordered[last])
        return np.concatenate([[0.0], inner[inner < ordered[-1]], [1.0]])
    raise CalibrationError(f"spacing: expected width or mass, got {spacing!r}")


def _added_by_chance(gap: NDArray[np.float64], table: Reliability) -> NDArray[np.float64]:
    """E|N(gap, accuracy (1 - accuracy) / count)| - gap, for gaps >= 0."""
    from scipy.special import ndtr

    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.sqrt(table.accuracy * (1 - table.accuracy) / table.count)
        steps = gap / deviation  # infinite or NaN where nothing is left to chance
        added = deviation * np.sqrt(2 / np.pi) * np.exp(-(steps**2) / 2) - 2 * gap * ndtr(-steps)
    return np.where(deviation > 0, added, 0.0)
