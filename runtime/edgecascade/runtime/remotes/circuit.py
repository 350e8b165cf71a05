"""Leave a remote alone that keeps failing, and find out when it is back."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Literal

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remote import Remote, Scores
from edgecascade.runtime.remotes.wrapped import Wrapped
from edgecascade.types.errors import ArgumentError, CircuitOpen, InputError, RemoteError, RemoteUnreachable, first_line

__all__ = ["CircuitBreaker", "State"]

State = Literal["closed", "open", "half-open"]

_JITTER = 0.2  # of a pause, up and down: devices that lost a remote together are not to come back together
_LOG = logging.getLogger(__name__)


class CircuitBreaker(Wrapped):
    """A remote that is left alone for a while after several failures in a row.

    Closed, every request passes. Open, none does, for a pause. After it the next request is a probe, and while
    it is under way the circuit is half-open: no other request passes. If the probe is answered, the circuit closes;
    if it fails, or its deadline passes, the circuit opens again for twice as long.

    An error about the request itself (a `RemoteError` not worth a retry) is an answer: the remote is there. Any
    other exception is a failure, of whatever type. What a request meets that began in another state no longer counts.

    Args:
        remote: whom to ask.
        failures: how many in a row open the circuit.
        first: seconds of the first pause, give or take a fifth.
        longest: seconds of the longest, give or take a fifth; a remote that asks by `retry_after` to be left alone
            for longer than a pause is given as much at most.
        on_change: called with each new state, in order, by a thread that asks; it may ask in turn.
            Its exceptions are logged, and ignored.

    Raises:
        ArgumentError: an argument cannot mean anything.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        failures: int = 5,
        first: float = 1.0,
        longest: float = 60.0,
        on_change: Callable[[State], None] | None = None,
        _clock: Callable[[], float] = time.monotonic,
        _random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(remote)
        if failures < 1:
            raise ArgumentError(f"failures: expected 1 or more, got {failures}")
        if not 0 < first <= longest:
            raise ArgumentError(f"first: expected seconds above 0 and at most {longest} (longest), got {first}")
        self._most, self._first, self._longest = failures, first, longest
        self._on_change, self._clock, self._random = on_change, _clock, _random
        self._lock = Lock()
        self._state: State = "closed"
        self._era = 0  # how many changes of state there were
        self._failures, self._last = 0, ""
        self._pause = first
        self._until = 0.0  # when the pause ends; while half-open, when the probe does at the latest
        self._untold: deque[State] = deque(maxlen=64)
        self._telling = Lock()

    @property
    def state(self) -> State:
        """`closed`, `open` or `half-open`."""
        return self._state

    def infer(self, inputs: Batch, deadline: Deadline) -> Scores:
        """Scores of inputs [n, ...].

        Raises:
            CircuitOpen: the remote is being left alone; it was not asked.
            TimeoutError: the deadline passed.
        """
        era = self._enter(deadline)
        try:
            scores = self._remote.infer(inputs, deadline)
        except BaseException as error:
            self._leave(era, error)
            raise
        self._leave(era, None)
        return scores

    def _enter(self, deadline: Deadline) -> int:
        """The era in which a request begins."""
        try:
            with self._lock:
                now = self._clock()
                if now >= deadline.at:  # neither a failure of the remote nor a probe of it
                    raise TimeoutError("the deadline has passed")
                if self._state == "half-open" and now >= self._until:
                    self._fail(TimeoutError("no answer to a probe by its deadline"), now)
                if self._state == "open" and now >= self._until:
                    self._change("half-open", until=deadline.at)
                elif self._state != "closed":
                    raise CircuitOpen(self._explanation(now))
                return self._era
        finally:
            self._tell()

    def _leave(self, era: int, error: BaseException | None) -> None:
        with self._lock:
            if era == self._era:
                if error is None or _is_an_answer(error):
                    self._succeed()
                else:
                    self._fail(error, self._clock())
        self._tell()

    def _succeed(self) -> None:
        self._failures, self._pause = 0, self._first
        if self._state != "closed":
            self._change("closed")

    def _fail(self, error: BaseException, now: float) -> None:
        self._failures += 1
        self._last = first_line(error)[:200]  # not the exception itself: it holds on to the inputs
        if self._state == "half-open":
            self._pause = min(self._longest, 2 * self._pause)
        elif self._failures < self._most:
            return
        jitter = _JITTER * (2 * self._random() - 1)
        asked = min(self._longest, (error.retry_after or 0.0) if isinstance(error, RemoteError) else 0.0)
        self._change("open", until=now + max(self._pause * (1 + jitter), asked * (1 + abs(jitter))))

    def _change(self, state: State, *, until: float = 0.0) -> None:
        self._state, self._until = state, until
        self._era += 1
        if self._on_change is not None:
            self._untold.append(state)

    def _explanation(self, now: float) -> str:
        how = f"for another {self._until - now:.1f} s" if self._state == "open" else "but for one request to try it,"
        return f"remote: left alone {how} after {self._failures} failures in a row, the last: {self._last}"

    def _tell(self) -> None:
        """Tell of changes, in order, one thread at a time; a callback that takes its time delays that thread alone."""
        while self._on_change is not None and self._untold and self._telling.acquire(blocking=False):
            try:
                while self._untold:
                    self._on_change(self._untold.popleft())
            except Exception:
                _LOG.exception("on_change: an exception of the callback is ignored")
            finally:
                self._telling.release()


def _is_an_answer(error: BaseException) -> bool:
    """Whether an error is about the request, so that the remote is there."""
    if isinstance(error, RemoteUnreachable):
        return False
    return isinstance(error, InputError) or (isinstance(error, RemoteError) and not error.retry)
