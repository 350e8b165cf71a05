"""Run the outbox's thread: ask the remote again when it can be reached, and deliver the answers."""

from __future__ import annotations

import logging
import math
import random
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TypeAlias

from edgecascade.runtime.batch import Batch, concatenated
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.outbox.file import Ending
from edgecascade.runtime.outbox.packed import PackedError, pack_prediction, unpack, unpack_prediction
from edgecascade.runtime.outbox.store import Answered, Question, Store
from edgecascade.runtime.request import Failure
from edgecascade.types.answer import Prediction, Reason

__all__ = ["UNSYNCED", "Ask", "Late", "OnLate", "Sender", "read_late"]

_LOG = logging.getLogger("edgecascade.outbox")
_MOST, _MOST_BYTES = 32, 16 << 20  # of one request
_SHORTEST, _LONGEST = 1.0, 300.0  # seconds between requests to a remote that cannot be reached
_PAUSE_SHORTEST, _PAUSE_LONGEST = 2.0, 3600.0  # seconds for which one question or answer is left alone
_REFUSALS, _UNTAKEN = 3, 5
UNSYNCED = 16 << 20  # bytes written ahead, beyond which they are moved into their place
_SYNC_EVERY, _SYNC_LEAST, _SAVE_EVERY = 60.0, 0.1, 600.0  # seconds
_LEAST = 0.05  # seconds of any pause
_UNREACHABLE = (Reason.OFFLINE, Reason.CIRCUIT_OPEN, Reason.DEADLINE, Reason.BUDGET)


@dataclass(frozen=True)
class Late:
    """A remote's answer that came after the call had to return.

    Attributes:
        key: the input's, as in `Answer.queued`.
        local: the prediction that the call returned.
        remote: the remote's prediction.
        waited: seconds from the input to this answer, except those for which the machine was off.
    """

    key: str
    local: Prediction
    remote: Prediction
    waited: float


Ask: TypeAlias = Callable[[Batch, Deadline], Sequence[Prediction | Failure]]
OnLate: TypeAlias = Callable[[Late], None]
_Asked: TypeAlias = tuple[Question, Batch]


class Sender:
    """The work of the outbox's thread.

    Args:
        store: the open file.
        ask: sends inputs [n, ...] and returns a prediction or failure for each.
        on_late: takes the answers; None leaves them in the store.
        keep: seconds after which an input or an answer is dropped.
        patience: seconds that a request may take.
    """

    def __init__(self, store: Store, ask: Ask, on_late: OnLate | None, *, keep: float, patience: float) -> None:
        self._store, self._ask, self._on_late = store, ask, on_late
        self._keep, self._patience = keep, patience
        self.wake, self.closed = Event(), False
        self.asking = self.delivering = False
        self.due_at = -math.inf  # an input that may be sent before this time wakes the thread
        self._most = _MOST
        self._failures, self._failed_at, self._next = 0, -math.inf, -math.inf
        self._unwritten, self._rests_until = 0, -math.inf
        self._synced = store.now()
        self._works = False  # the remote has answered something since it last refused something
        self._handed: Answered | None = None  # delivered, and not removed yet

    def run(self) -> None:
        """Work until closed."""
        while not self.closed:
            try:
                pause = self.step()
            except Exception as error:  # never end, or the waiting inputs would never be sent
                _LOG.warning("the outbox's thread failed and goes on: %s", type(error).__name__)
                pause = _SYNC_EVERY
            self.wake.wait(pause)
            self.wake.clear()

    def step(self) -> float | None:
        """Do the work that is due.

        Returns:
            Seconds until there is more to do; None if only a new input brings more.
        """
        if self._store.now() < self._rests_until:
            return max(_LEAST, self._rests_until - self._store.now())
        files = self._store.damaged_files
        try:
            pause = self._step()
        except sqlite3.Error:  # logged by the store: the file cannot be used now
            if self._store.damaged_files > files:
                return 0.0  # a new file was created
            rest = min(_LONGEST, _SHORTEST * 2.0 ** min(self._unwritten, 30))
            self._unwritten += 1
            self._rests_until = self._store.now() + rest
            return rest
        self._unwritten = 0
        return pause

    def nudge(self) -> None:
        """Report that the remote has just answered a forward."""
        self._works = True
        self._next = min(self._next, self._failed_at + _SHORTEST)
        self.wake.set()

    def _step(self) -> float | None:
        self._store.expire(self._keep)
        self._deliver()
        sent = not self.closed and self._store.now() >= self._next and self._send()
        self._deliver()
        if self._store.now() >= self._sync_at():
            self._store.sync()
            self._synced = self._store.now()
        return 0.0 if sent else self._pause()

    def _pause(self) -> float | None:
        self.due_at = math.inf
        send, deliver = self._store.due_at()
        at = min(max(send, self._next), deliver if self._on_late is not None else math.inf, self._sync_at())
        now = self._store.now()
        self.due_at = -math.inf if self._next > now else at
        return None if at == math.inf else max(_LEAST, at - now)

    def _sync_at(self) -> float:
        """Return when to sync to the disk next, and to store the time by which records expire."""
        store = self._store
        if store.unsynced:
            return self._synced + (_SYNC_EVERY if store.unsynced < UNSYNCED else _SYNC_LEAST)
        return self._synced + _SAVE_EVERY if store.counts["waiting"] + store.counts["answered"] else math.inf

    def _send(self) -> bool:
        """Send one request. Return whether the remote answered any of it, so that more may be sent at once."""
        self.due_at = -math.inf
        due = self._store.due(self._most, _MOST_BYTES)
        group = [(one, inputs) for one in due if (inputs := self._input(one)) is not None]
        if not group or self.closed:
            return False
        outcomes = self._outcomes([inputs for _, inputs in group])
        refused = [pair for pair, outcome in zip(group, outcomes, strict=True) if _is_refusal(outcome)]
        self._settle([one for one, _ in group], outcomes)
        if len(group) > 1 and refused:  # one bad input may have failed all of them: ask one by one
            outcomes, refused = self._alone(refused, outcomes)
        works = any(isinstance(outcome, Prediction) for outcome in outcomes)
        for one, _ in refused:
            self._refuse(one, counts=works or self._works)
        self._works = works
        return self._went(works, any(map(_is_unclear, outcomes)))

    def _alone(
        self, refused: list[_Asked], outcomes: list[Prediction | Failure]
    ) -> tuple[list[Prediction | Failure], list[_Asked]]:
        """Ask for each by itself, unless the remote seems to refuse everything."""
        outcomes, again = [one for one in outcomes if not _is_refusal(one)], []
        for one, inputs in refused:
            (outcome,) = self._outcomes([inputs])
            outcomes.append(outcome)
            self._settle([one], [outcome])
            if _is_refusal(outcome):
                again.append((one, inputs))
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
        except BaseException as error:  # it does not concern the inputs, which stay
            _LOG.warning("asking the remote failed: %s", type(error).__name__)
            return [Failure(Reason.DEADLINE, type(error).__name__)] * len(inputs)
        finally:
            self.asking = False
        return outcomes

    def _settle(self, asked: list[Question], outcomes: list[Prediction | Failure]) -> None:
        """Store the answers, and postpone the inputs whose failure blames neither the link nor the input."""
        pairs = [*zip(asked, outcomes, strict=True)]
        self._store.answer([(one.digest, pack_prediction(got)) for one, got in pairs if isinstance(got, Prediction)])
        for one, got in pairs:
            if _is_unclear(got):  # perhaps this input is what takes so long, or breaks the reply: let others pass
                soon = math.inf if self._works else _PAUSE_SHORTEST  # nothing was answered lately: hardly its fault
                self._store.postpone(one, _longer(one.pause), one.tries, soon=soon)

    def _refuse(self, one: Question, *, counts: bool) -> None:
        """Record a refusal; it counts against the input only if the remote answers others."""
        if counts and one.tries + 1 >= _REFUSALS:
            self._store.end(one, Ending.REFUSED)
        else:
            self._store.postpone(one, _longer(one.pause), one.tries + counts)

    def _went(self, works: bool, unclear: bool) -> bool:
        if unclear:
            self._most = max(1, self._most // 2)  # a thin link may carry fewer in time
        elif works:
            self._most = min(_MOST, self._most + 1)
        if works:
            self._failures, self._next = 0, -math.inf
        else:
            self._failed_at = self._store.now()
            pause = min(_LONGEST, _SHORTEST * 2.0 ** min(self._failures, 30)) * random.uniform(0.75, 1.25)
            self._next = self._failed_at + min(_LONGEST, max(_SHORTEST, pause))
            self._failures += 1
        return works

    def _input(self, one: Question) -> Batch | None:
        try:
            data = self._store.content(one)
            return None if data is None else unpack(data)
        except PackedError as error:
            _LOG.warning("an input in the outbox is damaged: %s", error)
            self._store.end(one, Ending.DAMAGED)
            return None

    def _deliver(self) -> None:
        """Deliver the answers, oldest first; remove each before delivering the next."""
        while self._on_late is not None:
            if self._handed is not None:
                self._store.end(self._handed, Ending.DELIVERED)
                self._handed = None
                self.delivering = False
            with self._store.lock:
                one = None if self.closed else self._store.take()
                self.delivering = one is not None
            if one is None:
                return
            late = read_late(self._store, one)
            if late is None:
                self.delivering = False
            else:
                self._hand(one, late, self._on_late)

    def _hand(self, one: Answered, late: Late, on_late: OnLate) -> None:
        try:
            on_late(late)
            self._handed = one
        except BaseException as error:  # the application's; its message may hold data
            _LOG.warning("on_late failed: %s; the answer comes again", type(error).__name__)
            self.delivering = False
            if one.tries + 1 >= _UNTAKEN:
                self._store.end(one, Ending.UNTAKEN)
            else:
                self._store.postpone(one, _longer(one.pause), one.tries + 1)


def read_late(store: Store, one: Answered) -> Late | None:
    """Return the answer that was taken; if it is damaged, remove it and return None."""
    try:
        return Late(one.key, unpack_prediction(one.local), unpack_prediction(one.remote), store.now() - one.since)
    except PackedError as error:
        _LOG.warning("an answer in the outbox is damaged: %s", error)
    store.end(one, Ending.DAMAGED)
    return None


def _longer(pause: float) -> float:
    return min(_PAUSE_LONGEST, max(_PAUSE_SHORTEST, 2 * pause))


def _is_unclear(outcome: Prediction | Failure) -> bool:
    """Return whether a reply was late, or no answer for a reason that other inputs may share."""
    return isinstance(outcome, Failure) and (
        outcome.reason is Reason.DEADLINE or (outcome.reason is Reason.REMOTE_ERROR and not outcome.about_input)
    )


def _is_refusal(outcome: Prediction | Failure) -> bool:
    return isinstance(outcome, Failure) and outcome.reason not in _UNREACHABLE and outcome.about_input
