"""Reliability diagrams and the expected calibration error, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.weights import normalised
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate

__all__ = [
    "Reliability",
    "calibration_error",
    "calibration_error_interval",
    "expected_calibration_error",
    "reliability",
]

_Z = 1.959963984540054  # two-sided 95 % of a normal
_FOLDED = float(np.sqrt(2 / np.pi))  # the mean of its absolute value
_SETTLED = 2.5  # a gap of so many standard deviations has a certain sign


@dataclass(frozen=True)
class Reliability:
    """Confidence bins (lower, upper]; the first also holds 0. An empty bin has count 0 and NaN in both means.

    Attributes:
        edges: float64 [bins + 1], from 0 to 1.
        count: int64 [bins], number of inputs in each bin.
        confidence: float64 [bins], their mean confidence.
        accuracy: float64 [bins], share of right answers among them.
        share: float64 [bins], share of all inputs, by weight.
        size: float64 [bins], number of equally weighted inputs that each bin is worth, as in `effective_size`.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    share: NDArray[np.float64]
    size: NDArray[np.float64]


def reliability(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_] | NDArray[np.floating],
    bins: int = 15,
    spacing: str = "width",
    weight: ArrayLike | None = None,
) -> Reliability:
    """Return the bins of a reliability diagram.

    Bins of equal width: Naeini et al. (AAAI 2015), 15 of them as in Guo et al. (ICML 2017). Bins of equal mass hold
    equally many inputs each, to within one (Nguyen and O'Connor, EMNLP 2015), and are never empty; tied confidences
    stay in the bin of the first of them, so ties can leave fewer bins.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right; or a verifier's scores in [0, 1].
        bins: number of bins.
        spacing: `width` or `mass`.
        weight: numbers [n] above 0; None for equal weights.

    Raises:
        CalibrationError: the shapes differ, there are no inputs, a confidence is outside [0, 1], or the number or
            spacing of bins is not one of these.

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
    each = normalised(weight, len(wide))
    each = np.ones(len(wide)) if each is None else each
    total = np.bincount(index, each, bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges=edges,
            count=np.bincount(index, minlength=bins),
            confidence=np.bincount(index, each * wide, bins) / total,
            accuracy=np.bincount(index, each * correct, bins) / total,
            share=total / total.sum(),
            size=total**2 / np.bincount(index, each**2, bins),
        )


def expected_calibration_error(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_],
    bins: int = 15,
    *,
    spacing: str = "width",
    weight: ArrayLike | None = None,
) -> float:
    """Return the ECE, the mean distance of confidence from accuracy over bins, weighted by count; in [0, 1].

    Chance moves the accuracy of a bin away from its confidence more often than toward it, so the ECE of finite data
    is too large; `calibration_error` corrects for that.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right.
        bins: number of bins.
        spacing: `width` or `mass`, as in `reliability`.
        weight: numbers [n] above 0; None for equal weights.

    Raises:
        CalibrationError: as `reliability`.

    >>> expected_calibration_error(np.array([0.8, 0.8]), np.array([True, False]))
    0.30000000000000004
    """
    return _error(reliability(confidence, correct, bins, spacing, weight))


def calibration_error_interval(table: Reliability) -> tuple[float, float]:
    """Return the 95 % interval of the ECE that infinite data would give in these bins, in closed form.

    The absolute value has a kink at 0, near which the gaps of a calibrated model lie, and there the bootstrap fails:
    its interval excludes 0 far more often than one time in twenty. Here a gap far from 0 has a normal error; a gap
    that may be 0 is inflated by up to all of its error. The lower end assumes that all such gaps are 0, the upper end
    that none is: the directional derivative of Fang and Santos (Review of Economic Studies 86, 2019) at its worst in
    either direction. The coverage is at least 95 %.

    >>> confidence = np.linspace(0.5, 1.0, 1000)
    >>> low, high = calibration_error_interval(reliability(confidence, np.arange(1000) % 2 == 0))
    >>> round(low, 2), round(high, 2)
    (0.21, 0.29)
    """
    gap, deviation = _gaps(table)
    settled = gap > _SETTLED * deviation
    inflated = _FOLDED * np.sum(deviation[~settled])
    spread = np.sqrt(np.sum(deviation**2 * np.where(settled, 1.0, 1 - _FOLDED**2)))
    ends = np.array([gap.sum() - inflated - _Z * spread, gap.sum() + _Z * np.sqrt(np.sum(deviation**2))])
    low, high = ends.clip(0.0, 1.0)
    return float(low), float(high)


def calibration_error(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_],
    *,
    spacing: str = "width",
    weight: ArrayLike | None = None,
) -> Estimate:
    """Return the ECE over 15 bins less its finite-data bias, never below 0, with its interval.

    The bias is what chance adds to the absolute gaps of the bins if each gap is normal, with the one seen as its mean.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right.
        spacing: `width` or `mass`, as in `reliability`.
        weight: numbers [n] above 0; None for equal weights.

    Raises:
        CalibrationError: as `reliability`.
    """
    from scipy.stats import foldnorm

    table = reliability(confidence, correct, spacing=spacing, weight=weight)
    gap, deviation = _gaps(table)
    inflated = foldnorm.mean(gap / deviation, scale=deviation)
    value = max(0.0, float(2 * gap.sum() - inflated.sum()))
    low, high = calibration_error_interval(table)
    return Estimate(value, min(low, value), max(high, value), len(correct))


def _error(table: Reliability) -> float:
    return float(np.nansum(table.share * np.abs(table.confidence - table.accuracy)))


def _gaps(table: Reliability) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what each bin that is not empty adds to the ECE, and its standard deviation."""
    seen = table.count > 0
    share, size, confidence, accuracy = (
        some[seen] for some in (table.share, table.size, table.confidence, table.accuracy)
    )
    gap = np.abs(confidence - accuracy)
    # A few inputs that were all right show no variance; as calibrated ones, or with one of each more, they would.
    likely = (accuracy * size + 1) / (size + 2)
    variance = np.max([p * (1 - p) for p in (accuracy, confidence, likely)], axis=0)
    return share * gap, share * np.sqrt((variance + (1 - share) * gap**2) / size)


def _edges(confidence: NDArray[np.float64], bins: int, spacing: str) -> NDArray[np.float64]:
    if bins < 1:
        raise CalibrationError(f"bins: expected at least 1, got {bins}")
    if spacing == "width":
        return np.linspace(0.0, 1.0, bins + 1)
    if spacing == "mass":
        last = -(-np.arange(1, bins) * len(confidence) // bins) - 1  # rounding up in integers
        ordered = np.sort(confidence)
        inner = np.unique(ordered[last])
        return np.concatenate([[0.0], inner[inner < ordered[-1]], [1.0]])
    raise CalibrationError(f"spacing: expected width or mass, got {spacing!r}")
