"""Reliability diagrams and the expected calibration error, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.intervals import bootstrap
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
_SETTLED = 2.5  # a gap of so many standard deviations has a certain sign


@dataclass(frozen=True)
class Reliability:
    """Confidence bins (lower, upper]; the first also holds 0. An empty bin has count 0 and NaN in both means.

    Attributes:
        edges: float64 [bins + 1], from 0 to 1.
        count: int64 [bins], number of inputs in each bin.
        confidence: float64 [bins], their mean confidence.
        accuracy: float64 [bins], share of right answers among them.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_] | NDArray[np.floating],
    bins: int = 15,
    spacing: str = "width",
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
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges,
            count,
            np.bincount(index, wide, bins) / count,
            np.bincount(index, correct, bins) / count,
        )


def expected_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15, *, spacing: str = "width"
) -> float:
    """Return the ECE, the mean distance of confidence from accuracy over bins, weighted by count; in [0, 1].

    Chance moves the accuracy of a bin away from its confidence more often than toward it, so the ECE of finite data
    is too large; `calibration_error` corrects for that.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right.
        bins: number of bins.
        spacing: `width` or `mass`, as in `reliability`.

    Raises:
        CalibrationError: as `reliability`.

    >>> expected_calibration_error(np.array([0.8, 0.8]), np.array([True, False]))
    0.30000000000000004
    """
    table = reliability(confidence, correct, bins, spacing)
    gap = np.abs(table.confidence - table.accuracy)
    return max(0.0, float(np.nansum(table.count * gap) / table.count.sum()))


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
    seen = table.count > 0
    n, share = table.count.sum(), table.count[seen] / table.count.sum()
    confidence, accuracy = table.confidence[seen], table.accuracy[seen]
    gap = np.abs(confidence - accuracy)
    # A few inputs that were all right show no variance; as calibrated ones, or with one of each more, they would.
    likely = (accuracy * table.count[seen] + 1) / (table.count[seen] + 2)
    variance = np.max([p * (1 - p) for p in (accuracy, confidence, likely)], axis=0)
    deviation = np.sqrt(share * (variance + (1 - share) * gap**2) / n)
    error, settled = np.sum(share * gap), share * gap > _SETTLED * deviation
    inflated = np.sqrt(2 / np.pi) * np.sum(deviation[~settled])
    spread = np.sqrt(np.sum(deviation**2 * np.where(settled, 1.0, 1 - 2 / np.pi)))
    ends = np.array([error - inflated - _Z * spread, error + _Z * np.sqrt(np.sum(deviation**2))])
    low, high = ends.clip(0.0, 1.0)
    return float(low), float(high)


def calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> Estimate:
    """Return the ECE over 15 equal-width bins less its finite-data bias by bootstrap, never below 0, with its interval.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right.

    Raises:
        CalibrationError: as `reliability`.
    """
    value = expected_calibration_error(confidence, correct)
    value = max(0.0, value - bootstrap(expected_calibration_error, confidence, correct).bias)
    low, high = calibration_error_interval(reliability(confidence, correct))
    return Estimate(value, min(low, value), max(high, value), len(correct))


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
