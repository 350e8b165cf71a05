"""A plan as one figure: operating curve, advantage and reliability."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from edgecascade.calibration.commands.outputs import SavedPair, SavedValues
from edgecascade.calibration.evidence import Plan
from edgecascade.calibration.metrics.reliability import reliability
from edgecascade.calibration.plan import CascadePlan
from edgecascade.calibration.task import TaskPlan
from edgecascade.types.softmax import softmax

__all__ = ["draw_plan"]

_BLUE, _ORANGE, _GREY = "#0a62b5", "#c2660a", "#999999"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgecascade",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


def draw_plan(plan: CascadePlan | TaskPlan, outputs: SavedPair | SavedValues, path: str | os.PathLike[str]) -> None:
    """Draw the operating curve with its simultaneous band, the advantage by bin, and the local reliability.

    Args:
        plan: of these outputs.
        outputs: both models' logits and the labels; for a general task, scores and values.
        path: file to write; .svg, .png or .pdf.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(12.5, 4.2))
        curve, advantage, local = figure.subplots(1, 3)
        _draw_curve(curve, plan.policy)
        _draw_advantage(advantage, plan.policy, plan.record.score)
        if isinstance(plan, TaskPlan) and isinstance(outputs, SavedValues):
            _draw_task_reliability(local, plan, outputs)
        elif isinstance(plan, CascadePlan) and isinstance(outputs, SavedPair):
            _draw_reliability(local, plan, outputs)
        figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None)


def _draw_curve(axes: Any, policy: Plan) -> None:
    curve, chosen = policy.curve, policy.chosen
    rate = [100 * point.offload_rate for point in curve]
    value = [100 * point.accuracy for point in curve]
    band, what = 100 * np.array([point.accuracy_band for point in curve]), f"{policy.measure}, %"
    costs = [point.cost.value for point in curve if point.cost is not None]
    if costs:  # where errors cost differently
        value, what = costs, "cost of errors per input"
        band = np.array([point.cost_band for point in curve])
    axes.fill_between(
        rate, band[:, 0], band[:, 1], color=_BLUE, alpha=0.15, linewidth=0, label="95 %, all points at once"
    )
    axes.plot(rate, value, color=_BLUE, label=f"cascade, n = {chosen.n}")
    axes.plot([0, 100], [value[0], value[-1]], color=_GREY, linestyle=":", label="random")
    axes.plot(100 * chosen.offload_rate, value[curve.index(chosen)], "o", color=_ORANGE, label="chosen")
    axes.set(xlabel="offload rate, %", ylabel=f"{what} (cross-fitted)", title="Operating curve")
    axes.legend(loc="upper right" if costs else "lower right", frameon=False, fontsize=8)


def _draw_advantage(axes: Any, policy: Plan, score: str) -> None:
    table, intervals = policy.table, 100 * np.array(policy.intervals)
    position = 100 * (np.cumsum(table.counts) - table.counts / 2) / table.counts.sum()
    axes.vlines(position, intervals[:, 0], intervals[:, 1], color=_GREY, linewidth=1, label="from labels, 95 %")
    axes.step(position, 100 * table.values, where="mid", color=_BLUE, label=f"table ({policy.estimate})")
    axes.axhline(100 * max(policy.threshold, -1.0), color=_ORANGE, linestyle="--", label="threshold")
    axes.set(
        xlabel=f"inputs in order of {score}, %",
        ylabel="advantage of the local model, " + ("points" if policy.costs is None else "% of the costliest error"),
        title="Where forwarding helps",
        ylim=(min(-10.0, float(intervals.min())), max(10.0, float(intervals.max()))),
    )
    axes.legend(loc="lower right", frameon=False, fontsize=8)


def _draw_reliability(axes: Any, plan: CascadePlan, outputs: SavedPair) -> None:
    correct = outputs.local.argmax(axis=1) == outputs.labels
    found = plan.local.confidence_map
    after = softmax(outputs.local, plan.local.temperature).max(axis=1)
    for confidence, colour, label in (
        (softmax(outputs.local).max(axis=1), _ORANGE, "before, T = 1.00"),
        (
            after if found is None else found(after),
            _BLUE,
            f"after, T = {plan.local.temperature:.2f}{'' if found is None else ' and a map'}",
        ),
    ):
        table = reliability(confidence, correct)
        axes.plot(table.confidence, table.accuracy, "o-", color=colour, markersize=4, label=label)
    _finish_reliability(axes, plan.policy.measure)


def _draw_task_reliability(axes: Any, plan: TaskPlan, outputs: SavedValues) -> None:
    confidence = plan.calibration.confidence(outputs.score)
    table = reliability(confidence, outputs.local.astype(np.float64))
    label = f"after {'Platt scaling' if plan.calibration.method == 'platt' else 'a map'}"
    axes.plot(table.confidence, table.accuracy, "o-", color=_BLUE, markersize=4, label=label)
    _finish_reliability(axes, plan.policy.measure)


def _finish_reliability(axes: Any, measure: str) -> None:
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="calibrated", zorder=0)
    axes.set(
        xlabel="confidence of the local model",
        ylabel=measure,
        title="Reliability",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.legend(loc="upper left", frameon=False, fontsize=8)
