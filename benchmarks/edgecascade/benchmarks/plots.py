"""The pictures of the reports, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload import Offload
from edgecascade.benchmarks.shift import Shifted
from edgecascade.benchmarks.svg import STYLE, svg_of
from edgecascade.calibration import reliability

__all__ = ["offload_svg", "reliability_svg", "shift_svg"]

_SMALL: dict[Any, Any] = {**STYLE, "font.size": 11, "axes.labelsize": 11, "legend.fontsize": 9.5}  # read on a phone
_SIZE = (5.2, 4.6)
_OTHER = {"color": "#2a8f6f", "linewidth": 0.9}
_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "oracle": ("oracle (cannot be built)", {"color": "#999999", "linestyle": "--"}),
    "advantage": ("the plan's advantage", {"color": "#0a62b5", "linewidth": 2.4, "zorder": 3}),
    "confidence": ("raw confidence", {"color": "#c2660a", "linewidth": 1.3}),
    "calibrated confidence": ("confidence, margin, entropy", _OTHER),
    "margin": ("", _OTHER),
    "entropy": ("", _OTHER),
    "random": ("random", {"color": "#999999", "linestyle": ":"}),
}


def offload_svg(result: Offload) -> str:
    """Accuracy against offload rate, with the served cascade as a point with its interval."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SMALL):
        figure = Figure(figsize=_SIZE)
        axes = figure.add_subplot()
        for name, (label, style) in _LINES.items():
            curve = result.curves[name]
            axes.plot(curve.rate * 100, curve.accuracy * 100, label=label or None, **style)
        _draw_strategies(axes, result)
        axes.set_xlabel("offload rate, % of inputs sent")
        axes.set_ylabel("accuracy, %")
        axes.set_xlim(-1, 101)
        axes.set_xticks(range(0, 101, 25))
        axes.locator_params(axis="y", nbins=5)
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.45 * (high - low), high)  # room for the legend, below every curve
        axes.grid(alpha=0.25)
        axes.legend(loc="lower right", frameon=False, labelspacing=0.25, borderaxespad=0.2)
        return svg_of(figure)


def _draw_strategies(axes: Any, result: Offload) -> None:
    """The cascade as served, and the rule by hand, which has no other rate."""
    by_hand = next(one for one in result.strategies if one.name.startswith("raw confidence <"))
    accuracy = result.cascade.accuracy
    axes.errorbar(
        result.cascade.offload.value * 100,
        accuracy.value * 100,
        yerr=[[(accuracy.value - accuracy.low) * 100], [(accuracy.high - accuracy.value) * 100]],
        fmt="o",
        color="#0a62b5",
        capsize=4,
        label=f"cascade as served (95 %, n = {result.n})",
        zorder=5,
    )
    where = by_hand.offload.value * 100, by_hand.accuracy.value * 100
    axes.plot(*where, "s", color="#c2660a", label=by_hand.name, zorder=4)


def reliability_svg(result: Offload) -> str:
    """Accuracy against confidence for both models, before and after calibration, on the test inputs."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = result.verdicts.confidences()
    with mpl.rc_context(_SMALL):
        figure = Figure(figsize=(_SIZE[0], 5.6))
        for axes, (name, (confidence, correct)) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
            _draw_reliability(axes, confidence, correct)
            ece = result.corrected_ece[name]
            axes.set_title(
                f"{name}\nECE {result.ece[name]:.3f}, corrected {ece.value:.3f}\n({ece.low:.3f} to {ece.high:.3f})",
                fontsize=9.5,
            )
        return svg_of(figure)


_PANELS = {
    "local": "accuracy of the local model, %",
    "cascade": "accuracy at the planned threshold, %",
    "offload": "offload rate at the planned threshold, %",
    "ece": "ECE at the planned temperature, points",
}


def shift_svg(clean: Shifted, shifted: Mapping[str, Sequence[Shifted]]) -> str:
    """Accuracy, offload rate and calibration error by severity, one line with its intervals for each corruption."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 6.2))
        panels = figure.subplots(2, 2, sharex=True).flat
        for axes, (name, title) in zip(panels, _PANELS.items(), strict=True):
            for offset, (corruption, by_severity) in enumerate(shifted.items()):
                found = [getattr(one, name) for one in (clean, *by_severity)]
                values = np.array([[one.value, one.value - one.low, one.high - one.value] for one in found]) * 100
                axes.errorbar(
                    np.arange(len(found)) + 0.06 * (offset - len(shifted) / 2),
                    values[:, 0],
                    yerr=values[:, 1:].T,
                    fmt="o-",
                    markersize=3,
                    linewidth=1,
                    elinewidth=0.8,
                    label=corruption.replace("_", " "),
                )
            axes.set_title(title, fontsize=10)
            axes.grid(alpha=0.25)
            axes.set_ylim(bottom=0)
        for axes in figure.axes[2:]:
            axes.set_xlabel("severity")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return svg_of(figure)


def _draw_reliability(axes: Any, confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> None:
    table = reliability(confidence, correct)
    width, left = np.diff(table.edges), table.edges[:-1]
    axes.bar(left, table.count / table.count.sum(), width, align="edge", color="#d7dbe0", label="share of inputs")
    axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", label="calibrated")
    axes.plot(table.confidence, table.accuracy, "o-", color="#0a62b5", markersize=4, label="accuracy")
    axes.set_xlabel("confidence")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
