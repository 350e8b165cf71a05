"""From two models' outputs and labels to a policy, with evidence from inputs that it was not fitted on.

`plan_cascade` does it all: temperatures, score, merge rule and estimate, advantage table, threshold and certificate.
`plan`, `plan_certified` and `choose_routing` are its steps, for outcomes that do not come from logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_labelled_logits, check_order, check_seed, labelled, warnings_about
from edgecascade.calibration.cross_fit import cross_fit
from edgecascade.calibration.decision import COST_SCORE, LEARNED, SCORES, DecisionRule
from edgecascade.calibration.evidence import Plan, certified, certified_in_order, planned
from edgecascade.calibration.learned_score import LearnedScore
from edgecascade.calibration.objective import CertifiedLoss, LeastCost, Objective
from edgecascade.calibration.outcomes import Groups, Outcomes, Pair
from edgecascade.calibration.scaling.choice import calibrate_confidence
from edgecascade.calibration.selection import ranking, select
from edgecascade.calibration.summary import as_text, cascade_rows
from edgecascade.calibration.weights import effective_size, normalised
from edgecascade.types.arrays import as_array
from edgecascade.types.document import (
    Calibration,
    Certificate,
    PolicyRecord,
    Routing,
    calibration_dict,
    certificate_dict,
    point_dict,
    policy_dict,
)
from edgecascade.types.errors import CalibrationError
from edgecascade.types.merge import MERGES
from edgecascade.types.notebook import as_html, curve_picture

__all__ = ["CascadePlan", "Plan", "choose_routing", "plan", "plan_cascade", "plan_certified"]

_RATES = np.linspace(0.0, 1.0, 101)  # offload rates that `LeastOffload` goes down through
_ROUNDING = 1e-9
_MOST_CLASSES = 50  # of which each has its accuracy in a plan
_MOST_LEARNED = 200  # classes, up to which a score is learned unless it is asked for


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
        return self.policy.record(self.routing, self.warnings, self.learned)

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
        return as_html(cascade_rows(self), curve_picture(self.policy.curve, self.policy.threshold, self.policy.measure))


def plan_cascade(
    local_logits: ArrayLike,
    remote_logits: ArrayLike,
    labels: ArrayLike,
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
    label_noise: bool = False,
    seed: int = 0,
) -> CascadePlan:
    """Calibrate both models, choose score, merge rule and estimate by cross-fitting, and plan.

    A `CertifiedLoss` is tested on all inputs where scores, merges and estimate allow the margin, `replace` and
    `monotone` and there are no weights (see `certify_order`). Otherwise the inputs are split at random: one part is
    used for all of this, the other only to test the certificate, and `replace` is taken if it is among the merges.

    Args:
        local_logits: floating [n, classes], of numpy, torch, pandas or polars, as the other arrays.
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
        label_noise: whether the temperatures allow for wrong labels where there seem to be some, as in
            `calibrate_confidence`. Accuracies, advantages and calibration errors are those on the labels as given.
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
    local_logits, labels = labelled(local_logits, labels, "local_logits")
    remote_logits = as_array(remote_logits, "remote_logits")
    _check_alike(local_logits, remote_logits, labels, names)
    for name, given in (("scores", scores), ("merges", merges)):
        if isinstance(given, str):
            raise CalibrationError(
                f"{name}: expected a sequence of names such as ({given!r},), got the string {given!r}"
            )
    classes, in_order = np.shape(local_logits)[1], False
    if isinstance(objective, LeastCost):
        objective = objective.for_classes(classes, names)
    costs = objective.costs if isinstance(objective, LeastCost) else None
    if costs is not None and max_group_loss is not None:
        raise CalibrationError("max_group_loss: expected errors of equal cost with it, got costs by class")
    if scores is None:
        learnable = (LEARNED,) if classes <= _MOST_LEARNED else ()
        scores = (*(() if costs is None else (COST_SCORE,)), *SCORES, *learnable)
    weight, groups = normalised(weight, len(labels)), _groups(groups, labels, classes, names)
    if isinstance(objective, CertifiedLoss):
        first = slice(objective.look(len(labels))[1])
        local_logits, remote_logits, labels = local_logits[first], remote_logits[first], labels[first]
        weight = None if weight is None else normalised(weight[first], len(labels))
        groups = None if groups is None else groups[first]
        merges = ("replace",) if "replace" in merges else merges
        in_order = "margin" in scores and "replace" in merges and estimate in ("auto", "monotone")
        in_order = in_order and weight is None and max_group_loss is None
        scores, estimate = (("margin",), "monotone") if in_order else (scores, estimate)
    outputs = {"local model": local_logits, "remote": remote_logits}
    warnings = warnings_about(outputs, labels, weight)
    check_order(outputs, labels, names)
    held = round(len(labels) * objective.testing_share) if isinstance(objective, CertifiedLoss) and not in_order else 0
    parts = np.split(np.random.default_rng(seed).permutation(len(labels)), [held])
    testing, planning = map(np.sort, parts)
    some = None if weight is None else weight[planning]
    calibration = {"calibrator": calibrator, "costs": costs, "label_noise": label_noise, "seed": seed}
    local, remote = (
        _calibrated(name, logits[planning], labels[planning], some, **calibration)
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
        selected, policy, found = certified_in_order(fit, objective)
        return CascadePlan(local, remote, ranking(fit, selected), policy, found, warnings=warnings)
    effective_n = None if weight is None else effective_size(weight, len(labels))
    selected = select(fit, objective, max_group_loss)
    certificate: Certificate | None = None
    learned, chosen = fit.learned[selected.candidate], fit.candidates[selected.candidate]
    if isinstance(objective, CertifiedLoss):
        fresh = pair.outcomes(chosen.score, chosen.merge)[testing].scored(learned)
        policy, certificate = certified(fit, selected, fresh, objective, max_group_loss)
    else:
        policy = planned(fit, selected, objective, max_group_loss, even_without_gain=even_without_gain, names=names)
    return CascadePlan(local, remote, ranking(fit, selected), policy, certificate, effective_n, learned, warnings)


def _calibrated(name: str, *arguments: Any, **options: Any) -> Calibration:
    """Calibrate one of the models, and name it where its outputs are refused."""
    try:
        return calibrate_confidence(*arguments, **options)
    except CalibrationError as error:
        raise CalibrationError(f"{name}: {error}") from error


def _check_alike(
    local_logits: NDArray[np.floating],
    remote_logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: Sequence[str],
) -> None:
    """Refuse arrays that do not fit together."""
    if np.shape(local_logits) != np.shape(remote_logits):
        raise CalibrationError(
            f"remote_logits: expected {list(np.shape(local_logits))} as the local model's, "
            f"got {list(np.shape(remote_logits))}"
        )
    check_labelled_logits(local_logits, labels)
    check_labelled_logits(remote_logits, labels)
    if names and len(names) != np.shape(local_logits)[1]:
        raise CalibrationError(f"names: expected {np.shape(local_logits)[1]}, one per class, got {len(names)}")


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
    selected = select(fit, objective, max_group_loss)
    return planned(fit, selected, objective, max_group_loss, even_without_gain=even_without_gain)


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
    return certified(fit, select(fit, objective, max_group_loss), testing, objective, max_group_loss)


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
    return ranking(fit, select(fit, objective))
