"""Figures in three significant digits, with their intervals."""

from __future__ import annotations

from edgecascade.types.estimate import Estimate

__all__ = ["digits", "interval"]


def digits(value: float) -> str:
    """Three significant ones, and no exponent.

    >>> digits(0.01234), digits(1.2), digits(1234.5)
    ('0.0123', '1.20', '1234')
    """
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}" if abs(value) >= 1e-4 else f"{value:.6f}"


def interval(found: Estimate, scale: float = 1.0) -> str:
    """As `1.78 (1.75 to 1.80)`."""
    value, low, high = (digits(scale * one) for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"
