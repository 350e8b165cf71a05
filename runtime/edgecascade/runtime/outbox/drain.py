"""Sends what waits when the remote can be reached, and hands over the answers."""

from __future__ import annotations

import logging
import math
import random
import sqlite3
from collections.abc import Callable, Sequence
from threading import Event
from typing import TypeAlias

from edgecascade.runtime.batch import Batch, concatenated
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.forwarder import Failure
from edgecascade.runtime.outbox.late import Late, OnLate, read_late
from edgecascade.runtime.outbox.ledger import Ledger
from edgecascade.runtime.outbox.packed import PackedError, pack_verdict, unpack
from edgecascade.runtime.outbox.records import Answered, Ending, Waiting
from edgecascade.types.answer import Prediction, Reason

__all__ = ["UNSYNCED", "Ask", "Drain"]

_LOG = logging.getLogger("edgecascade.outbox")
_MOST, _MOST_BYTES = 32, 16 << 20  # of one request
_SHORTEST, _LONGEST = 1.0, 300.0  # seconds between requests to a remote that cannot be reached
_REFUSALS, _UNTAKEN = 3, 5
UNSYNCED = 16 << 20  # bytes written ahead, beyond which they are moved into their place
_SYNC_EVERY, _SYNC_LEAST, _SAVE_EVERY = 60.0, 0.1, 600.0  # seconds
_LEAST = 0.05  # seconds of any pause
_Kept: TypeAlias = tuple[Waiting, Batch]
_UNREACHABLE = (Reason.OFFLINE, Reason.CIRCUIT_OPEN, Reason.DEADLINE, Reason.BUDGET)


Ask: TypeAlias = Callable[[Batch, Deadline], Sequence[Prediction | Failure]]


class Drain:
    """What the outbox's thread does.

    Args:
        ledger: what is kept.
        ask: sends inputs [n, ...] and gives what became of each.
        on_late: takes the answers; None leaves them.
        keep: seconds after which an input or an answer is let go.
        patience: seconds that a request may take.
    """

    def __init__(self, ledger: Ledger, ask: Ask, on_late: OnLate | None, *, keep: float, patience: float) -> None:
        self._ledger, self._ask, self._on_late = ledger, ask, on_late
        self._keep, self._patience = keep, patience
        self.wake, self.closed = Event(), False
        self.asking = self.delivering = False
        self.due_at = -math.inf  # an input that may be sent before this wakes the thread
        self._most = _MOST
        self._failures, self._failed_at, self._next = 0, -math.inf, -math.inf
        self._synced = ledger.now()
        self._works = False  # the remote has answered something since it last refused something
        self._handed: Answered | None = None

    def run(self) -> None:
        """Until it is closed."""
        while not self.closed:
            try:
                pause = self.step()
            except Exception as error:  # never end: what waits would wait forever
                _LOG.warning("the outbox's thread failed and goes on: %s", type(error).__name__)
                pause = _SYNC_EVERY
            self.wake.wait(pause)
            self.wake.clear()

    def step(self) -> float | None:
        """Do what can be done now.

        Returns:
            Seconds until there is more to do; None if only a new input brings more.
        """
        self._ledger.expire(self._keep)
        self._deliver()
        sent = not self.closed and self._ledger.now() >= self._next and self._send()
        self._deliver()
        if self._ledger.now() >= self._sync_at():
            self._ledger.sync()
            self._synced = self._ledger.now()
        return 0.0 if sent else self._pause()

    def nudge(self) -> None:
        """The remote has just answered somebody."""
        self._works = True
        self._next = min(self._next, self._failed_at + _SHORTEST)
        self.wake.set()

    def _pause(self) -> float | None:
        self.due_at = math.inf
        send, deliver = self._ledger.due_at()
        at = min(max(send, self._next), deliver if self._on_late is not None else math.inf, self._sync_at())
        now = self._ledger.now()
        self.due_at = -math.inf if self._next > now else at
        return None if at == math.inf else max(_LEAST, at - now)

    def _sync_at(self) -> float:
        """When to make all safe on disk, and to remember the time, by which what is kept grows old."""
        if self._ledger.unsynced:
            return self._synced + (_SYNC_EVERY if self._ledger.unsynced < UNSYNCED else _SYNC_LEAST)
        return self._synced + _SAVE_EVERY if len(self._ledger.held) else math.inf

    def _send(self) -> bool:
        """One request. Whether the remote answered any of it, so that there may well be more to send."""
        self.due_at = -math.inf
        due = self._ledger.due(self._most, _MOST_BYTES)
        group = [(one, kept) for one in due if (kept := self._input(one)) is not None]
        if not group or self.closed:
            return False
        outcomes = self._outcomes([kept for _, kept in group])
        refused = [pair for pair, outcome in zip(group, outcomes, strict=True) if _is_refusal(outcome)]
        for (one, _), outcome in zip(group, outcomes, strict=True):
            self._settle(one, outcome)
        if len(group) > 1 and refused:  # they may have been condemned with another: one by one
            outcomes, refused = self._alone(refused, outcomes)
        works = any(isinstance(outcome, Prediction) for outcome in outcomes)
        for one, _ in refused:
            self._refuse(one, counts=works or self._works)
        self._works = works
        return self._went(works, any(_is_late(outcome) for outcome in outcomes))

    def _alone(
        self, refused: list[_Kept], outcomes: list[Prediction | Failure]
    ) -> tuple[list[Prediction | Failure], list[_Kept]]:
        """Ask for each by itself, unless it looks as if the remote refuses everything."""
        outcomes, again = [one for one in outcomes if not _is_refusal(one)], []
        for one, kept in refused:
            (outcome,) = self._outcomes([kept])
            outcomes.append(outcome)
            self._settle(one, outcome)
            if _is_refusal(outcome):
                again.append((one, kept))
            elif isinstance(outcome, Failure):
                break
            if self.closed or len(again) == len(outcomes) == _REFUSALS:
                break
        return outcomes, again

    def _outcomes(self, inputs: list[Batch]) -> list[Prediction | Failure]:
        self.asking = True
        try:
            outcomes = list(self._ask(concatenated(inputs), Deadline.after(self._patience)))
            if len(outcomes) != len(inputs):
                raise ValueError(f"expected {len(inputs)} outcomes, got {len(outcomes)}")
        except BaseException as error:  # it tells nothing about the inputs: they are kept
            _LOG.warning("asking the remote failed: %s", type(error).__name__)
            return [Failure(Reason.DEADLINE, type(error).__name__)] * len(inputs)
        finally:
            self.asking = False
        return outcomes

    def _settle(self, one: Waiting, outcome: Prediction | Failure) -> None:
        if isinstance(outcome, Prediction):
            self._ledger.answer(one, pack_verdict(outcome))
        elif _is_late(outcome):  # it may be the input that takes so long: let others pass
            self._ledger.postpone(one, one.tries)

    def _refuse(self, one: Waiting, *, counts: bool) -> None:
        """One more refusal; it speaks against the input only if the remote answers others."""
        if counts and one.tries + 1 >= _REFUSALS:
            self._ledger.end(one, Ending.REFUSED)
        else:
            self._ledger.postpone(one, one.tries + counts)

    def _went(self, works: bool, late: bool) -> bool:
        if late:
            self._most = max(1, self._most // 2)  # a thin link may carry fewer in time
        elif works:
            self._most = min(_MOST, self._most + 1)
        if works:
            self._failures, self._next = 0, -math.inf
        else:
            self._failed_at = self._ledger.now()
            pause = min(_LONGEST, _SHORTEST * 2.0 ** min(self._failures, 30)) * random.uniform(0.75, 1.25)
            self._next = self._failed_at + min(_LONGEST, max(_SHORTEST, pause))
            self._failures += 1
        return works

    def _input(self, one: Waiting) -> Batch | None:
        try:
            kept = self._ledger.read(one)
            if kept is not None:
                return unpack(kept[1])
        except sqlite3.Error:
            self._ledger.postpone(one, one.tries)
            return None
        except PackedError as error:
            _LOG.warning("an input in the outbox is damaged: %s", error)
        self._ledger.end(one, Ending.DAMAGED)
        return None

    def _deliver(self) -> None:
        """Hand over the answers, oldest first; one that was handed over and could not be removed is removed first."""
        while self._on_late is not None:
            if self._handed is not None and not self._ledger.end(self._handed, Ending.DELIVERED):
                return
            self._handed = None
            with self._ledger.lock:
                one = None if self.closed else self._ledger.take()
            if one is None:
                return
            late = read_late(self._ledger, one)
            if late is not None:
                self._hand(one, late, self._on_late)

    def _hand(self, one: Answered, late: Late, on_late: OnLate) -> None:
        self.delivering = True
        try:
            on_late(late)
            self._handed = one
        except BaseException as error:  # the application's, and not ours to judge; its message may hold data
            _LOG.warning("on_late failed: %s; the answer comes again", type(error).__name__)
            one.taken = False
            if one.tries + 1 >= _UNTAKEN:
                self._ledger.end(one, Ending.UNTAKEN)
            else:
                self._ledger.postpone(one, one.tries + 1)
        finally:
            self.delivering = self._handed is not None


def _is_late(outcome: Prediction | Failure) -> bool:
    return isinstance(outcome, Failure) and outcome.reason is Reason.DEADLINE


def _is_refusal(outcome: Prediction | Failure) -> bool:
    return isinstance(outcome, Failure) and outcome.reason not in _UNREACHABLE
