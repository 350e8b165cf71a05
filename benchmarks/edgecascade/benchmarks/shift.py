"""What becomes of a planned policy when the inputs change and nobody tells it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload_curve import offload_curve
from edgecascade.benchmarks.pairs import PairOutputs
from edgecascade.calibration import (
    SCORES,
    AdvantageTable,
    CalibrationError,
    Estimate,
    MostAccuracy,
    Outcomes,
    Pair,
    calibration_error,
    choose_routing,
    plan,
    proportion,
)

__all__ = ["Deployed", "Shifted", "deploy", "measure_shift"]


@dataclass(frozen=True)
class Deployed:
    """A policy as it is on the device: nothing in it changes with the inputs.

    Attributes:
        rate: offload rate planned for.
        score: routing score.
        merge: merge rule.
        table: advantage table.
        threshold: inputs below it are forwarded.
        local_temperature: T of the local model.
        remote_temperature: T of the remote.
    """

    rate: float
    score: str
    merge: str
    table: AdvantageTable
    threshold: float
    local_temperature: float
    remote_temperature: float

    def outcomes(self, outputs: PairOutputs) -> Outcomes:
        """What both models do on other inputs, at the temperatures of this policy."""
        pair = Pair(outputs.local, self.local_temperature, outputs.remote, self.remote_temperature, outputs.labels)
        return pair.outcomes(self.score, self.merge)

    def forward(self, outcomes: Outcomes) -> NDArray[np.bool_]:
        """Which inputs [n] it sends."""
        return self.table(outcomes.score) < np.float32(self.threshold)


@dataclass(frozen=True)
class Shifted:
    """The policy on inputs of one kind; every estimate on those that adapted nothing.

    Attributes:
        corruption: what was done to the images.
        severity: 0 (nothing) to 5.
        local: accuracy of the local model alone.
        remote: accuracy of the remote alone.
        ece: calibration error of the local model, at the deployed temperature.
        offload: share that the deployed threshold forwards.
        cascade: accuracy of that.
        random: expected accuracy of forwarding as many at random.
        budgeted: accuracy when only the lowest-scored inputs are sent, as many as were planned for.
        labelled: inputs of this kind with labels that refit the temperatures and plan anew. Where that is refused,
            as it is of a model that is no better than chance, the new plan is never to ask.
        temperature: T of the local model, refitted.
        refitted_ece: calibration error at that temperature.
        replanned_offload: share that the new plan forwards.
        replanned: accuracy of the new plan, for the same rate.
    """

    corruption: str
    severity: int
    local: Estimate
    remote: Estimate
    ece: Estimate
    offload: Estimate
    cascade: Estimate
    random: float
    budgeted: Estimate
    labelled: int
    temperature: float
    refitted_ece: Estimate
    replanned_offload: Estimate
    replanned: Estimate


def deploy(outputs: PairOutputs, rate: float, *, scores: tuple[str, ...] = SCORES) -> Deployed:
    """Plan on all of these inputs for an offload rate."""
    pair = outputs.fitted(np.arange(len(outputs)))
    objective = MostAccuracy(rate)
    routing = choose_routing(pair.outcomes, objective, scores=scores)[0]
    policy = plan(pair.outcomes(routing.score, routing.merge), objective)
    return Deployed(
        rate,
        routing.score,
        routing.merge,
        policy.table,
        policy.threshold,
        pair.local_temperature,
        pair.remote_temperature,
    )


def measure_shift(
    deployed: Deployed, outputs: PairOutputs, corruption: str, severity: int, *, labelled: int, seed: int = 0
) -> Shifted:
    """The deployed policy on these inputs, beside one planned anew on `labelled` of them; all others test."""
    order = np.random.default_rng(seed).permutation(len(outputs))
    adapt, test = outputs[order[:labelled]], outputs[order[labelled:]]
    seen, n = deployed.outcomes(test), len(test)
    forward = deployed.forward(seen)
    share = float(forward.mean())
    try:
        anew = deploy(adapt, deployed.rate, scores=(deployed.score,))
    except CalibrationError:
        anew = replace(deployed, threshold=-np.inf)
    seen_anew = anew.outcomes(test)
    forward_anew = anew.forward(seen_anew)

    def accuracy(outcomes: Outcomes, sent: NDArray[np.bool_]) -> Estimate:
        return proportion(float(np.where(sent, outcomes.merged_correct, outcomes.local_correct).mean()), n)

    return Shifted(
        corruption=corruption,
        severity=severity,
        local=proportion(float(seen.local_correct.mean()), n),
        remote=proportion(float(seen.remote_correct.mean()), n),
        ece=calibration_error(seen.local_confidence, seen.local_correct),
        offload=proportion(share, n),
        cascade=accuracy(seen, forward),
        random=float((1 - share) * seen.local_correct.mean() + share * seen.merged_correct.mean()),
        budgeted=proportion(offload_curve(seen.score, seen.local_correct, seen.merged_correct).at(deployed.rate), n),
        labelled=labelled,
        temperature=anew.local_temperature,
        refitted_ece=calibration_error(seen_anew.local_confidence, seen_anew.local_correct),
        replanned_offload=proportion(float(forward_anew.mean()), n),
        replanned=accuracy(seen_anew, forward_anew),
    )
