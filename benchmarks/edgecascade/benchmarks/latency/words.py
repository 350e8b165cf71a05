"""Figures as they are read: in three digits, with their intervals, or the reason why there is none."""

from __future__ import annotations

from edgecascade.benchmarks.latency.distribution import QUANTILES, Distribution, least
from edgecascade.calibration.estimate import Estimate

__all__ = ["digits", "interval", "milliseconds", "of"]


def digits(value: float) -> str:
    """Three significant ones, and no exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def interval(found: Estimate, scale: float = 1.0) -> str:
    """As `1.78 (1.75 to 1.80)`."""
    value, low, high = (digits(scale * one) for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def milliseconds(found: Distribution | None, name: str) -> str:
    """A percentile by its name, with its interval; or how many latencies it would need."""
    if found is None:
        return "not meaningful"
    at = found.at(name)
    return interval(at, 1e3) if at is not None else f"n = {found.n}; needs {least(QUANTILES[name])}"


def of(value: float | None, unit: str = "", scale: float = 1.0) -> str:
    """A number with its unit; None is not measured."""
    return "not measured" if value is None else f"{digits(scale * value)}{f' {unit}' if unit else ''}"
