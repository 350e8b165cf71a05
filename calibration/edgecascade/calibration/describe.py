"""A plan in plain text, for whoever has to decide whether to use it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgecascade.calibration.cascade_plan import CascadePlan
from edgecascade.types.document import Calibration
from edgecascade.types.estimate import OperatingPoint

__all__ = ["curve_table", "describe"]

_LINES = 16


def describe(plan: CascadePlan) -> str:
    """Both calibrations, the policy with what it was chosen over, and what to expect of it."""
    chosen = plan.policy.chosen
    lines = [
        f"local    {_calibration(plan.local)}",
        f"remote   {_calibration(plan.remote)}",
        f"policy   {plan.policy.objective}",
        f"         forward below advantage {chosen.threshold:+.4f}; score: {plan.score}; merge: {plan.merge}; "
        f"advantage: {plan.policy.estimate}, {len(plan.policy.table.values)} bins",
        f"         {_expected(plan)}",
    ]
    if len(plan.routing) > 1:
        lines.append(f"         {_considered(plan)}")
    if chosen.offload_rate == 0.0:
        lines.append("         nothing will be forwarded: nowhere within the objective is the remote expected to help")
    lines += [f"verdict  {sentence}" for sentence in plan.policy.verdict]
    if plan.certificate:
        lines.append(f"promise  {plan.certificate}")
    return "\n".join(lines)


def curve_table(curve: Sequence[OperatingPoint], chosen: OperatingPoint) -> Iterator[str]:
    """The curve as a table of at most 16 lines or so, the chosen point always among them."""
    yield "threshold   offload rate (95 % interval)   accuracy (95 % interval; at all thresholds at once)"
    step = max(1, -(-len(curve) // _LINES))
    for position, point in enumerate(curve):
        if position % step == 0 or point is chosen or position == len(curve) - 1:
            low, high = point.accuracy_band
            yield (
                f"{point.threshold:+9.4f}   {_with(point.offload_rate, point.offload_interval):<28}   "
                f"{_with(point.accuracy, point.accuracy_interval)[:-1]}; {low:.1%} to {high:.1%})"
                f"{'  <- chosen' if point is chosen else ''}"
            )


def _calibration(record: Calibration) -> str:
    before, after = record.ece_before, record.ece_after
    return (
        f"accuracy {record.accuracy.percent()}, T = {record.temperature:.4f} on n = {record.n}, "
        f"ECE {before.value:.3f} > {after.value:.3f} ({after.low:.3f} to {after.high:.3f})"
    )


def _expected(plan: CascadePlan) -> str:
    chosen = plan.policy.chosen
    low, high = chosen.accuracy_band
    return (
        f"offload {_with(chosen.offload_rate, chosen.offload_interval).strip()}, accuracy {chosen.accuracy:.1%} "
        f"({low:.1%} to {high:.1%}, allowing for the choice) on n = {chosen.n}"
    )


def _considered(plan: CascadePlan) -> str:
    best, last = plan.routing[0], plan.routing[-1]
    return (
        f"of {len(plan.routing)} scores and merge rules, cross-fitted: {best.accuracy:.1%} at "
        f"{best.offload_rate:.1%} offload; the worst, {last.score} with {last.merge}: {last.accuracy:.1%} at "
        f"{last.offload_rate:.1%}"
    )


def _with(value: float, interval: tuple[float, float]) -> str:
    return f"{value:6.1%} ({interval[0]:.1%} to {interval[1]:.1%})"
