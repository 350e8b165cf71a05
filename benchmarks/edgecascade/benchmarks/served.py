"""The cascade as an application runs it: one input after the other, the remote where it really is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.kept_answers import NOBODY, ROW, KeptAnswers
from edgecascade.benchmarks.kept_chunks import CHUNK, chunk_of
from edgecascade.benchmarks.kept_scores import RemoteLike
from edgecascade.benchmarks.progress import counting
from edgecascade.calibration import mean, quantile
from edgecascade.export.labelled import LabelledData, each, first
from edgecascade.runtime import Answer, Cascade, Reason
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.remote import Scores, Wrapped, connect
from edgecascade.types.estimate import Estimate

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
        sittings: processes that answered, one after the other: more than one if the run was interrupted.
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
    sittings: int = 1


def run_served(
    path: str | os.PathLike[str],
    data: LabelledData,
    *,
    remote: RemoteLike,
    deadline: float,
    expected: NDArray[np.integer] | None = None,
    kept: KeptAnswers | None = None,
) -> tuple[Served, NDArray[np.bool_]]:
    """Answer every input in turn through `Cascade.predict`; also whether each answer was right.

    Args:
        path: a cascade model.
        data: labelled inputs.
        remote: an address, an ONNX file, a function, or a `Remote`, which is left open.
        deadline: seconds each call is given.
        expected: int [n], the remote's label for each input when it was asked before.
        kept: where answers are kept as they come; those that are there are not asked for again.

    Raises:
        BenchmarkError: what is kept is damaged.
    """
    if kept is None:
        every = range(0, len(data.labels), CHUNK)
        chunks = _answered(path, data, every, remote=remote, deadline=deadline, sitting=1)
        rows = np.concatenate([found for _, found in chunks])
    else:
        sitting = kept.sittings + 1
        for start, found in _answered(path, data, kept.missing, remote=remote, deadline=deadline, sitting=sitting):
            kept.keep(start, found)
        rows = kept.rows()
    return _served(rows, deadline, expected), rows["label"] == data.labels


def _answered(
    path: str | os.PathLike[str],
    data: LabelledData,
    starts: Sequence[int],
    *,
    remote: RemoteLike,
    deadline: float,
    sitting: int,
) -> Iterator[tuple[int, NDArray[Any]]]:
    """The chunks that begin with these inputs, each when it is answered, as `ROW` [chunk]."""
    if not starts:
        return
    connection = connect(remote)
    assert connection is not None
    given = _LeftOpen(connection) if connection is remote else connection
    with (
        Cascade.load(path, remote=given, deadline=60.0, threshold=2.0) as eager,
        Cascade.load(path, remote=given, deadline=deadline) as cascade,
    ):
        for x in each(first(data.inputs, _WARM_UP)):  # forwards everything: opens the connection, wakes both models
            eager.predict(x)
        after = _traffic(connection)
        with counting("served run", sum(min(CHUNK, len(data.labels) - start) for start in starts)) as done:
            for start in starts:
                rows = []
                for x in each(chunk_of(data.inputs, start)):
                    answer = cascade.predict(x)
                    before, after = after, _traffic(connection)  # what came between two chunks counts with the next
                    rows.append(_row(answer, before, after, sitting))
                    done(1)
                yield start, np.array(rows, ROW)


class _LeftOpen(Wrapped):
    """A remote that somebody else will close."""

    def infer(self, inputs: Batch, deadline: Deadline) -> Scores:
        """As the remote inside."""
        return self._remote.infer(inputs, deadline)

    def close(self) -> None:
        """Leave it open."""


_Traffic = tuple[int, int, int] | None


def _traffic(connection: Any) -> _Traffic:
    """Requests, bytes sent and bytes received so far, or None where nobody counts them."""
    traffic = getattr(connection, "traffic", None)
    return None if traffic is None else (traffic.requests, traffic.sent, traffic.received)


def _row(answer: Answer, before: _Traffic, after: _Traffic, sitting: int) -> tuple[Any, ...]:
    label = NOBODY if answer.remote is None else answer.remote.label
    traffic = (NOBODY,) * 3 if before is None or after is None else np.subtract(after, before).tolist()
    return answer.label, answer.reason.value, answer.forwarded, label, answer.elapsed, *traffic, sitting


def _served(rows: NDArray[Any], deadline: float, expected: NDArray[np.integer] | None) -> Served:
    forwarded = rows["forwarded"]
    columns = [rows[name] for name in ("requests", "sent", "received")]
    counted = not any((column == NOBODY).any() for column in columns)
    requests, sent, received = (int(column.sum()) if counted else None for column in columns)
    # What came for a late answer counts with the next.
    each_sent, each_received = (mean(c[forwarded]) if counted and forwarded.any() else None for c in columns[1:])
    replied = rows["remote"] != NOBODY
    return Served(
        reasons={reason.value: int((rows["reason"] == reason.value).sum()) for reason in Reason},
        deadline=deadline,
        requests=requests,
        sent=sent,
        received=received,
        latency={
            "all": _latency(rows["elapsed"]),
            "kept": _latency(rows["elapsed"][~forwarded]),
            "forwarded": _latency(rows["elapsed"][forwarded]),
        },
        sent_each=each_sent,
        received_each=each_received,
        disagreed=0 if expected is None else int((replied & (rows["remote"] != expected)).sum()),
        sittings=len(np.unique(rows["sitting"])),
    )


def _latency(seconds: NDArray[np.float64]) -> Latency:
    if len(seconds) == 0:
        nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
        return Latency(0, nothing, nothing, nothing)
    return Latency(len(seconds), *(quantile(seconds, q) for q in (0.5, 0.9, 0.99)))
