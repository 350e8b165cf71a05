"""Ask a second time when the first reply is later than nearly all others were: the cure for a long tail.

Source: J. Dean and L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013.
"""

from __future__ import annotations

import time
import weakref
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import ceil, inf
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, Condition, Lock, Thread
from typing import NamedTuple, cast

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remote import Remote, Scores
from edgecascade.runtime.remotes.wrapped import Extras, Wrapped
from edgecascade.types.errors import ArgumentError, RemoteUnreachable

__all__ = ["Hedged", "Latencies"]

_THREADS = 16
_WINDOW = 256  # requests
_AT_ONCE = Deadline(0.0)


class Hedged(Wrapped):
    """A remote that is asked a second time, in another thread, when a reply takes unusually long.

    The first good reply is the answer; the other is left to end by its deadline, and dropped. While all sixteen
    threads are taken, there is no second request, and first ones wait for a thread, by their deadlines.

    Args:
        remote: whom to ask. What it is asked should change nothing there, as an inference does.
        quantile: how late is unusual: later than this share of the last 256 requests were, in (0, 1).
        share: second requests per request, at most.
        warm_up: how many latencies have to be known before anything is unusual, from 1 to 256.

    Raises:
        ArgumentError: an argument cannot mean anything.
    """

    def __init__(self, remote: Remote, *, quantile: float = 0.95, share: float = 0.05, warm_up: int = 20) -> None:
        super().__init__(remote)
        if not 0 < quantile < 1:
            raise ArgumentError(f"quantile: expected a number between 0 and 1, got {quantile}")
        if not 1 <= warm_up <= _WINDOW:
            raise ArgumentError(f"warm_up: expected 1 to {_WINDOW} requests, got {warm_up}")
        self._quantile, self._warm_up = quantile, warm_up
        self._extras = Extras(share)
        self._latencies = Latencies(_WINDOW)
        self._threads = _Threads(_THREADS)
        weakref.finalize(self, self._threads.close)  # whoever forgets to close it does not keep the threads

    def infer(self, inputs: Batch, deadline: Deadline) -> Scores:
        """Scores of inputs [n, ...]; if both requests fail, the error that came first.

        Raises:
            TimeoutError: the deadline passed, whatever the remote does.
            RemoteUnreachable: it was closed, or no thread can be had.
        """
        # The first request, too, is made in another thread. Nobody can leave a call that he makes himself: the caller
        # would sit in the slow request while the second one's reply is there. It costs one hand-over to a thread
        # that waits for it already, and one back: tens of microseconds, beside a round trip of milliseconds.
        replies: SimpleQueue[_Reply] = SimpleQueue()

        def ask() -> None:
            replies.put(self._reply(inputs, deadline))

        if deadline.remaining() <= 0 or not self._threads.run(ask, deadline):
            raise TimeoutError("the deadline has passed")
        self._extras.earn()
        return _first_good(self._replies(ask, replies, deadline))

    def close(self) -> None:
        """Close the remote inside; requests under way are left to end by themselves."""
        self._threads.close()
        super().close()

    def _replies(self, ask: Callable[[], None], replies: SimpleQueue[_Reply], deadline: Deadline) -> Iterator[_Reply]:
        early = _next(replies, min(self._patience(), deadline.remaining()))
        if early is not None:
            yield early
        else:
            for _ in range(1 + self._ask_again(ask, deadline)):
                yield _by(deadline, replies)

    def _reply(self, inputs: Batch, deadline: Deadline) -> _Reply:
        started = time.monotonic()
        try:
            scores = self._remote.infer(inputs, deadline)
        except BaseException as error:  # a remote is foreign code; the caller gets to see whatever it raises
            # How soon a request was refused says nothing of how long an answer takes, and how soon its deadline
            # came, only that an answer takes longer: of use where that is unusually long.
            seconds = time.monotonic() - started
            if isinstance(error, TimeoutError) and seconds > self._patience():
                self._latencies.add(seconds)
            return _Reply(None, error)
        self._latencies.add(time.monotonic() - started)
        return _Reply(scores, None)

    def _patience(self) -> float:
        return self._latencies.quantile(self._quantile) if len(self._latencies) >= self._warm_up else inf

    def _ask_again(self, ask: Callable[[], None], deadline: Deadline) -> bool:
        try:
            return deadline.remaining() > 0 and self._extras.spend() and self._threads.run(ask, _AT_ONCE)
        except RemoteUnreachable:  # no thread, or closed meanwhile; the first request is under way all the same
            return False


class Latencies:
    """The latest durations, in order of size.

    Args:
        window: how many.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, seconds: float) -> None:
        """One more; the oldest goes if there is no room."""
        with self._lock:
            if len(self._recent) == self._window:
                del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
            self._recent.append(seconds)
            insort(self._sorted, seconds)

    def quantile(self, share: float) -> float:
        """The least duration that is not exceeded by this share, in (0, 1], of all. There must be one."""
        with self._lock:
            return self._sorted[ceil(share * len(self._sorted)) - 1]


class _Threads:
    """Threads that wait for work. Unlike an executor's they let the process end, and no work waits in a queue."""

    def __init__(self, most: int) -> None:
        self._most, self._started, self._free, self._closed = most, 0, 0, False
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._changed = Condition()

    def run(self, work: Callable[[], None], by: Deadline) -> bool:
        """Have a thread do the work, if one is free or can be had by then; `work` must not raise."""
        with self._changed:
            if not self._changed.wait_for(self._has_room, min(by.remaining(), TIMEOUT_MAX)):
                return False
            if self._closed:
                raise RemoteUnreachable("cannot ask: the remote was closed", retry=False)
            if self._free:
                self._free -= 1
            else:
                self._start()
            self._work.put(work)
            return True

    def close(self) -> None:
        """Threads end when their work does."""
        with self._changed:
            self._closed = True
            for _ in range(self._started):
                self._work.put(None)
            self._started = 0
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._closed or self._free > 0 or self._started < self._most

    def _start(self) -> None:
        try:
            Thread(target=self._serve, name="edgecascade-hedge", daemon=True).start()
        except RuntimeError as error:  # no more threads to be had, or the interpreter is going
            raise RemoteUnreachable(f"cannot ask: {error}") from error
        self._started += 1

    def _serve(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            work()
            del work  # and the inputs with it
            with self._changed:
                self._free += 1
                self._changed.notify()


class _Reply(NamedTuple):
    scores: Scores | None
    error: BaseException | None


def _next(replies: SimpleQueue[_Reply], seconds: float) -> _Reply | None:
    try:
        return replies.get(timeout=min(seconds, TIMEOUT_MAX))
    except Empty:
        return None


def _by(deadline: Deadline, replies: SimpleQueue[_Reply]) -> _Reply:
    return _next(replies, deadline.remaining()) or _Reply(None, TimeoutError("the deadline has passed"))


def _first_good(replies: Iterable[_Reply]) -> Scores:
    """The first scores; if there are none, the first error is raised."""
    failed: list[BaseException] = []
    for scores, error in replies:
        if error is None:
            return cast(Scores, scores)
        failed.append(error)
        del error
    # An error that a frame of its own traceback holds would live, and the inputs with it, until garbage is collected.
    raise failed.pop(0)
