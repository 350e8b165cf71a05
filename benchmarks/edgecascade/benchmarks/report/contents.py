"""The parts of a report, independent of what was measured, and its numbers as text and pictures as SVG text."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from edgecascade.types.estimate import Estimate

__all__ = [
    "STYLE",
    "Example",
    "Examples",
    "Figure",
    "Report",
    "Section",
    "Table",
    "digits",
    "fixed",
    "interval",
    "percent",
    "svg_of",
]


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        name: The name of its file, without a suffix; unique within a report.
        svg: The picture itself, self-contained.
        caption: What it shows and what it does not show; also its text alternative.
        wide: The same picture drawn for screens wider than 40 rem; empty if there is only one.
    """

    name: str
    svg: str
    caption: str
    wide: str = ""


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row.

    Attributes:
        columns: The headings, as many as each row has cells.
        rows: The rows of cells.
        note: Text below the table: n, the kind of interval, what is not shown.
        title: The summary of the closed box that holds the table; empty for a table that is always shown.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    title: str = ""


@dataclass(frozen=True)
class Example:
    """One input as it was given, with a caption.

    Attributes:
        content: A text, or the bytes of a PNG image.
        caption: What the models said about it.
    """

    content: str | bytes
    caption: str


@dataclass(frozen=True)
class Examples:
    """A few inputs with something in common.

    Attributes:
        title: What they have in common, and how many inputs do.
        examples: Some of them.
    """

    title: str
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        title: The heading.
        text: The paragraphs.
        figures: The pictures, after the text.
        examples: Groups of inputs, after the pictures.
        tables: The tables, after the examples.
    """

    title: str
    text: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    examples: tuple[Examples, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything that is written about one run.

    Attributes:
        title: The title of the page.
        findings: A few sentences for someone who reads nothing else.
        sections: The sections in order; method, environment and command follow them.
        method: How it was measured, in paragraphs.
        command: The command that repeats the run.
        found: What was measured, by kind ("offload", "latency"); it goes into `result.json`.
    """

    title: str
    findings: tuple[str, ...]
    sections: tuple[Section, ...]
    method: tuple[str, ...]
    command: str
    found: Mapping[str, Any] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        from edgecascade.benchmarks.device.environment import read_environment
        from edgecascade.benchmarks.report.page import page_text

        page = escape(page_text(self, read_environment()))  # in a frame, so that its style is not the notebook's
        style = "width:100%;height:40em;border:0"
        return f'<iframe title="{escape(self.title)}" srcdoc="{page}" sandbox="" style="{style}"></iframe>'


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
