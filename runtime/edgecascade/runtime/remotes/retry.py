"""Send a request again after a failure that may pass, with growing waits and never past the deadline."""

from __future__ import annotations

import random
from collections.abc import Callable
from threading import TIMEOUT_MAX, Event, Lock

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.remote import Remote, Replied, Wrapped
from edgecascade.types.errors import ArgumentError, RemoteError

__all__ = ["ExtraRequests", "Retrying", "backoff"]

_RESERVE = 10  # extra requests


class Retrying(Wrapped):
    """A remote that is asked again after a failure that may pass.

    A failure may pass if it is a `RemoteError` whose `retry` is true. It does not start
    a wait that would end after the deadline.

    Args:
        remote: the remote inside.
        attempts: the most requests for one call, the first included.
        first: the longest wait before the first retry, in seconds; the longest wait doubles with each further retry.
        longest: the longest wait of all, in seconds, unless the remote asks for more with `retry_after`.
        share: retries per request in the long run. At most ten are saved up, and ten are there at the start.

    Raises:
        ArgumentError: an argument is out of range.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        attempts: int = 3,
        first: float = 0.05,
        longest: float = 1.0,
        share: float = 0.2,
        _random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(remote)
        if attempts < 1:
            raise ArgumentError(f"attempts: expected 1 or more, got {attempts}")
        if not 0 < first <= longest:
            raise ArgumentError(f"first: expected seconds above 0 and at most {longest} (longest), got {first}")
        self._attempts, self._first, self._longest = attempts, first, longest
        self._extras = ExtraRequests(share, saved=_RESERVE)
        self._random = _random
        self._closed = Event()

    def infer(self, inputs: Batch, deadline: Deadline) -> Replied:
        """Return the reply to inputs [n, ...], or raise the error of the last attempt."""
        self._extras.earn()
        for attempt in range(self._attempts):
            try:
                return self._remote.infer(inputs, deadline)
            except RemoteError as error:
                if attempt + 1 == self._attempts or not error.retry or not self._wait(attempt, error, deadline):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def close(self) -> None:
        """Close the remote inside. A call that waits for a retry raises its last error at once."""
        self._closed.set()
        super().close()

    def _wait(self, attempt: int, error: RemoteError, deadline: Deadline) -> bool:
        """Wait until the retry is due; return whether to retry."""
        seconds = backoff(attempt, first=self._first, longest=self._longest, random=self._random)
        # The sum, not the maximum: clients that received the same `retry_after` must not return at the same moment.
        seconds += max(0.0, error.retry_after or 0.0)
        if not seconds < deadline.remaining() or self._closed.is_set() or not self._extras.spend():
            return False
        return not self._closed.wait(min(seconds, TIMEOUT_MAX))


class ExtraRequests:
    """The allowance of requests beyond those asked for: a token bucket that requests fill, as in gRPC and Finagle.

    It limits extra requests to a share of all requests, so that an overloaded remote does not get more load.

    Args:
        share: extra requests per request in the long run, in [0, 1].
        saved: extra requests allowed before the first request; at most ten are ever saved up.

    Raises:
        ArgumentError: the share is out of range.
    """

    def __init__(self, share: float, *, saved: float = 0.0) -> None:
        if not 0 <= share <= 1:
            raise ArgumentError(f"share: expected a number from 0 to 1, got {share}")
        self._share, self._saved = share, saved
        self._lock = Lock()

    def earn(self) -> None:
        """Count a request."""
        with self._lock:
            self._saved = min(_RESERVE, self._saved + self._share)

    def spend(self) -> bool:
        """Return whether an extra request is allowed now, and if so take it from the allowance."""
        with self._lock:
            granted = self._saved >= 1
            self._saved -= granted
            return granted


def backoff(attempt: int, *, first: float, longest: float, random: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after failed attempt 0, 1, ...: exponential backoff with full jitter.

    They are uniform from 0 to `min(longest, first * 2**attempt)`. Source: M. Brooker, "Exponential Backoff and
    Jitter", AWS Architecture Blog, 2015.
    """
    return random() * min(longest, first * 2.0 ** min(attempt, 1000))
