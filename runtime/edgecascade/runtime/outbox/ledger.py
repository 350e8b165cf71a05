"""What the outbox holds, in memory and on disk as one: each change is committed first, then seen."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from threading import Condition, Lock

from edgecascade.runtime.outbox.batch import batch
from edgecascade.runtime.outbox.clock import Ages, Clock
from edgecascade.runtime.outbox.file import cause_of
from edgecascade.runtime.outbox.held import Held
from edgecascade.runtime.outbox.packed import Bytes
from edgecascade.runtime.outbox.place import Place
from edgecascade.runtime.outbox.records import Answered, Cause, Ending, Kept, Waiting
from edgecascade.runtime.outbox.store import Store

__all__ = ["Ledger"]

_LOG = logging.getLogger("edgecascade.outbox")
_MOST_UNSYNCED = 64 << 20  # bytes
_SHORTEST, _LONGEST = 2.0, 3600.0  # seconds


class Ledger:
    """Inputs that wait and answers that were not taken, by key, oldest first. Safe to share between threads.

    Nothing but the constructor raises: a change that cannot be committed has not happened, and says so. A file that
    turns out damaged is moved aside, and a new one begun.

    Args:
        path: of the file.
        power_safe: whether each commit waits for the disk.
        clock: where time comes from.

    Raises:
        ArgumentError: the path is no file's, in use, or a newer version's.
    """

    def __init__(self, path: str, *, power_safe: bool, clock: Clock) -> None:
        self.lock = Lock()
        self.arrived = Condition(self.lock)  # an answer, or the end
        self._place = Place(path, power_safe=power_safe)
        self._closed = False
        self._said: set[Cause] = set()
        self._store, contents = self._place.open()
        self.held = Held(contents)
        self._next = self._own = contents.next_id
        self._ages = Ages(clock, contents.last)
        self.now = self._ages.now
        self.save()

    def keep(self, key: str, kind: str, data: Bytes, local: Bytes, grace: float) -> Waiting:
        """Keep an input; call it with the lock held.

        Raises:
            sqlite3.Error: it could not be written.
        """
        moment = self._ages.moment()
        size = len(data) + len(local) + len(key)
        one = Waiting(id=self._next, key=key, since=moment.age, size=size, ready=moment.age + grace, kind=kind)
        self._store.insert(one, moment.wall, local, data)
        self._next += 1
        self.held.add(one)
        return one

    def answer(self, one: Waiting, remote: Bytes) -> bool:
        """Put its answer in place of an input. False: it is not there any more, or could not be written."""
        with self.lock:
            if one not in self.held:
                return False
            size = len(remote) + len(one.key)
            done = Answered(id=one.id, key=one.key, since=one.since, size=size, arrived=self.now())
            if not self._commit(lambda: self._store.answer(done, remote)):
                self._pause(one)
                return False
            self.held.remove(one)
            self.held.add(done)
            self.arrived.notify_all()
            return True

    def end(self, one: Kept, ending: Ending) -> bool:
        """Let go of it, and count how it ended. False: that could not be written."""
        with self.lock:
            if one not in self.held:
                return True
            if not self._commit(lambda: self._store.end(one, ending)):
                self._pause(one)
                return False
            self.held.remove(one)
            self.held.totals[ending] += 1
            return True

    def postpone(self, one: Kept, tries: int) -> None:
        """Leave it alone for a while, twice as long each time, and remember how often it was tried for nothing."""
        with self.lock:
            self._pause(one)
            if tries != one.tries:
                one.tries = tries
                self._commit(lambda: self._store.attempt(one.id, tries))

    def due(self, most: int, most_bytes: int) -> list[Waiting]:
        """The oldest input that may be sent, and others of its kind; those that were put off before come last."""
        with self.lock:  # a copy, so that nobody who puts waits for who looks through all
            waiting = [*self.held.waiting.values()]
        return batch(waiting, self.now(), most, most_bytes)

    def due_at(self) -> tuple[float, float]:
        """When the next input may be sent, and the next answer delivered; infinity if there is none."""
        with self.lock:
            return self.held.due_at()

    def take(self) -> Answered | None:
        """The oldest answer that nobody has; call it with the lock held, and `end` it or set `taken` back."""
        return self.held.take(self.now())

    def read(self, one: Kept) -> tuple[bytes, bytes] | None:
        """Its local verdict, and the input's or the remote's verdict's bytes. None: it is not there.

        Raises:
            sqlite3.Error: it cannot be read now.
        """
        store = self._store
        try:
            return store.read(one)
        except sqlite3.Error as error:
            with self.lock:
                if store is self._store:
                    self.failed(error)
            raise

    def expire(self, keep: float) -> None:
        """Let go of what is older."""
        absence = self._ages.absence()
        if absence:
            self._add_absence(absence)
        with self.lock:
            old = self.held.older(self.now() - keep)
        for one in old:
            self.end(one, Ending.EXPIRED)

    @property
    def unusable(self) -> Cause | None:
        """Why nothing can be kept; None if it can."""
        return Cause.CLOSED if self._closed else self._place.unusable

    @property
    def damaged_files(self) -> int:
        """How many were moved aside."""
        return self._place.damaged_files

    @property
    def unsynced(self) -> int:
        """Bytes that a loss of power may cost, about."""
        return self._store.unsynced

    def sync(self) -> None:
        """Wait until the disk has everything, while others go on writing; and remember the time."""
        store = self._store
        try:
            complete = any(self._synced(store, last) for last in (False, False, False, True))
        except sqlite3.Error as error:
            with self.lock:
                if store is self._store:
                    self.failed(error)
            return
        if not complete:
            self.save()

    def save(self) -> None:
        """Remember the time."""
        with self.lock:
            self._commit(lambda: self._store.save(self._ages.moment()))

    def close(self) -> None:
        """Let go of the file; from then on nothing changes."""
        with self.lock:
            if not self._closed:
                self._commit(lambda: self._store.save(self._ages.moment()))
                self._closed = True
                self._store.close()
                self._place.release()
                self.arrived.notify_all()

    def failed(self, error: BaseException) -> Cause:
        """What a failed write means; call it with the lock held."""
        cause = cause_of(error)
        if cause not in self._said:
            self._said.add(cause)
            _LOG.warning("the outbox cannot be changed: %s (%s); said once", cause.value, error)
        if cause is Cause.DAMAGED and self.unusable is None:
            self._renew(error)
        return cause

    def _synced(self, store: Store, last: bool) -> bool:
        """Whether nothing was written meanwhile: then what comes next is written from the start again."""
        with self.lock:
            before = store.unsynced
        if not last:
            store.checkpoint()
        elif before < _MOST_UNSYNCED:
            return False
        with self.lock:
            if last:  # more comes than is moved: for once, it has to wait
                store.checkpoint()
            elif store.unsynced != before:
                return False
            if store is self._store and self._commit(lambda: store.save(self._ages.moment())):
                store.unsynced = 0
            return True

    def _add_absence(self, seconds: float) -> None:
        with self.lock:
            held = self.held.all()
            oldest = min((one.id for one in held), default=self._own)
            self._commit(lambda: self._store.absent(self._own, seconds, oldest))
            for one in held:
                one.since -= seconds if one.id < self._own else 0.0

    def _pause(self, one: Kept) -> None:
        one.pause = min(_LONGEST, max(_SHORTEST, 2 * one.pause))
        one.ready = self.now() + one.pause

    def _commit(self, write: Callable[[], None]) -> bool:
        if self.unusable is not None:
            return False
        try:
            write()
        except sqlite3.Error as error:
            self.failed(error)
            return False
        return True

    def _renew(self, error: BaseException) -> None:
        """Begin a new file, with the totals of the old one."""
        self._store.close()
        self.held.lose()
        self._store = self._place.renew(error)
        self._commit(lambda: self._store.count(self.held.totals))
        self._commit(lambda: self._store.save(self._ages.moment()))
