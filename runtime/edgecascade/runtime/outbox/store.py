"""The outbox's file: one sqlite3 database, written ahead, so that what was committed survives kill -9."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

from edgecascade.runtime.outbox.clock import Moment
from edgecascade.runtime.outbox.file import PAGE, connect, create
from edgecascade.runtime.outbox.packed import Bytes
from edgecascade.runtime.outbox.records import Answered, Ending, Kept, Waiting

__all__ = ["Contents", "Store"]


_PATIENCE = 5  # milliseconds for which somebody else may keep a writer waiting


@dataclass(frozen=True)
class Contents:
    """What a file holds, in the order of arrival."""

    waiting: list[Waiting]
    answered: list[Answered]
    totals: dict[Ending, int]
    last: Moment | None
    next_id: int


class Store:
    """The open file. Methods that write are for one thread at a time; the others have a connection of their own.

    Args:
        path: created if it does not exist; ":memory:" for none.
        power_safe: whether a commit waits until the disk has it.

    Raises:
        ArgumentError: the file is of a newer version.
        sqlite3.Error: it is damaged, foreign, or cannot be written; `cause_of` tells.
    """

    def __init__(self, path: str, *, power_safe: bool = False) -> None:
        self._writer = self._reader = connect(path)
        self._reading = Lock()
        self.unsynced = 0  # bytes written since the last complete checkpoint, about
        try:
            create(self._writer, path, power_safe=power_safe)
            if path != ":memory:":
                self._reader = connect(path)
            self._writer.execute(f"PRAGMA busy_timeout={_PATIENCE}")
        except BaseException:
            self.close()
            raise

    def contents(self) -> Contents:
        """All that is kept, without the inputs' and answers' bytes."""
        db = self._writer
        tries = dict(db.execute("SELECT id, tries FROM attempt").fetchall())
        rows = db.execute("SELECT id, key, since, ready, kind, size, wall FROM input ORDER BY id").fetchall()
        waiting = [
            Waiting(id=i, key=_text(key), since=_real(since), ready=_real(ready), kind=str(kind), size=int(size))
            for i, key, since, ready, kind, size, _ in rows
        ]
        answers = db.execute("SELECT id, key, since, arrived, size FROM answer ORDER BY arrived, id").fetchall()
        answered = [
            Answered(id=i, key=_text(key), since=_real(since), arrived=_real(arrived), size=int(size))
            for i, key, since, arrived, size in answers
        ]
        kept: list[Kept] = [*waiting, *answered]
        for one in kept:
            one.tries = int(tries.get(one.id, 0))
        absences = db.execute("SELECT before, seconds FROM absence").fetchall()
        for before, seconds in absences:
            for one in kept:
                one.since -= seconds if one.id < before else 0.0
        totals = {Ending(name): int(n) for name, n in db.execute("SELECT ending, n FROM total")}
        saved = [Moment(*one) for one in db.execute("SELECT age, wall, monotonic, boot FROM moment")]
        ids = [*(one.id + 1 for one in kept), *(before for before, _ in absences)]
        return Contents(waiting, answered, totals, _latest(saved, rows), max(ids, default=1))

    def insert(self, one: Waiting, wall: float, local: Bytes, data: Bytes) -> None:
        """Keep an input: one transaction."""
        values = (one.id, _blob(one.key), one.since, wall, one.ready, one.kind, one.size, local, data)
        self._writer.execute("INSERT INTO input VALUES(?,?,?,?,?,?,?,?,?)", values)
        self.unsynced += len(data) + len(local) + 2 * PAGE

    def answer(self, one: Answered, remote: Bytes) -> None:
        """Put its answer in place of an input: one transaction."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO answer SELECT id, key, since, ?, ?, local, ? FROM input WHERE id=?",
                (one.arrived, one.size, remote, one.id),
            )
            db.execute("DELETE FROM input WHERE id=?", (one.id,))
            db.execute("DELETE FROM attempt WHERE id=?", (one.id,))

    def end(self, one: Kept, ending: Ending) -> None:
        """Remove an input or its answer, and count it: one transaction."""
        with self._transaction() as db:
            db.execute(f"DELETE FROM {'input' if isinstance(one, Waiting) else 'answer'} WHERE id=?", (one.id,))
            db.execute("DELETE FROM attempt WHERE id=?", (one.id,))
            db.execute("UPDATE total SET n = n + 1 WHERE ending=?", (ending.value,))

    def attempt(self, id: int, tries: int) -> None:
        """Remember how often an input was refused, or an answer not taken."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO attempt VALUES(?,?)", (id, tries))

    def count(self, totals: dict[Ending, int]) -> None:
        """Begin with these totals."""
        with self._transaction() as db:
            db.executemany("UPDATE total SET n=? WHERE ending=?", [(n, e.value) for e, n in totals.items()])

    def save(self, moment: Moment) -> None:
        """Remember the time. The first write after a checkpoint waits for the disk: let it be this one."""
        with self._transaction() as db:
            db.execute("DELETE FROM moment")
            values = (moment.age, moment.wall, moment.monotonic, moment.boot)
            db.execute("INSERT INTO moment VALUES(?,?,?,?)", values)

    def absent(self, before: int, seconds: float, oldest: int) -> None:
        """Remember that inputs of lower ids than `before` are older, and forget what no id from `oldest` on needs."""
        with self._transaction() as db:
            db.execute("DELETE FROM absence WHERE before<=?", (oldest,))
            longer = "ON CONFLICT(before) DO UPDATE SET seconds = seconds + excluded.seconds"
            db.execute(f"INSERT INTO absence VALUES(?,?) {longer}", (before, seconds))

    def read(self, one: Kept) -> tuple[bytes, bytes] | None:
        """The local verdict, and the input's or the remote's verdict's bytes."""
        table = "data FROM input" if isinstance(one, Waiting) else "remote FROM answer"
        with self._reading:
            rows = self._reader.execute(f"SELECT local, {table} WHERE id=?", (one.id,)).fetchall()
        return rows[0] if rows else None

    def checkpoint(self) -> None:
        """Move what was written ahead into its place and wait for the disk, while writers go on."""
        with self._reading:
            self._reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Let go of the file."""
        with self._reading:
            for connection in (self._reader, self._writer):
                with contextlib.suppress(sqlite3.Error):
                    connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            raise
        self.unsynced += 4 * PAGE


def _latest(saved: list[Moment], rows: list[Any]) -> Moment | None:
    """The last moment known: the one saved, or that of a later input, of the same process."""
    if not saved:
        return None
    last = saved[0]
    age, wall = max(((since, wall) for _, _, since, _, _, _, wall in rows), default=(last.age, last.wall))
    return last if age <= last.age else Moment(age, wall, last.monotonic + age - last.age, last.boot)


def _blob(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _text(key: Any) -> str:
    if not isinstance(key, bytes):
        raise TypeError("a key is no blob")
    return key.decode("utf-8", "surrogatepass")


def _real(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("a time is no number")
    return number
