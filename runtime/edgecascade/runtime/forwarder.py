"""Ask a remote without ever waiting past the deadline, whatever it does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from math import ceil
from threading import Condition
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, concatenated
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.failure import Failure
from edgecascade.runtime.remotes.remote import Remote, RemoteLabels, Scores
from edgecascade.types.answer import Prediction, Reason
from edgecascade.types.errors import CircuitOpen, RemoteError, RemoteUnreachable
from edgecascade.types.policy import RemoteCalibration

__all__ = ["Failure", "Forward", "Forwarder", "outcome"]

Forward: TypeAlias = "Future[Prediction]"

_AFTER = 0.003  # seconds that a request outlives its callers: were all to wake at once, they would be late


class Forwarder:
    """Sends inputs to a remote from worker threads, so that the caller can leave at the deadline.

    Inputs that wait while all requests are under way, from however many callers, leave together in one request
    as soon as one is free: micro-batching that delays nothing. A request that outlives its deadline keeps its
    worker until it ends.

    Args:
        remote: whom to ask.
        classes: how many columns its scores must have.
        calibration: how to read them, asked for each time, since it may change.
        in_flight: the most requests under way at once.
        request_inputs: the most inputs in one request, if the remote does not say so itself.
        waiting: the most inputs that wait for a request; beyond it, callers wait for room, by their deadlines.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        classes: int,
        calibration: Callable[[], RemoteCalibration],
        in_flight: int = 4,
        request_inputs: int = 32,
        waiting: int = 1024,
    ) -> None:
        self._remote = remote
        self._classes = classes
        self._calibration = calibration
        self._in_flight, self._most = in_flight, waiting
        self._request_inputs = int(getattr(remote, "request_inputs", request_inputs))
        self._workers = ThreadPoolExecutor(in_flight, thread_name_prefix="edgecascade-forward")
        self._working = 0
        self._waiting: deque[_Waiting] = deque()
        self._changed = Condition()
        self._closed = False

    def submit(
        self, inputs: Sequence[Batch], deadline: Deadline, *, room_by: Deadline | None = None, apart: bool = False
    ) -> list[Forward]:
        """One future for each input; `outcome` reads it.

        Args:
            inputs: what to send, [1, ...] each.
            deadline: until when an answer is of use.
            room_by: how long to wait for room among the waiting; by default until the deadline.
            apart: whether to keep them out of the requests of those who are not, whom a bad one would fail too.
        """
        one_by_one = [_Waiting(one, deadline, apart) for one in inputs]
        with self._changed:
            for one in one_by_one:
                self._enqueue(one, room_by or deadline)
            self._start_workers()
        return [one.future for one in one_by_one]

    def close(self) -> None:
        """Stop asking; requests under way are left to end by themselves."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for one in waiting:
            _fail(one, RemoteUnreachable("cannot ask: the cascade was closed"))
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._remote.close()

    def _enqueue(self, one: _Waiting, room_by: Deadline) -> None:
        if len(self._waiting) >= self._most:
            self._start_workers()
        roomy = self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._most, room_by.remaining())
        if self._closed:
            _fail(one, RemoteUnreachable("cannot ask: the cascade was closed"))
        elif not roomy:
            one.future.cancel()
        else:
            self._waiting.append(one)

    def _start_workers(self) -> None:
        wanted = min(self._in_flight, self._working + ceil(len(self._waiting) / self._request_inputs))
        try:
            while self._working < wanted:
                self._workers.submit(self._work)
                self._working += 1
        except RuntimeError as error:  # no more threads to be had, or the interpreter is going
            while self._waiting and not self._working:
                _fail(self._waiting.popleft(), RemoteUnreachable(f"cannot ask: {error}"))

    def _work(self) -> None:
        while group := self._next_group():
            try:
                scores = self._remote.infer(
                    concatenated([one.inputs for one in group]),
                    Deadline(max(one.deadline.at for one in group) + _AFTER),
                )
                verdicts = self._verdicts(scores, len(group))
            except BaseException as error:  # a remote is foreign code: whatever it raises is its failure, not ours
                for one in group:
                    one.future.set_exception(error)
            else:
                for one, verdict in zip(group, verdicts, strict=True):
                    if verdict is None:
                        one.future.set_exception(RemoteError("remote: expected finite scores, got NaN or infinity"))
                    else:
                        one.future.set_result(verdict)

    def _next_group(self) -> list[_Waiting]:
        """The oldest input that somebody still waits for, and others of its kind; none ends the worker."""
        with self._changed:
            group: list[_Waiting] = []
            others: deque[_Waiting] = deque()
            while self._waiting and len(group) < self._request_inputs:
                one = self._waiting.popleft()
                if group and one.kind != group[0].kind:
                    others.append(one)
                elif one.future.set_running_or_notify_cancel():
                    group.append(one)
            self._waiting.extendleft(reversed(others))
            self._working -= not group
            self._changed.notify_all()
            return group

    def _verdicts(self, scores: Scores, n: int) -> list[Prediction | None]:
        """One for each input; None where its scores are no numbers, which is nothing to the others."""
        calibration = self._calibration()
        if isinstance(scores, RemoteLabels):
            scores, calibration = scores.probabilities(self._classes), calibration._replace(probabilities=True)
        scores = np.asarray(scores)
        if scores.shape != (n, self._classes) or scores.dtype.kind not in "fiu":
            raise RemoteError(
                f"remote: expected numbers [{n}, {self._classes}], got {scores.dtype} {list(scores.shape)}"
            )
        finite = np.isfinite(scores)
        if finite.all():
            return list(_most_likely(calibration(scores)))
        verdicts = _most_likely(calibration(np.where(finite, scores, 0)))
        return [one if good else None for one, good in zip(verdicts, np.asarray(finite.all(axis=1)), strict=True)]


def _most_likely(probabilities: NDArray[np.float32]) -> Iterator[Prediction]:
    for label, row in zip(probabilities.argmax(axis=1).tolist(), probabilities, strict=True):
        yield Prediction(label, float(row[label]), row)


def outcome(forward: Forward, deadline: Deadline) -> Prediction | Failure:
    """What became of a forward by the deadline; one that has not left by then never will."""
    try:
        return forward.result(timeout=deadline.remaining())
    except (FutureTimeoutError, TimeoutError, CancelledError):
        sent = not forward.cancel()
        said = "the remote did not answer in time" if sent else "all requests in flight are still waiting"
        return Failure(Reason.DEADLINE, said, later=True)
    except Exception as error:  # a remote is foreign code, as above
        reason = _reason(error)
        later = reason is not Reason.REMOTE_ERROR or getattr(error, "retry", False) is True
        return Failure(reason, f"{error}" or type(error).__name__, later)


def _reason(error: Exception) -> Reason:
    if isinstance(error, CircuitOpen):
        return Reason.CIRCUIT_OPEN
    return Reason.OFFLINE if isinstance(error, RemoteUnreachable) else Reason.REMOTE_ERROR


class _Waiting:
    __slots__ = ("deadline", "future", "inputs", "kind")

    def __init__(self, inputs: Batch, deadline: Deadline, apart: bool) -> None:
        self.inputs, self.deadline = inputs, deadline
        self.future: Forward = Future()
        arrays: Mapping[str, NDArray[Any]] = inputs if isinstance(inputs, Mapping) else {"": inputs}
        self.kind = (apart, [(name, array.dtype, array.shape) for name, array in arrays.items()])


def _fail(one: _Waiting, error: Exception) -> None:
    if one.future.set_running_or_notify_cancel():
        one.future.set_exception(error)
