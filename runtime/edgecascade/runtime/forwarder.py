"""Ask a remote without ever waiting past the deadline, whatever it does."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import BoundedSemaphore

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.answer import Reason, Verdict
from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.errors import RemoteError, RemoteUnreachable
from edgecascade.runtime.remote import Remote
from edgecascade.runtime.remote_calibration import RemoteCalibration

__all__ = ["Failure", "Forwarder"]


class Failure:
    """Why there is no verdict: a reason and one sentence."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail


class Forwarder:
    """Sends inputs to a remote from worker threads, so that the caller can leave at the deadline.

    A call that outlives its deadline keeps its worker until it ends; with all workers so occupied, new
    forwards fail with `deadline` and do not queue.

    Args:
        remote: whom to ask.
        classes: how many columns its logits must have.
        calibrate: how to read them.
        in_flight: the most requests under way at once.
        request_inputs: the most inputs in one request.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        classes: int,
        calibrate: RemoteCalibration,
        in_flight: int = 4,
        request_inputs: int = 32,
    ) -> None:
        self._remote = remote
        self._classes = classes
        self._calibrate = calibrate
        self._request_inputs = request_inputs
        self._workers = ThreadPoolExecutor(in_flight, thread_name_prefix="edgecascade-forward")
        self._free = BoundedSemaphore(in_flight)

    def ask(self, inputs: Batch, deadline: Deadline) -> list[Verdict | Failure]:
        """A verdict, or the reason for having none, for each of inputs [n, ...]."""
        starts = range(0, size(inputs), self._request_inputs)
        parts = [rows(inputs, slice(start, start + self._request_inputs)) for start in starts]
        futures = [self._submit(part, deadline) for part in parts]
        return [
            outcome
            for part, future in zip(parts, futures, strict=True)
            for outcome in self._collect(future, size(part), deadline)
        ]

    def close(self) -> None:
        """Stop asking; calls under way are left to end by themselves."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._remote.close()

    def _submit(self, part: Batch, deadline: Deadline) -> Future[NDArray[np.float32]] | None:
        if not self._free.acquire(timeout=deadline.remaining()):
            return None
        try:
            future = self._workers.submit(self._ask_once, part, deadline)
        except RuntimeError as error:  # closed, or no more threads to be had
            self._free.release()
            failed: Future[NDArray[np.float32]] = Future()
            failed.set_exception(RemoteUnreachable(f"cannot ask: {error}"))
            return failed
        future.add_done_callback(lambda _: self._free.release())
        return future

    def _ask_once(self, part: Batch, deadline: Deadline) -> NDArray[np.float32]:
        scores = np.asarray(self._remote.infer(part, deadline))
        if scores.shape != (size(part), self._classes) or scores.dtype.kind not in "fiu":
            raise RemoteError(
                f"remote: expected numbers [{size(part)}, {self._classes}], got {scores.dtype} {list(scores.shape)}"
            )
        if not np.isfinite(scores).all():
            raise RemoteError("remote: expected finite scores, got NaN or infinity")
        return self._calibrate(scores)

    def _collect(
        self, future: Future[NDArray[np.float32]] | None, n: int, deadline: Deadline
    ) -> list[Verdict | Failure]:
        try:
            if future is None:
                return [Failure(Reason.DEADLINE, "all requests in flight are still waiting")] * n
            probabilities = future.result(timeout=deadline.remaining())
        except (FutureTimeoutError, TimeoutError):
            return [Failure(Reason.DEADLINE, "the remote did not answer in time")] * n
        except RemoteUnreachable as error:
            return [Failure(Reason.OFFLINE, str(error))] * n
        except Exception as error:  # a remote is foreign code: whatever it raises is its failure, not ours
            return [Failure(Reason.REMOTE_ERROR, f"{error}" or type(error).__name__)] * n
        labels = probabilities.argmax(axis=1)
        return [Verdict(int(label), float(row[label]), row) for label, row in zip(labels, probabilities, strict=True)]
