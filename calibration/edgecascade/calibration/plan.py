"""From two models' outputs and labels to a policy, with evidence from inputs that it was not fitted on.

`plan_cascade` does it all: temperatures, score, merge rule and estimate, advantage table, threshold and certificate.
`plan`, `plan_certified` and `choose_routing` are its steps, for outcomes that do not come from logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_labelled_logits, check_seed, warnings_about
from edgecascade.calibration.advantage import AdvantageTable, Correct, advantage_intervals
from edgecascade.calibration.certificate import certify, certify_order
from edgecascade.calibration.cross_fit import CrossFit, cross_fit, estimate_advantage
from edgecascade.calibration.decision import COST_SCORE, LEARNED, SCORES, DecisionRule
from edgecascade.calibration.expected_cost import confusions, priced_curve, saving_words, savings
from edgecascade.calibration.groups import group_advice, grouped_accuracy, within_groups
from edgecascade.calibration.learned_score import LearnedScore
from edgecascade.calibration.objective import CertifiedLoss, LeastCost, LeastOffload, Objective
from edgecascade.calibration.operating_curve import differences, measured_curve, operating_points, shares
from edgecascade.calibration.outcomes import Groups, Outcomes, Pair
from edgecascade.calibration.scaling.choice import calibrate_confidence
from edgecascade.calibration.summary import advise, as_html, as_text, cascade_rows, plan_rows, signed_points
from edgecascade.calibration.weights import effective_size, normalised
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.document import (
    Calibration,
    Certificate,
    Confusion,
    PolicyRecord,
    Routing,
    calibration_dict,
    certificate_dict,
    point_dict,
    policy_dict,
)
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import GroupedAccuracy, OperatingPoint, Point
from edgecascade.types.merge import MERGES

__all__ = ["CascadePlan", "Plan", "choose_routing", "plan", "plan_cascade", "plan_certified"]

_RATES = np.linspace(0.0, 1.0, 101)  # offload rates that `LeastOffload` goes down through
_ROUNDING = 1e-9
_MOST_CLASSES = 50  # of which each has its accuracy in a plan
_MOST_LEARNED = 200  # classes, up to which a score is learned unless it is asked for


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

    def __str__(self) -> str:
        return as_text(plan_rows(self))

    def _repr_html_(self) -> str:
        return as_html(plan_rows(self))


@dataclass(frozen=True)
class CascadePlan:
    """Everything that was fitted and chosen for a cascade. `print` shows a summary.

    Attributes:
        local: calibration of the local model.
        remote: calibration of the remote.
        routing: every score, merge rule and estimate considered, the chosen one first.
        policy: advantage table, threshold and evidence.
        certificate: the guarantee, if one was asked for.
        effective_n: number of equally weighted inputs that the weighted ones are worth; None where all count alike.
        learned: the learned score, if it was chosen.
        warnings: sentences about what looks wrong with the calibration data; the document's advice begins with them.
    """

    local: Calibration
    remote: Calibration
    routing: tuple[Routing, ...]
    policy: Plan
    certificate: Certificate | None
    effective_n: float | None = None
    learned: LearnedScore | None = None
    warnings: tuple[str, ...] = ()

    @property
    def score(self) -> str:
        """The chosen score."""
        return self.routing[0].score

    @property
    def merge(self) -> str:
        """The chosen merge rule."""
        return self.routing[0].merge

    @property
    def rule(self) -> DecisionRule:
        """The rule that the device computes."""
        local = self.local
        return DecisionRule(
            local.temperature,
            self.policy.table,
            self.policy.threshold,
            self.score,
            self.policy.costs,
            confidence_map=local.confidence_map,
            learned=self.learned,
        )

    @property
    def record(self) -> PolicyRecord:
        """The policy as the document of a cascade file holds it."""
        policy = self.policy
        return PolicyRecord(
            score=self.score,
            merge=self.merge,
            estimate=policy.estimate,
            objective=policy.objective,
            threshold=policy.threshold,
            chosen=policy.chosen,
            advice=(*self.warnings, *policy.advice),
            bins=len(policy.table.values),
            edges=tuple(np.asarray(policy.table.edges, np.float32).tolist()),
            values=tuple(np.asarray(policy.table.values, np.float32).tolist()),
            counts=tuple(policy.table.counts.tolist()),
            intervals=policy.intervals,
            considered=self.routing,
            chance=policy.chance,
            costs=policy.costs,
            errors=policy.errors or None,
            learned=None if self.learned is None else (self.learned.confidence, *self.learned.classes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-like values, in the sections of `CascadeDocument` that a plan decides."""
        return {
            "calibration": calibration_dict(self.local),
            "remote": calibration_dict(self.remote),
            "policy": policy_dict(self.record),
            "operating_curve": [point_dict(point) for point in self.policy.curve],
            "certificate": None if self.certificate is None else certificate_dict(self.certificate),
            **({} if self.policy.groups is None else {"groups": asdict(self.policy.groups)}),
            **({} if self.effective_n is None else {"effective_n": self.effective_n}),
        }

    def __str__(self) -> str:
        return as_text(cascade_rows(self))

    def _repr_html_(self) -> str:
        return as_html(cascade_rows(self))


def plan_cascade(
    local_logits: NDArray[np.floating],
    remote_logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    objective: Objective,
    *,
    scores: Sequence[str] | None = None,
    merges: Sequence[str] = MERGES,
    estimate: str = "auto",
    bins: int | None = None,
    even_without_gain: bool = False,
    weight: ArrayLike | None = None,
    groups: Groups | NDArray[Any] | None = None,
    max_group_loss: float | None = None,
    names: Sequence[str] = (),
    calibrator: str = "auto",
    seed: int = 0,
) -> CascadePlan:
    """Calibrate both models, choose score, merge rule and estimate by cross-fitting, and plan.

    A `CertifiedLoss` is tested on all inputs where scores, merges and estimate allow the margin, `replace` and
    `monotone` and there are no weights (see `certify_order`). Otherwise the inputs are split at random: one part is
    used for all of this, the other only to test the certificate, and `replace` is taken if it is among the merges.

    Args:
        local_logits: floating [n, classes].
        remote_logits: floating [n, classes], on the same inputs.
        labels: integer [n].
        objective: `MostAccuracy`, `LeastOffload`, `LeastCost`, `WhileItHelps` or `CertifiedLoss`. With a `LeastCost`
            whose errors cost differently, labels are those of least expected cost.
        scores: routing scores to choose among; by default `SCORES` and `learned`, and also `cost` where errors cost
            differently. `learned` must gain more than the others by at least one standard error, and is not tried above
            200 classes.
        merges: merge rules to choose among.
        estimate: of the advantage, as in `estimate_advantage`; `auto` chooses between `monotone`, the plain order of
            the score, and `shrunk`, which must gain more than it by at least one standard error.
        bins: of the advantage table, as in `estimate_advantage`.
        even_without_gain: whether to forward although cross-fitting shows no gain; the plan then forwards nothing.
        weight: [n], how much each input counts, numbers above 0 on any scale; None if all count alike.
        groups: [n], the group of each input, for accuracies by group; None takes the classes, if there are at most 50.
        max_group_loss: the largest loss of accuracy against the remote within a group: of the estimates, or for a
            `CertifiedLoss` certified with it.
        names: class names, for accuracies by class and costs by class name; without them, a class is called by its
            number.
        calibrator: of both confidences, `auto`, `temperature` or `map`, as in `calibrate_confidence`.
        seed: of every random split.

    Raises:
        CalibrationError: the arrays do not fit together, or cannot support the objective.

    >>> from edgecascade.calibration import MostAccuracy
    >>> rng = np.random.default_rng(0)
    >>> remote = rng.normal(0.0, 3.0, (1000, 4))
    >>> labels = (remote + rng.gumbel(size=remote.shape)).argmax(axis=1)
    >>> local = remote + rng.normal(0.0, 2.0, remote.shape)
    >>> found = plan_cascade(local, remote, labels, MostAccuracy(0.2))
    >>> found.score, found.merge, found.policy.chosen.offload_rate
    ('confidence', 'replace', 0.2)
    >>> print(found.policy.chosen)
    offload 20.0% (17.6% to 22.6%), accuracy 67.0% (63.0% to 70.8%, allowing for the choice) on n = 1000
    """
    check_seed(seed)
    if np.shape(local_logits) != np.shape(remote_logits):
        raise CalibrationError(
            f"remote_logits: expected {list(np.shape(local_logits))} as the local model's, "
            f"got {list(np.shape(remote_logits))}"
        )
    check_labelled_logits(local_logits, labels)
    check_labelled_logits(remote_logits, labels)
    classes = np.shape(local_logits)[1]
    if names and len(names) != classes:
        raise CalibrationError(f"names: expected {classes}, one per class, got {len(names)}")
    if isinstance(objective, LeastCost):
        objective = objective.for_classes(classes, names)
    costs = objective.costs if isinstance(objective, LeastCost) else None
    if costs is not None and max_group_loss is not None:
        raise CalibrationError("max_group_loss: expected errors of equal cost with it, got costs by class")
    if scores is None:
        learnable = (LEARNED,) if local_logits.shape[1] <= _MOST_LEARNED else ()
        scores = (*(() if costs is None else (COST_SCORE,)), *SCORES, *learnable)
    weight = normalised(weight, len(labels))
    warnings = warnings_about({"local model": local_logits, "remote": remote_logits}, labels, weight)
    groups = _groups(groups, labels, local_logits.shape[1], names)
    in_order = False
    if isinstance(objective, CertifiedLoss):
        first = np.arange(objective.planned(len(labels))[1])
        local_logits, remote_logits, labels = local_logits[first], remote_logits[first], labels[first]
        weight = None if weight is None else normalised(weight[first], len(first))
        groups = None if groups is None else groups[first]
        merges = ("replace",) if "replace" in merges else merges
        in_order = "margin" in scores and "replace" in merges and estimate in ("auto", "monotone")
        in_order = in_order and weight is None and max_group_loss is None
        scores, estimate = (("margin",), "monotone") if in_order else (scores, estimate)
    testing = np.zeros(len(labels), bool)
    if isinstance(objective, CertifiedLoss) and not in_order:
        held = round(len(labels) * objective.testing_share)
        testing[np.random.default_rng(seed).permutation(len(labels))[:held]] = True
    planning = ~testing
    effective_n = None if weight is None else effective_size(weight, len(labels))
    some = None if weight is None else weight[planning]
    local, remote = (
        _calibrated(name, logits[planning], labels[planning], some, calibrator=calibrator, costs=costs, seed=seed)
        for name, logits in (("local model", local_logits), ("remote", remote_logits))
    )
    pair = Pair(
        local_logits,
        local.temperature,
        remote_logits,
        remote.temperature,
        labels,
        weight=weight,
        groups=groups,
        local_map=local.confidence_map,
        remote_map=remote.confidence_map,
        costs=costs,
    )
    fit = cross_fit(
        lambda score, merge: pair.outcomes(score, merge)[planning],
        objective,
        scores=scores,
        merges=merges,
        estimate=estimate,
        bins=bins,
        seed=seed,
    )
    if isinstance(objective, CertifiedLoss) and in_order:
        choice, policy, certificate = _certified_in_order(fit, objective)
        return CascadePlan(local, remote, _routing(fit, choice), policy, certificate, effective_n, warnings=warnings)
    choice = _choose(fit, objective, max_group_loss)
    learned = fit.learned[choice.candidate]
    routing = _routing(fit, choice)
    if not isinstance(objective, CertifiedLoss):
        policy = _plan(fit, choice, objective, max_group_loss, even_without_gain=even_without_gain, names=names)
        return CascadePlan(local, remote, routing, policy, None, effective_n, learned, warnings)
    fresh = pair.outcomes(routing[0].score, routing[0].merge)[testing].scored(learned)
    policy, certificate = _certified(fit, choice, fresh, objective, max_group_loss)
    return CascadePlan(local, remote, routing, policy, certificate, effective_n, learned, warnings)


def _calibrated(name: str, *arguments: Any, **options: Any) -> Calibration:
    """Calibrate one of the models, and name it where its outputs are refused."""
    try:
        return calibrate_confidence(*arguments, **options)
    except CalibrationError as error:
        raise CalibrationError(f"{name}: {error}") from error


def _groups(
    groups: Groups | NDArray[Any] | None, labels: NDArray[np.integer], classes: int, names: Sequence[str]
) -> Groups | None:
    if groups is None:
        return Groups.of_classes(labels, names) if classes <= _MOST_CLASSES else None
    found = groups if isinstance(groups, Groups) else Groups.of(groups)
    if len(found.index) != len(labels):
        raise CalibrationError(f"groups: expected {len(labels)}, one per label, got {len(found.index)}")
    return found


def plan(
    outcomes: Outcomes,
    objective: Objective,
    *,
    estimate: str = "auto",
    bins: int | None = None,
    even_without_gain: bool = False,
    max_group_loss: float | None = None,
    seed: int = 0,
) -> Plan:
    """Return the plan that serves an objective on these inputs.

    Args:
        outcomes: at least ten inputs per bin.
        objective: `MostAccuracy`, `LeastOffload`, `LeastCost` or `WhileItHelps`.
        estimate: of the advantage, as in `plan_cascade`.
        bins: of the advantage table, as in `estimate_advantage`.
        even_without_gain: as in `plan_cascade`.
        max_group_loss: as in `plan_cascade`.
        seed: of the split for cross-fitting.

    Raises:
        CalibrationError: there are too few inputs, no point meets the objective, or the objective is a
            `CertifiedLoss`, which `plan_certified` takes.
    """
    if isinstance(objective, CertifiedLoss):
        raise CalibrationError("objective: a CertifiedLoss needs inputs for its test; call plan_certified")
    fit = cross_fit(lambda *_: outcomes, objective, scores=("",), merges=("",), estimate=estimate, bins=bins, seed=seed)
    choice = _choose(fit, objective, max_group_loss)
    return _plan(fit, choice, objective, max_group_loss, even_without_gain=even_without_gain)


def plan_certified(
    planning: Outcomes,
    testing: Outcomes,
    objective: CertifiedLoss,
    *,
    estimate: str = "auto",
    bins: int | None = None,
    max_group_loss: float | None = None,
    seed: int = 0,
) -> tuple[Plan, Certificate]:
    """Return the plan of least offload whose loss against asking the remote always is certified.

    Args:
        planning: inputs that the table and the order of the thresholds come from.
        testing: other inputs, which nothing was fitted or chosen on.
        objective: the loss to certify, and the risk.
        estimate: of the advantage, as in `plan_cascade`.
        bins: of the advantage table, as in `estimate_advantage`.
        max_group_loss: the largest loss within each group of the outcomes, certified together with the objective.
        seed: of the split for cross-fitting.

    Raises:
        CalibrationError: there are too few inputs for the certificate; the message says how many would do.
    """
    fit = cross_fit(lambda *_: planning, objective, scores=("",), merges=("",), estimate=estimate, bins=bins, seed=seed)
    return _certified(fit, _choose(fit, objective, max_group_loss), testing, objective, max_group_loss)


def choose_routing(
    outcomes: Callable[[str, str], Outcomes],
    objective: Objective,
    *,
    scores: Sequence[str] = SCORES,
    merges: Sequence[str] = MERGES,
    estimate: str = "auto",
    bins: int | None = None,
    seed: int = 0,
) -> tuple[Routing, ...]:
    """Rank scores, merge rules and estimates by cross-fitting, as `plan_cascade` does.

    Args:
        outcomes: returns what both models did, always on the same inputs, for a score and a merge rule.
        objective: the aim of the plan.
        scores: routing scores to choose among.
        merges: merge rules to choose among.
        estimate: of the advantage, as in `plan_cascade`.
        bins: of the advantage table, as in `estimate_advantage`.
        seed: of the split for cross-fitting.

    Returns:
        The chosen candidate, then the others by falling merit.

    Raises:
        CalibrationError: no candidate can meet the objective.
    """
    fit = cross_fit(outcomes, objective, scores=scores, merges=merges, estimate=estimate, bins=bins, seed=seed)
    return _routing(fit, _choose(fit, objective))


@dataclass(frozen=True)
class _Choice:
    """What cross-fitting chooses.

    Attributes:
        candidate: the position of the candidate.
        by_fold: intp [1, folds], the candidate that the inputs outside each fold would choose.
        rate: the offload rate, or the largest one.
        chance: the probability that the aim is met; None for an objective that always is.
        answers: [n], whether the answers at the rate are right, each by the choices of other folds.
    """

    candidate: int
    by_fold: NDArray[np.intp]
    rate: float
    chance: float | None
    answers: Correct


def _choose(fit: CrossFit, objective: Objective, max_group_loss: float | None = None) -> _Choice:
    if isinstance(objective, (LeastOffload, CertifiedLoss)):
        return _least_offload(fit, objective, max_group_loss)
    rate = objective.largest_rate(fit.outcomes[0].size)
    choices = fit.choices(np.array([rate]))
    _, right = fit.decisions(choices[:, :-1], np.array([rate]))
    return _Choice(int(choices[0, -1]), choices[:, :-1], rate, None, right[:, 0])


def _least_offload(fit: CrossFit, objective: LeastOffload | CertifiedLoss, max_group_loss: float | None) -> _Choice:
    """Go down from a first offload rate while the answers to inputs outside the fit meet the aim.

    For a loss, the first rate is 1. For an accuracy, it is the most accurate one; each fold starts from that of the
    others, so that the first rate is not the luckiest.
    """
    aim = LeastOffload(loss=objective.loss) if isinstance(objective, CertifiedLoss) else objective
    seen, choices, last = fit.outcomes[0], fit.choices(_RATES), len(_RATES) - 1
    starts = fit.most_accurate(_RATES) if aim.loss is None else np.full(choices.shape[1], last)
    steps = np.arange(starts[-1] + 1)  # of the rates, from forwarding nothing to the first rate
    at = np.round(np.outer(steps / max(1, starts[-1]), starts)).astype(np.intp)
    if starts[-1] == 0:
        at[0] = starts
    by_fold = np.take_along_axis(choices, at, axis=0)
    _, right = fit.decisions(by_fold[:, :-1], _RATES[at[:, :-1]])
    chances = aim.chances(right, seen.remote_correct, seen.weight).tolist()
    remote = [one for one, some in enumerate(fit.outcomes) if np.array_equal(some.merged_correct, seen.remote_correct)]
    if aim.loss is not None and remote:  # the cascade is the remote
        by_fold[-1], right[:, -1], chances[-1] = remote[0], seen.remote_correct, 1.0
    curve = [Point(math.nan, rate, seen.mean(one)) for rate, one in zip(_RATES.tolist(), right.T, strict=False)]
    if max_group_loss is not None:
        within = within_groups(seen, right, curve, max_group_loss)
        chances = np.where(within, chances, 0.0)[: np.flatnonzero(within)[-1] + 1].tolist()
    found = aim.lowest(chances)
    if found is None:
        found = len(chances) - 1
        if objective is aim:
            _check_within_reach(fit, aim, chances[found:], curve[found : found + 1])
    return _Choice(
        candidate=int(by_fold[found, -1]),
        by_fold=by_fold[found : found + 1, :-1],
        rate=float(_RATES[found]),
        chance=chances[found],
        answers=right[:, found],
    )


def _check_within_reach(fit: CrossFit, aim: LeastOffload, chances: Sequence[float], curve: Sequence[Point]) -> None:
    """Refuse an aim that no candidate reaches on the very inputs that it is fitted on."""
    remote_accuracy = fit.outcomes[0].mean(fit.outcomes[0].remote_correct)
    if aim.confidence > 0.5:
        raise aim.refusal(chances, curve, remote_accuracy)
    points = [
        point
        for candidate, seen in zip(fit.candidates, fit.outcomes, strict=True)
        for point in _points(seen, estimate_advantage(seen, candidate.estimate, fit.bins))
    ]
    if max(point.accuracy for point in points) < aim.wanted(remote_accuracy):
        raise aim.refusal(chances, points, remote_accuracy)


def _plan(
    fit: CrossFit,
    choice: _Choice,
    objective: Objective,
    max_group_loss: float | None = None,
    *,
    even_without_gain: bool = False,
    names: Sequence[str] = (),
) -> Plan:
    seen = fit.outcomes[choice.candidate]
    table = estimate_advantage(seen, fit.candidates[choice.candidate].estimate, fit.bins, at=choice.rate)
    points, words = _points(seen, table), str(objective)
    if max_group_loss is not None:
        words += f", losing at most {max_group_loss:.1%} within each group"
    if isinstance(objective, LeastOffload):
        position = next(one for one, point in enumerate(points) if point.offload_rate >= choice.rate - _ROUNDING)
        return _with_evidence(fit, choice, table, points, position, words, "the local model alone meets the aim")
    position = points.index(objective.choose(points, seen.mean(seen.remote_correct), seen.size))
    allowed = points if max_group_loss is None else _within(fit, choice, points, max_group_loss)
    if points[position] not in allowed:
        held = points.index(_chosen_within(allowed, objective, seen, max_group_loss))
        idle = f"forwarding more would lose more than {max_group_loss:.1%} in a group"
        return _with_evidence(fit, _moved(fit, choice, points[held]), table, points, held, words, idle)
    forward, _ = fit.decisions(choice.by_fold, np.array([choice.rate]))
    gain = seen.mean(choice.answers) - seen.mean(seen.local_correct) - objective.price * seen.mean(forward[:, 0])
    idle = "the objective allows no offload" if choice.rate == 0 else "no input is expected to gain from it"
    if gain <= _ROUNDING and choice.rate > 0 and not even_without_gain and points[0] in allowed:
        (shown,) = differences(choice.answers, seen.local_correct[:, None], seen.weight)
        idle = f"cross-fitting shows no gain from it that is worth its cost ({signed_points(shown)} of accuracy, 95 %)"
        if isinstance(objective, LeastCost):
            saved = savings(objective, forward[:, 0], choice.answers, seen)[1]
            words = f"{saved.low:+.3g} to {saved.high:+.3g} saved per input, 95 %"
            idle = f"cross-fitting shows no gain from it that is worth its cost ({words})"
        position = 0
    planned = _with_evidence(fit, choice, table, points, position, words, idle)
    if not isinstance(objective, LeastCost):
        return planned
    asked, right = (forward[:, 0], choice.answers) if position else (np.zeros(len(seen), bool), seen.local_correct)
    advice = f"the cascade {saving_words(*savings(objective, asked, right, seen))}"
    if objective.costs is None:
        return replace(planned, advice=(*planned.advice, advice))
    planned = replace(planned, advice=(*planned.advice[: position == 0], advice), costs=objective.costs)
    return _priced(fit, choice, planned, objective.costs, names) if seen.answers is not None else planned


def _priced(fit: CrossFit, choice: _Choice, planned: Plan, costs: ErrorCosts, names: Sequence[str]) -> Plan:
    """Return a plan by costs with accuracies beside them, and with the kinds of error."""
    seen, position = fit.outcomes[choice.candidate], planned.curve.index(planned.chosen)
    assert seen.answers is not None
    true, local, remote, _ = seen.answers
    rates = np.array([point.offload_rate for point in planned.curve])
    answered = fit.answered(choice.by_fold * np.ones((len(rates), 1), np.intp), rates, beyond=True)
    answered[:, position] = fit.answered(choice.by_fold, np.array([choice.rate]))[:, 0] if position else local
    thresholds = np.array([point.threshold for point in planned.curve], np.float32)
    curve = priced_curve(planned.curve, planned.table(seen.score)[:, None] < thresholds, answered, seen, costs)
    right = replace(seen, local_correct=local == true, remote_correct=remote == true)
    return replace(
        planned,
        curve=curve,
        chosen=curve[position],
        groups=grouped_accuracy(right, answered == true[:, None], position),
        errors=confusions(true, (local, answered[:, position], remote), costs, seen.weight, names),
    )


def _certified(
    fit: CrossFit, choice: _Choice, testing: Outcomes, objective: CertifiedLoss, max_group_loss: float | None
) -> tuple[Plan, Certificate]:
    seen = fit.outcomes[choice.candidate]
    table = estimate_advantage(seen, fit.candidates[choice.candidate].estimate, fit.bins, at=choice.rate)
    points = _points(seen, table)
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
        attempt=objective.planned(len(seen) + len(testing))[0],
    )
    position = next(one for one, point in enumerate(points) if point.threshold == certificate.threshold)
    words, idle = f"least offload, {certificate}", "the local model alone is certified"
    shown = replace(_moved(fit, choice, points[position]), chance=None)
    return _with_evidence(fit, shown, table, points, position, words, idle), certificate


def _moved(fit: CrossFit, choice: _Choice, point: Point) -> _Choice:
    """Return the choice with the offload rate of another point."""
    _, right = fit.decisions(choice.by_fold, np.array([point.offload_rate]), beyond=True)
    return replace(choice, rate=point.offload_rate, answers=right[:, 0])


def _certified_in_order(fit: CrossFit, objective: CertifiedLoss) -> tuple[_Choice, Plan, Certificate]:
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
        attempt=objective.planned(len(seen))[0],
    )
    rate, by_fold = certificate.offload_rate, np.zeros((1, fit.stop.shape[1]), np.intp)
    table = estimate_advantage(seen, "monotone", fit.bins, at=rate)
    points = _points(seen, table)
    position = next(one for one, point in enumerate(points) if point.offload_rate >= rate - _ROUNDING)
    choice = _moved(fit, _Choice(0, by_fold, rate, None, seen.local_correct), points[position])
    certificate = replace(certificate, threshold=points[position].threshold)
    words, idle = f"least offload, {certificate}", "the local model alone is certified"
    return choice, _with_evidence(fit, choice, table, points, position, words, idle), certificate


def _within(fit: CrossFit, choice: _Choice, points: Sequence[Point], max_group_loss: float) -> Sequence[Point]:
    """Return the points at which no group loses more than it may, on inputs outside the fit."""
    rates = np.array([point.offload_rate for point in points])
    _, right = fit.decisions(choice.by_fold * np.ones((len(points), 1), np.intp), rates, beyond=True)
    within = within_groups(fit.outcomes[choice.candidate], right, points, max_group_loss)
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


def _points(seen: Outcomes, table: AdvantageTable) -> tuple[Point, ...]:
    return operating_points(table(seen.score), seen.local_correct, seen.merged_correct, seen.weight)


def _with_evidence(
    fit: CrossFit,
    choice: _Choice,
    table: AdvantageTable,
    points: Sequence[Point],
    position: int,
    objective: str,
    idle: str,
) -> Plan:
    """Return the plan for one of the points, with all accuracies from inputs outside the fit.

    Args:
        fit: the cross-fit.
        choice: what it chose.
        table: the advantage table, from all inputs.
        points: what the table can reach.
        position: the chosen one.
        objective: the aim, in words.
        idle: why nothing is forwarded, if nothing is.
    """
    seen, thresholds = fit.outcomes[choice.candidate], [point.threshold for point in points]
    rates, repeated = np.array([point.offload_rate for point in points]), np.ones((len(points), 1), np.intp)
    _, right = fit.decisions(choice.by_fold * repeated, rates, beyond=True)
    if position:
        right[:, position] = choice.answers
    asked = table(seen.score)[:, None] < np.array(thresholds, np.float32)
    curve = measured_curve(thresholds, asked, right, seen.weight, seen.remote_correct)
    own, _ = fit.decisions(np.full_like(choice.by_fold, choice.candidate) * repeated, rates, beyond=True)
    reason = () if position else (f"nothing will be forwarded: {idle}",)
    return Plan(
        table=table,
        threshold=curve[position].threshold,
        estimate=fit.candidates[choice.candidate].estimate,
        objective=objective,
        chosen=curve[position],
        curve=curve,
        intervals=advantage_intervals(table, seen.score, seen.local_correct, seen.merged_correct, seen.weight),
        advice=(
            *reason,
            *advise(seen, own, curve, position, fit.candidates[choice.candidate].merge),
            *group_advice(seen, right[:, position]),
        ),
        chance=choice.chance,
        groups=grouped_accuracy(seen, right, position),
    )


def _routing(fit: CrossFit, choice: _Choice) -> tuple[Routing, ...]:
    """Return how every candidate does at the chosen offload rate, on inputs that it was not fitted on."""
    measured = [fit.measured(candidate, choice.rate) for candidate in range(len(fit.candidates))]
    merits = [seen.mean(right) for seen, (_, right) in zip(fit.outcomes, measured, strict=True)]
    true = fit.outcomes[0].answers.true if fit.outcomes[0].answers is not None else None
    if true is not None:  # accuracies beside the costs
        every = (np.full_like(choice.by_fold, candidate) for candidate in range(len(fit.candidates)))
        answered = [fit.answered(choices, np.array([choice.rate]))[:, 0] for choices in every]
        measured = [(forward, one == true) for (forward, _), one in zip(measured, answered, strict=True)]
    weight = fit.outcomes[0].weight
    rates, accuracies = (shares(np.stack(columns, axis=1), weight) for columns in zip(*measured, strict=True))
    found = [
        Routing(
            score=candidate.score,
            merge=candidate.merge,
            offload_rate=rate.value,
            accuracy=accuracy.value,
            merit=merit - fit.price * rate.value,
            estimate=candidate.estimate,
            offload_interval=(rate.low, rate.high),
            accuracy_interval=(accuracy.low, accuracy.high),
        )
        for candidate, merit, rate, accuracy in zip(fit.candidates, merits, rates, accuracies, strict=True)
    ]
    chosen = found.pop(choice.candidate)
    return (chosen, *sorted(found, key=lambda one: -one.merit))
