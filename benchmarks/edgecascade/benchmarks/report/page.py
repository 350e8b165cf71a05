"""A report as one self-contained HTML page, with the same result beside it for machines and for terminals."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgecascade.benchmarks.device.environment import Environment, read_environment
from edgecascade.benchmarks.report.contents import Report
from edgecascade.benchmarks.report.estimates import result_csv
from edgecascade.benchmarks.report.result import json_text, result_document
from edgecascade.export.writing import write_whole
from edgecascade.types.errors import BenchmarkError, printable

__all__ = ["page_text", "write_page", "write_study"]

_CODE = re.compile("`([^`\n]+)`")
_INTERVAL = re.compile(r"(.+?) (\(\S+ to \S+?\))(.*)")


def write_page(report: Report, folder: str | os.PathLike[str], *, summary: str) -> Path:
    """Write `report.html`, `result.json`, `result.csv`, `summary.txt` and every figure as NAME.svg; return the page.

    Each file appears whole or not at all. The page is written last, so everything it mentions is there.

    Args:
        report: What to write.
        folder: The folder; it is made if it does not exist.
        summary: The result as it is printed.

    Raises:
        BenchmarkError: A figure is not an SVG document or has no unique name, a table has ragged rows, or something
            found cannot be written as JSON. Nothing is written then.
    """
    environment = read_environment()
    document = result_document(report, environment)
    figures = [figure for section in report.sections for figure in section.figures]
    html = page_text(report, environment)
    content = {
        **{f"{figure.name}.svg": figure.svg for figure in figures},
        "result.json": json_text(document),
        "result.csv": result_csv(document),
        "summary.txt": summary,
        "report.html": html,
    }
    _write(folder, content)
    return Path(folder) / "report.html"


def write_study(
    folder: str | os.PathLike[str],
    kind: str,
    found: Any,
    *,
    command: str,
    summary: str,
    pictures: Mapping[str, str] | None = None,
) -> None:
    """Write `result.json`, `summary.txt` and pictures as NAME.svg, without a page.

    Args:
        folder: The folder; it is made if it does not exist.
        kind: The name of the measurement in the document.
        found: A dataclass or a mapping.
        command: The command that repeats the run.
        summary: The result as it is printed, its title in the first line.
        pictures: SVG documents by name.

    Raises:
        BenchmarkError: Something found cannot be written as JSON.
    """
    report = Report(summary.splitlines()[0], (), (), (), command, {kind: found})
    document = json_text(result_document(report, read_environment()))
    svgs = {f"{name}.svg": svg for name, svg in (pictures or {}).items()}
    _write(folder, {**svgs, "result.json": document, "summary.txt": summary})


def _write(folder: str | os.PathLike[str], content: Mapping[str, str]) -> None:
    for name, text in content.items():
        write_whole(f"{text.rstrip()}\n".encode(errors="backslashreplace"), Path(folder) / name)


def page_text(report: Report, environment: Environment) -> str:
    """Return the page as HTML; errors as `write_page`."""
    from jinja2 import Environment as Templates
    from jinja2 import StrictUndefined
    from markupsafe import Markup, escape

    _check_figures(report)
    _check_rows(report)
    templates = Templates(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    templates.filters |= {
        "parts": _parts,
        "data_uri": _data_uri,
        "coded": lambda text: Markup(_CODE.sub(r"<code>\1</code>", str(escape(printable(text))))),
    }
    templates.tests["picture"] = lambda content: isinstance(content, bytes)
    source = files("edgecascade.benchmarks.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    return templates.from_string(source).render(report=report, environment=environment.rows())


def _parts(cell: str) -> tuple[str, str, str]:
    """Return the text before an interval, the interval, and the text after it: lines break only between them."""
    found = _INTERVAL.fullmatch(cell)
    return (found[1], found[2], found[3]) if found else (cell, "", "")


def _data_uri(content: str | bytes) -> str:
    """Return an SVG document, or the bytes of a PNG image, as the address of an image."""
    kind, data = ("png", content) if isinstance(content, bytes) else ("svg+xml", content.encode())
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _check_figures(report: Report) -> None:
    figures = [figure for section in report.sections for figure in section.figures]
    names = [figure.name for figure in figures]
    for figure in figures:
        if not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", figure.name):
            raise BenchmarkError(f"figure: expected a name of a-z, 0-9 and single hyphens, got {figure.name!r}")
        if names.count(figure.name) > 1:
            raise BenchmarkError(f"figure: expected a unique name, got {figure.name!r} twice")
        if not all(svg.lstrip().startswith("<svg") for svg in (figure.svg, figure.wide or figure.svg)):
            raise BenchmarkError(f"figure {figure.name}: expected an <svg> element, got {figure.svg[:40]!r}")


def _check_rows(report: Report) -> None:
    for section in report.sections:
        for table in section.tables:
            wanted = len(table.columns)
            odd: Sequence[str] | None = next((row for row in table.rows if len(row) != wanted), None)
            if odd is not None or not wanted:
                seen = "no columns" if odd is None else f"{len(odd)} in the row {odd[:1]}"
                raise BenchmarkError(f"table in {section.title!r}: expected {wanted} cells in each row, got {seen}")
