"""Plans in words: advice about a pair of models, and a plan as text or as an HTML table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.intervals import paired_difference_interval
from edgecascade.types.estimate import OperatingPoint

if TYPE_CHECKING:
    from edgecascade.calibration.plan import CascadePlan, Plan

__all__ = ["advise", "as_html", "as_text", "cascade_rows", "plan_rows"]

_NEAR = 0.01  # accuracy
_TOO_WEAK = 0.9  # offload rate
_HEAD = 12  # characters


def advise(
    advantage: NDArray[np.float32],
    local_correct: NDArray[np.bool_],
    merged_correct: NDArray[np.bool_],
    curve: tuple[OperatingPoint, ...],
    chosen: OperatingPoint,
) -> tuple[str, ...]:
    """Return sentences about whether a pair is worth a cascade. A difference is reported if its interval excludes 0.

    Args:
        advantage: float32 [n].
        local_correct: bool [n], whether the local answer is right.
        merged_correct: bool [n], whether the answer is right once the remote has replied.
        curve: operating curve of these arrays.
        chosen: the point of it that the plan chose.
    """
    low, high = paired_difference_interval(merged_correct, local_correct)
    gain = f"forwarding everything changes accuracy by {low * 100:+.1f} to {high * 100:+.1f} points"
    if low <= 0:
        found = "not shown to be better than the local model" if high > 0 else "worse than the local model"
        return (
            f"the remote is {found} on these inputs: {gain} (95 %, n = {chosen.n})",
            *_beyond_best(advantage, local_correct, merged_correct, curve),
        )
    return (
        _enough(curve),
        *_beyond_best(advantage, local_correct, merged_correct, curve),
        *_uninformative(advantage, local_correct, merged_correct, chosen),
    )


def _enough(curve: tuple[OperatingPoint, ...]) -> str:
    always = curve[-1].accuracy
    near = next(point for point in curve if point.accuracy >= always - _NEAR)
    if near.offload_rate == 0:
        return "the local model alone is within a point of forwarding everything"
    if near.offload_rate >= _TOO_WEAK:
        return (
            f"the local model is too weak: {near.offload_rate:.0%} must be forwarded to come within a point of "
            "forwarding everything"
        )
    return f"forwarding {near.offload_rate:.0%} comes within a point of forwarding everything"


def _beyond_best(
    advantage: NDArray[np.float32],
    local_correct: NDArray[np.bool_],
    merged_correct: NDArray[np.bool_],
    curve: tuple[OperatingPoint, ...],
) -> tuple[str, ...]:
    best = max(curve, key=lambda point: point.accuracy)
    cascade = np.where(advantage < np.float32(best.threshold), merged_correct, local_correct)
    low, high = paired_difference_interval(cascade, merged_correct, level=1 - 0.05 / len(curve))  # for the search
    if low <= 0:
        return ()
    return (
        f"forwarding more than {best.offload_rate:.0%} lowers accuracy: forwarding everything loses "
        f"{low * 100:.1f} to {high * 100:.1f} points",
    )


def _uninformative(
    advantage: NDArray[np.float32],
    local_correct: NDArray[np.bool_],
    merged_correct: NDArray[np.bool_],
    chosen: OperatingPoint,
) -> tuple[str, ...]:
    forward = advantage < np.float32(chosen.threshold)
    if not 0 < forward.sum() < len(forward):
        return ()
    gain = merged_correct.astype(float) - local_correct
    difference = gain[forward].mean() - gain[~forward].mean()
    error = np.sqrt(gain[forward].var() / forward.sum() + gain[~forward].var() / (~forward).sum())
    if difference > 1.96 * error:
        return ()
    return ("the score does not show where the remote helps: forwarding inputs at random would do as well",)


def cascade_rows(plan: CascadePlan) -> Iterator[tuple[str, str]]:
    """Yield the heading, empty for a continuation, and the text of each line of a summary."""
    yield "local", str(plan.local)
    yield "remote", str(plan.remote)
    yield from plan_rows(plan.policy, f"; score: {plan.score}; merge: {plan.merge}")
    if len(plan.routing) > 1:
        best, last = plan.routing[0], plan.routing[-1]
        yield (
            "chosen from",
            f"{len(plan.routing)} scores and merge rules, cross-fitted: {best.accuracy:.1%} at {best.offload_rate:.1%} "
            f"offload; the worst, {last.score} with {last.merge}, has {last.accuracy:.1%} at {last.offload_rate:.1%}",
        )
    if plan.certificate:
        yield "certificate", str(plan.certificate)


def plan_rows(plan: Plan, routing: str = "") -> Iterator[tuple[str, str]]:
    """Yield rows as `cascade_rows` does; `routing` names score and merge rule."""
    yield "policy", plan.objective
    yield (
        "",
        f"forward below advantage {plan.threshold:+.4f}{routing}; advantage: {plan.estimate}, "
        f"{len(plan.table.values)} bins",
    )
    yield "", str(plan.chosen)
    if plan.chosen.offload_rate == 0.0:
        yield "", "nothing will be forwarded: the remote is expected to help nowhere within the objective"
    for sentence in plan.advice:
        yield "advice", sentence


def as_text(rows: Iterator[tuple[str, str]] | Sequence[tuple[str, str]]) -> str:
    """Return rows as lines of text with aligned headings."""
    return "\n".join(f"{head:<{_HEAD}}{text}" for head, text in rows)


def as_html(rows: Iterator[tuple[str, str]] | Sequence[tuple[str, str]]) -> str:
    """Return rows as a small HTML table, for notebooks."""
    cells = "".join(f"<tr><th>{escape(head)}</th><td>{escape(text)}</td></tr>" for head, text in rows)
    return f"<table>{cells}</table>"
