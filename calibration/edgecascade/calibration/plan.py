"""From two models' outputs and labels to a policy with its evidence, in the order that keeps every figure honest.

`plan_cascade` does it all: temperatures, score and merge rule, advantage table, threshold and certificate. `plan`,
`plan_certified` and `choose_routing` are its steps, for outcomes that do not come from logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_labelled_logits, check_seed
from edgecascade.calibration.advantage import (
    AdvantageTable,
    advantage_intervals,
    advantage_table,
    shrunk_advantage_table,
)
from edgecascade.calibration.certificate import certify
from edgecascade.calibration.decision import SCORES, DecisionRule
from edgecascade.calibration.objective import CertifiedLoss, Objective
from edgecascade.calibration.operating_curve import operating_curve, operating_points
from edgecascade.calibration.outcomes import Outcomes, Pair
from edgecascade.calibration.scaling.choice import calibrate_confidence
from edgecascade.calibration.summary import advise, as_html, as_text, cascade_rows, plan_rows
from edgecascade.types.document import (
    Calibration,
    Certificate,
    PolicyRecord,
    Routing,
    calibration_dict,
    certificate_dict,
    policy_dict,
)
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import OperatingPoint, Point
from edgecascade.types.merge import MERGES

__all__ = [
    "ESTIMATES",
    "CascadePlan",
    "Plan",
    "choose_routing",
    "estimate_advantage",
    "plan",
    "plan_cascade",
    "plan_certified",
]

ESTIMATES = ("confidences", "labels", "shrunk")


@dataclass(frozen=True)
class Plan:
    """An advantage table and a threshold, with the evidence for them. `print` shows a summary.

    Attributes:
        table: the advantage table.
        threshold: inputs whose advantage is below it are forwarded.
        estimate: what the advantage was estimated from, as in `estimate_advantage`.
        objective: the aim, in words.
        chosen: the operating point of `threshold` on the calibration data.
        curve: every operating point that the table can reach, by rising offload rate.
        intervals: 95 % interval of local minus merged accuracy, from labels, in each bin of the table.
        advice: sentences about whether this pair is worth a cascade.
    """

    table: AdvantageTable
    threshold: float
    estimate: str
    objective: str
    chosen: OperatingPoint
    curve: tuple[OperatingPoint, ...]
    intervals: tuple[tuple[float, float], ...]
    advice: tuple[str, ...]

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
        routing: every score and merge rule considered, the chosen one first.
        policy: advantage table, threshold and evidence.
        certificate: the guarantee, if one was asked for.
    """

    local: Calibration
    remote: Calibration
    routing: tuple[Routing, ...]
    policy: Plan
    certificate: Certificate | None

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
            confidence_map=local.confidence_map,
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
            advice=policy.advice,
            bins=len(policy.table.values),
            edges=tuple(np.asarray(policy.table.edges, np.float32).tolist()),
            values=tuple(np.asarray(policy.table.values, np.float32).tolist()),
            counts=tuple(policy.table.counts.tolist()),
            intervals=policy.intervals,
            considered=self.routing,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-like values, in the sections of `CascadeDocument` that a plan decides."""
        return {
            "calibration": calibration_dict(self.local),
            "remote": calibration_dict(self.remote),
            "policy": policy_dict(self.record),
            "operating_curve": [asdict(point) for point in self.policy.curve],
            "certificate": None if self.certificate is None else certificate_dict(self.certificate),
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
    scores: Sequence[str] = SCORES,
    merges: Sequence[str] = MERGES,
    estimate: str = "shrunk",
    bins: int | None = None,
    calibrator: str = "auto",
    seed: int = 0,
) -> CascadePlan:
    """Calibrate both models, choose score and merge rule by cross-fitting, and plan.

    For a `CertifiedLoss` the inputs are split at random: one part is used for all of this, the other only to test
    the certificate.

    Args:
        local_logits: floating [n, classes].
        remote_logits: floating [n, classes], on the same inputs.
        labels: integer [n].
        objective: `MostAccuracy`, `LeastOffload`, `LeastCost`, `WhileItHelps` or `CertifiedLoss`.
        scores: routing scores to choose among.
        merges: merge rules to choose among.
        estimate: of the advantage, as in `estimate_advantage`.
        bins: of the advantage table, as in `estimate_advantage`.
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
    offload 20.0% (17.6% to 22.6%), accuracy 66.7% (62.8% to 70.5%, allowing for the choice) on n = 1000
    """
    check_seed(seed)
    if np.shape(local_logits) != np.shape(remote_logits):
        raise CalibrationError(
            f"remote_logits: expected {list(np.shape(local_logits))} as the local model's, "
            f"got {list(np.shape(remote_logits))}"
        )
    check_labelled_logits(local_logits, labels)
    testing = np.zeros(len(labels), bool)
    if isinstance(objective, CertifiedLoss):
        held = round(len(labels) * objective.testing_share)
        testing[np.random.default_rng(seed).permutation(len(labels))[:held]] = True
    planning = ~testing
    local, remote = (
        calibrate_confidence(logits[planning], labels[planning], calibrator=calibrator, seed=seed)
        for logits in (local_logits, remote_logits)
    )
    pair = Pair(
        local_logits,
        local.temperature,
        remote_logits,
        remote.temperature,
        labels,
        local_map=local.confidence_map,
        remote_map=remote.confidence_map,
    )
    routing = choose_routing(
        lambda score, merge: pair.outcomes(score, merge)[planning], objective, scores=scores, merges=merges, seed=seed
    )
    outcomes = pair.outcomes(routing[0].score, routing[0].merge)
    if not isinstance(objective, CertifiedLoss):
        return CascadePlan(local, remote, routing, plan(outcomes, objective, estimate=estimate, bins=bins), None)
    policy, certificate = plan_certified(outcomes[planning], outcomes[testing], objective, estimate=estimate, bins=bins)
    return CascadePlan(local, remote, routing, policy, certificate)


def plan(outcomes: Outcomes, objective: Objective, *, estimate: str = "shrunk", bins: int | None = None) -> Plan:
    """Return the plan that serves an objective on these inputs.

    Args:
        outcomes: at least ten inputs per bin.
        objective: `MostAccuracy`, `LeastOffload`, `LeastCost` or `WhileItHelps`.
        estimate: of the advantage, as in `estimate_advantage`.
        bins: of the advantage table, as in `estimate_advantage`.

    Raises:
        CalibrationError: there are too few inputs, no point meets the objective, or the objective is a
            `CertifiedLoss`, which `plan_certified` takes.
    """
    if isinstance(objective, CertifiedLoss):
        raise CalibrationError("objective: a CertifiedLoss needs inputs for its test; call plan_certified")
    table = estimate_advantage(outcomes, estimate, bins)
    curve = operating_curve(table(outcomes.score), outcomes.local_correct, outcomes.merged_correct)
    chosen = objective.choose(curve, float(outcomes.remote_correct.mean()))
    return _plan(outcomes, table, curve, chosen, estimate, str(objective))


def plan_certified(
    planning: Outcomes,
    testing: Outcomes,
    objective: CertifiedLoss,
    *,
    estimate: str = "shrunk",
    bins: int | None = None,
) -> tuple[Plan, Certificate]:
    """Return the plan of least offload whose loss against asking the remote always is certified.

    Args:
        planning: inputs that the table and the order of the thresholds come from.
        testing: other inputs, which nothing was fitted or chosen on.
        objective: the loss to certify, and the risk.
        estimate: of the advantage, as in `estimate_advantage`.
        bins: of the advantage table, as in `estimate_advantage`.

    Raises:
        CalibrationError: there are too few inputs for the certificate; the message says how many would do.
    """
    table = estimate_advantage(planning, estimate, bins)
    curve = operating_curve(table(planning.score), planning.local_correct, planning.merged_correct)
    certificate = certify(
        table(testing.score),
        testing.local_correct,
        testing.merged_correct,
        testing.remote_correct,
        np.array([point.threshold for point in curve]),
        loss=objective.loss,
        risk=objective.risk,
    )
    chosen = next(point for point in curve if point.threshold == certificate.threshold)
    return _plan(planning, table, curve, chosen, estimate, f"least offload, {certificate}"), certificate


def estimate_advantage(outcomes: Outcomes, estimate: str = "shrunk", bins: int | None = None) -> AdvantageTable:
    """Return the advantage table of one of the three estimates.

    Args:
        outcomes: at least ten inputs per bin.
        estimate: `confidences`, from calibrated confidences alone as in the paper; `labels`, from correctness;
            `shrunk`, from correctness in small bins that borrow strength from their neighbours.
        bins: number of bins; by default the paper's 15, or for `shrunk` one per twenty inputs, up to 50.

    Raises:
        CalibrationError: the estimate is unknown, or as `advantage_table`.
    """
    few = 15 if bins is None else bins
    many = max(1, min(50, len(outcomes.score) // 20)) if bins is None else bins
    if estimate == "confidences":
        return advantage_table(outcomes.score, outcomes.local_confidence, outcomes.remote_confidence, few)
    if estimate == "labels":
        return advantage_table(outcomes.score, outcomes.local_correct, outcomes.merged_correct, few)
    if estimate == "shrunk":
        return shrunk_advantage_table(outcomes.score, outcomes.local_correct, outcomes.merged_correct, many)
    raise CalibrationError(f"estimate: expected one of {', '.join(ESTIMATES)}, got {estimate!r}")


def choose_routing(
    outcomes: Callable[[str, str], Outcomes],
    objective: Objective,
    *,
    scores: Sequence[str] = SCORES,
    merges: Sequence[str] = MERGES,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Routing, ...]:
    """Rank scores and merge rules by cross-fitting: each is planned on some inputs and measured on the others.

    Args:
        outcomes: returns what both models did, always on the same inputs, for a score and a merge rule.
        objective: the aim of the plan.
        scores: routing scores to choose among.
        merges: merge rules to choose among.
        folds: number of parts that the inputs are split into at random.
        seed: of that split.

    Returns:
        All candidates, best first; of equal ones the earlier in `scores` and `merges` first.

    Raises:
        CalibrationError: no candidate can meet the objective.
    """
    found, refusals = [], []
    for score, merge in product(scores, merges):
        try:
            found.append(_cross_fitted(outcomes(score, merge), objective, score, merge, folds, seed))
        except CalibrationError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return tuple(sorted(found, key=lambda candidate: -candidate.merit))


def _cross_fitted(outcomes: Outcomes, objective: Objective, score: str, merge: str, folds: int, seed: int) -> Routing:
    n = len(outcomes.score)
    fold = np.random.default_rng(seed).permutation(n) % folds
    forward = np.zeros(n, bool)
    for one in range(folds):
        planning, judging = outcomes[np.flatnonzero(fold != one)], outcomes[np.flatnonzero(fold == one)]
        table = estimate_advantage(planning)
        curve = operating_points(table(planning.score), planning.local_correct, planning.merged_correct)
        chosen = objective.choose(curve, float(planning.remote_correct.mean()))
        forward[fold == one] = table(judging.score) < np.float32(chosen.threshold)
    right = np.where(forward, outcomes.merged_correct, outcomes.local_correct)
    measured = Point(float("nan"), float(forward.mean()), float(right.mean()))
    return Routing(score, merge, measured.offload_rate, measured.accuracy, objective.merit(measured))


def _plan(
    outcomes: Outcomes,
    table: AdvantageTable,
    curve: tuple[OperatingPoint, ...],
    chosen: OperatingPoint,
    estimate: str,
    objective: str,
) -> Plan:
    advantage, local, merged = table(outcomes.score), outcomes.local_correct, outcomes.merged_correct
    return Plan(
        table=table,
        threshold=chosen.threshold,
        estimate=estimate,
        objective=objective,
        chosen=chosen,
        curve=curve,
        intervals=advantage_intervals(table, outcomes.score, local, merged),
        advice=advise(advantage, local, merged, curve, chosen),
    )
