"""Plans in words: advice about a pair of models, and a plan as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.operating_curve import differences
from edgecascade.calibration.outcomes import Outcomes
from edgecascade.types.document import Routing, calibration_rows, confusion_rows
from edgecascade.types.errors import printable
from edgecascade.types.estimate import Estimate, OperatingPoint, chance_in_words

if TYPE_CHECKING:
    from edgecascade.calibration.evidence import Plan
    from edgecascade.calibration.plan import CascadePlan
    from edgecascade.calibration.task import TaskPlan

__all__ = ["advise", "as_text", "cascade_rows", "plan_rows", "signed_points", "task_rows"]

_NEAR = 0.01  # accuracy
_TOO_WEAK = 0.9  # offload rate
_HEAD = 12  # characters
_REMOTE = ("replace", "")
_EVERYTHING = {
    "replace": "asking the remote always",
    "confident": "taking the surer answer of both on every input",
    "average": "averaging both on every input",
    "": "forwarding everything",
}


def advise(
    seen: Outcomes,
    forward: NDArray[np.bool_],
    curve: Sequence[OperatingPoint],
    position: int,
    merge: str,
    *,
    suffices: bool = False,
) -> tuple[str, ...]:
    """Return sentences about whether a pair is worth a cascade. A difference is reported if its interval excludes 0.

    Args:
        seen: what both models did under the chosen score and merge rule.
        forward: bool [n, points], which inputs each point forwards.
        curve: the points.
        position: the point that the plan chose.
        merge: the merge rule; empty if it has no name.
        suffices: whether the local model alone meets the aim, so that it is not too weak.
    """
    right = np.where(forward, seen.merged_correct[:, None], seen.local_correct[:, None])
    everything, n, measure = _EVERYTHING[merge], len(seen), _with_article(seen.measure)
    (gain,) = differences(seen.merged_correct, seen.local_correct[:, None], seen.weight)
    (alone,) = differences(seen.remote_correct, seen.local_correct[:, None], seen.weight)
    found = []
    if alone.low <= 0:
        found.append(
            f"the remote is {_not_better(alone)} the local model on these inputs: asking it always changes "
            f"{measure} by {signed_points(alone)} (95 %, n = {n})"
        )
    if merge not in _REMOTE and (gain.low > 0) != (alone.low > 0):
        found.append(f"{everything} is {_not_better(gain)} the local model: {signed_points(gain)} (95 %, n = {n})")
    if gain.low > 0:
        found.append(_enough(seen, right, curve, everything, suffices=suffices))
    found.extend(_beyond_best(seen, right, curve, everything))
    if gain.low > 0:
        found.extend(_uninformative(seen, forward[:, position]))
    return tuple(found)


def signed_points(gain: Estimate) -> str:
    """Return the interval of a difference of accuracies in percentage points, such as `-0.4 to +1.2 points`."""
    return f"{gain.low * 100:+.1f} to {gain.high * 100:+.1f} points"


def _with_article(measure: str) -> str:
    return measure if measure == "accuracy" else f"the {measure}"


def _not_better(gain: Estimate) -> str:
    if gain.low > 0:
        return "better than"
    return "not shown to be better than" if gain.high > 0 else "worse than"


def _enough(seen: Outcomes, right: Correct, curve: Sequence[OperatingPoint], everything: str, *, suffices: bool) -> str:
    """Say which offload rate comes near; its interval has the rates at which that is open."""
    behind = differences(seen.merged_correct, right, seen.weight)
    rates = [point.offload_rate for point in curve]
    near, low, high = (
        next((rate for rate, one in zip(rates, behind, strict=True) if getattr(one, end) <= _NEAR), 1.0)
        for end in ("value", "low", "high")
    )
    share = f"{near:.0%} ({low:.0%} to {high:.0%})" if low < 1 else "everything"
    if near == 0:
        return f"the local model alone is within a point of {everything}"
    if near >= _TOO_WEAK:
        weak = "" if suffices else "the local model is too weak: "
        return f"{weak}{share} must be forwarded to come within a point of {everything}"
    return f"forwarding {share} comes within a point of {everything}"


def _beyond_best(seen: Outcomes, right: Correct, curve: Sequence[OperatingPoint], everything: str) -> tuple[str, ...]:
    best = max(range(len(curve)), key=lambda one: curve[one].accuracy)
    level = 1 - 0.05 / len(curve)  # for the search
    (loss,) = differences(right[:, best], seen.merged_correct[:, None], seen.weight, level=level)
    if loss.low <= 0:
        return ()
    behind = differences(right[:, best], right, seen.weight, level=level)
    as_good = [point.offload_rate for point, one in zip(curve, behind, strict=True) if one.low <= 0]
    return (
        f"forwarding more than {curve[best].offload_rate:.0%} ({min(as_good):.0%} to {max(as_good):.0%}) lowers "
        f"{_with_article(seen.measure)}: {everything} loses {loss.low * 100:.1f} to {loss.high * 100:.1f} points",
    )


def _uninformative(seen: Outcomes, forward: NDArray[np.bool_]) -> tuple[str, ...]:
    if not 0 < forward.sum() < len(forward):
        return ()
    gain = seen.merged_correct.astype(np.float64) - seen.local_correct
    weight = np.ones(len(gain)) if seen.weight is None else seen.weight
    asked, kept = weight * forward, weight * ~forward
    means = [share @ gain / share.sum() for share in (asked, kept)]
    errors = [share**2 @ (gain - m) ** 2 / share.sum() ** 2 for share, m in zip((asked, kept), means, strict=True)]
    if means[0] - means[1] > 1.96 * np.sqrt(sum(errors)):
        return ()
    return ("the score does not show where the remote helps: forwarding inputs at random would do as well",)


def cascade_rows(plan: CascadePlan) -> Iterator[tuple[str, str]]:
    """Yield the heading, empty for a continuation, and the text of each line of a summary."""
    yield from calibration_rows("local", plan.local)
    yield from calibration_rows("remote", plan.remote)
    if plan.effective_n is not None:
        yield "weights", f"the weighted inputs are worth {plan.effective_n:.0f} of equal weight"
    for sentence in plan.warnings:
        yield "warning", sentence
    yield from plan_rows(plan.policy, f"; score: {plan.score}; merge: {plan.merge}")
    if len(plan.routing) > 1:
        costs = plan.policy.costs
        by = "accuracy" if costs is None else "cost of errors and forwards"
        yield "chosen from", f"{len(plan.routing)} candidates (score, merge rule, estimate), by cross-fitted {by}:"
        for name, one in (("best", plan.routing[0]), ("worst", plan.routing[-1])):
            cost = "" if costs is None else f"cost {(1 - one.merit) * costs.largest:.3g}, "
            yield "", f"{name} {one.score}, {one.merge}, {one.estimate}: {cost}{_candidate(one, plan.policy.measure)}"
    if plan.certificate:
        yield "certificate", str(plan.certificate)


def task_rows(plan: TaskPlan) -> Iterator[tuple[str, str]]:
    """Yield rows as `cascade_rows` does, of the plan of a general task."""
    yield "local", str(plan.calibration)
    yield "remote", f"{plan.policy.measure} {plan.remote.percent()} on n = {plan.remote.n}"
    if plan.effective_n is not None:
        yield "weights", f"the weighted inputs are worth {plan.effective_n:.0f} of equal weight"
    for sentence in plan.warnings:
        yield "warning", sentence
    yield from plan_rows(plan.policy, f"; score: {plan.score_name}")
    if len({one.score for one in plan.routing}) > 1:
        count, measure = len(plan.routing), plan.policy.measure
        yield "chosen from", f"{count} candidates (score, estimate), by cross-fitted {measure}:"
        for name, one in (("best", plan.routing[0]), ("worst", plan.routing[-1])):
            yield "", f"{name} {one.score}, {one.estimate}: {_candidate(one, measure)}"
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
    yield "", plan.chosen.in_words(plan.measure)
    if plan.chance is not None:
        yield "", f"chance of meeting the aim: {chance_in_words(plan.chance)}"
    yield from confusion_rows(plan.errors)
    for sentence in plan.advice:
        yield "advice", sentence


def _candidate(one: Routing, measure: str) -> str:
    rate, accuracy = one.offload_interval, one.accuracy_interval
    assert rate is not None
    assert accuracy is not None
    return (
        f"{measure} {one.accuracy:.1%} ({accuracy[0]:.1%} to {accuracy[1]:.1%}) at {one.offload_rate:.1%} "
        f"({rate[0]:.1%} to {rate[1]:.1%}) offload"
    )


def as_text(rows: Iterator[tuple[str, str]] | Sequence[tuple[str, str]]) -> str:
    """Return rows as lines of text with aligned headings."""
    lines = (f"{head:<{_HEAD}}{text}".replace("\n", "\\n") for head, text in rows)  # of a name: it is no line of ours
    return printable("\n".join(lines))
