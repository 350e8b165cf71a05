"""The cascade as an application runs it: one input after the other, the remote where it really is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.progress import progress
from edgecascade.calibration.estimate import Estimate, quantile
from edgecascade.export.labelled import LabelledData, each, first
from edgecascade.runtime import Answer, Cascade
from edgecascade.runtime.connect import connect

__all__ = ["Latency", "Served", "run_served"]

_WARM_UP = 20


@dataclass(frozen=True)
class Latency:
    """Seconds from the call to the answer, over n answers."""

    n: int
    p50: Estimate
    p90: Estimate
    p99: Estimate


@dataclass(frozen=True)
class Served:
    """What happened.

    Attributes:
        reasons: answers by reason; their sum is every input.
        deadline: seconds each call was given.
        requests: requests sent, or None where the remote is in this process.
        sent: bytes sent over the wire with them, headers included.
        received: bytes that came back.
        latency: of all answers, and of those kept and forwarded; without the warm-up.
    """

    reasons: dict[str, int]
    deadline: float
    requests: int | None
    sent: int | None
    received: int | None
    latency: dict[str, Latency]


def run_served(
    path: str | os.PathLike[str], data: LabelledData, *, remote: str, deadline: float
) -> tuple[Served, NDArray[np.bool_]]:
    """Answer every input in turn through `Cascade.predict`; also whether each answer was right."""
    connection = connect(remote)
    assert connection is not None
    with (
        Cascade.load(path, remote=connection, deadline=60.0, threshold=2.0) as eager,
        Cascade.load(path, remote=connection, deadline=deadline) as cascade,
    ):
        for x in each(first(data.inputs, _WARM_UP)):  # forwards everything: opens the connection, wakes both models
            eager.predict(x)
        before = getattr(connection, "traffic", None)
        answers = [cascade.predict(x) for x in progress(each(data.inputs), "served run", len(data.labels))]
        after = getattr(connection, "traffic", None)
        reasons = {reason.value: count for reason, count in cascade.counts().reasons.items()}
    served = Served(
        reasons=reasons,
        deadline=deadline,
        requests=after.requests - before.requests if after and before else None,
        sent=after.sent - before.sent if after and before else None,
        received=after.received - before.received if after and before else None,
        latency={
            "all": _latency(answers),
            "kept": _latency(a for a in answers if not a.forwarded),
            "forwarded": _latency(a for a in answers if a.forwarded),
        },
    )
    return served, np.array([a.label for a in answers]) == data.labels


def _latency(answers: Iterable[Answer]) -> Latency:
    seconds: NDArray[Any] = np.array([answer.elapsed for answer in answers])
    if len(seconds) == 0:
        nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
        return Latency(0, nothing, nothing, nothing)
    return Latency(len(seconds), *(quantile(seconds, q) for q in (0.5, 0.9, 0.99)))
