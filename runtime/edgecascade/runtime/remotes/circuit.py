"""A circuit breaker: it stops asking a remote that fails repeatedly, and probes it after a pause."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Lock
from typing import Literal

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.remote import Remote, Replied, Wrapped
from edgecascade.types.errors import (
    ArgumentError,
    CircuitOpen,
    InputError,
    RemoteError,
    RemoteUnreachable,
    first_line,
)

__all__ = ["Circuit", "CircuitBreaker", "State"]

State = Literal["closed", "open", "half-open"]

_JITTER = 0.2  # of a pause, in both directions, so that devices that lost a remote together do not return together


class CircuitBreaker(Wrapped):
    """A remote that is not asked for a while after several consecutive failures.

    While the circuit is closed, every request passes. While it is open, none does, for a pause. After the pause the
    next request is a probe, and until it ends the circuit is half-open: no other request passes. If the probe is
    answered, the circuit closes; if it fails or its deadline passes, the circuit opens again for twice as long.

    An error about the inputs (a `RemoteError` whose `about_input` is true and whose `retry` is false) counts as an
    answer, since the remote is there. Every other exception is a failure: also HTTP 401 or 404, a redirect, or a page
    of a captive portal. The outcome of a request that began in an earlier state is ignored.

    Args:
        remote: the remote inside.
        failures: failures in a row that open the circuit.
        first: the first pause in seconds, plus or minus a fifth.
        longest: the longest pause in seconds, plus or minus a fifth; also the upper limit for `retry_after`.

    Raises:
        ArgumentError: an argument is out of range.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        failures: int = 5,
        first: float = 1.0,
        longest: float = 60.0,
        _clock: Callable[[], float] = time.monotonic,
        _random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(remote)
        self._circuit = Circuit(failures=failures, first=first, longest=longest, clock=_clock, random=_random)

    @property
    def state(self) -> State:
        """`closed`, `open` or `half-open`."""
        return self._circuit.state

    def infer(self, inputs: Batch, deadline: Deadline) -> Replied:
        """Return the reply to inputs [n, ...].

        Raises:
            CircuitOpen: the circuit is open; the remote was not asked.
            TimeoutError: the deadline passed.
        """
        began = self._circuit.enter(deadline)
        try:
            replied = self._remote.infer(inputs, deadline)
        except BaseException as error:
            self._circuit.leave(began, error)
            raise
        self._circuit.leave(began, None)
        return replied


class Circuit:
    """The state of a circuit breaker. Thread-safe.

    Args:
        failures: failures in a row that open the circuit.
        first: the first pause in seconds, plus or minus a fifth.
        longest: the longest pause in seconds, plus or minus a fifth; also the upper limit for `retry_after`.
        clock: returns seconds that never go back, on the clock of `Deadline`.
        random: returns numbers from 0 to 1.

    Raises:
        ArgumentError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        first: float = 1.0,
        longest: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        if failures < 1:
            raise ArgumentError(f"failures: expected 1 or more, got {failures}")
        if not 0 < first <= longest:
            raise ArgumentError(f"first: expected seconds above 0 and at most {longest} (longest), got {first}")
        self._most, self._first, self._longest = failures, first, longest
        self._clock, self._random = clock, random
        self._lock = Lock()
        self._state: State = "closed"
        self._changes = 0  # of state so far
        self._failures, self._last = 0, ""
        self._pause = first
        self._until = 0.0  # the end of the pause; while half-open, the probe's deadline

    @property
    def state(self) -> State:
        """`closed`, `open` or `half-open`."""
        return self._state

    def enter(self, deadline: Deadline) -> int:
        """Admit a request; return the number of changes of state before it, for `leave`.

        Raises:
            CircuitOpen: the circuit is open.
            TimeoutError: the deadline passed.
        """
        with self._lock:
            now = self._clock()
            if now >= deadline.at:  # neither a failure of the remote nor a probe of it
                raise TimeoutError("the deadline has passed")
            if self._state == "half-open" and now >= self._until:
                self._fail(TimeoutError("the probe was not answered by its deadline"), now)
            if self._state == "open" and now >= self._until:
                self._change("half-open", until=deadline.at)
            elif self._state != "closed":
                raise CircuitOpen(self._explanation(now))
            return self._changes

    def leave(self, began: int, error: BaseException | None) -> None:
        """Tell how a request ended that `enter` admitted: with this error, or with an answer if it is None."""
        with self._lock:
            if began != self._changes:
                return
            if error is not None and not _is_an_answer(error):
                self._fail(error, self._clock())
                return
            self._failures, self._pause = 0, self._first
            if self._state != "closed":
                self._change("closed")

    def _fail(self, error: BaseException, now: float) -> None:
        self._failures += 1
        self._last = first_line(error).removeprefix("remote: ")[:200]  # not the exception, which refers to the inputs
        if self._state == "half-open":
            self._pause = min(self._longest, 2 * self._pause)
        elif self._failures < self._most:
            return
        jitter = _JITTER * (2 * self._random() - 1)
        asked = min(self._longest, (error.retry_after or 0.0) if isinstance(error, RemoteError) else 0.0)
        self._change("open", until=now + max(self._pause * (1 + jitter), asked * (1 + abs(jitter))))

    def _change(self, state: State, *, until: float = 0.0) -> None:
        self._state, self._until = state, until
        self._changes += 1

    def _explanation(self, now: float) -> str:
        rest = f"for another {self._until - now:.1f} s" if self._state == "open" else "while one request probes it"
        return f"remote: not asked {rest}, after {self._failures} failures in a row; the last: {self._last}"


def _is_an_answer(error: BaseException) -> bool:
    """Return whether an error is about the request, which shows that the remote is there."""
    if isinstance(error, RemoteUnreachable):
        return False
    return isinstance(error, InputError) or (isinstance(error, RemoteError) and error.about_input and not error.retry)
