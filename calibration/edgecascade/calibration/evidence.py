"""A policy with its evidence: table and threshold from all inputs, and what they do on inputs outside the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgecascade.calibration.advantage import AdvantageTable, advantage_intervals
from edgecascade.calibration.certificate import certify, certify_order
from edgecascade.calibration.cross_fit import CrossFit, estimate_advantage
from edgecascade.calibration.expected_cost import confusions, priced_curve, saving_words, savings
from edgecascade.calibration.groups import group_advice, grouped_accuracy, within_groups
from edgecascade.calibration.learned_score import LearnedScore
from edgecascade.calibration.objective import CertifiedLoss, LeastCost, LeastOffload, Objective
from edgecascade.calibration.operating_curve import differences, measured_curve
from edgecascade.calibration.outcomes import Outcomes
from edgecascade.calibration.selection import Selection, points_of
from edgecascade.calibration.summary import advise, as_text, plan_rows, signed_points
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.document import Certificate, Confusion, PolicyRecord, Routing
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import GroupedAccuracy, OperatingPoint, Point
from edgecascade.types.notebook import as_html, curve_picture

__all__ = ["Plan", "certified", "certified_in_order", "planned"]

_ROUNDING = 1e-9
_MEETS, _CERTIFIED = "the local model alone meets the aim", "the local model alone is certified"


@dataclass(frozen=True)
class Plan:
    """An advantage table and a threshold, with the evidence for them. `print` shows a summary.

    Attributes:
        table: the advantage table.
        threshold: inputs whose advantage is below it are forwarded.
        estimate: what the advantage was estimated from, as in `estimate_advantage`.
        objective: the aim, in words.
        chosen: the operating point of `threshold`.
        curve: every operating point that the table can reach, by rising offload rate. Accuracies are cross-fitted:
            each input is judged by tables that were fitted on others, and by the candidate that others chose.
        intervals: 95 % interval of local minus merged accuracy, from labels, in each bin of the table.
        advice: sentences about whether this pair is worth a cascade.
        chance: the probability that the aim of a `LeastOffload` is met; None for another objective.
        groups: accuracy in each class or group, cross-fitted likewise; None without groups.
        costs: of the errors, where they differ; else None.
        errors: the costliest kinds of error, where errors cost differently.
        measure: what the accuracies are called in a summary, as in `Outcomes`.
    """

    table: AdvantageTable
    threshold: float
    estimate: str
    objective: str
    chosen: OperatingPoint
    curve: tuple[OperatingPoint, ...]
    intervals: tuple[tuple[float, float], ...]
    advice: tuple[str, ...]
    chance: float | None = None
    groups: GroupedAccuracy | None = None
    costs: ErrorCosts | None = None
    errors: tuple[Confusion, ...] = ()
    measure: str = "accuracy"

    def record(
        self,
        considered: Sequence[Routing],
        warnings: Sequence[str] = (),
        learned: LearnedScore | None = None,
    ) -> PolicyRecord:
        """Return the policy as the document of a cascade file holds it.

        Args:
            considered: every score, merge rule and estimate considered, the chosen one first.
            warnings: sentences that the advice begins with.
            learned: the learned score, if it was chosen.
        """
        return PolicyRecord(
            score=considered[0].score,
            merge=considered[0].merge,
            estimate=self.estimate,
            objective=self.objective,
            threshold=self.threshold,
            chosen=self.chosen,
            advice=(*warnings, *self.advice),
            bins=len(self.table.values),
            edges=tuple(np.asarray(self.table.edges, np.float32).tolist()),
            values=tuple(np.asarray(self.table.values, np.float32).tolist()),
            counts=tuple(self.table.counts.tolist()),
            intervals=self.intervals,
            considered=tuple(considered),
            chance=self.chance,
            costs=self.costs,
            errors=self.errors or None,
            learned=None if learned is None else (learned.confidence, *learned.classes),
        )

    def __str__(self) -> str:
        return as_text(plan_rows(self))

    def _repr_html_(self) -> str:
        return as_html(plan_rows(self), curve_picture(self.curve, self.threshold, self.measure))


def planned(
    fit: CrossFit,
    selected: Selection,
    objective: Objective,
    max_group_loss: float | None = None,
    *,
    even_without_gain: bool = False,
    names: Sequence[str] = (),
) -> Plan:
    """Return the plan that serves an objective other than a `CertifiedLoss`; arguments as in `plan_cascade`."""
    seen = fit.outcomes[selected.candidate]
    table = estimate_advantage(seen, fit.candidates[selected.candidate].estimate, fit.bins, at=selected.rate)
    points, words = points_of(seen, table), objective.aim(seen.measure)
    if max_group_loss is not None:
        words += f", losing at most {max_group_loss:.1%} within each group"
    if isinstance(objective, LeastOffload):
        position = next(one for one, point in enumerate(points) if point.offload_rate >= selected.rate - _ROUNDING)
        return _with_evidence(fit, selected, table, points, position, words, _MEETS)
    position = points.index(objective.choose(points, seen.mean(seen.remote_correct), seen.size))
    allowed = points if max_group_loss is None else _within(fit, selected, points, max_group_loss)
    if points[position] not in allowed:
        held = points.index(_chosen_within(allowed, objective, seen, max_group_loss))
        idle = f"forwarding more would lose more than {max_group_loss:.1%} in a group"
        return _with_evidence(fit, _moved(fit, selected, points[held]), table, points, held, words, idle)
    forward, _ = fit.decisions(selected.by_fold, np.array([selected.rate]))
    gain = seen.mean(selected.answers) - seen.mean(seen.local_correct) - objective.price * seen.mean(forward[:, 0])
    idle = "the objective allows no offload" if selected.rate == 0 else "no input is expected to gain from it"
    if gain <= _ROUNDING and selected.rate > 0 and not even_without_gain and points[0] in allowed:
        (shown,) = differences(selected.answers, seen.local_correct[:, None], seen.weight)
        idle = f"cross-fitting shows no gain from it ({signed_points(shown)} of {seen.measure}, 95 %)"
        if isinstance(objective, LeastCost):
            saved = savings(objective, forward[:, 0], selected.answers, seen)[1]
            spared = f"{saved.low:+.3g} to {saved.high:+.3g} saved per input, 95 %"
            idle = f"cross-fitting shows no gain from it that is worth its cost ({spared})"
        step = points[1]
        gains = step.accuracy - points[0].accuracy > objective.price * step.offload_rate
        if step.offload_rate > selected.rate + _ROUNDING and gains:
            idle = f"the first step of the table forwards {step.offload_rate:.0%}, more than the objective allows"
        position = 0
    found = _with_evidence(fit, selected, table, points, position, words, idle)
    if not isinstance(objective, LeastCost):
        return found
    asked, right = (forward[:, 0], selected.answers) if position else (np.zeros(len(seen), bool), seen.local_correct)
    advice = f"the cascade {saving_words(*savings(objective, asked, right, seen))}"
    if objective.costs is None:
        return replace(found, advice=(*found.advice, advice))
    found = replace(found, advice=(*found.advice[: position == 0], advice), costs=objective.costs)
    return _priced(fit, selected, found, objective.costs, names) if seen.answers is not None else found


def _priced(fit: CrossFit, selected: Selection, found: Plan, costs: ErrorCosts, names: Sequence[str]) -> Plan:
    """Return a plan by costs with accuracies beside them, and with the kinds of error."""
    seen, position = fit.outcomes[selected.candidate], found.curve.index(found.chosen)
    assert seen.answers is not None
    true, local, remote, _ = seen.answers
    rates = np.array([point.offload_rate for point in found.curve])
    answered = fit.answered(selected.by_fold * np.ones((len(rates), 1), np.intp), rates, beyond=True)
    answered[:, position] = fit.answered(selected.by_fold, np.array([selected.rate]))[:, 0] if position else local
    thresholds = np.array([point.threshold for point in found.curve], np.float32)
    curve = priced_curve(found.curve, found.table(seen.score)[:, None] < thresholds, answered, seen, costs)
    right = replace(seen, local_correct=local == true, remote_correct=remote == true)
    return replace(
        found,
        curve=curve,
        chosen=curve[position],
        groups=grouped_accuracy(right, answered == true[:, None], position),
        errors=confusions(true, (local, answered[:, position], remote), costs, seen.weight, names),
    )


def certified(
    fit: CrossFit, selected: Selection, testing: Outcomes, objective: CertifiedLoss, max_group_loss: float | None
) -> tuple[Plan, Certificate]:
    """Return the plan whose threshold is certified on inputs that nothing was fitted or chosen on."""
    seen = fit.outcomes[selected.candidate]
    table = estimate_advantage(seen, fit.candidates[selected.candidate].estimate, fit.bins, at=selected.rate)
    points = points_of(seen, table)
    certificate = certify(
        table(testing.score),
        testing.local_correct,
        testing.merged_correct,
        testing.remote_correct,
        np.array([point.threshold for point in points]),
        loss=objective.loss,
        risk=objective.risk,
        weight=testing.weight,
        groups=testing.groups,
        group_loss=max_group_loss,
        looks=max(1, len(objective.looks)),
        attempt=objective.look(len(seen) + len(testing))[0],
    )
    position = next(one for one, point in enumerate(points) if point.threshold == certificate.threshold)
    words, idle = f"least offload, {certificate}", _CERTIFIED
    shown = replace(_moved(fit, selected, points[position]), chance=None)
    return _with_evidence(fit, shown, table, points, position, words, idle), certificate


def _moved(fit: CrossFit, selected: Selection, point: Point) -> Selection:
    """Return the selection with the offload rate of another point."""
    _, right = fit.decisions(selected.by_fold, np.array([point.offload_rate]), beyond=True)
    return replace(selected, rate=point.offload_rate, answers=right[:, 0])


def certified_in_order(fit: CrossFit, objective: CertifiedLoss) -> tuple[Selection, Plan, Certificate]:
    """Certify the only candidate of a cross-fit, whose order needs no labels, on all of its inputs."""
    (seen,) = fit.outcomes
    certificate = certify_order(
        seen.score,
        seen.local_correct,
        seen.merged_correct,
        seen.remote_correct,
        loss=objective.loss,
        risk=objective.risk,
        looks=max(1, len(objective.looks)),
        attempt=objective.look(len(seen))[0],
    )
    rate, by_fold = certificate.offload_rate, np.zeros((1, fit.stop.shape[1]), np.intp)
    table = estimate_advantage(seen, "monotone", fit.bins, at=rate)
    points = points_of(seen, table)
    position = next(one for one, point in enumerate(points) if point.offload_rate >= rate - _ROUNDING)
    selected = _moved(fit, Selection(0, by_fold, rate, None, seen.local_correct), points[position])
    certificate = replace(certificate, threshold=points[position].threshold)
    words, idle = f"least offload, {certificate}", _CERTIFIED
    return selected, _with_evidence(fit, selected, table, points, position, words, idle), certificate


def _within(fit: CrossFit, selected: Selection, points: Sequence[Point], max_group_loss: float) -> Sequence[Point]:
    """Return the points at which no group loses more than it may, on inputs outside the fit."""
    rates = np.array([point.offload_rate for point in points])
    _, right = fit.decisions(selected.by_fold * np.ones((len(points), 1), np.intp), rates, beyond=True)
    within = within_groups(fit.outcomes[selected.candidate], right, points, max_group_loss)
    return [point for point, one in zip(points, within, strict=True) if one]


def _chosen_within(
    allowed: Sequence[Point], objective: Objective, seen: Outcomes, max_group_loss: float | None
) -> Point:
    try:
        return objective.choose(allowed, seen.mean(seen.remote_correct), seen.size)
    except ValueError as error:  # none of the points is within the offload rate
        raise CalibrationError(
            f"max_group_loss: expected a loss that some point with {objective} keeps in every group, got "
            f"{max_group_loss}; the least offload that keeps it is {allowed[0].offload_rate:.1%}"
        ) from error


def _with_evidence(
    fit: CrossFit,
    selected: Selection,
    table: AdvantageTable,
    points: Sequence[Point],
    position: int,
    objective: str,
    idle: str,
) -> Plan:
    """Return the plan for one of the points, with all accuracies from inputs outside the fit.

    Args:
        fit: the cross-fit.
        selected: what it selected.
        table: the advantage table, from all inputs.
        points: what the table can reach.
        position: the chosen one.
        objective: the aim, in words.
        idle: why nothing is forwarded, if nothing is.
    """
    seen, thresholds = fit.outcomes[selected.candidate], [point.threshold for point in points]
    rates, repeated = np.array([point.offload_rate for point in points]), np.ones((len(points), 1), np.intp)
    _, right = fit.decisions(selected.by_fold * repeated, rates, beyond=True)
    if position:
        right[:, position] = selected.answers
    asked = table(seen.score)[:, None] < np.array(thresholds, np.float32)
    curve = measured_curve(thresholds, asked, right, seen.weight, seen.remote_correct)
    own, _ = fit.decisions(np.full_like(selected.by_fold, selected.candidate) * repeated, rates, beyond=True)
    suffices = not position and idle in (_MEETS, _CERTIFIED)
    reason = () if position else (f"nothing will be forwarded: {idle}",)
    return Plan(
        table=table,
        threshold=curve[position].threshold,
        estimate=fit.candidates[selected.candidate].estimate,
        objective=objective,
        chosen=curve[position],
        curve=curve,
        intervals=advantage_intervals(
            table, seen.score, seen.local_correct, seen.merged_correct, seen.weight, seen.difference
        ),
        advice=(
            *reason,
            *advise(seen, own, curve, position, fit.candidates[selected.candidate].merge, suffices=suffices),
            *group_advice(seen, right[:, position]),
        ),
        chance=selected.chance,
        groups=grouped_accuracy(seen, right, position),
        measure=seen.measure,
    )
