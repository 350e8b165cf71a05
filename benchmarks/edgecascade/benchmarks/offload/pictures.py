"""The two pictures of the report: accuracy against offload rate, and the reliability of the confidences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload.measure import Offload
from edgecascade.benchmarks.report.contents import STYLE, Figure, svg_of
from edgecascade.calibration import Calibration, reliability
from edgecascade.types.estimate import Estimate

__all__ = [
    "LINES",
    "POINTS",
    "TEXT",
    "draw_interval",
    "draw_reliability",
    "offload_figure",
    "reliability_figure",
]

TEXT: dict[Any, Any] = {**STYLE, "font.size": 11, "axes.labelsize": 11, "legend.fontsize": 9.5}  # legible on a phone
POINTS = 201  # of one curve
_OTHER = {"color": "#2a8f6f", "linewidth": 1.0}
# Curves differ in dashes and markers as well as in colour.
LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "oracle": ("oracle (upper bound)", {"color": "#777777", "linestyle": "--", "linewidth": 1.2}),
    "advantage": ("the plan's advantage", {"color": "#0a62b5", "linewidth": 2.4, "zorder": 3}),
    "confidence": ("raw confidence", {"color": "#c2660a", "linestyle": "-.", "marker": "x", "markersize": 5}),
    "calibrated confidence": ("confidence", {**_OTHER, "marker": "o", "markersize": 4, "fillstyle": "none"}),
    "margin": ("margin", {**_OTHER, "linestyle": (0, (5, 2)), "marker": "^", "markersize": 4, "fillstyle": "none"}),
    "entropy": ("entropy", {**_OTHER, "linestyle": (0, (1, 1)), "marker": "v", "markersize": 4, "fillstyle": "none"}),
    "random": ("random", {"color": "#777777", "linestyle": ":", "linewidth": 1.2}),
}


def offload_figure(result: Offload) -> Figure:
    """Draw accuracy against offload rate, with the served cascade as a point with its interval."""
    caption = (
        f"Accuracy against the share of inputs forwarded. Lines: both models' saved outputs on the {result.n} test "
        "inputs, merged as the file says. Round point: the cascade as it was served, deadline misses and failures "
        f"included, with its 95 % interval. Square: the rule of thumb, {_by_hand(result).name}."
    )
    return Figure("offload-curve", _offload_svg(result, 5.2, 4.6), caption, _offload_svg(result, 9.6, 4.8))


def _offload_svg(result: Offload, width: float, height: float) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(TEXT):
        figure = Canvas(figsize=(width, height))
        axes = figure.add_subplot()
        for place, (name, (label, style)) in enumerate(LINES.items()):
            curve = result.curves[name].thinned(POINTS)
            every = (0.04 + 0.015 * place, 0.12) if "marker" in style else None
            axes.plot(curve.rate * 100, curve.accuracy * 100, label=label, markevery=every, **style)
        _draw_points(axes, result)
        axes.set_xlabel("offload rate, % of inputs forwarded")
        axes.set_ylabel("accuracy, %")
        axes.set_xlim(-1, 101)
        axes.set_xticks(range(0, 101, 25))
        axes.locator_params(axis="y", nbins=5)
        axes.grid(alpha=0.25)
        columns = 2 if width < 7 else 3
        figure.legend(loc="outside lower center", ncols=columns, frameon=False, labelspacing=0.3, columnspacing=1.2)
        return svg_of(figure)


def _draw_points(axes: Any, result: Offload) -> None:
    """Draw the cascade as served, and the rule of thumb at its own rate."""
    by_hand = _by_hand(result)
    draw_interval(axes, result.cascade.offload, result.cascade.accuracy, "cascade as served")
    where = by_hand.offload.value * 100, by_hand.accuracy.value * 100
    axes.plot(*where, "s", color="#c2660a", markersize=7, label=by_hand.name, zorder=4)


def draw_interval(axes: Any, offload: Estimate, value: Estimate, label: str) -> None:
    """Draw a cascade as a point with its interval."""
    axes.errorbar(
        offload.value * 100,
        value.value * 100,
        yerr=[[(value.value - value.low) * 100], [(value.high - value.value) * 100]],
        fmt="o",
        color="#0a62b5",
        markersize=8,
        capsize=4,
        label=label,
        zorder=5,
    )


def _by_hand(result: Offload) -> Any:
    return next(one for one in result.strategies if one.name.startswith("raw confidence <"))


def reliability_figure(result: Offload) -> Figure:
    """Draw accuracy against confidence for both models, before and after calibration, on the test inputs."""
    local, remote = result.document.calibration, result.document.remote
    caption = (
        "Reliability on the test inputs, 15 equal-width bins (bars: share of inputs; dots: accuracy; dotted: perfect "
        "calibration), before (T = 1) and after calibration: local "
        f"{_calibrator(local)}, remote {_calibrator(remote)}, fitted on {local.n} other inputs; "
        f"n = {result.n}. ECE is above 0 on finite data even for perfect confidences; the corrected value subtracts "
        "that bias and has a 95 % interval."
    )
    return Figure("reliability", _reliability_svg(result, 2, 5.6), caption, _reliability_svg(result, 4, 3.2))


def _calibrator(found: Calibration) -> str:
    knots = "" if found.confidence_map is None else f" and a map of {len(found.confidence_map.knots)} knots"
    return f"T = {found.temperature:.3f}{knots}"


def _reliability_svg(result: Offload, columns: int, height: float) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    panels = result.predictions.confidences()
    with mpl.rc_context(TEXT):
        figure = Canvas(figsize=(2.5 * columns, height))
        grid = figure.subplots(len(panels) // columns, columns, squeeze=False)
        for axes, (name, (confidence, correct)) in zip(grid.flat, panels.items(), strict=True):
            draw_reliability(axes, confidence, correct)
            ece = result.corrected_ece[name]
            axes.set_title(
                f"{name}\nECE {result.ece[name]:.3f}, corrected {ece.value:.3f}\n({ece.low:.3f} to {ece.high:.3f})",
                fontsize=9.5,
            )
        return svg_of(figure)


def draw_reliability(axes: Any, confidence: NDArray[np.float32], correct: NDArray[Any]) -> None:
    """Draw the mean of `correct` (bool, or values in [0, 1]) against the confidence, in bins."""
    table = reliability(confidence, correct)
    width, left = np.diff(table.edges), table.edges[:-1]
    axes.bar(left, table.count / table.count.sum(), width, align="edge", color="#d7dbe0")
    axes.plot([0, 1], [0, 1], color="#777777", linestyle=":")
    axes.plot(table.confidence, table.accuracy, "o-", color="#0a62b5", markersize=4)
    axes.set_xlabel("confidence")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
