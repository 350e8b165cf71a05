"""One self-contained HTML page, and the same result as JSON beside it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from edgecascade.benchmarks.environment import Environment
from edgecascade.benchmarks.offload import Offload
from edgecascade.benchmarks.offload_curve import OffloadCurve
from edgecascade.benchmarks.plots import offload_svg, reliability_svg
from edgecascade.benchmarks.verdict import four_lines, latency_rows, summary, table_rows

__all__ = ["write_report"]

_SCHEMA = 1
_CURVE_POINTS = 101


def write_report(
    result: Offload, environment: Environment, folder: str | os.PathLike[str], *, title: str, method: str, command: str
) -> Path:
    """Write `report.html`, `result.json`, `summary.txt` and `offload-curve.svg` into a folder; gives the page's path.

    Args:
        result: what was measured.
        environment: on what.
        folder: made if it is not there.
        title: of the page.
        method: how it was measured, in a few sentences.
        command: how to repeat it.
    """
    from jinja2 import Environment as Templates
    from markupsafe import Markup

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    curve = offload_svg(result)
    template = Templates(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        files("edgecascade.benchmarks").joinpath("report.html.jinja").read_text(encoding="utf-8")
    )
    page = folder / "report.html"
    html = template.render(
        title=title,
        lines=four_lines(result),
        curve=Markup(curve),
        reliability=Markup(reliability_svg(result)),
        strategies=table_rows(result),
        latency=latency_rows(result),
        result=result,
        document=result.metadata.document,
        environment=str(environment),
        method=method,
        command=command,
    )
    page.write_text(html, encoding="utf-8")
    (folder / "offload-curve.svg").write_text(curve, encoding="utf-8")
    (folder / "result.json").write_text(json.dumps(_document(result, environment), indent=1) + "\n", encoding="utf-8")
    (folder / "summary.txt").write_text(summary(result) + "\n", encoding="utf-8")
    return page


def _document(result: Offload, environment: Environment) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "environment": asdict(environment),
        "n": result.n,
        "strategies": [asdict(strategy) for strategy in result.strategies],
        "ece": result.ece,
        "corrected_ece": {name: asdict(estimate) for name, estimate in result.corrected_ece.items()},
        "served": asdict(result.served),
        "curves": {name: _thinned(curve) for name, curve in result.curves.items()},
        "cascade_model": result.metadata.document,
    }


def _thinned(curve: OffloadCurve) -> dict[str, list[float]]:
    """At most 101 of the curve's own points, so that the file stays small."""
    index = np.unique(np.linspace(0, len(curve.rate) - 1, _CURVE_POINTS).round().astype(int))
    return {"rate": curve.rate[index].round(6).tolist(), "accuracy": curve.accuracy[index].round(6).tolist()}
