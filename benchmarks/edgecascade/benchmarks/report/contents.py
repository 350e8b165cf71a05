"""The parts of a report, independent of what was measured: titled sections of text, pictures, examples and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Example", "Examples", "Figure", "Report", "Section", "Table"]


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
