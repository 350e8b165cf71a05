"""Reliability diagrams and the expected calibration error, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.weights import normalised
from edgecascade.types.arrays import as_array
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
_STEPS = 2001  # of the search for the upper end
_TINY = 1e-12  # keeps the noise of bins without any above 0


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
        variance: float64 [bins], of whether an answer among them is right, or of a verifier's score.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    share: NDArray[np.float64]
    size: NDArray[np.float64]
    variance: NDArray[np.float64]

    def _repr_html_(self) -> str:
        from edgecascade.types.notebook import as_html, picture

        rows = [
            (f"{low:.3g} to {high:.3g}", f"confidence {confidence:.3f}, right {accuracy:.3f} of {n}")
            for low, high, confidence, accuracy, n in zip(
                self.edges[:-1], self.edges[1:], self.confidence, self.accuracy, self.count, strict=True
            )
            if n
        ]
        seen = self.count > 0
        axes = ("confidence", "share of right answers")
        return as_html(rows, picture(self.confidence[seen], self.accuracy[seen], axes, diagonal=True))


def reliability(
    confidence: ArrayLike,
    correct: ArrayLike,
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
    wide, correct = as_array(confidence, "confidence").astype(np.float64), as_array(correct, "correct")
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
        accuracy = np.bincount(index, each * correct, bins) / total
        size = total**2 / np.bincount(index, each**2, bins)
        variance = accuracy * (1 - accuracy)
        if np.asarray(correct).dtype != np.bool_:
            square = np.bincount(index, each * (correct - accuracy[index]) ** 2, bins) / total
            variance = np.minimum(square * size / np.maximum(size - 1, 1), variance)
        return Reliability(
            edges=edges,
            count=np.bincount(index, minlength=bins),
            confidence=np.bincount(index, each * wide, bins) / total,
            accuracy=accuracy,
            share=total / total.sum(),
            size=size,
            variance=variance,
        )


def expected_calibration_error(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_] | NDArray[np.floating],
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
        correct: bool [n], whether the answer was right; or a verifier's scores in [0, 1].
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
    its interval excludes 0 far more often than one time in twenty. Here the ends are the smallest and the largest ECE
    that the one seen does not refute, each at 2.5 %, if chance adds a normal error to each gap. Chance adds most to
    the absolute gaps where all that may be 0 are 0, which the lower end assumes. It adds least where the ECE is spread
    over the bins in proportion to their errors, which the upper end assumes (a least favourable configuration, as in
    Lehmann and Romano, Testing Statistical Hypotheses, 2005, section 3.8).

    The ECE of finite data is too large, so it may lie above the interval.

    >>> confidence = np.linspace(0.5, 1.0, 1000)
    >>> low, high = calibration_error_interval(reliability(confidence, np.arange(1000) % 2 == 0))
    >>> round(low, 2), round(high, 2)
    (0.21, 0.29)
    """
    gap, noise, deviation = _gaps(table)
    settled = gap > _SETTLED * deviation
    inflated = _FOLDED * np.sum(noise[~settled])
    spread = np.sqrt(np.sum(deviation**2 * np.where(settled, 1.0, 1 - _FOLDED**2)))
    low = gap.sum() - inflated - _Z * spread
    high = _upper_end(gap.sum(), noise.sum(), np.sqrt(np.sum(deviation**2)))
    return float(np.clip(low, 0.0, 1.0)), min(high, 1.0)


def calibration_error(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_] | NDArray[np.floating],
    *,
    spacing: str = "width",
    weight: ArrayLike | None = None,
) -> Estimate:
    """Return the ECE over 15 bins less its finite-data bias, never below 0, with its interval.

    The bias is what chance adds to the absolute gaps of the bins if each gap is normal, with the one seen as its mean.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right; or a verifier's scores in [0, 1].
        spacing: `width` or `mass`, as in `reliability`.
        weight: numbers [n] above 0; None for equal weights.

    Raises:
        CalibrationError: as `reliability`.
    """
    from scipy.stats import foldnorm

    table = reliability(confidence, correct, spacing=spacing, weight=weight)
    gap, _, deviation = _gaps(table)
    inflated = foldnorm.mean(gap / deviation, scale=deviation)
    value = max(0.0, float(2 * gap.sum() - inflated.sum()))
    low, high = calibration_error_interval(table)
    return Estimate(value, min(low, value), max(high, value), len(correct))


def _error(table: Reliability) -> float:
    return float(np.nansum(table.share * np.abs(table.confidence - table.accuracy)))


def _gaps(table: Reliability) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what each bin that is not empty adds to the ECE, its standard deviation, and a cautious one.

    A few inputs that were all right show no variance. As calibrated ones they would, which is enough for what chance
    adds to a gap; the cautious deviation is also that of a bin with one right and one wrong input more. Graded values
    vary less than right and wrong answers with the same mean, by about the same ratio in all bins.
    """
    seen = table.count > 0
    share, size, confidence, accuracy, variance = (
        some[seen] for some in (table.share, table.size, table.confidence, table.accuracy, table.variance)
    )
    gap = np.abs(confidence - accuracy)
    likely = (accuracy * size + 1) / (size + 2)
    largest = float(share @ (accuracy * (1 - accuracy)))
    ratio = float(share @ variance) / largest if largest else 1.0
    shown = np.maximum(variance, ratio * (confidence * (1 - confidence)))
    noise, deviation = (
        share * np.sqrt((one + (1 - share) * gap**2) / size)
        for one in (shown, np.maximum(shown, ratio * (likely * (1 - likely))))
    )
    return share * gap, noise, deviation


def _upper_end(seen: float, noise: float, spread: float) -> float:
    """Return the largest ECE that is likely to look as small as the one seen, but at least a quarter of that.

    Args:
        seen: the ECE of the data.
        noise: the sum of the standard deviations of what the bins add to it.
        spread: the root of the sum of their squares, cautiously.
    """
    from scipy.special import ndtr

    error = np.linspace(seen / 4, seen + _Z * spread, _STEPS)
    each = error / (noise + _TINY)  # the gap of each bin, in standard deviations
    added = _FOLDED * np.exp(-(each**2) / 2) - 2 * each * ndtr(-each)  # the mean of |gap + error|, less the gap
    variance = 1 - added * (2 * each + added)
    likely = error + noise * added - _Z * spread * np.sqrt(variance) <= seen
    return float(error[np.flatnonzero(likely)[-1]] if likely.any() else error[0])


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
