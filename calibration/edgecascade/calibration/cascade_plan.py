"""The whole way from two models' outputs and labels to a policy, in the order that keeps every figure honest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.certificate import check_promise
from edgecascade.calibration.decision import DecisionRule
from edgecascade.calibration.labelled_logits import check_labelled_logits
from edgecascade.calibration.objective import LeastOffload, Objective
from edgecascade.calibration.outcomes import Pair
from edgecascade.calibration.plan import Policy, plan, plan_certified
from edgecascade.calibration.record import calibrate_temperature
from edgecascade.calibration.routing import choose_routing
from edgecascade.calibration.scores import SCORES
from edgecascade.types.document import Calibration, Certificate, Routing
from edgecascade.types.errors import CalibrationError
from edgecascade.types.merge import MERGES

__all__ = ["CascadePlan", "Promise", "plan_cascade"]


@dataclass(frozen=True)
class Promise:
    """Least offload with a certificate: a loss of at most `loss`, but for a chance of `risk` that it is more.

    Attributes:
        loss: e, against asking the remote always, in (0, 1).
        risk: d, in (0, 1).
        testing_share: of the inputs, kept for the certificate's tests and for nothing else.
    """

    loss: float
    risk: float = 0.05
    testing_share: float = 2 / 3

    def __post_init__(self) -> None:
        check_promise(self.loss, self.risk)


@dataclass(frozen=True)
class CascadePlan:
    """Everything that was fitted and chosen.

    Attributes:
        local: the local model's calibration.
        remote: the remote's.
        routing: every score and merge rule considered, the chosen one first.
        policy: table, threshold and evidence.
        certificate: the promise, if one was asked for.
    """

    local: Calibration
    remote: Calibration
    routing: tuple[Routing, ...]
    policy: Policy
    certificate: Certificate | None

    @property
    def score(self) -> str:
        """The score chosen."""
        return self.routing[0].score

    @property
    def merge(self) -> str:
        """The merge rule chosen."""
        return self.routing[0].merge

    @property
    def rule(self) -> DecisionRule:
        """What the device computes."""
        return DecisionRule(self.local.temperature, self.policy.table, self.policy.threshold, self.score)


def plan_cascade(
    local_logits: NDArray[np.floating],
    remote_logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    objective: Objective | Promise,
    *,
    scores: Sequence[str] = SCORES,
    merges: Sequence[str] = MERGES,
    estimate: str = "shrunk",
    bins: int | None = None,
    seed: int = 0,
) -> CascadePlan:
    """Fit both temperatures, choose score and merge rule by cross-fitting, then plan.

    For a `Promise` the inputs are split at random: all of the above sees one part, the certificate is tested
    on the other.

    Args:
        local_logits: [n, classes].
        remote_logits: [n, classes], on the same inputs.
        labels: int [n].
        objective: what the plan is to achieve.
        scores: to choose among; one leaves no choice.
        merges: to choose among.
        estimate: of the advantage, as in `plan`.
        bins: of the advantage table, as in `plan`.
        seed: of every random split.

    Raises:
        CalibrationError: the arrays do not fit together, or cannot support what is asked of them.
    """
    if np.shape(local_logits) != np.shape(remote_logits):
        raise CalibrationError(
            f"remote_logits: expected {list(np.shape(local_logits))} as the local model's, "
            f"got {list(np.shape(remote_logits))}"
        )
    check_labelled_logits(local_logits, labels)
    testing = np.zeros(len(labels), bool)
    if isinstance(objective, Promise):
        held = round(len(labels) * objective.testing_share)
        testing[np.random.default_rng(seed).permutation(len(labels))[:held]] = True
    planning = ~testing
    local = calibrate_temperature(local_logits[planning], labels[planning])
    remote = calibrate_temperature(remote_logits[planning], labels[planning])
    pair = Pair(local_logits, local.temperature, remote_logits, remote.temperature, labels)
    aim = LeastOffload(loss=objective.loss) if isinstance(objective, Promise) else objective
    routing = choose_routing(
        lambda score, merge: pair.outcomes(score, merge)[planning], aim, scores=scores, merges=merges, seed=seed
    )
    outcomes = pair.outcomes(routing[0].score, routing[0].merge)
    if not isinstance(objective, Promise):
        policy = plan(outcomes, objective, estimate=estimate, bins=bins)
        return CascadePlan(local, remote, routing, policy, None)
    policy, certificate = plan_certified(
        outcomes[planning], outcomes[testing], loss=objective.loss, risk=objective.risk, estimate=estimate, bins=bins
    )
    return CascadePlan(local, remote, routing, policy, certificate)
