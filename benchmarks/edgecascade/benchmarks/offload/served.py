"""The cascade as an application runs it: one input after another, with the remote where it really is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import sha256_of
from edgecascade.benchmarks.offload.remote_scores import RemoteLike
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.report.result import LOWER
from edgecascade.benchmarks.stored import CHUNK, StoredRows, chunk_of, hash_of
from edgecascade.calibration import mean, quantile
from edgecascade.export.data import Inputs, LabelledData, count, each, first
from edgecascade.runtime import Answer, Cascade, Reason
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.remote import Replied, Wrapped, connect
from edgecascade.types.estimate import Estimate

__all__ = ["ROW", "UNKNOWN", "Latency", "LeftOpen", "Served", "answered", "run_served", "served_of", "stored_answers"]

_WARM_UP = 20
_FAILED = (Reason.DEADLINE, Reason.OFFLINE, Reason.CIRCUIT_OPEN, Reason.REMOTE_ERROR)
_REPLIED = (Reason.OFFLOADED, Reason.NOT_A_NUMBER)
UNKNOWN = -1  # in `remote`: it gave no label; in the traffic: the remote does not count it
ROW = np.dtype(
    [
        ("label", np.int64),
        ("reason", "U32"),
        ("forwarded", np.bool_),
        ("remote", np.int64),  # the remote's own label
        ("elapsed", np.float64),  # seconds
        ("requests", np.int64),  # since the previous answer, as the next two
        ("sent", np.int64),  # bytes
        ("received", np.int64),  # bytes
        ("process", np.int64),  # which of the processes answered, from 1
        ("detail", "U200"),  # why the remote failed; may be cut
    ]
)


@dataclass(frozen=True)
class Latency:
    """Seconds from the call to the answer, over n answers."""

    n: int
    p50: Estimate
    p90: Estimate
    p99: Estimate


@dataclass(frozen=True)
class Served:
    """The served run.

    Attributes:
        reasons: Answers by reason; they add up to all inputs.
        deadline: Seconds that each call was given.
        requests: Requests sent; None where the remote counts none, such as one in this process.
        sent: Bytes sent over the wire with them, headers included.
        received: Bytes received.
        latency: Latency of "all", "local" and "forwarded" answers, as far as there are any, without the warm-up.
        sent_each: Bytes sent for one forwarded input; None where they are not counted or nothing was forwarded.
        received_each: Bytes received for one.
        disagreed: Forwarded inputs for which the remote gave another label than when it was asked about all of them.
        processes: Processes that answered, one after another: more than one if the run was interrupted.
        failure: Why the remote failed, the last time that it did and said why; otherwise empty.
    """

    reasons: dict[str, int]
    deadline: float
    requests: int | None
    sent: int | None
    received: int | None
    latency: dict[str, Latency] = field(metadata=LOWER)
    sent_each: Estimate | None = field(default=None, metadata=LOWER)
    received_each: Estimate | None = field(default=None, metadata=LOWER)
    disagreed: int = 0
    processes: int = 1
    failure: str = ""

    @property
    def failed(self) -> int:
        """The number of inputs for which the remote was asked and failed."""
        return sum(self.reasons.get(reason.value, 0) for reason in _FAILED)

    @property
    def silent(self) -> bool:
        """Whether the remote was asked and never replied in time."""
        return self.failed > 0 and not any(self.reasons.get(reason.value, 0) for reason in _REPLIED)


def stored_answers(
    root: Path,
    cascade: str | os.PathLike[str],
    data: LabelledData,
    remote: str,
    deadline: float,
    *,
    output: str | None = None,
) -> StoredRows:
    """Return the stored answers of a served run, found by a hash of all that answers and latencies depend on.

    Args:
        root: The folder of all stored answers.
        cascade: A cascade model, known by its bytes.
        data: Labelled inputs.
        remote: An address; an ONNX file, known by its bytes too; or another name for the remote.
        deadline: Seconds that each call is given.
        output: The remote's output with the scores, if it is named.
    """
    about = {
        "recipe": [3, CHUNK],
        "cascade": sha256_of(Path(cascade)),
        "data": [data.digest, len(data.labels)],
        "remote": [remote, sha256_of(Path(remote)) if Path(remote).is_file() else None],
        "deadline": float(deadline),
        **({} if output is None else {"output": output}),
    }
    return StoredRows(root / hash_of(about), len(data.labels), (), ROW)


def run_served(
    path: str | os.PathLike[str],
    data: LabelledData,
    *,
    remote: RemoteLike,
    deadline: float,
    expected: NDArray[np.integer] | None = None,
    stored: StoredRows | None = None,
) -> tuple[Served, NDArray[np.bool_]]:
    """Answer every input in turn through `Cascade.predict`; return also whether each answer was right, bool [n].

    Args:
        path: A cascade model.
        data: Labelled inputs.
        remote: An address, an ONNX file, a function, or a `Remote`, which is left open.
        deadline: Seconds that each call is given.
        expected: int [n], the remote's label for each input when it was asked before.
        stored: Where answers are stored as they come; stored inputs are not asked again.

    Raises:
        BenchmarkError: A stored file is damaged.
    """
    if stored is None:
        every = range(0, len(data.labels), CHUNK)
        chunks = answered(path, data.inputs, every, remote=remote, deadline=deadline)
        rows = np.concatenate([found for _, found in chunks])
    else:
        process = int(stored.rows()["process"].max(initial=0)) + 1
        for start, found in answered(
            path, data.inputs, stored.missing, remote=remote, deadline=deadline, process=process
        ):
            stored.put(start, found)
        rows = stored.rows()
    return served_of(rows, deadline, expected), rows["label"] == data.labels


def answered(
    path: str | os.PathLike[str],
    inputs: Inputs,
    starts: Sequence[int],
    *,
    remote: RemoteLike,
    deadline: float,
    process: int = 1,
    options: Mapping[str, Any] | None = None,
    seen: Callable[[Answer], object] | None = None,
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the chunks that begin with these inputs, each when it is answered, as `ROW` [chunk].

    Args:
        path: A cascade file.
        inputs: All inputs.
        starts: The first input of each chunk.
        remote: An address, an ONNX file, a function, or a `Remote`, which is left open.
        deadline: Seconds that each call is given.
        process: Which of the processes answers, from 1.
        options: Further arguments of `Cascade.load`.
        seen: Called with each answer, if given.
    """
    if not starts:
        return
    connection = connect(remote)
    assert connection is not None
    given, further = LeftOpen(connection) if connection is remote else connection, options or {}
    with (
        Cascade.load(path, remote=given, deadline=60.0, threshold=2.0, **further) as eager,
        Cascade.load(path, remote=given, deadline=deadline, **further) as cascade,
    ):
        for x in each(first(inputs, _WARM_UP)):  # forwards everything: opens the connection, warms both models up
            eager.predict(x)
        after = _traffic(connection)
        with counting("served run", sum(min(CHUNK, count(inputs) - start) for start in starts)) as done:
            for start in starts:
                rows = []
                for x in each(chunk_of(inputs, start)):
                    answer = cascade.predict(x)
                    before, after = after, _traffic(connection)  # traffic between two chunks counts with the next
                    rows.append(_row(answer, before, after, process))
                    if seen is not None:
                        seen(answer)
                    done(1)
                yield start, np.array(rows, ROW)


class LeftOpen(Wrapped):
    """A remote that its owner will close."""

    def infer(self, inputs: Batch, deadline: Deadline) -> Replied:
        """Ask the remote inside."""
        return self._remote.infer(inputs, deadline)

    def close(self) -> None:
        """Leave it open."""


_Traffic = tuple[int, int, int] | None


def _traffic(connection: Any) -> _Traffic:
    """Return requests, bytes sent and bytes received so far, or None where the remote does not count them."""
    traffic = getattr(connection, "traffic", None)
    return None if traffic is None else (traffic.requests, traffic.sent, traffic.received)


def _row(answer: Answer, before: _Traffic, after: _Traffic, process: int) -> tuple[Any, ...]:
    label = UNKNOWN if answer.remote is None else answer.remote.label
    traffic = (UNKNOWN,) * 3 if before is None or after is None else np.subtract(after, before).tolist()
    return answer.label, answer.reason.value, answer.forwarded, label, answer.elapsed, *traffic, process, answer.detail


def served_of(rows: NDArray[Any], deadline: float, expected: NDArray[np.integer] | None = None) -> Served:
    """Return a summary of a served run.

    Args:
        rows: `ROW` [n].
        deadline: Seconds that each call was given.
        expected: int [n], the remote's label for each input when it was asked before.
    """
    forwarded, elapsed = rows["forwarded"], rows["elapsed"]
    columns = [rows[name] for name in ("requests", "sent", "received")]
    counted = not any((column == UNKNOWN).any() for column in columns)
    requests, sent, received = (int(column.sum()) if counted else None for column in columns)
    # The traffic of a late answer counts with the next input.
    each_sent, each_received = (mean(c[forwarded]) if counted and forwarded.any() else None for c in columns[1:])
    groups = {"all": elapsed, "local": elapsed[~forwarded], "forwarded": elapsed[forwarded]}
    replied = rows["remote"] != UNKNOWN
    details = rows["detail"][rows["detail"] != ""]
    return Served(
        reasons={reason.value: int((rows["reason"] == reason.value).sum()) for reason in Reason},
        deadline=deadline,
        requests=requests,
        sent=sent,
        received=received,
        latency={name: _latency(seconds) for name, seconds in groups.items() if len(seconds)},
        sent_each=each_sent,
        received_each=each_received,
        disagreed=0 if expected is None else int((replied & (rows["remote"] != expected)).sum()),
        processes=len(np.unique(rows["process"])),
        failure=str(details[-1]) if len(details) else "",
    )


def _latency(seconds: NDArray[np.float64]) -> Latency:
    return Latency(len(seconds), *(quantile(seconds, q) for q in (0.5, 0.9, 0.99)))
