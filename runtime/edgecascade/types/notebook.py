"""Show results in notebooks: tables in HTML, and small pictures in SVG with the colours of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecascade.types.errors import printable

if TYPE_CHECKING:
    from edgecascade.types.estimate import OperatingPoint

__all__ = ["as_html", "curve_picture", "picture"]

_WIDTH, _HEIGHT, _LEFT, _BELOW = 360, 200, 48, 36  # pixels


def as_html(rows: Iterable[tuple[str, str]], drawn: str = "") -> str:
    """Return rows of a heading and a text as an HTML table, below a picture if there is one."""
    cells = "".join(
        f"<tr><th>{escape(printable(head))}</th>"
        f'<td style="text-align:left;white-space:pre-wrap">{escape(printable(text))}</td></tr>'
        for head, text in rows
    )
    return f"<table>{drawn and f'<caption>{drawn}</caption>'}{cells}</table>"


def curve_picture(curve: Sequence[OperatingPoint], threshold: float, measure: str = "accuracy") -> str:
    """Return an operating curve with its band, and the point of the threshold, as SVG; nothing without two points."""
    if len(curve) < 2:
        return ""
    if curve[0].cost is None:
        y, band, measure = [one.accuracy for one in curve], [one.accuracy_band for one in curve], measure
    else:
        y, band = [one.cost.value for one in curve if one.cost], [one.cost_band or (0.0, 0.0) for one in curve]
        measure = "cost of errors"
    mark = next((i for i, one in enumerate(curve) if one.threshold == threshold), None)
    return picture([one.offload_rate for one in curve], y, ("offload rate", measure), band=band, mark=mark)


def picture(
    x: Any,
    y: Any,
    axes: tuple[str, str],
    *,
    band: Any = None,
    mark: int | None = None,
    diagonal: bool = False,
) -> str:
    """Return a line as an `<svg>` element.

    Args:
        x: [n], finite, in [0, 1].
        y: [n], finite.
        axes: what x and y are.
        band: [n, 2], the ends of an interval around y; None for none.
        mark: the number of a point to mark.
        diagonal: whether to draw x = y beside it, with y from 0 to 1.
    """
    shown = np.asarray(y if band is None else band, np.float64)
    low, high = (0.0, 1.0) if diagonal else (float(shown.min()), float(shown.max()))
    high = high if high > low else low + 1.0

    def places(some_x: Any, some_y: Any) -> str:
        across = _LEFT + (_WIDTH - _LEFT - 8) * np.asarray(some_x, np.float64)
        down = 8 + (_HEIGHT - _BELOW - 8) * (high - np.asarray(some_y, np.float64)) / (high - low)
        return " ".join(f"{one:.1f},{other:.1f}" for one, other in zip(across, down, strict=True))

    name = f"{axes[1]} against {axes[0]}"
    line = 'fill="none" stroke="currentColor"'
    parts = [f'<polyline points="{places([0, 0, 1], [high, low, low])}" {line} stroke-opacity=".5"/>']
    if diagonal:
        parts.append(f'<polyline points="{places([0, 1], [0, 1])}" {line} stroke-dasharray="2 3"/>')
    if band is not None:
        ends = np.asarray(band, np.float64)
        there_and_back = places([*x, *x[::-1]], [*ends[:, 0], *ends[::-1, 1]])
        parts.append(f'<polygon points="{there_and_back}" fill="#3b82c4" fill-opacity=".25"/>')
    parts.append(f'<polyline points="{places(x, y)}" fill="none" stroke="#3b82c4" stroke-width="2"/>')
    if mark is not None:
        middle = places([x[mark]], [y[mark]]).split(",")
        parts.append(f'<circle cx="{middle[0]}" cy="{middle[1]}" r="4" fill="#d9730d"/>')
    bottom = _HEIGHT - _BELOW
    for text, across, down, anchor in (
        (f"{high:.3g}", _LEFT - 5, 16, "end"),
        (f"{low:.3g}", _LEFT - 5, bottom, "end"),
        ("0", _LEFT, bottom + 14, "middle"),
        ("1", _WIDTH - 8, bottom + 14, "middle"),
        (name, (_LEFT + _WIDTH) // 2, bottom + 30, "middle"),
    ):
        parts.append(f'<text x="{across}" y="{down}" text-anchor="{anchor}">{escape(printable(text))}</text>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" font-size="11" '
        f'fill="currentColor" aria-label="{escape(name)}">{"".join(parts)}</svg>'
    )
