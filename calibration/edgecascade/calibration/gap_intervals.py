"""95 % intervals of calibration errors, in closed form.

An absolute value has a kink at 0, where a calibrated model's gaps are. There the bootstrap fails: for a calibrated
model its interval leaves out 0 far more often than one time in twenty (a test shows it).
"""

from __future__ import annotations

import numpy as np

from edgecascade.calibration.reliability import Reliability

__all__ = ["calibration_error_interval", "maximum_error_interval"]

_Z = 1.959963984540054  # two-sided 95 % of a normal
_SETTLED = 2.5  # deviations from 0 at which a gap's sign is no longer in doubt


def calibration_error_interval(*tables: Reliability) -> tuple[float, float]:
    """Interval of the expected calibration error, or of its mean over classes, that infinite data would give.

    A gap that is far from 0 is off by a normal error; one that may be 0 has been enlarged by up to all of its
    error. So the lower end is as low as it would be were those gaps 0, the upper as high as were they all far from
    it: the directional derivative of Fang and Santos (Review of Economic Studies 86, 2019), at its worst either
    way. It holds the error 19 times in 20 or more often. Over several tables, which may depend on each other in
    any way, ends are averaged.

    Args:
        tables: the bins; or those of every class, for the classwise error.

    >>> from edgecascade.calibration.reliability import reliability
    >>> confidence = np.linspace(0.5, 1.0, 1000)
    >>> low, high = calibration_error_interval(reliability(confidence, np.arange(1000) % 2 == 0))
    >>> round(low, 2), round(high, 2)
    (0.21, 0.29)
    """
    low, high = np.mean([_ends(table) for table in tables], axis=0).clip(0.0, 1.0)
    return float(low), float(high)


def maximum_error_interval(table: Reliability) -> tuple[float, float]:
    """Interval of the largest gap in any bin, exact: it holds it 19 times in 20 or more often, in small bins too.

    Clopper and Pearson's interval (Biometrika 26, 1934) of every bin's accuracy, at a level at which all of them
    hold at once. A bin with one input in it leaves nearly everything open.

    >>> from edgecascade.calibration.reliability import reliability
    >>> low, high = maximum_error_interval(reliability(np.full(200, 0.9), np.arange(200) < 120))
    >>> round(low, 2), round(high, 2)
    (0.23, 0.37)
    """
    from scipy.stats import beta

    seen = table.count > 0
    count, confidence = table.count[seen], table.confidence[seen]
    right = np.round(table.accuracy[seen] * count)
    tail = 0.025 / len(count)
    lowest = np.where(right == 0, 0.0, beta.ppf(tail, np.maximum(right, 1), count - right + 1))
    highest = np.where(right == count, 1.0, beta.ppf(1 - tail, right + 1, np.maximum(count - right, 1)))
    low = np.max([lowest - confidence, confidence - highest]).clip(0.0)
    return float(low), float(np.max([highest - confidence, confidence - lowest]))


def _ends(table: Reliability) -> tuple[float, float]:
    """Both ends, which may lie outside [0, 1]."""
    seen = table.count > 0
    n, share = table.count.sum(), table.count[seen] / table.count.sum()
    confidence, accuracy = table.confidence[seen], table.accuracy[seen]
    gap = np.abs(confidence - accuracy)
    # A few inputs that were all right show no variance: as calibrated ones, or with one of each more, they would.
    likely = (accuracy * table.count[seen] + 1) / (table.count[seen] + 2)
    variance = np.max([p * (1 - p) for p in (accuracy, confidence, likely)], axis=0)
    deviation = np.sqrt(share * (variance + (1 - share) * gap**2) / n)
    error, settled = np.sum(share * gap), share * gap > _SETTLED * deviation
    enlarged = np.sqrt(2 / np.pi) * np.sum(deviation[~settled])
    spread = np.sqrt(np.sum(deviation**2 * np.where(settled, 1.0, 1 - 2 / np.pi)))
    return error - enlarged - _Z * spread, error + _Z * np.sqrt(np.sum(deviation**2))
