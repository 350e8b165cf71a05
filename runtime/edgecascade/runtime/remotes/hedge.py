"""Send a second request when the first reply is unusually late, which shortens the tail of the latencies.

Source: J. Dean and L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import ceil, inf
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, BoundedSemaphore, Thread
from typing import NamedTuple, cast

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.remote import Remote, Replied, Wrapped
from edgecascade.runtime.remotes.retry import ExtraRequests
from edgecascade.types.errors import ArgumentError, RemoteUnreachable

__all__ = ["Hedged"]

_THREADS = 16
_WINDOW = 256  # requests
_AT_ONCE = 1e-9  # seconds


class Hedged(Wrapped):
    """A remote that is asked a second time, in another thread, when a reply takes unusually long.

    The first good reply is the answer; the other request runs to its deadline and its reply is dropped. While sixteen
    requests are under way there is no second request, and first requests wait, until their deadlines at most.

    Args:
        remote: the remote inside. Requests must be free of side effects.
        quantile: the share of the last 256 requests that were faster than an unusually late one, in (0, 1).
        share: second requests per request, at most.
        warm_up: latencies to observe before the first second request, from 1 to 256.

    Raises:
        ArgumentError: an argument is out of range.
    """

    def __init__(self, remote: Remote, *, quantile: float = 0.95, share: float = 0.05, warm_up: int = 20) -> None:
        super().__init__(remote)
        if not 0 < quantile < 1:
            raise ArgumentError(f"quantile: expected a number between 0 and 1, got {quantile}")
        if not 1 <= warm_up <= _WINDOW:
            raise ArgumentError(f"warm_up: expected 1 to {_WINDOW} requests, got {warm_up}")
        self._quantile, self._warm_up = quantile, warm_up
        self._extras = ExtraRequests(share)
        self._latencies: deque[float] = deque(maxlen=_WINDOW)  # seconds
        self._free = BoundedSemaphore(_THREADS)
        self._closed = False

    def infer(self, inputs: Batch, deadline: Deadline) -> Replied:
        """Return the reply to inputs [n, ...]; if both requests fail, raise the error that came first.

        Raises:
            TimeoutError: the deadline passed, even if the remote does not observe it.
            RemoteUnreachable: it was closed, or no thread can be started.
        """
        # The first request also has its own thread, because a thread cannot abandon a call that it makes, and the
        # caller must be free to return the second reply while the first request hangs.
        replies: SimpleQueue[_Reply] = SimpleQueue()

        def ask() -> None:
            replies.put(self._reply(inputs, deadline))  # in no local variable: see `_first_good`
            self._free.release()

        if not self._start(ask, deadline.remaining()):
            raise TimeoutError("the deadline has passed")
        self._extras.earn()
        return _first_good(self._replies(ask, replies, deadline))

    def close(self) -> None:
        """Close the remote inside; requests under way run to their end."""
        self._closed = True
        super().close()

    def _start(self, ask: Callable[[], None], seconds: float) -> bool:
        """Start a request if a place is free within the time; return whether it was."""
        if self._closed:
            raise RemoteUnreachable("cannot ask: the remote was closed", retry=False)
        if seconds <= 0 or not self._free.acquire(timeout=min(seconds, TIMEOUT_MAX)):
            return False
        try:
            Thread(target=ask, name="edgecascade-hedge", daemon=True).start()
        except RuntimeError as error:  # too many threads, or the interpreter is shutting down
            self._free.release()
            raise RemoteUnreachable(f"cannot ask: {error}") from error
        return True

    def _replies(self, ask: Callable[[], None], replies: SimpleQueue[_Reply], deadline: Deadline) -> Iterator[_Reply]:
        early = _next(replies, min(self._patience(), deadline.remaining()))
        if early is not None:
            yield early
        else:
            for _ in range(1 + self._ask_again(ask, deadline)):
                yield _next(replies, deadline.remaining()) or _Reply(None, TimeoutError("the deadline has passed"))

    def _reply(self, inputs: Batch, deadline: Deadline) -> _Reply:
        started = time.monotonic()
        try:
            replied = self._remote.infer(inputs, deadline)
        except BaseException as error:  # the remote is the application's code; the caller gets the exception
            # A refusal carries no information about the latency. A timeout is a lower bound of it, which is useful
            # only if it is unusually long.
            seconds = time.monotonic() - started
            if isinstance(error, TimeoutError) and seconds > self._patience():
                self._latencies.append(seconds)
            return _Reply(None, error)
        self._latencies.append(time.monotonic() - started)
        return _Reply(replied, None)

    def _patience(self) -> float:
        """Return the seconds after which a reply is unusually late."""
        known = sorted(self._latencies)
        return known[ceil(self._quantile * len(known)) - 1] if len(known) >= self._warm_up else inf

    def _ask_again(self, ask: Callable[[], None], deadline: Deadline) -> bool:
        try:
            return deadline.remaining() > 0 and self._extras.spend() and self._start(ask, _AT_ONCE)
        except RemoteUnreachable:  # no thread could start, or the remote was closed; the first request goes on
            return False


class _Reply(NamedTuple):
    replied: Replied | None
    error: BaseException | None


def _next(replies: SimpleQueue[_Reply], seconds: float) -> _Reply | None:
    try:
        return replies.get(timeout=min(seconds, TIMEOUT_MAX))
    except Empty:
        return None


def _first_good(replies: Iterable[_Reply]) -> Replied:
    """Return the first good reply; if there is none, raise the first error."""
    failed: list[BaseException] = []
    for replied, error in replies:
        if error is None:
            return cast(Replied, replied)
        failed.append(error)
        del error
    # An error that a frame of its own traceback refers to would live, with the inputs, until garbage is collected.
    raise failed.pop(0)
