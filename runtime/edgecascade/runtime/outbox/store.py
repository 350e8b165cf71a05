"""The outbox's file: one SQLite database, so that committed changes survive kill -9.

An input has a row with its key in `input`, and points to a `question`, which is what the remote is asked. Inputs of the
same content share a question. The question's bytes lie apart in `content`, since SQLite rewrites a row as a whole. Once
the remote has replied, `answer` takes over the rows of `input`. Triggers keep the numbers in `count`; only a copy of
these is in memory, for the bounds.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from hashlib import blake2b
from threading import Condition, RLock
from typing import Any, NamedTuple, TypeVar

import numpy as np

from edgecascade.runtime.outbox.clock import Ages, Clock, Moment
from edgecascade.runtime.outbox.file import (
    PAGE,
    Cause,
    Ending,
    OlderVersion,
    Space,
    cause_of,
    checksum,
    connect,
    create,
    hold,
    set_aside,
)
from edgecascade.runtime.outbox.packed import Bytes, PackedError
from edgecascade.runtime.outbox.salvage import log_is_damaged, restore
from edgecascade.types.errors import ArgumentError

__all__ = ["Answered", "Question", "Store"]

_LOG = logging.getLogger("edgecascade.outbox")
_ANOTHER = b"\xff"  # in no text: between a key and the digest of another input that came under it
_PIECE = 256 << 10  # bytes that are read or written at once
_FULL = (Cause.DISK_FULL, Cause.DISK_ERROR)
_Change = TypeVar("_Change", bound=Callable[..., None])
_QUESTION = "q.id, q.digest, q.kind, q.size, q.pause, q.tries FROM question q"  # the fields of `Question`


class Question(NamedTuple):
    """A question to the remote, for one input or several with the same content.

    Attributes:
        id: higher for a later one.
        digest: BLAKE2b of its bytes.
        kind: questions of one kind can be sent in one request.
        size: number of bytes.
        pause: seconds by which it was postponed last.
        tries: how often the remote has refused it.
    """

    id: int
    digest: bytes
    kind: str
    size: int
    pause: float
    tries: int


class Answered(NamedTuple):
    """An answer that waits for the application.

    Attributes:
        id: of the input.
        key: the application's.
        since: when the input came, by `Store.now`.
        local: the local prediction's bytes.
        remote: the remote prediction's bytes.
        pause: seconds by which it was postponed last.
        tries: how often the application failed to take it.
    """

    id: int
    key: str
    since: float
    local: bytes
    remote: bytes
    pause: float
    tries: int


def _on_a_full_disk(change: _Change) -> _Change:
    """Repeat a change that failed after moving the log into the file, which needs no space and gives the log's free."""

    @wraps(change)
    def repeated(store: Store, *given: Any, **options: Any) -> None:
        try:
            change(store, *given, **options)
        except sqlite3.OperationalError as error:
            if cause_of(error) not in _FULL:
                raise
            store.checkpoint()
            change(store, *given, **options)

    return repeated  # type: ignore[return-value]


class Store:
    """The open file. Safe to share between threads; every change is one transaction.

    Methods raise `sqlite3.Error` if a change cannot be committed; nothing has changed then. A file that turns out to be
    damaged is moved to `path.damaged-<n>`, and its undamaged rows are copied into a new one. If no file can be used,
    `unusable` is the cause, and an empty database in memory replaces it.

    Args:
        path: path of the file; created if it does not exist.
        power_safe: whether each commit waits for the disk.
        clock: the source of time.

    Attributes:
        lock: guards the file; `arrived` is notified of an answer, and of the end.
        counts: numbers that are committed: `waiting` inputs, `answered` ones, the `size` of both in bytes, and the
            number of inputs for each `Ending`.
        unsynced: approximate bytes written since the last checkpoint, which a loss of power may cost.
        damaged_files: number of files moved aside.
        unusable: why the file cannot be used; None if it can.

    Raises:
        ArgumentError: the path is not a regular file or is in use, or the file is of a newer version.
    """

    def __init__(self, path: str, *, power_safe: bool, clock: Clock) -> None:
        self._path, self._power_safe = path, power_safe
        self.lock = RLock()
        self.arrived = Condition(self.lock)
        self._counting = RLock()  # never held during a write, so that `reserve` does not wait for the disk
        self.counts: dict[str, int] = {}
        self._pending = self._pending_size = 0
        self.unsynced = self.damaged_files = 0
        self.unusable: Cause | None = None
        self._said: set[Cause] = set()
        self._taken: set[int] = set()  # answers that are being delivered
        self._held: sqlite3.Connection | None = None
        self._space: Space | None = None
        self._db, last = self._open()
        ids = "SELECT max(id) FROM (SELECT max(id) AS id FROM input UNION ALL SELECT max(id) FROM answer)"
        self._next = int(self._db.execute(ids).fetchone()[0] or 0) + 1
        self._ages = Ages(clock, last)
        self.now, self.moment = self._ages.now, self._ages.moment
        with contextlib.suppress(sqlite3.Error):
            self.save()

    def reserve(self, size: int, most: int, most_bytes: int, most_pending: int) -> Cause | None:
        """Count an input as pending, or return why it does not fit. Does not wait for the disk."""
        with self._counting:
            if self.counts["waiting"] + self.counts["answered"] + self._pending >= most:
                return Cause.FULL
            if self.counts["size"] + self._pending_size + size > most_bytes:
                return Cause.FULL
            if self._pending and self._pending_size + size > most_pending:
                return Cause.BUSY
            self._pending += 1
            self._pending_size += size
            return None

    def unreserve(self, size: int) -> None:
        """Forget an input that is pending."""
        with self._counting:
            self._pending -= 1
            self._pending_size -= size

    def snapshot(self) -> dict[str, int]:
        """Return the numbers at one moment; inputs that are pending are among those that wait."""
        with self._counting:
            found = dict(self.counts)
            found["waiting"] += self._pending
            found["waiting_bytes"] = found.pop("size") + self._pending_size
            return found

    def has(self, key: str, data: Bytes) -> bool:
        """Return whether an input of this key and these bytes, or its answer, is stored."""
        with self._reading() as db:
            return _free_key(db, _blob(key), _digest(data)) is None

    @_on_a_full_disk
    def add(
        self, key: str, kind: str, data: Bytes, local: Bytes, *, moment: Moment, grace: float, reserved: int
    ) -> None:
        """Store an input that was reserved, unless it is stored under its key already.

        Args:
            key: the application's.
            kind: of the input.
            data: its bytes.
            local: the local prediction's bytes.
            moment: when it came.
            grace: seconds from then in which it is not sent.
            reserved: bytes by which it was counted as pending.
        """
        digest = _digest(data)
        question = (digest, kind, len(data), moment.age + grace)
        with self._writing(reserved) as db:
            if (blob := _free_key(db, _blob(key), digest)) is not None:
                if db.execute("INSERT OR IGNORE INTO question VALUES(NULL,?,?,?,?,0,0)", question).rowcount:
                    _write_content(db, data)
                size, total = len(local) + len(blob), checksum(blob, digest, local)
                row = (self._next, blob, digest, moment.age, 0.0, size, total, local)
                db.execute("INSERT INTO input VALUES(?,?,?,?,?,?,?,?)", row)
                self._next += 1
                self.unsynced += len(data) + len(local)

    def due(self, most: int, most_bytes: int) -> list[Question]:
        """Return the oldest question that may be sent now, and others of its kind.

        Questions come in the order of their pause, so that one that always fails does not block others.

        Args:
            most: number of questions in one request.
            most_bytes: their total size; a larger question is sent alone.
        """
        with self._reading() as db:
            now = self.now()
            oldest = f"SELECT {_QUESTION} WHERE +ready<=? ORDER BY pause, id LIMIT 1"  # +: by the index in this order
            row = db.execute(oldest, (now,)).fetchone()
            if row is None:
                return []
            first = Question._make(row)
            alike = f"SELECT {_QUESTION} WHERE +ready<=? AND kind=? AND pause=? ORDER BY id LIMIT ?"
            rows = db.execute(alike, (now, first.kind, first.pause, most)).fetchall()
        group, size = list[Question](), 0
        for one in map(Question._make, rows):
            size += one.size
            if group and size > most_bytes:
                break
            group.append(one)
        return group

    def content(self, one: Question) -> Bytes | None:
        """Return a question's bytes; None if the question is answered already.

        Raises:
            PackedError: they are damaged, or missing.
        """
        with self._reading() as db:
            found = "SELECT length(data) FROM question q LEFT JOIN content c ON c.id=q.id WHERE q.id=?"
            row = db.execute(found, (one.id,)).fetchone()
            if row is None:
                return None
            data = b"" if row[0] is None else _read_content(db, one.id, row[0])
        if _digest(data) != one.digest:
            raise PackedError("content: the bytes are damaged: their hash differs")
        return data

    @_on_a_full_disk
    def postpone(self, one: Question | Answered, pause: float, tries: int, *, soon: float = math.inf) -> None:
        """Postpone a question or an answer, and store how often it was tried.

        Args:
            one: a question or an answer.
            pause: seconds; others with a shorter pause come first.
            tries: how often it was tried.
            soon: seconds after which it may be tried again, if that is less than the pause.
        """
        table = "question" if isinstance(one, Question) else "answer"
        with self._writing() as db:
            values = (self.now() + min(pause, soon), pause, tries, one.id)
            db.execute(f"UPDATE {table} SET ready=?, pause=?, tries=? WHERE id=?", values)
        if isinstance(one, Answered):
            self.give_back(one.id)

    @_on_a_full_disk
    def answer(self, answers: Sequence[tuple[bytes, Bytes]]) -> None:
        """Replace all inputs with these digests by their answers."""
        now, rows = self.now(), []
        with self._writing() as db:
            for digest, remote in answers:
                found = db.execute("SELECT id, key, since, size, local, checksum FROM input WHERE digest=?", (digest,))
                for i, key, since, size, local, total in found.fetchall():
                    good = checksum(key, digest, local) == total  # else the answer's never matches, either
                    sealed = checksum(key, digest, local, remote) if good else -1
                    rows.append((i, key, digest, since, now, now, size + len(remote), sealed, local, remote))
            db.executemany("DELETE FROM input WHERE digest=?", [(digest,) for digest, _ in answers])
            db.executemany("INSERT INTO answer VALUES(?,?,?,?,?,?,0,0,?,?,?,?)", rows)  # in pages that are free now
            self.arrived.notify_all()

    def answer_input(self, data: Bytes, remote: Bytes) -> bool:
        """Replace all inputs with these bytes by their answers; return whether there were any."""
        digest = _digest(data)
        with self._reading() as db:
            found = db.execute("SELECT 1 FROM question WHERE digest=?", (digest,)).fetchone() is not None
            if found:
                self.answer([(digest, remote)])
            return found

    @_on_a_full_disk
    def end(self, one: Question | Answered, ending: Ending) -> None:
        """Remove a question with its inputs, or an answer, and count how it ended."""
        with self._writing() as db:
            if isinstance(one, Question):
                asked = "DELETE FROM input WHERE digest IN (SELECT digest FROM question WHERE id=?)"
                n = db.execute(asked, (one.id,)).rowcount
                db.execute("DELETE FROM question WHERE id=?", (one.id,))
            else:
                n = db.execute("DELETE FROM answer WHERE id=?", (one.id,)).rowcount
            db.execute("UPDATE count SET n=n+? WHERE name=?", (n, ending.value))
        if isinstance(one, Answered):
            self.give_back(one.id)

    @_on_a_full_disk
    def expire(self, keep: float) -> None:
        """Remove inputs and answers that came more than `keep` seconds ago, except answers that are being taken."""
        before = self.now() - keep
        with self._reading() as db:
            oldest = "SELECT min(t) FROM (SELECT min(since) AS t FROM input UNION ALL SELECT min(arrived) FROM answer)"
            (first,) = db.execute(oldest).fetchone()
            if first is None or first >= before:
                return
            with self._writing():
                n = db.execute("DELETE FROM input WHERE since<?", (before,)).rowcount
                old = f"DELETE FROM answer WHERE arrived<? AND id NOT IN {self._not_free}"
                n += db.execute(old, (before,)).rowcount
                db.execute("UPDATE count SET n=n+? WHERE name=?", (n, Ending.EXPIRED.value))

    def take(self) -> Answered | None:
        """Take the oldest answer that may be delivered; then call `end`, `postpone` or `give_back`.

        A damaged answer is removed.
        """
        columns = "id, key, since, local, remote, pause, tries, digest, checksum"
        while True:
            with self._reading() as db:
                which = f"WHERE ready<=? AND id NOT IN {self._not_free} ORDER BY arrived, id LIMIT 1"
                row = db.execute(f"SELECT {columns} FROM answer {which}", (self.now(),)).fetchone()
                if row is None:
                    return None
                i, key, since, local, remote, pause, tries, digest, total = row
                if total == checksum(key, digest, local, remote):
                    self._taken.add(i)
                    return Answered(i, _key(key), since, local, remote, pause, tries)
                _LOG.warning("an answer in the outbox is damaged: its CRC-32 differs")
                self.end(Answered(i, "", 0.0, b"", b"", 0.0, 0), Ending.DAMAGED)

    def give_back(self, id: int) -> None:
        """Let others take an answer that was taken."""
        self._taken.discard(id)

    def due_at(self) -> tuple[float, float]:
        """Return when the next question may be sent, and the next answer delivered; infinity if there is none."""
        with self._reading() as db:
            send = db.execute("SELECT min(ready) FROM question").fetchone()
            first = f"SELECT ready FROM answer WHERE id NOT IN {self._not_free} ORDER BY ready LIMIT 1"
            deliver = db.execute(first).fetchone() or (None,)
        return math.inf if send[0] is None else send[0], math.inf if deliver[0] is None else deliver[0]

    def sync(self) -> None:
        """Write a checkpoint, wait for the disk, and store the time."""
        with self._reading():
            self.checkpoint()
            self.save()  # the first write after a checkpoint waits for the disk
            self.unsynced = 0

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file, so that the log's space is free again."""
        with self._reading() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if self._space is not None:
                self._space.released()

    def save(self) -> None:
        """Store the time."""
        now = self.moment()
        with self._writing() as db:
            db.execute("DELETE FROM moment")
            db.execute("INSERT INTO moment VALUES(?,0.0,?,?)", now)

    def close(self) -> None:
        """Close the file; from then on nothing changes."""
        with self.lock:
            if self.unusable is not Cause.CLOSED:
                with contextlib.suppress(sqlite3.Error):
                    self.save()
                self.unusable = Cause.CLOSED
                self._disconnect()
                self._release()
                self.arrived.notify_all()

    @property
    def _not_free(self) -> str:
        """The answers that are taken, as a list in SQL."""
        return f"({','.join(map(str, self._taken))})"

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self.lock:
            db = self._db
            try:
                yield db
            except sqlite3.Error as error:
                if db is self._db:  # else a call within this one has replaced it
                    self._failed(error)
                raise

    @contextlib.contextmanager
    def _writing(self, reserved: int | None = None) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                if self._space is not None:
                    self._space.hold(db.execute("PRAGMA page_count").fetchone()[0])
                counts = dict(db.execute("SELECT name, n FROM count").fetchall())
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
            self.unsynced += 4 * PAGE
            with self._counting:
                self.counts = counts
                if reserved is not None:
                    self._pending -= 1
                    self._pending_size -= reserved

    def _failed(self, error: BaseException) -> None:
        """Log the cause of a failed access; if the file is damaged, create a new one. Call it with the lock held."""
        cause = cause_of(error)
        if cause not in self._said and self.unusable is not Cause.CLOSED:
            self._said.add(cause)
            _LOG.warning("the outbox cannot be used: %s (%s); logged once", cause.value, error)
        if cause is Cause.DAMAGED and self.unusable is None:
            self._renew(error)

    def _open(
        self, damaged: str = "", counts: dict[str, int] | None = None
    ) -> tuple[sqlite3.Connection, Moment | None]:
        """Open the file, or a new one with the rows of a damaged one, whose counts may be known."""
        if not os.path.isdir(os.path.dirname(self._path)):
            raise ArgumentError(f"path: expected a file in an existing folder, got {self._path}")
        if os.path.exists(self._path) and not os.path.isfile(self._path):
            raise ArgumentError(f"path: {self._path} is not a regular file")
        try:
            self._held = self._held or hold(self._path)
            try:
                return self._read(self._path, damaged, counts)
            except (sqlite3.Error, ValueError, TypeError) as error:
                if isinstance(error, ArgumentError) or cause_of(error) not in (Cause.DAMAGED, Cause.OTHER):
                    raise  # the disk's error, and not the file's
                return self._read(self._path, self._set_aside(error))
        except ArgumentError:
            self._release()
            raise
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            return self._nowhere(error)

    def _read(
        self, path: str, damaged: str = "", known: dict[str, int] | None = None
    ) -> tuple[sqlite3.Connection, Moment | None]:
        if path != ":memory:" and log_is_damaged(path, PAGE):
            raise sqlite3.DatabaseError("the write-ahead log is damaged")
        db, space = connect(path), None
        try:
            space = None if path == ":memory:" else Space(path)
            create(db, path, power_safe=self._power_safe)
            if space is not None:
                space.hold_log()
            if damaged:
                _restore(damaged, db, known)
            last, counts = _last_moment(db), dict(db.execute("SELECT name, n FROM count").fetchall())
            if not all(type(n) is int for n in counts.values()) or {one.value for one in Ending} - counts.keys():
                raise sqlite3.DatabaseError("the table count has invalid values")
        except BaseException:
            db.close()
            if space is not None:
                space.close()
            raise
        self._space = space
        with self._counting:
            self.counts = counts
        return db, last

    def _nowhere(self, error: BaseException) -> tuple[sqlite3.Connection, None]:
        self._release()
        self.unusable = cause_of(error)
        _LOG.warning("the outbox cannot be used, and nothing is stored: %s (%s)", self.unusable.value, error)
        return self._read(":memory:")[0], None

    def _set_aside(self, error: BaseException) -> str:
        """Move the file aside; return its new path if its rows can be read."""
        self.damaged_files += 1
        older = isinstance(error, OlderVersion)
        aside = set_aside(self._path, "old" if older else "damaged")
        _LOG.warning("the outbox was moved to %s, and a new one was created: %s", aside, error)
        return "" if older else aside

    def _renew(self, error: BaseException) -> None:
        """Create a new file, with the undamaged rows and the totals of the old one."""
        self._disconnect()
        try:
            self._db, _ = self._open(self._set_aside(error), self.counts)
        except (OSError, ArgumentError) as reason:
            self._db, _ = self._nowhere(reason)
        with contextlib.suppress(sqlite3.Error):
            self.save()

    def _disconnect(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        if self._space is not None:
            self._space.close()
            self._space = None

    def _release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


def _write_content(db: sqlite3.Connection, data: Bytes) -> None:
    """Store the bytes of the question that was inserted last, without holding the interpreter for milliseconds."""
    if len(data) <= _PIECE or sys.version_info < (3, 11):
        db.execute("INSERT INTO content VALUES(last_insert_rowid(),?)", (data,))
        return
    db.execute("INSERT INTO content VALUES(last_insert_rowid(),zeroblob(?))", (len(data),))
    ((id,),) = db.execute("SELECT last_insert_rowid()")
    with db.blobopen("content", "data", id) as blob, memoryview(data) as view:
        for at in range(0, len(data), _PIECE):
            blob.write(view[at : at + _PIECE])


def _read_content(db: sqlite3.Connection, id: int, size: int) -> Bytes:
    if size <= _PIECE or sys.version_info < (3, 11):
        found: bytes = db.execute("SELECT CAST(data AS BLOB) FROM content WHERE id=?", (id,)).fetchone()[0]
        return found
    data = np.empty(size, np.uint8).data
    with db.blobopen("content", "data", id, readonly=True) as blob:
        for at in range(0, size, _PIECE):
            piece = blob.read(_PIECE)
            data[at : at + len(piece)] = piece
    return data


def _restore(damaged: str, db: sqlite3.Connection, counts: dict[str, int] | None) -> None:
    try:
        restore(damaged, db, counts)
    except Exception as error:  # of reading any bytes; they stay in the file that was moved aside
        _LOG.warning("not all rows of the damaged outbox could be copied: %s", type(error).__name__)
        if db.in_transaction:
            db.execute("ROLLBACK")


def _last_moment(db: sqlite3.Connection) -> Moment | None:
    """Return the last moment known: the one stored, or that of a later input of the same process."""
    saved = db.execute("SELECT age, monotonic, boot FROM moment").fetchone()
    if saved is None:
        return None
    last = Moment._make(saved)
    (since,) = db.execute("SELECT since FROM input ORDER BY since DESC LIMIT 1").fetchone() or last[:1]
    return last if since <= last.age else Moment(since, last.monotonic + since - last.age, last.boot)


def _digest(data: Bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _blob(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _key(blob: bytes) -> str:
    """Return the application's key of a row."""
    return blob.partition(_ANOTHER)[0].decode("utf-8", "surrogatepass")


def _free_key(db: sqlite3.Connection, blob: bytes, digest: bytes) -> bytes | None:
    """Return under which key a row can store an input; None if that input is stored under its key already."""
    another = blob + _ANOTHER + digest
    same = "SELECT digest FROM {} WHERE key IN (?1, ?2)"
    found = db.execute(f"{same.format('input')} UNION ALL {same.format('answer')}", (blob, another)).fetchall()
    return None if (digest,) in found else another if found else blob
