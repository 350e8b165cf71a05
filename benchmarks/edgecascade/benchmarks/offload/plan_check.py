"""The plan and the certificate in a file, against what happened on inputs that it has never seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.report.estimates import difference
from edgecascade.benchmarks.report.result import LOWER
from edgecascade.calibration import accuracy_interval, paired_difference_interval
from edgecascade.calibration.advantage import Correct
from edgecascade.types.document import CascadeDocument, ChatDocument, TaskDocument
from edgecascade.types.estimate import Estimate

__all__ = ["PlanCheck", "Planned", "check_plan"]


@dataclass(frozen=True)
class Planned:
    """One figure of the plan.

    Attributes:
        name: `offload rate`, and `accuracy` or `mean value`.
        plan: The estimate from the calibration inputs; the interval of an accuracy allows for the choice of the
            threshold.
        here: The same decisions on these inputs, without a network.
        change: Here minus plan, with the uncertainty of both sets of inputs.
    """

    name: str
    plan: Estimate
    here: Estimate
    change: Estimate


@dataclass(frozen=True)
class PlanCheck:
    """The certificate and the plan, checked.

    Attributes:
        loss: The largest certified loss; None without a certificate.
        risk: The probability that the certificate is false.
        certified_on: The number of inputs behind it.
        measured: The accuracy of the remote minus that of the file's decisions on these inputs, nothing late or lost.
        served: The same for the answers as served.
        outcome: Whether these inputs agree with the certificate: `held` if the whole interval is within the loss,
            `violated` if it is beyond, `inconclusive`, or `none` without a certificate.
        plan: Offload rate and accuracy.
    """

    loss: float | None
    risk: float | None
    certified_on: int | None
    measured: Estimate = field(metadata=LOWER)
    served: Estimate = field(metadata=LOWER)
    outcome: Literal["held", "violated", "inconclusive", "none"]
    plan: tuple[Planned, ...]


def check_plan(
    document: CascadeDocument | TaskDocument | ChatDocument,
    forward: NDArray[np.bool_],
    remote: Correct,
    decided: Correct,
    served: Correct,
) -> PlanCheck:
    """Compare the document of a cascade model with what happened.

    Args:
        document: The document in the file.
        forward: bool [n], the decisions of the file.
        remote: bool [n], whether the remote is right; or the values of its answers in [0, 1].
        decided: The same for the answers by the file's decisions, nothing late or lost.
        served: The same for the answers as served.
    """
    certificate = document.certificate
    measured = _loss(remote, decided)
    loss = None if certificate is None else certificate.loss
    return PlanCheck(
        loss=loss,
        risk=None if certificate is None else certificate.risk,
        certified_on=None if certificate is None else certificate.n,
        measured=measured,
        served=_loss(remote, served),
        outcome=_outcome(loss, measured),
        plan=tuple(_plan(document, forward, decided)),
    )


def _loss(remote: Correct, answers: Correct) -> Estimate:
    low, high = paired_difference_interval(remote, answers)
    value = float(remote.mean() - answers.mean())
    return Estimate(value, min(low, value), max(high, value), len(remote))


def _outcome(loss: float | None, measured: Estimate) -> Literal["held", "violated", "inconclusive", "none"]:
    if loss is None:
        return "none"
    if measured.high <= loss:
        return "held"
    return "violated" if measured.low > loss else "inconclusive"


def _plan(
    document: CascadeDocument | TaskDocument | ChatDocument, forward: NDArray[np.bool_], decided: Correct
) -> list[Planned]:
    chosen, n = document.policy.chosen, len(forward)
    measure = "accuracy" if isinstance(document, CascadeDocument) else "mean value"
    figures = (
        ("offload rate", chosen.offload_rate, chosen.offload_interval, forward),
        (measure, chosen.accuracy, chosen.accuracy_band, decided),
    )
    found = []
    for name, value, (low, high), here in figures:
        plan = Estimate(value, low, high, chosen.n)
        now = Estimate(float(here.mean()), *accuracy_interval(here), n)
        found.append(Planned(name, plan, now, difference(plan, now)))
    return found
