"""From calibrated outputs of both models to a policy: which inputs are worth asking about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecascade.calibration.advantage import (
    AdvantageTable,
    advantage_intervals,
    advantage_table,
    shrunk_advantage_table,
)
from edgecascade.calibration.certificate import certify
from edgecascade.calibration.objective import Objective
from edgecascade.calibration.operating_curve import operating_curve
from edgecascade.calibration.outcomes import Outcomes
from edgecascade.calibration.viability import viability
from edgecascade.types.document import Certificate
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import OperatingPoint

__all__ = ["ESTIMATES", "Policy", "advantage_of", "plan", "plan_certified"]

ESTIMATES = ("confidences", "labels", "shrunk")


@dataclass(frozen=True)
class Policy:
    """What the device needs to decide, and the evidence for it.

    Attributes:
        table: the advantage table.
        threshold: inputs whose advantage is below it are forwarded.
        estimate: where the advantage came from: `confidences` (the paper's rule), `labels` or `shrunk`.
        objective: what was asked for, in words.
        chosen: the operating point of `threshold` on the calibration data.
        curve: every operating point that the table can reach, by rising offload rate.
        intervals: for each bin of the table, the 95 % interval of local minus merged accuracy, from labels.
        verdict: whether this pair is worth a cascade, in sentences.
    """

    table: AdvantageTable
    threshold: float
    estimate: str
    objective: str
    chosen: OperatingPoint
    curve: tuple[OperatingPoint, ...]
    intervals: tuple[tuple[float, float], ...]
    verdict: tuple[str, ...]


def plan(outcomes: Outcomes, objective: Objective, *, estimate: str = "shrunk", bins: int | None = None) -> Policy:
    """The policy that serves the objective on these inputs.

    Args:
        outcomes: of at least ten inputs per bin.
        objective: `MostAccuracy`, `LeastOffload`, `LeastCost` or `WhileItHelps`.
        estimate: of the advantage: `confidences`, from calibrated confidences alone as in the paper; `labels`, from
            correctness; `shrunk`, from correctness in small bins that borrow from their neighbours.
        bins: of the advantage table; by default the paper's 15, or for `shrunk` one per twenty inputs, up to 50.

    Raises:
        CalibrationError: too few inputs, or no point that serves the objective.
    """
    table = advantage_of(outcomes, estimate, bins)
    advantage = table(outcomes.score)
    curve = operating_curve(advantage, outcomes.local_correct, outcomes.merged_correct)
    chosen = objective.choose(curve, float(outcomes.remote_correct.mean()))
    return _policy(outcomes, table, curve, chosen, estimate, str(objective))


def plan_certified(
    planning: Outcomes,
    testing: Outcomes,
    *,
    loss: float,
    risk: float,
    estimate: str = "shrunk",
    bins: int | None = None,
) -> tuple[Policy, Certificate]:
    """The policy of least offload whose loss against asking the remote always is certified.

    Args:
        planning: inputs that the table and the order of the thresholds come from.
        testing: other inputs, which nothing was fitted or chosen on.
        loss: e, the largest loss, in (0, 1).
        risk: d, the probability that the promise is false, in (0, 1).
        estimate: as in `plan`.
        bins: as in `plan`.

    Raises:
        CalibrationError: too few inputs for this promise; the message says how many would do.
    """
    table = advantage_of(planning, estimate, bins)
    curve = operating_curve(table(planning.score), planning.local_correct, planning.merged_correct)
    certificate = certify(
        table(testing.score),
        testing.local_correct,
        testing.merged_correct,
        testing.remote_correct,
        np.array([point.threshold for point in curve]),
        loss=loss,
        risk=risk,
    )
    chosen = next(point for point in curve if point.threshold == certificate.threshold)
    return _policy(planning, table, curve, chosen, estimate, f"least offload, {certificate}"), certificate


def advantage_of(outcomes: Outcomes, estimate: str = "shrunk", bins: int | None = None) -> AdvantageTable:
    """The advantage table of one of the three estimates; arguments as `plan`."""
    few = 15 if bins is None else bins
    many = max(1, min(50, len(outcomes.score) // 20)) if bins is None else bins
    if estimate == "confidences":
        return advantage_table(outcomes.score, outcomes.local_confidence, outcomes.remote_confidence, few)
    if estimate == "labels":
        return advantage_table(outcomes.score, outcomes.local_correct, outcomes.merged_correct, few)
    if estimate == "shrunk":
        return shrunk_advantage_table(outcomes.score, outcomes.local_correct, outcomes.merged_correct, many)
    raise CalibrationError(f"estimate: expected one of {', '.join(ESTIMATES)}, got {estimate!r}")


def _policy(
    outcomes: Outcomes,
    table: AdvantageTable,
    curve: tuple[OperatingPoint, ...],
    chosen: OperatingPoint,
    estimate: str,
    objective: str,
) -> Policy:
    advantage, kept, forwarded = table(outcomes.score), outcomes.local_correct, outcomes.merged_correct
    return Policy(
        table=table,
        threshold=chosen.threshold,
        estimate=estimate,
        objective=objective,
        chosen=chosen,
        curve=curve,
        intervals=advantage_intervals(table, outcomes.score, kept, forwarded),
        verdict=viability(advantage, kept, forwarded, curve, chosen),
    )
