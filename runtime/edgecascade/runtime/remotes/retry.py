"""Ask again: what is worth it, after how long, and how often."""

from __future__ import annotations

import random
import re
import time
from calendar import timegm
from collections.abc import Callable, Mapping
from email.utils import parsedate
from threading import TIMEOUT_MAX, Event

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remote import Remote, Scores
from edgecascade.runtime.remotes.wrapped import Extras, Wrapped
from edgecascade.types.errors import ArgumentError, RemoteError

__all__ = ["Retrying", "backoff", "retry_after", "worth_a_retry"]

_RESERVE = 10  # retries
_PASSING = (429, 500, 502, 503, 504)
# What servers say with a 500 to a request that they could not read: Triton, KServe and MLServer differ.
_UNREADABLE = re.compile(
    rb"(?i)pars(e|ing)\b|decode|malformed|(invalid|unexpected|unsupported) (json|request|input|shape|dtype|data.?type)"
)


class Retrying(Wrapped):
    """A remote that is asked again where that may well help, and never past the deadline.

    What helps is for the remote inside to say: a `RemoteError` whose `retry` is true. A wait that would not end
    before the deadline is not begun.

    Args:
        remote: whom to ask.
        attempts: the most requests for one, the first included.
        first: seconds, the longest wait before the first retry; each further one may wait twice as long.
        longest: seconds, the longest wait of all, unless the remote asks for longer by `retry_after`.
        share: retries per request in the long run. Ten are saved up at most, and to begin with.

    Raises:
        ArgumentError: an argument cannot mean anything.
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
        self._extras = Extras(share, saved=_RESERVE, most=_RESERVE)
        self._random = _random
        self._closed = Event()

    def infer(self, inputs: Batch, deadline: Deadline) -> Scores:
        """Scores of inputs [n, ...]; if no attempt helped, the last error."""
        self._extras.earn()
        for attempt in range(self._attempts):
            try:
                return self._remote.infer(inputs, deadline)
            except RemoteError as error:
                if attempt + 1 == self._attempts or not error.retry or not self._wait(attempt, error, deadline):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def close(self) -> None:
        """Close the remote inside; who waits for a retry gets the last error now."""
        self._closed.set()
        super().close()

    def _wait(self, attempt: int, error: RemoteError, deadline: Deadline) -> bool:
        """Whether there is to be a retry; if so, returns when it is due."""
        seconds = backoff(attempt, first=self._first, longest=self._longest, random=self._random)
        # Added, not the larger of both: whoever was told the same number is not to come back at the same moment.
        seconds += max(0.0, error.retry_after or 0.0)
        if not seconds < deadline.remaining() or self._closed.is_set() or not self._extras.spend():
            return False
        return not self._closed.wait(min(seconds, TIMEOUT_MAX))


def backoff(attempt: int, *, first: float, longest: float, random: Callable[[], float] = random.random) -> float:
    """Seconds to wait after a failed attempt, the first being 0: exponential, with full jitter.

    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

    Returns:
        Evenly from 0 to `first * 2**attempt`, or to `longest` if that is less.
    """
    return random() * min(longest, first * 2.0 ** min(attempt, 1000))


def worth_a_retry(status: int, body: bytes) -> bool:
    """Whether the same request may well succeed later, after this HTTP status other than 200.

    Not every 500 is the server's trouble: some send it, with an explanation, for a request that they cannot read.
    """
    said = body[:500] + body[-500:]  # of a traceback, the end
    return status in _PASSING and not (status == 500 and _UNREADABLE.search(said))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an HTTP response asks to be left alone, or None.

    A date is taken from the response's own `Date`, where there is one: a device's clock may be wrong by years.

    Args:
        headers: by lower-case name.
    """
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    until = _moment(said)
    if until is None:
        return None
    now = _moment(headers.get("date", ""))
    return max(0.0, until - (time.time() if now is None else now))


def _moment(date: str) -> float | None:
    fields = parsedate(date)
    try:
        return None if fields is None else timegm(fields)  # in HTTP every date is in GMT, whatever it says
    except (ValueError, OverflowError):
        return None
