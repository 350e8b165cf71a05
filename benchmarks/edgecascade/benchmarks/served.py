"""The cascade as an application runs it: one input after the other, the remote where it really is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.kept_scores import RemoteLike
from edgecascade.benchmarks.progress import progress
from edgecascade.calibration.estimate import Estimate, mean, quantile
from edgecascade.export.labelled import LabelledData, each, first
from edgecascade.runtime import Answer, Cascade
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.connect import connect
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remote import Scores
from edgecascade.runtime.remotes.wrapped import Wrapped

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
        requests: requests sent, or None where the remote counts none, such as one in this process.
        sent: bytes sent over the wire with them, headers included.
        received: bytes that came back.
        latency: of all answers, and of those kept and forwarded; without the warm-up.
        sent_each: bytes sent for one forwarded input, or None where nobody counts, or nothing was forwarded.
        received_each: bytes that came back for one.
        disagreed: forwarded inputs on which the remote gave another label than when it was asked about all of them.
    """

    reasons: dict[str, int]
    deadline: float
    requests: int | None
    sent: int | None
    received: int | None
    latency: dict[str, Latency]
    sent_each: Estimate | None = None
    received_each: Estimate | None = None
    disagreed: int = 0


def run_served(
    path: str | os.PathLike[str],
    data: LabelledData,
    *,
    remote: RemoteLike,
    deadline: float,
    expected: NDArray[np.integer] | None = None,
) -> tuple[Served, NDArray[np.bool_]]:
    """Answer every input in turn through `Cascade.predict`; also whether each answer was right.

    Args:
        path: a cascade model.
        data: labelled inputs.
        remote: an address, an ONNX file, a function, or a `Remote`, which is left open.
        deadline: seconds each call is given.
        expected: int [n], the remote's label for each input when it was asked before.
    """
    connection = connect(remote)
    assert connection is not None
    given = _LeftOpen(connection) if connection is remote else connection
    with (
        Cascade.load(path, remote=given, deadline=60.0, threshold=2.0) as eager,
        Cascade.load(path, remote=given, deadline=deadline) as cascade,
    ):
        for x in each(first(data.inputs, _WARM_UP)):  # forwards everything: opens the connection, wakes both models
            eager.predict(x)
        answers, totals = [], [_traffic(connection)]
        for x in progress(each(data.inputs), "served run", len(data.labels)):
            answers.append(cascade.predict(x))
            totals.append(_traffic(connection))
        reasons = {reason.value: count for reason, count in cascade.counts().reasons.items()}
    before, after = totals[0], totals[-1]
    requests, sent, received = (None,) * 3 if before is None or after is None else np.subtract(after, before).tolist()
    each_sent, each_received = _each(totals, answers)
    served = Served(
        reasons=reasons,
        deadline=deadline,
        requests=requests,
        sent=sent,
        received=received,
        latency={
            "all": _latency(answers),
            "kept": _latency(a for a in answers if not a.forwarded),
            "forwarded": _latency(a for a in answers if a.forwarded),
        },
        sent_each=each_sent,
        received_each=each_received,
        disagreed=0 if expected is None else _disagreed(answers, expected),
    )
    return served, np.array([a.label for a in answers]) == data.labels


class _LeftOpen(Wrapped):
    """A remote that somebody else will close."""

    def infer(self, inputs: Batch, deadline: Deadline) -> Scores:
        """As the remote inside."""
        return self._remote.infer(inputs, deadline)

    def close(self) -> None:
        """Leave it open."""


def _traffic(connection: Any) -> tuple[int, int, int] | None:
    """Requests, bytes sent and bytes received so far, or None where nobody counts them."""
    traffic = getattr(connection, "traffic", None)
    return None if traffic is None else (traffic.requests, traffic.sent, traffic.received)


def _each(totals: list[Any], answers: list[Answer]) -> tuple[Estimate, Estimate] | tuple[None, None]:
    """Bytes sent and received for one forwarded input; what came for a late one counts with the next."""
    forwarded = np.array([answer.forwarded for answer in answers])
    if totals[0] is None or not forwarded.any():
        return None, None
    _, sent, received = np.diff(np.array(totals), axis=0)[forwarded].T
    return mean(sent), mean(received)


def _disagreed(answers: list[Answer], expected: NDArray[np.integer]) -> int:
    return sum(a.remote is not None and a.remote.label != label for a, label in zip(answers, expected, strict=True))


def _latency(answers: Iterable[Answer]) -> Latency:
    seconds: NDArray[Any] = np.array([answer.elapsed for answer in answers])
    if len(seconds) == 0:
        nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
        return Latency(0, nothing, nothing, nothing)
    return Latency(len(seconds), *(quantile(seconds, q) for q in (0.5, 0.9, 0.99)))
