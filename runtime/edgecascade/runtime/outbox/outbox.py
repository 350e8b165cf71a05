"""Inputs that the remote could not be asked in time, kept on disk until it answers."""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
import time
from collections import Counter

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.outbox.clock import Clock
from edgecascade.runtime.outbox.counts import OutboxCounts
from edgecascade.runtime.outbox.drain import UNSYNCED, Ask, Drain
from edgecascade.runtime.outbox.late import Late, LateAnswers, OnLate
from edgecascade.runtime.outbox.ledger import Ledger
from edgecascade.runtime.outbox.packed import pack, pack_verdict
from edgecascade.runtime.outbox.records import Cause, Ending
from edgecascade.types.answer import Prediction
from edgecascade.types.errors import ArgumentError

__all__ = ["Late", "Outbox", "OutboxCounts"]

_LOG = logging.getLogger("edgecascade.outbox")
_PATIENCE = 0.005  # seconds that `put` waits for others that write
_MOST_UNSYNCED = 64 << 20  # bytes written ahead, beyond which `put` itself must move them
_CLOCK = Clock()


class Outbox:
    """A queue on disk for one process: what it has acknowledged survives kill -9.

    A damaged or foreign file is moved to `path.damaged-<n>` and a new one begun, which is logged and counted. Where
    nothing can be written, nothing is kept, which is logged and counted too: only wrong arguments raise.

    Beside `path` there are `path-wal`, `path-shm` and `path-lock`; together they grow to about twice `most_bytes`
    plus 64 MiB, and never shrink. Do not open them in the same process by other means: closing them would free the
    system's lock.

    Args:
        path: of the file; its folder exists.
        most: inputs and undelivered answers together.
        most_bytes: of them together.
        keep: seconds after which an input that waits, or an answer that nobody takes, is let go. Clocks that jump
            do not shorten it.
        power_safe: whether each `put` waits until the disk has it (milliseconds), so that it survives the loss of
            power too. Otherwise that may cost the last minute's.
        clock: where time comes from.

    Raises:
        ArgumentError: an argument cannot mean anything, another outbox has the file open, or a newer version wrote it.
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
        self._patience = _PATIENCE if not power_safe else 0.1
        self._process = os.getpid()
        self._unkept: Counter[Cause] = Counter()
        self._counting = threading.Lock()
        self._ledger = Ledger(os.path.abspath(os.fspath(path)), power_safe=power_safe, clock=clock)
        self._drain: Drain | None = None
        self._thread: threading.Thread | None = None

    def put(self, key: str, inputs: Batch, local: Prediction, *, grace: float = 0.0) -> bool:
        """Keep one input. Never raises, and waits a few milliseconds at most for others that write.

        It writes into the system's cache and does not wait for the disk, unless `power_safe` is set. (Without
        `start`, once in 64 MiB it does.)

        Args:
            key: names the input to the application; one that is kept already is kept once.
            inputs: arrays [1, ...] of numbers, strings or, as objects, bytes; one, or one by name.
            local: what the application was told.
            grace: seconds in which its request may still be answered, so that it is not sent again.

        Returns:
            Whether it is kept, from now on whatever happens to this process; `counts` says why not.
        """
        try:
            cause = self._put(key, inputs, local, grace)
        except Exception as error:  # of the arguments: this is the way to an answer, and must not end it
            _LOG.warning("the outbox cannot keep this input: %s", type(error).__name__)
            cause = Cause.UNSUPPORTED
        if cause is not None:
            with self._counting:
                self._unkept[cause] += 1
                first = self._unkept[cause] == 1
            if first:
                _LOG.warning("the outbox did not keep an input: %s; said once", cause.value)
        return cause is None

    def answer(self, key: str, remote: Prediction) -> None:
        """The remote has answered a waiting input in the ordinary way after all; other keys are ignored."""
        self._same_process()
        one = self._ledger.held.waiting.get(key)
        if one is not None and self._ledger.answer(one, pack_verdict(remote)) and self._drain is not None:
            self._drain.wake.set()

    def start(self, ask: Ask, on_late: OnLate | None = None, *, patience: float = 30.0) -> None:
        """Start the thread that sends what waits, oldest first.

        Inputs of one kind leave together, 32 at most. While the remote cannot be reached, the thread tries again
        after 1 s to 300 s. An input that the remote refuses three times while it answers others is dropped.

        Args:
            ask: sends inputs [n, ...] and returns n verdicts or failures.
            on_late: takes each answer, in that thread: once if it returns, and again, up to five times, if it
                raises. If the process dies in it, the same answer comes again after the next start: its key tells.
                None leaves the answers to `late`.
            patience: seconds that one request may take.

        Raises:
            ArgumentError: it was started already, is closed, or `patience` is not above 0.
        """
        self._same_process()
        if self._drain is not None or self._ledger.unusable is Cause.CLOSED:
            raise ArgumentError("start: this outbox was started or closed already")
        if not patience > 0:
            raise ArgumentError(f"patience: expected seconds above 0, got {patience}")
        self._drain = Drain(self._ledger, ask, on_late, keep=self._keep, patience=patience)
        self._thread = threading.Thread(target=self._run, args=(self._drain,), name="edgecascade-outbox", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Say that the remote has just answered: what waits is sent at once, though once a second at most."""
        if self._drain is not None and self._ledger.held.waiting:
            self._drain.nudge()

    def late(self, timeout: float | None = 0.0) -> LateAnswers:
        """The answers that have come, oldest first, for an application that gave no `on_late`.

        Each is removed when the next one is asked for, or by `close`; after an exception or a `break` the last one
        comes again.

        Args:
            timeout: seconds to wait for each; None: until the outbox is closed.
        """
        self._same_process()
        return LateAnswers(self._ledger, timeout)

    def counts(self) -> OutboxCounts:
        """The counts as they are now."""
        self._same_process()
        with self._counting:
            unkept = {cause: self._unkept[cause] for cause in Cause}
        ledger = self._ledger
        with ledger.lock:
            return OutboxCounts(
                waiting=len(ledger.held.waiting),
                waiting_bytes=ledger.held.size,
                answered=len(ledger.held.answered),
                **{ending.value: ledger.held.totals[ending] for ending in Ending},
                unkept=unkept,
                damaged_files=ledger.damaged_files,
                unusable=ledger.unusable,
            )

    def close(self) -> None:
        """Stop the thread and let go of the file. A request under way is given up, and its inputs stay.

        A callback under way is waited for, up to 5 s; if it takes longer, the file is let go when it has returned.
        """
        if os.getpid() != self._process:
            return
        if self._drain is not None and self._thread is not None:
            self._drain.closed = True
            self._drain.wake.set()
            until = time.monotonic() + 5.0
            while self._thread.is_alive() and not self._drain.asking and time.monotonic() < until:
                if self._thread is threading.current_thread():
                    return  # called by `on_late`: the thread lets go when that has returned
                self._thread.join(0.005)
            if self._drain.delivering and self._thread.is_alive():
                return
        self._ledger.close()

    def _run(self, drain: Drain) -> None:
        drain.run()
        self._ledger.close()

    def _put(self, key: str, inputs: Batch, local: Prediction, grace: float) -> Cause | None:
        if os.getpid() != self._process:
            return Cause.FORKED
        if not isinstance(key, str) or not 0.0 <= grace < math.inf:
            return Cause.UNSUPPORTED
        data, kind = pack(inputs)
        opinion = pack_verdict(local)
        ledger = self._ledger
        if not ledger.lock.acquire(timeout=self._patience):
            return Cause.BUSY
        try:
            if ledger.unusable is not None:
                return ledger.unusable
            if key in ledger.held.waiting or key in ledger.held.answered:
                return None
            if len(ledger.held) >= self._most:
                return Cause.FULL
            if ledger.held.size + len(data) + len(opinion) + len(key) > self._most_bytes:
                return Cause.FULL
            ready = ledger.keep(key, kind, data, opinion, grace).ready
        except sqlite3.Error as error:
            return ledger.failed(error)
        finally:
            ledger.lock.release()
        self._tell(ready)
        return None

    def _tell(self, ready: float) -> None:
        drain, unsynced = self._drain, self._ledger.unsynced
        if drain is not None and (ready < drain.due_at or unsynced >= UNSYNCED):
            drain.wake.set()
        if drain is None and unsynced > _MOST_UNSYNCED:
            self._ledger.sync()

    def _same_process(self) -> None:
        if os.getpid() != self._process:
            raise ArgumentError("this outbox was opened before a fork: a child process opens one of its own")
