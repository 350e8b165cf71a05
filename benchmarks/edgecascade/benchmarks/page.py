"""A report as one self-contained HTML page, with the same result beside it for machines and for terminals."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from edgecascade.benchmarks.device.environment import Environment, read_environment
from edgecascade.benchmarks.document import result_document
from edgecascade.benchmarks.inline_svg import inline_svg
from edgecascade.benchmarks.result_csv import result_csv
from edgecascade.benchmarks.section import Figure, Report
from edgecascade.export.graph import write_whole
from edgecascade.types.errors import BenchmarkError

__all__ = ["write_page"]

_BRACKETED = re.compile(r" \(95 %( intervals?)?\)$")
_CODE = re.compile("`([^`\n]+)`")
_INTERVAL = re.compile(r"(.+?) (\(\S+ to \S+?\))(.*)")


def write_page(report: Report, folder: str | os.PathLike[str], *, summary: str) -> Path:
    """Write `report.html`, `result.json`, `result.csv`, `summary.txt` and every figure as NAME.svg; gives the page.

    Each file appears whole or not at all, the page last: it is never there without what it speaks of.

    Args:
        report: what to write.
        folder: made if it is not there.
        summary: the result as it is printed.

    Raises:
        BenchmarkError: a figure is no self-contained SVG or has no name of its own, a table has ragged rows, or
            something found is no JSON-like value; nothing is written then.
    """
    environment = read_environment()
    document = result_document(report, environment)
    figures = [figure for section in report.sections for figure in section.figures]
    html = _html(report, figures, environment)
    content = {
        **{f"{figure.name}.svg": figure.svg for figure in figures},
        "result.json": json.dumps(document, indent=1, allow_nan=False),
        "result.csv": result_csv(document),
        "summary.txt": summary,
        "report.html": html,
    }
    folder = Path(folder)
    for name, text in content.items():
        write_whole(f"{text.rstrip()}\n".encode(errors="backslashreplace"), folder / name)
    return folder / "report.html"


def _html(report: Report, figures: Sequence[Figure], environment: Environment) -> str:
    from jinja2 import Environment as Templates
    from jinja2 import StrictUndefined
    from markupsafe import Markup, escape

    _check_names([figure.name for figure in figures])
    _check_rows(report)
    templates = Templates(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    templates.filters |= {
        "parts": _parts,
        "label": _label,
        "coded": lambda text: Markup(_CODE.sub(r"<code>\1</code>", str(escape(text)))),
    }
    templates.tests["bracketed"] = lambda column: _label(column) != column
    template = templates.from_string(
        files("edgecascade.benchmarks").joinpath("page.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(
        report=report,
        environment=environment.rows(),
        pictures={figure.name: Markup(inline_svg(figure)) for figure in figures},
    )


def _parts(cell: str) -> tuple[str, str, str]:
    """What is before an interval, the interval, and what is after it: a narrow column breaks the line there only."""
    found = _INTERVAL.fullmatch(cell)
    return (found[1], found[2], found[3]) if found else (cell, "", "")


def _label(column: str) -> str:
    """The column's name beside each cell of a card, where "(95 %)" would be said too often."""
    return _BRACKETED.sub("", column)


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
            raise BenchmarkError(f"figure: expected a name of a-z, 0-9 and single hyphens, got {name!r}")
        if names.count(name) > 1:
            raise BenchmarkError(f"figure: expected a name of its own for each, got {name!r} twice")


def _check_rows(report: Report) -> None:
    for section in report.sections:
        for table in section.tables:
            wanted = len(table.columns)
            odd = next((row for row in table.rows if len(row) != wanted), None)
            if odd is not None or not wanted:
                seen = "no columns" if odd is None else f"{len(odd)} in the row {odd[:1]}"
                raise BenchmarkError(f"table in {section.title!r}: expected {wanted} cells in each row, got {seen}")
