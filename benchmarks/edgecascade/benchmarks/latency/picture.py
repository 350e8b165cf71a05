"""Latencies as a picture: one row for each subject, its percentiles from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgecascade.benchmarks.latency.cell import Cell
from edgecascade.benchmarks.latency.distribution import QUANTILES
from edgecascade.benchmarks.latency.scenario import Scenario
from edgecascade.benchmarks.latency.tables import who
from edgecascade.benchmarks.report.formats import STYLE, svg_of

__all__ = ["latency_svg"]

_MARKS = {"p50": ("o", "#0a62b5"), "p90": ("s", "#2a8f6f"), "p99": ("^", "#c2660a"), "p99_9": ("D", "#8a3ffc")}


def latency_svg(cells: Sequence[Cell]) -> str:
    """Percentiles in milliseconds of every scenario that has latencies, one panel below the other."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    timed = [cell for cell in cells if cell.latency is not None]
    scenarios = [one for one in Scenario if any(cell.plan.scenario is one for cell in timed)]
    panels = [[cell for cell in timed if cell.plan.scenario is one] for one in scenarios]
    heights = [len(panel) + 1.5 for panel in panels]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.42 * sum(heights) + 0.6))
        axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for axis, scenario, panel in zip(axes, scenarios, panels, strict=True):
            _draw(axis, panel)
            axis.set_title(scenario.words, fontsize=10, loc="left")
        axes[-1].set_xlabel("latency, ms")
        figure.legend(*_legend(list(axes)), loc="outside lower center", ncols=4, frameon=False)
        return svg_of(figure)


def _legend(axes: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Each percentile once, whichever panels have it."""
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    return list(found.values()), list(found)


def _draw(axis: Any, cells: Sequence[Cell]) -> None:
    for name in QUANTILES:
        mark, color = _MARKS[name]
        points = [
            (row, found)
            for row, cell in enumerate(cells)
            if cell.latency is not None and (found := cell.latency.at(name)) is not None
        ]
        if not points:
            continue
        values = [1e3 * found.value for _, found in points]
        below = [1e3 * (found.value - found.low) for _, found in points]
        above = [1e3 * (found.high - found.value) for _, found in points]
        axis.errorbar(
            values,
            [row for row, _ in points],
            xerr=[[max(0.0, one) for one in below], [max(0.0, one) for one in above]],
            fmt=mark,
            color=color,
            markersize=4,
            elinewidth=1,
            label=name.replace("_", "."),
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(cells)), [who(cell) for cell in cells])
    axis.set_ylim(len(cells) - 0.5, -0.5)
    axis.grid(alpha=0.25, axis="x")
