"""From scores and verified answers of a general task to a policy, with evidence: `plan_task`.

A general task is any but classification: detection, text recognition, speech, regression and so on. A confidence
function gives each local answer a score, and a verifier gives the answers of both models values in [0, 1].
`decide_task` is the decision in numpy, the reference for every written file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_seed
from edgecascade.calibration.advantage import AdvantageTable, Correct
from edgecascade.calibration.cross_fit import cross_fit
from edgecascade.calibration.evidence import Plan, certified, certified_in_order, planned
from edgecascade.calibration.intervals import accuracy_interval
from edgecascade.calibration.objective import CertifiedLoss, LeastCost, Objective
from edgecascade.calibration.outcomes import Groups, Outcomes
from edgecascade.calibration.scaling.choice import calibrate_score
from edgecascade.calibration.selection import ranking, select
from edgecascade.calibration.summary import as_text, task_rows
from edgecascade.calibration.weights import effective_size, normalised
from edgecascade.types.arrays import as_array
from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.document import (
    Certificate,
    PolicyRecord,
    Routing,
    ScoreCalibration,
    certificate_dict,
    point_dict,
    policy_dict,
    score_calibration_dict,
)
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate
from edgecascade.types.notebook import as_html, curve_picture
from edgecascade.types.platt import Platt

__all__ = ["TaskDecision", "TaskPlan", "TaskRule", "decide_task", "plan_task"]

_MERGE = "replace"  # arrays of unlike models cannot be averaged
_FEWEST = 13  # inputs, as in a cross-fit
_FEW = 100
_REVERSED = 1e-3  # p-value of a falling order that chance does not explain
_ROUNDING = 1e-6  # by which a float32 value may be outside [0, 1]


@dataclass(frozen=True)
class TaskRule:
    """Everything that turns the score of a general task into a decision.

    Attributes:
        confidence: from the score to the confidence, which changes no decision.
        table: the advantage table.
        threshold: inputs whose advantage is below it are forwarded.
    """

    confidence: Platt | ConfidenceMap
    table: AdvantageTable
    threshold: float


@dataclass(frozen=True)
class TaskDecision:
    """What the graph of a general task adds to the body's outputs for a batch.

    Attributes:
        score: float32 [n].
        confidence: float32 [n], the expected value of the local answer; NaN where the score is NaN.
        advantage: float32 [n]; NaN where the score is NaN, for which the graph may give any advantage.
        forward: bool [n], whether the advantage is below the threshold or the score is NaN.
    """

    score: NDArray[np.float32]
    confidence: NDArray[np.float32]
    advantage: NDArray[np.float32]
    forward: NDArray[np.bool_]


def decide_task(score: NDArray[np.floating], rule: TaskRule) -> TaskDecision:
    """Return the decision on scores [n], in float32 as in the graph of a cascade file.

    >>> table = AdvantageTable(np.float32([0.5]), np.float32([-0.2, 0.1]), np.array([10, 10]))
    >>> found = decide_task(np.array([0.0, 1.0, np.nan]), TaskRule(Platt(2.0, -1.0), table, 0.0))
    >>> found.forward, found.confidence.round(3)
    (array([ True, False,  True]), array([0.269, 0.731,   nan], dtype=float32))
    """
    score = np.asarray(score, np.float32)
    if isinstance(rule.confidence, Platt):
        slope, intercept = np.float32(rule.confidence.slope), np.float32(rule.confidence.intercept)
        with np.errstate(over="ignore", invalid="ignore"):
            confidence: NDArray[np.float32] = 1 / (1 + np.exp(-(slope * score + intercept)))
    else:
        confidence = rule.confidence(score).astype(np.float32)
    advantage = rule.table(score)
    return TaskDecision(
        score=score,
        confidence=confidence,
        advantage=advantage,
        forward=(advantage < np.float32(rule.threshold)) | np.isnan(score),
    )


@dataclass(frozen=True)
class TaskPlan:
    """Everything that was fitted and chosen for the cascade of a general task. `print` shows a summary.

    Attributes:
        calibration: from the local score to the expected value of the local answer.
        remote: mean value of the remote's answers.
        routing: every estimate of the advantage considered, the chosen one first.
        policy: advantage table, threshold and evidence; its accuracies are mean values.
        certificate: the guarantee, if one was asked for.
        effective_n: number of equally weighted inputs that the weighted ones are worth; None where all count alike.
        warnings: sentences about what looks wrong with the calibration data; the document's advice begins with them.
    """

    calibration: ScoreCalibration
    remote: Estimate
    routing: tuple[Routing, ...]
    policy: Plan
    certificate: Certificate | None
    effective_n: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def score_name(self) -> str:
        """What the score is called."""
        return self.routing[0].score

    @property
    def rule(self) -> TaskRule:
        """The rule that the device computes."""
        return TaskRule(self.calibration.confidence, self.policy.table, self.policy.threshold)

    @property
    def record(self) -> PolicyRecord:
        """The policy as the document of a cascade file holds it."""
        return self.policy.record(self.routing, self.warnings)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-like values, in the sections of `TaskDocument` that a plan decides."""
        return {
            "calibration": score_calibration_dict(self.calibration),
            "remote": {"value": asdict(self.remote)},
            "policy": policy_dict(self.record),
            "operating_curve": [point_dict(point) for point in self.policy.curve],
            "certificate": None if self.certificate is None else certificate_dict(self.certificate),
            **({} if self.policy.groups is None else {"groups": asdict(self.policy.groups)}),
            **({} if self.effective_n is None else {"effective_n": self.effective_n}),
        }

    def __str__(self) -> str:
        return as_text(task_rows(self))

    def _repr_html_(self) -> str:
        return as_html(task_rows(self), curve_picture(self.policy.curve, self.policy.threshold, self.policy.measure))


def plan_task(
    score: NDArray[np.floating] | Mapping[str, NDArray[np.floating]],
    local_value: Correct,
    remote_value: Correct,
    objective: Objective,
    *,
    estimate: str = "auto",
    bins: int | None = None,
    even_without_gain: bool = False,
    weight: ArrayLike | None = None,
    groups: Groups | NDArray[Any] | None = None,
    max_group_loss: float | None = None,
    calibrator: str = "auto",
    seed: int = 0,
    score_name: str = "score",
) -> TaskPlan:
    """Calibrate the score, choose the estimate of the advantage by cross-fitting, and plan.

    Wherever an objective or a plan speaks of accuracy, it is the mean value here. Where all values are 0 or 1, they
    count as right and wrong answers, for which intervals and certificates are exact.

    A `CertifiedLoss` is tested on all inputs where the estimate allows `monotone` and there are neither weights nor a
    largest loss within groups (see `certify_order`). Otherwise the inputs are split at random: one part makes the plan,
    the other only tests the certificate.

    Of several scores, the one with which the objective is served best is chosen by the same cross-fitting, so that the
    choice does not make the estimates too good. A test on all inputs leaves no inputs to choose by: it is about the
    first score.

    Args:
        score: floating [n], finite; the local model's, higher is surer, on any scale. Or several by name, the plainest
            first; those that are the same for all inputs are left out.
        local_value: [n], how good the local answers are, in [0, 1]: floating, or bool for right and wrong.
        remote_value: [n], the same of the remote's answers to the same inputs.
        objective: as in `plan_cascade`; an error of a `LeastCost` is an answer of value 0, and a value of 0.7 costs 0.3
            of it.
        estimate: of the advantage: `auto`, `monotone`, `shrunk` or `labels`, as in `estimate_advantage`.
        bins: of the advantage table, as in `estimate_advantage`.
        even_without_gain: whether to forward although cross-fitting shows no gain; the plan then forwards nothing.
        weight: [n], how much each input counts, numbers above 0 on any scale; None if all count alike.
        groups: [n], the group of each input, for mean values by group; None if there are none.
        max_group_loss: the largest loss against the remote within a group, as in `plan_cascade`.
        calibrator: of the confidence, `auto`, `platt` or `map`, as in `calibrate_score`.
        seed: of every random split.
        score_name: what the score is called, if there is only one.

    Raises:
        CalibrationError: the arrays do not fit together, a score is not finite or every score is the same for all
            inputs, a value is outside [0, 1], or the data cannot support the objective.

    >>> from edgecascade.calibration import MostAccuracy
    >>> rng = np.random.default_rng(0)
    >>> difficulty = rng.random(1000)
    >>> local, remote = rng.beta(6 * (1 - difficulty) + 1, 1), rng.beta(8, 1 + difficulty)
    >>> found = plan_task(-difficulty - rng.normal(0.0, 0.2, 1000), local, remote, MostAccuracy(0.2))
    >>> print(found.policy.chosen.in_words("mean value"))
    offload 20.0% (17.6% to 22.6%), mean value 79.2% (77.5% to 80.7%, allowing for the choice) on n = 1000
    """
    check_seed(seed)
    scores = _scores(score if isinstance(score, Mapping) else {score_name: score})
    n = len(next(iter(scores.values())))
    local_value, remote_value = _values(local_value, remote_value, n)
    weight, groups = normalised(weight, n), _groups(groups, n)
    if isinstance(objective, LeastCost) and not isinstance(objective.error, (int, float)):
        raise CalibrationError("objective: expected one cost of an answer of value 0, got costs by class")
    if estimate == "confidences":
        raise CalibrationError("estimate: expected auto, monotone, shrunk or labels, got confidences")
    in_order = False
    if isinstance(objective, CertifiedLoss):
        n = objective.look(n)[1]
        local_value, remote_value = local_value[:n], remote_value[:n]
        weight = None if weight is None else normalised(weight[:n], n)
        groups = None if groups is None else groups[slice(n)]
        in_order = estimate in ("auto", "monotone") and weight is None and max_group_loss is None
        estimate = "monotone" if in_order else estimate
        scores = {name: one[:n] for name, one in list(scores.items())[: 1 if in_order else None]}
    held = round(n * objective.testing_share) if isinstance(objective, CertifiedLoss) and not in_order else 0
    testing, planning = map(np.sort, np.split(np.random.default_rng(seed).permutation(n), [held]))
    by_score = _outcomes(scores, local_value, remote_value, weight, groups)
    fit = cross_fit(
        lambda name, _: by_score[name][planning],
        objective,
        scores=tuple(scores),
        merges=(_MERGE,),
        estimate=estimate,
        bins=bins,
        seed=seed,
    )
    certificate: Certificate | None = None
    if isinstance(objective, CertifiedLoss) and in_order:
        selected, policy, certificate = certified_in_order(fit, objective)
    else:
        selected = select(fit, objective, max_group_loss)
        if isinstance(objective, CertifiedLoss):
            tested = by_score[fit.candidates[selected.candidate].score][testing]
            policy, certificate = certified(fit, selected, tested, objective, max_group_loss)
        else:
            policy = planned(fit, selected, objective, max_group_loss, even_without_gain=even_without_gain)
    seen, chosen = fit.outcomes[selected.candidate], by_score[fit.candidates[selected.candidate].score]
    remote = seen.mean(seen.remote_correct)
    return TaskPlan(
        calibration=calibrate_score(seen.score, seen.local_correct, seen.weight, calibrator=calibrator, seed=seed),
        remote=Estimate(remote, *accuracy_interval(seen.remote_correct, seen.weight), len(seen)),
        routing=ranking(fit, selected),
        policy=policy,
        certificate=certificate,
        effective_n=None if weight is None else effective_size(weight, n),
        warnings=tuple(_warnings(chosen)),
    )


def _outcomes(
    scores: Mapping[str, NDArray[np.float32]],
    local_value: Correct,
    remote_value: Correct,
    weight: NDArray[np.float64] | None,
    groups: Groups | None,
) -> dict[str, Outcomes]:
    """Return what both models did, by the name of the score."""
    unknown = np.full(len(local_value), np.nan, np.float32)  # no estimate here is from confidences
    difference = _usual_difference(local_value, remote_value)
    return {
        name: Outcomes(
            score=score,
            local_confidence=unknown,
            remote_confidence=unknown,
            local_correct=local_value,
            remote_correct=remote_value,
            merged_correct=remote_value,
            weight=weight,
            groups=groups,
            measure="mean value",
            difference=difference,
        )
        for name, score in scores.items()
    }


def _scores(given: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.float32]]:
    """Return the scores that tell inputs apart, as a graph gives them."""
    found = {}
    arrays = {name: as_array(one, f"score {name}" if len(given) > 1 else "score") for name, one in given.items()}
    sizes = {len(np.atleast_1d(one)) for one in arrays.values()}
    if len(sizes) != 1:
        raise CalibrationError(f"score: expected one or more scores of the same inputs, got {sorted(sizes)} numbers")
    for name, array in arrays.items():
        where = f"score {name}" if len(given) > 1 else "score"
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            raise CalibrationError(f"{where}: expected numbers [n], got {array.dtype} {list(array.shape)}")
        if len(array) < _FEWEST:
            raise CalibrationError(f"{where}: expected at least {_FEWEST} inputs to plan on, got {len(array)}")
        with np.errstate(over="ignore"):
            narrow = array.astype(np.float32)
        if not np.isfinite(narrow).all():
            row = int(np.flatnonzero(~np.isfinite(narrow))[0])
            raise CalibrationError(f"{where}: expected finite numbers in float32, got {array[row]} in row {row}")
        if (narrow != narrow[0]).any():
            found[name] = narrow
    if not found:
        raise CalibrationError(f"score: expected different numbers, got {array[0]} for all {len(array)} inputs")
    return found


def _values(local_value: Correct, remote_value: Correct, n: int) -> tuple[Correct, Correct]:
    """Return values as bool if all are 0 or 1, else as float64."""
    values = [_value(*one, n) for one in (("local_value", local_value), ("remote_value", remote_value))]
    if np.isin(values, (0, 1)).all():
        return values[0].astype(np.bool_), values[1].astype(np.bool_)
    return values[0], values[1]


def _value(name: str, value: ArrayLike, n: int) -> NDArray[np.float64]:
    given = as_array(value, name)
    if given.shape != (n,) or given.dtype.kind not in "biuf":
        raise CalibrationError(
            f"{name}: expected numbers in [0, 1] [{n}], one per score, got {given.dtype} {list(given.shape)}"
        )
    wide = given.astype(np.float64)
    inside = (wide >= -_ROUNDING) & (wide <= 1 + _ROUNDING)
    if not inside.all():
        row = int(np.flatnonzero(~inside)[0])
        raise CalibrationError(f"{name}: expected numbers in [0, 1], got {given[row]} in row {row}")
    return wide.clip(0.0, 1.0)


def _groups(groups: Groups | NDArray[Any] | None, n: int) -> Groups | None:
    found = groups if groups is None or isinstance(groups, Groups) else Groups.of(np.asarray(groups))
    if found is not None and len(found.index) != n:
        raise CalibrationError(f"groups: expected {n}, one per score, got {len(found.index)}")
    return found


def _usual_difference(local_value: Correct, remote_value: Correct) -> float:
    """Return the size of the differences that most of the variance comes from; 1 for right and wrong answers."""
    size = np.abs(local_value.astype(np.float64) - remote_value)
    return float(np.sum(size**3) / np.sum(size**2)) if size.any() else 1.0


def _warnings(outcomes: Outcomes) -> Iterator[str]:
    """Yield sentences about what looks wrong with the data."""
    from scipy.stats import spearmanr

    n, local, remote = len(outcomes), outcomes.local_correct, outcomes.remote_correct
    if outcomes.size < _FEW:
        worth = "" if outcomes.weight is None else f"worth {outcomes.size:.0f} of equal weight "
        yield f"there are only {n} inputs {worth}with values: the intervals are wide, and about 1000 are advised"
    for name, value in (("local model", local), ("remote", remote)):
        if (value == value[0]).all():
            yield (
                f"all answers of the {name} have the value {float(value[0]):g}: check its outputs, --decode and the "
                "verifier"
            )
    if np.array_equal(local, remote):
        yield "both models' answers have the same values: forwarding cannot change anything"
    if (local != local[0]).any():
        rank, chance = spearmanr(outcomes.score, local)
        if rank < 0 and chance < _REVERSED:
            yield (
                "answers of a higher score have lower values: check which output the confidence function reads, and "
                "whether lower is surer there (negate=yes of `output`)"
            )
