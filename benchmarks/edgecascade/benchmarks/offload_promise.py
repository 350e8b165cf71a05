"""What a file says of itself, and what happened on inputs that it has never seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.difference import difference
from edgecascade.benchmarks.verdicts import Verdicts
from edgecascade.calibration import paired_difference_interval, proportion
from edgecascade.types.estimate import Estimate

__all__ = ["Planned", "Promised", "compare_promise"]


@dataclass(frozen=True)
class Planned:
    """One figure of the plan.

    Attributes:
        name: `offload rate` or `accuracy`.
        plan: on the calibration inputs; the interval of an accuracy allows for the choice of the threshold.
        here: of the same decisions on these inputs, without a network between.
        change: here less plan; two sets of inputs, so both are uncertain.
    """

    name: str
    plan: Estimate
    here: Estimate
    change: Estimate


@dataclass(frozen=True)
class Promised:
    """The certificate and the plan.

    Attributes:
        loss: the largest loss that is promised, or None without a certificate.
        risk: of the promise being false.
        certified_on: inputs that it rests on.
        measured: accuracy of the remote less that of the file's decisions on these inputs, nothing late or lost.
        served: the same of the answers as served.
        outcome: `kept`, `broken`, `cannot tell`, or `none` without a certificate.
        plan: offload rate and accuracy; empty if the file does not say.
    """

    loss: float | None
    risk: float | None
    certified_on: int | None
    measured: Estimate
    served: Estimate
    outcome: str
    plan: tuple[Planned, ...]


def compare_promise(document: Mapping[str, Any], v: Verdicts, correct: NDArray[np.bool_]) -> Promised:
    """The file's document beside what happened.

    Args:
        document: of the cascade model.
        v: what both models say about these inputs.
        correct: bool [n], whether the served answers were right.
    """
    decided = np.where(v.forward, v.merged_correct, v.local_correct)
    certificate = document.get("certificate") or {}
    measured = _loss(v.remote_correct, decided)
    loss = certificate.get("loss")
    return Promised(
        loss=loss,
        risk=certificate.get("risk"),
        certified_on=certificate.get("n"),
        measured=measured,
        served=_loss(v.remote_correct, correct),
        outcome=_outcome(loss, measured),
        plan=tuple(_plan(document, v.forward, decided)),
    )


def _loss(remote: NDArray[np.bool_], answers: NDArray[np.bool_]) -> Estimate:
    low, high = paired_difference_interval(remote, answers)
    value = float(remote.mean() - answers.mean())
    return Estimate(value, min(low, value), max(high, value), len(remote))


def _outcome(loss: float | None, measured: Estimate) -> str:
    if loss is None:
        return "none"
    if measured.high <= loss:
        return "kept"
    return "broken" if measured.low > loss else "cannot tell"


def _plan(document: Mapping[str, Any], forward: NDArray[np.bool_], decided: NDArray[np.bool_]) -> list[Planned]:
    chosen, n = document["policy"].get("chosen"), len(forward)
    if not chosen:
        return []
    of = int(chosen["n"])
    figures = (
        ("offload rate", chosen["offload_rate"], chosen["offload_interval"], forward),
        ("accuracy", chosen["accuracy"], chosen["accuracy_band"], decided),
    )
    found = []
    for name, value, (low, high), here in figures:
        plan = Estimate(value, low, high, of)
        now = proportion(float(here.mean()), n)
        found.append(Planned(name, plan, now, difference(plan, now)))
    return found
