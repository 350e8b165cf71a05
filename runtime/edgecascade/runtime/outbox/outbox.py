"""Inputs that the remote did not answer in time, stored on disk until it does."""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from edgecascade.runtime.background import Background
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.outbox.clock import Clock
from edgecascade.runtime.outbox.file import Cause, Ending, cause_of
from edgecascade.runtime.outbox.packed import Packing, pack_prediction, prediction_size
from edgecascade.runtime.outbox.sender import UNSYNCED, Ask, Late, OnLate, Sender, read_late
from edgecascade.runtime.outbox.store import Answered, Store
from edgecascade.types.answer import Prediction
from edgecascade.types.errors import ArgumentError

__all__ = ["Late", "LateAnswers", "OnLate", "Outbox", "OutboxCounts"]

_LOG = logging.getLogger("edgecascade.outbox")
_MOST_PENDING = 64 << 20  # bytes that are accepted and not written yet
_RETRY_SHORTEST, _RETRY_LONGEST = 0.05, 60.0  # seconds until a write that failed is tried again
_DISK_PATIENCE = 5.0  # seconds that closing waits for a write that hangs, or fails
_CLOSING = 1.0  # seconds
_CLOCK = Clock()


@dataclass(frozen=True)
class OutboxCounts:
    """A snapshot. The first eight are stored on disk with what they count.

    Attributes:
        waiting: inputs that wait for the remote.
        waiting_bytes: size of these inputs and of the answers not delivered yet.
        answered: answers not delivered yet.
        delivered: answers that the application has taken.
        refused: inputs that the remote, or later `egress`, refused for good.
        expired: inputs and answers that became too old.
        untaken: answers that `on_late` failed to take too often.
        damaged: inputs and answers that were lost because the file was damaged.
        not_stored: inputs that were not stored, by cause, in this process.
        damaged_files: files moved aside, in this process.
        unusable: why the outbox cannot store anything; None if it can.
    """

    waiting: int
    waiting_bytes: int
    answered: int
    delivered: int
    refused: int
    expired: int
    untaken: int
    damaged: int
    not_stored: Mapping[Cause, int]
    damaged_files: int
    unusable: Cause | None

    @property
    def acknowledged(self) -> int:
        """All inputs that were stored: each is counted as exactly one of the others."""
        ended = self.delivered + self.refused + self.expired + self.untaken + self.damaged
        return self.waiting + self.answered + ended


class Outbox:
    """A queue on disk for one process.

    A cascade hands over an input with `offer`: a thread of the outbox stores it a moment later, and from then on it
    survives kill -9. `put` stores it before it returns. Inputs with the same content are sent once, and answered
    under each of their keys. Inputs of other content under one key are all sent, and answered under that key.

    A damaged or foreign file is moved to `path.damaged-<n>`, one of an older version to `path.old-<n>`, and a new one
    is created, with all rows of a damaged file that are undamaged; this is logged and counted. If the disk cannot be
    written, nothing is stored; this is logged and counted as well. On a full disk, what is stored is sent and delivered
    all the same, since the space for that is held. Only invalid arguments raise.

    Beside `path` there are `path-wal` and `path-lock`; only their owner can read them. Together they grow to about
    twice `most_bytes` plus 64 MiB, and never shrink. No other program can open the file meanwhile. Do not open it in
    the same process by other means: closing it would free the system's lock.

    Args:
        path: path of the file, in an existing folder.
        most: largest number of inputs and undelivered answers together.
        most_bytes: their largest total size in bytes.
        keep: seconds after which an input that waits, or an answer that is not taken, is dropped. They are seconds for
            which the machine was on, so that no clock can shorten them.
        power_safe: whether each write waits for the disk (milliseconds), so that it also survives a loss of power.
            Otherwise a loss of power may cost the inputs of the last minute.
        clock: the source of time.

    Raises:
        ArgumentError: an argument is invalid, another outbox has the file open, or a newer version wrote it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        most: int = 10_000,
        most_bytes: int = 256 << 20,
        keep: float = 7 * 86_400.0,
        power_safe: bool = False,
        clock: Clock = _CLOCK,
    ) -> None:
        for name, value in (("most", most), ("most_bytes", most_bytes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name}: expected a whole number of 1 or more, got {value!r}")
        if not keep > 0:
            raise ArgumentError(f"keep: expected seconds above 0, got {keep}")
        self._most, self._most_bytes, self._keep = most, most_bytes, keep
        self._process = os.getpid()
        self._not_stored: Counter[Cause] = Counter()
        self._counting = threading.RLock()
        self._store = Store(os.path.realpath(path), power_safe=power_safe, clock=clock)
        self._writer = Background("edgecascade-outbox-write", patience=_DISK_PATIENCE, each=True)
        self._failing: Cause | None = None  # why the last write of the writer failed
        self._closing = threading.Event()
        self._give_up = math.inf  # when to stop trying to write to a disk that fails
        self._sender: Sender | None = None
        self._thread: threading.Thread | None = None

    def offer(self, key: str, inputs: Batch, local: Prediction, *, grace: float = 0.0) -> bool:
        """Take one input, to be stored in the background. Never raises, and never waits for the disk.

        Nothing is copied: do not write to `inputs` afterwards. If the disk fails, the input waits in memory and the
        write is tried again; until then no other input is accepted.

        Args:
            key: the application's name for the input. Several inputs may have one: each is stored and answered under
                it, and the same one only once.
            inputs: arrays [1, ...] of numbers, strings or, as objects, bytes; one, or one by name.
            local: the prediction that the application received.
            grace: seconds in which its request may still be answered, so that it is not sent again.

        Returns:
            Whether it is accepted. The bounds decide; `counts` gives the causes of refusals.
        """
        return self._counted(lambda: self._offer(key, inputs, local, grace))

    def put(self, key: str, inputs: Batch, local: Prediction, *, grace: float = 0.0) -> bool:
        """Store one input, with the arguments of `offer`. Never raises; waits for others that write, about a second.

        Returns:
            Whether it is stored. It then survives the end of this process.
        """
        return self._counted(lambda: self._put(key, inputs, local, grace))

    def answer(self, inputs: Batch, remote: Prediction) -> None:
        """Store the remote's late answer to an input, under each of its keys; it is ignored if the input does not wait.

        It is stored in the background, after the inputs offered before.
        """
        self._check_process()
        self._writer.run(partial(self._write_answer, inputs, remote))

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until the inputs offered before are stored, and return whether they are."""
        self._check_process()
        done = threading.Event()
        return self._writer.run(done.set) and done.wait(timeout)

    def start(self, ask: Ask, on_late: OnLate | None = None, *, patience: float = 30.0) -> None:
        """Start the thread that sends the waiting inputs, oldest first.

        Inputs of one kind leave together, at most 32. While the remote cannot be reached, the thread tries again after
        1 s to 300 s; so it does while the remote fails for a reason that any input would meet, such as HTTP 401 or 404.
        An input that the remote refuses three times while it answers others is dropped.

        Args:
            ask: sends inputs [n, ...] and returns n predictions or failures.
            on_late: takes each answer, in that thread: once if it returns, and up to five times if it raises. If the
                process dies in it, the same answer comes again after the next start, with the same key. None leaves the
                answers to `late`.
            patience: seconds that one request may take.

        Raises:
            ArgumentError: it was started already, is closed, or `patience` is not above 0.
        """
        self._check_process()
        if self._sender is not None or self._store.unusable is Cause.CLOSED:
            raise ArgumentError("start: expected an outbox that was not started or closed, got one that was")
        if not patience > 0:
            raise ArgumentError(f"patience: expected seconds above 0, got {patience}")
        self._sender = Sender(self._store, ask, on_late, keep=self._keep, patience=patience)
        self._thread = threading.Thread(target=self._run, args=(self._sender,), name="edgecascade-outbox", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Report that the remote has just answered: the waiting inputs are sent now, at most once a second."""
        if self._sender is not None and self._store.counts["waiting"]:
            self._sender.nudge()

    def late(self, timeout: float | None = 0.0) -> LateAnswers:
        """Return an iterator over the late answers, oldest first, for an application without `on_late`.

        Each is removed when the next one is asked for, or by `close`; after an exception or a `break` the last one
        comes again.

        Args:
            timeout: seconds to wait for each; None waits until the outbox is closed.
        """
        self._check_process()
        return LateAnswers(self._store, timeout)

    def counts(self) -> OutboxCounts:
        """Return the current counts."""
        self._check_process()
        with self._counting:
            not_stored = {cause: self._not_stored[cause] for cause in Cause}
        store = self._store
        return OutboxCounts(
            **store.snapshot(), not_stored=not_stored, damaged_files=store.damaged_files, unusable=store.unusable
        )

    def close(self, timeout: float = _CLOSING) -> None:
        """Store the offered inputs, stop the threads, and close the file. Inputs of a request under way stay stored.

        It takes as long as the disk needs to store one input after another. Inputs that the disk fails to take are
        tried once more; if it hangs, it is waited for 5 s.

        Args:
            timeout: seconds to wait for a running callback; if that takes longer, the file is closed when it returns.
        """
        if os.getpid() != self._process:
            return
        self._give_up = time.monotonic() + _DISK_PATIENCE
        self._closing.set()
        self._writer.close()
        until = time.monotonic() + timeout
        if self._sender is not None and self._thread is not None:
            self._sender.closed = True
            self._sender.wake.set()
            while self._thread.is_alive() and not self._sender.asking and time.monotonic() < until:
                if self._thread is threading.current_thread():
                    return  # called by `on_late`: the thread closes the file when that has returned
                self._thread.join(0.005)
            if self._sender.delivering and self._thread.is_alive():
                return
        self._store.close()

    def _run(self, sender: Sender) -> None:
        sender.run()
        self._store.close()

    def _counted(self, take: Callable[[], Cause | None]) -> bool:
        try:
            cause = take()
        except Exception:  # bad arguments must not cost an answer
            cause = Cause.UNSUPPORTED
        if cause is not None:
            self._count_refused(cause)
        return cause is None

    def _count_refused(self, cause: Cause) -> None:
        if cause is Cause.FORKED:
            return
        with self._counting:
            self._not_stored[cause] += 1
            first = self._not_stored[cause] == 1
        if first:
            self._writer.run(lambda: _LOG.warning("the outbox did not store an input: %s; logged once", cause.value))

    def _offer(self, key: str, inputs: Batch, local: Prediction, grace: float) -> Cause | None:
        cause = self._refusal(key, grace) or self._failing
        if cause is not None:
            return cause
        size, add = self._adding(key, inputs, local, grace)
        cause = self._store.reserve(size, self._most, self._most_bytes, _MOST_PENDING)
        if cause is None and not self._writer.run(partial(self._write, add, size)):
            self._store.unreserve(size)
            return Cause.CLOSED
        return cause

    def _put(self, key: str, inputs: Batch, local: Prediction, grace: float) -> Cause | None:
        cause = self._refusal(key, grace)
        if cause is not None:
            return cause
        size, add = self._adding(key, inputs, local, grace)
        try:
            cause = self._store.reserve(size, self._most, self._most_bytes, self._most_bytes)
            if cause is not None and self._store.has(key, Packing(inputs).data()):
                return None
            if cause is None:
                try:
                    add()
                except BaseException:
                    self._store.unreserve(size)
                    raise
        except sqlite3.Error as error:
            return cause_of(error)
        return cause

    def _refusal(self, key: str, grace: float) -> Cause | None:
        if os.getpid() != self._process:
            return Cause.FORKED
        return self._store.unusable if isinstance(key, str) and 0.0 <= grace < math.inf else Cause.UNSUPPORTED

    def _adding(self, key: str, inputs: Batch, local: Prediction, grace: float) -> tuple[int, Callable[[], None]]:
        """Return the bytes that an input needs, and a function that packs and stores it once they are reserved."""
        packing, moment = Packing(inputs), self._store.moment()
        size = packing.size + prediction_size(local) + len(key)

        def add() -> None:
            prediction = pack_prediction(local)
            self._store.add(key, packing.kind, packing.data(), prediction, moment=moment, grace=grace, reserved=size)
            sender, unsynced = self._sender, self._store.unsynced
            if sender is not None and (moment.age + grace < sender.due_at or unsynced >= UNSYNCED):
                sender.wake.set()
            if sender is None and unsynced > UNSYNCED:
                with suppress(sqlite3.Error):
                    self._store.sync()

        return size, add

    def _write(self, add: Callable[[], None], size: int) -> None:
        """Store one offered input; if the disk fails, try again until it succeeds or the outbox is closed."""
        pause, cause = _RETRY_SHORTEST, Cause.UNSUPPORTED
        while True:
            if self._failing is not None and time.monotonic() >= self._give_up:
                cause = self._failing
                break
            try:
                add()
                self._failing = None
                return
            except sqlite3.Error as error:
                self._failing = cause = self._store.unusable or cause_of(error)
            except Exception as error:
                _LOG.warning("the outbox cannot store an input: %s", type(error).__name__)
                self._failing = None  # this input is at fault, and not the file
                break
            if self._store.unusable is not None or self._closing.wait(pause):
                break
            pause = min(_RETRY_LONGEST, 2 * pause)
        self._store.unreserve(size)
        self._count_refused(cause)

    def _write_answer(self, inputs: Batch, remote: Prediction) -> None:
        if self._store.unusable is None:
            found = self._store.answer_input(Packing(inputs).data(), pack_prediction(remote))
            if found and self._sender is not None:
                self._sender.wake.set()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ArgumentError(
                "outbox: expected one opened in this process, got one opened before a fork; open another in the child"
            )


class LateAnswers:
    """An iterator over late answers. Each is removed when the next is requested, or by `close`.

    This is not a generator, because a generator dropped after an exception cannot be told from a closed one.
    """

    def __init__(self, store: Store, timeout: float | None) -> None:
        self._store, self._timeout = store, timeout
        self._given: Answered | None = None
        self._closed = False

    def __iter__(self) -> LateAnswers:
        return self

    def __next__(self) -> Late:
        """Return the next answer; it is not removed yet."""
        self._remove()
        until = None if self._timeout is None else time.monotonic() + self._timeout
        while (one := self._take(until)) is not None:
            with suppress(sqlite3.Error):
                late = read_late(self._store, one)
                if late is not None:
                    self._given = one
                    return late
        raise StopIteration

    def close(self) -> None:
        """Remove the last answer, and end."""
        self._closed = True
        self._remove()

    def __del__(self) -> None:
        if self._given is not None:
            self._store.give_back(self._given.id)

    def _remove(self) -> None:
        if self._given is not None:
            given, self._given = self._given, None
            with suppress(sqlite3.Error):  # it stays taken, and comes again after the next start
                self._store.end(given, Ending.DELIVERED)

    def _take(self, until: float | None) -> Answered | None:
        store = self._store
        with store.arrived:
            while not self._closed and store.unusable is not Cause.CLOSED:
                one = None
                with suppress(sqlite3.Error):
                    one = store.take()
                left = None if until is None else until - time.monotonic()
                if one is not None or (left is not None and left <= 0):
                    return one
                store.arrived.wait(left)
        return None
