"""Numbers as text, and pictures as SVG text that is the same for the same figures."""

from __future__ import annotations

import io
import re
from typing import Any

from edgecascade.types.estimate import Estimate

__all__ = ["STYLE", "digits", "fixed", "interval", "percent", "svg_of"]

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgecascade",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


def digits(value: float) -> str:
    """Format a number with three significant digits and without an exponent.

    >>> digits(0.01234), digits(1.2), digits(1234.5)
    ('0.0123', '1.20', '1234')
    """
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}" if abs(value) >= 1e-4 else f"{value:.6f}"


def interval(found: Estimate, scale: float = 1.0) -> str:
    """Format an estimate, multiplied by `scale`, as `1.78 (1.75 to 1.80)`."""
    value, low, high = (digits(scale * one) for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def fixed(found: Estimate, decimals: int, scale: float = 1.0, *, signed: bool = False) -> str:
    """Format an estimate, multiplied by `scale`, with a fixed number of decimals."""
    kind = f"{'+' if signed else ''}.{decimals}f"
    value, low, high = (f"{scale * one:{kind}}" for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def percent(share: float, decimals: int = 1) -> str:
    """Format a share as a percentage."""
    return f"{share * 100:.{decimals}f} %"


def svg_of(figure: Any) -> str:
    """Return a matplotlib figure as an `<svg>` element without date and author, one line per path."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return re.sub(r" ?\n(?=[LCQMz\"])", " ", svg[svg.index("<svg") :])
