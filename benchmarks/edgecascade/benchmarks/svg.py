"""How this project's pictures look, and how they become text that is the same for the same figures."""

from __future__ import annotations

import io
from typing import Any

__all__ = ["STYLE", "svg_of"]

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgecascade",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


def svg_of(figure: Any) -> str:
    """A matplotlib figure as an `<svg>` element, without date and author."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
