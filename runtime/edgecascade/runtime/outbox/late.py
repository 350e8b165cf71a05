"""Late answers: read from disk, and for an application that asks for them instead of being called."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from edgecascade.runtime.outbox.ledger import Ledger
from edgecascade.runtime.outbox.packed import PackedError, unpack_verdict
from edgecascade.runtime.outbox.records import Answered, Cause, Ending
from edgecascade.types.answer import Prediction

__all__ = ["Late", "LateAnswers", "OnLate", "read_late"]

_LOG = logging.getLogger("edgecascade.outbox")


@dataclass(frozen=True)
class Late:
    """A remote's answer that came after the call had to return.

    Attributes:
        key: that the application gave with the input.
        local: the verdict that it got in time.
        remote: the remote's.
        waited: seconds from the input to this answer.
    """

    key: str
    local: Prediction
    remote: Prediction
    waited: float


OnLate: TypeAlias = Callable[[Late], None]


def read_late(ledger: Ledger, one: Answered) -> Late | None:
    """The answer that was taken. None: it cannot be read, now or ever, and is not taken any more."""
    try:
        kept = ledger.read(one)
        if kept is not None:
            return Late(one.key, unpack_verdict(kept[0]), unpack_verdict(kept[1]), ledger.now() - one.since)
    except sqlite3.Error:
        one.taken = False
        ledger.postpone(one, one.tries)
        return None
    except PackedError as error:
        _LOG.warning("an answer in the outbox is damaged: %s", error)
    ledger.end(one, Ending.DAMAGED)
    return None


class LateAnswers:
    """An iterator. What it gave last is removed when the next is asked for, or by `close`.

    No generator: one that is thrown away after an exception looks as if it had been closed.
    """

    def __init__(self, ledger: Ledger, timeout: float | None) -> None:
        self._ledger, self._timeout = ledger, timeout
        self._given: Answered | None = None
        self._closed = False

    def __iter__(self) -> LateAnswers:
        return self

    def __next__(self) -> Late:
        """The next answer; it is not removed yet."""
        self._remove()
        until = None if self._timeout is None else time.monotonic() + self._timeout
        while (one := self._take(until)) is not None:
            late = read_late(self._ledger, one)
            if late is not None:
                self._given = one
                return late
        raise StopIteration

    def close(self) -> None:
        """Take what was given last, and end."""
        self._closed = True
        self._remove()

    def __del__(self) -> None:
        if self._given is not None:
            self._given.taken = False

    def _remove(self) -> None:
        if self._given is not None:
            given, self._given = self._given, None
            self._ledger.end(given, Ending.DELIVERED)

    def _take(self, until: float | None) -> Answered | None:
        ledger = self._ledger
        with ledger.arrived:
            while not self._closed and ledger.unusable is not Cause.CLOSED:
                one = ledger.take()
                left = None if until is None else until - time.monotonic()
                if one is not None or (left is not None and left <= 0):
                    return one
                ledger.arrived.wait(left)
        return None
