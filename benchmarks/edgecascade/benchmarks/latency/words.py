"""Figures as they are read, or the reason why there is none."""

from __future__ import annotations

from edgecascade.benchmarks.latency.distribution import QUANTILES, Distribution, least
from edgecascade.benchmarks.report.formats import digits, interval

__all__ = ["milliseconds", "of"]


def milliseconds(found: Distribution | None, name: str) -> str:
    """A percentile by its name, with its interval; or how many latencies it would need."""
    if found is None:
        return "not meaningful"
    at = found.at(name)
    return interval(at, 1e3) if at is not None else f"n = {found.n}; needs {least(QUANTILES[name])}"


def of(value: float | None, unit: str = "", scale: float = 1.0) -> str:
    """A number with its unit; None is not measured."""
    return "not measured" if value is None else f"{digits(scale * value)}{f' {unit}' if unit else ''}"
