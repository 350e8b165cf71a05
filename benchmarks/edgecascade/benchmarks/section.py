"""What a report is made of, whatever was measured: titled sections of text, pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Figure", "Report", "Section", "Table"]


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        name: of its file, without a suffix; also how it is told from others.
        svg: the picture itself, self-contained.
        caption: what it shows, and what it does not; also read aloud in its place.
    """

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Cells as they are read; the first column names the row.

    Attributes:
        columns: headings, as many as each row has cells.
        rows: of cells.
        note: below the table: n, what the intervals are, what is not shown.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        title: its heading.
        text: paragraphs.
        figures: after the text.
        tables: after the figures.
    """

    title: str
    text: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything that is written about one run.

    Attributes:
        title: of the page.
        verdict: a few sentences for whoever reads nothing else.
        sections: in order; method, environment and how to repeat it come after them.
        method: how it was measured, paragraphs.
        command: how to repeat it.
        found: what was measured, as JSON-like values by kind ("offload", "latency"); it goes into `result.json`.
    """

    title: str
    verdict: tuple[str, ...]
    sections: tuple[Section, ...]
    method: tuple[str, ...]
    command: str
    found: Mapping[str, Any] = field(default_factory=dict)
