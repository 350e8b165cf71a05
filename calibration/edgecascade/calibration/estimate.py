"""A number, its 95 % interval and how many inputs it rests on: never one without the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.gap_intervals import calibration_error_interval
from edgecascade.calibration.intervals import bootstrap, proportion_interval
from edgecascade.calibration.reliability import expected_calibration_error, reliability
from edgecascade.types.estimate import Estimate

__all__ = ["calibration_error", "mean", "proportion", "quantile", "resampled"]


def proportion(value: float, n: int) -> Estimate:
    """A share of n inputs, with Wilson's interval."""
    return Estimate(value, *proportion_interval(round(value * n), n), n)


def mean(values: NDArray[Any]) -> Estimate:
    """The mean of values [n], with the bootstrap's interval; for paired differences."""
    if np.ptp(values) == 0:  # nothing to resample: the bootstrap would warn and give NaN
        return Estimate(float(values[0]), float(values[0]), float(values[0]), len(values))
    found = bootstrap(np.mean, values)
    return Estimate(float(values.mean()), found.low, found.high, len(values))


def quantile(values: NDArray[np.float64], q: float) -> Estimate:
    """The q-quantile of values [n], with the interval between order statistics (exact, no assumption).

    Where n is too small for an end, it is the least or the greatest value.
    """
    from scipy.stats import binom

    ordered, n = np.sort(values), len(values)
    low, high = binom.ppf([0.025, 0.975], n, q).astype(int)
    at = [ordered[min(max(position, 0), n - 1)] for position in (low - 1, high)]
    return Estimate(float(np.quantile(ordered, q)), float(at[0]), float(at[1]), n)


def resampled(statistic: Callable[..., float], *arrays: NDArray[Any], resamples: int = 500) -> Estimate:
    """A statistic of paired arrays [n, ...], with the bootstrap's basic interval."""
    found = bootstrap(statistic, *arrays, resamples=resamples)
    return Estimate(float(statistic(*arrays)), found.low, found.high, len(arrays[0]))


def calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> Estimate:
    """ECE (15 equal-width bins) less the bias that finite data gives it, by bootstrap; never below 0.

    The interval is in closed form and holds at 0 too, which the bootstrap's does not.
    """
    value = expected_calibration_error(confidence, correct)
    value = max(0.0, value - bootstrap(expected_calibration_error, confidence, correct).bias)
    low, high = calibration_error_interval(reliability(confidence, correct))
    return Estimate(value, min(low, value), max(high, value), len(correct))
