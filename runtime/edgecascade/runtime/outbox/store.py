"""The outbox's file: one SQLite database that holds everything, so that what was committed survives kill -9.

An input has a row with its key in `input`, and points to a `question`, which is what the remote is asked. Inputs of the
same content share a question. The question's bytes lie apart in `content`, since SQLite rewrites a row as a whole. Once
the remote has replied, `answer` takes over the rows of `input`. Only the counters that bound the outbox are in memory.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import sqlite3
import zlib
from collections.abc import Iterator
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from threading import Condition, Lock, RLock
from typing import Any, NamedTuple

from edgecascade.runtime.outbox.clock import Ages, Clock, Moment
from edgecascade.runtime.outbox.packed import Bytes, PackedError
from edgecascade.types.errors import ArgumentError

__all__ = ["Answered", "Cause", "Ending", "Question", "Store", "cause_of"]

_LOG = logging.getLogger("edgecascade.outbox")
_APPLICATION, _VERSION = 0x65634F42, 2
_PAGE = 8192  # bytes: larger pages are faster for images, and wear flash more with small inputs
_KEPT_ASIDE = 3  # damaged files
_BUSY = 1.0  # seconds that a program which reads the file may delay a write
_SCHEMA = (
    "CREATE TABLE question(id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, kind TEXT NOT NULL,"
    " size INTEGER NOT NULL, ready REAL NOT NULL, pause REAL NOT NULL, tries INTEGER NOT NULL)",
    "CREATE TABLE content(id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE input(id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, digest BLOB NOT NULL, since REAL NOT NULL,"
    " wall REAL NOT NULL, size INTEGER NOT NULL, checksum INTEGER NOT NULL, local BLOB NOT NULL)",
    "CREATE INDEX asking ON input(digest)",
    "CREATE INDEX age ON input(since, wall)",
    "CREATE TABLE answer(id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, digest BLOB NOT NULL, since REAL NOT NULL,"
    " arrived REAL NOT NULL, ready REAL NOT NULL, pause REAL NOT NULL, tries INTEGER NOT NULL, size INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL, local BLOB NOT NULL, remote BLOB NOT NULL)",
    "CREATE INDEX arrival ON answer(arrived, since, ready)",
    "CREATE TABLE total(ending TEXT PRIMARY KEY, n INTEGER NOT NULL)",
    "CREATE TABLE moment(age REAL NOT NULL, wall REAL NOT NULL, monotonic REAL NOT NULL, boot TEXT NOT NULL)",
    f"PRAGMA application_id={_APPLICATION}",
    f"PRAGMA user_version={_VERSION}",
)
_TYPES = {  # what only damage can change
    "question": {
        "digest": "blob",
        "kind": "text",
        "size": "integer",
        "ready": "real",
        "pause": "real",
        "tries": "integer",
    },
    "input": {"key": "blob", "digest": "blob", "since": "real", "wall": "real", "size": "integer", "local": "blob"},
    "answer": {
        "key": "blob",
        "since": "real",
        "arrived": "real",
        "ready": "real",
        "size": "integer",
        "tries": "integer",
    },
}


class Cause(str, Enum):
    """Why an input was not stored."""

    FULL = "full"  # by count or bytes: what is stored already has been acknowledged, so the newest is refused
    DISK_FULL = "disk full"
    READ_ONLY = "read-only"
    DISK_ERROR = "disk error"
    BUSY = "busy"  # the file was written by others, or inputs came faster than they could be written
    DAMAGED = "damaged"  # the file was found to be damaged; the next input goes to a new one
    UNSUPPORTED = "unsupported"  # an input of a type that cannot be stored
    CLOSED = "closed"
    FORKED = "forked"  # in a child of the process that opened the file
    OTHER = "other"


class Ending(str, Enum):
    """What became of an input that was acknowledged and is not stored any more."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    EXPIRED = "expired"
    UNTAKEN = "untaken"
    DAMAGED = "damaged"


# By message, since Python 3.10 has no error codes; SQLite's messages do not change.
_CAUSES = {
    "database or disk is full": Cause.DISK_FULL,
    "attempt to write a readonly database": Cause.READ_ONLY,
    "unable to open database file": Cause.READ_ONLY,
    "disk I/O error": Cause.DISK_ERROR,
    "database is locked": Cause.BUSY,
    "Could not decode": Cause.DAMAGED,
    "no such": Cause.DAMAGED,  # table or column
}


class Question(NamedTuple):
    """What the remote is to be asked, for one input or for several with the same content.

    Attributes:
        id: higher for a later one.
        digest: of its bytes.
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
        size: number of bytes that it counts for.
    """

    id: int
    key: str
    since: float
    local: bytes
    remote: bytes
    pause: float
    tries: int
    size: int


def _digest(data: Bytes) -> bytes:
    """Return a hash of an input's bytes, equal for equal inputs."""
    return blake2b(data, digest_size=16).digest()


class Store:
    """The open file. Safe to share between threads; every change is one transaction.

    Methods raise `sqlite3.Error` if a change cannot be committed, which has then not happened. A file that turns out to
    be damaged is moved to `path.damaged-<n>`, and a new one begun. Where no file can be used, `unusable` says why, and
    an empty database in memory takes its place.

    Args:
        path: of the file; created if it does not exist.
        power_safe: whether each commit waits for the disk.
        clock: the source of time.

    Attributes:
        lock: guards the file; `arrived` is notified of an answer, and of the end.
        waiting, answered, size: inputs, answers, and the bytes of both.
        pending, pending_size: inputs that are taken and not written yet, and their bytes.
        totals: number of inputs by how they ended.
        unsynced: bytes written since the last checkpoint, about: what a loss of power may cost.
        damaged_files: number of files moved aside.
        unusable: why nothing can be stored; None if it can.

    Raises:
        ArgumentError: the path is not a file's, is in use, or the file is of a newer version.
    """

    def __init__(self, path: str, *, power_safe: bool, clock: Clock) -> None:
        self._path, self._power_safe = path, power_safe
        self.lock = RLock()
        self.arrived = Condition(self.lock)
        self._counting = Lock()  # never held during a write, so that `reserve` does not wait for the disk
        self.waiting = self.answered = self.size = self.pending = self.pending_size = 0
        self.totals = dict.fromkeys(Ending, 0)
        self.unsynced = self.damaged_files = 0
        self.unusable: Cause | None = None
        self._said: set[Cause] = set()
        self._taken: set[int] = set()  # answers that are being delivered
        self._held: sqlite3.Connection | None = None
        self._db, last = self._open()
        self._next = self._own = self._first_id()
        self._ages = Ages(clock, last)
        self.now, self.moment = self._ages.now, self._ages.moment
        with contextlib.suppress(sqlite3.Error):
            self.save()

    # Counters.

    def reserve(self, size: int, most: int, most_bytes: int, most_pending: int) -> Cause | None:
        """Count an input as pending, or return why there is no room for it. Does not wait for the disk."""
        with self._counting:
            if self.waiting + self.answered + self.pending >= most:
                return Cause.FULL
            if self.size + self.pending_size + size > most_bytes:
                return Cause.FULL
            if self.pending and self.pending_size + size > most_pending:
                return Cause.BUSY
            self.pending += 1
            self.pending_size += size
            return None

    def unreserve(self, size: int) -> None:
        """Forget an input that is pending."""
        self._count(pending=-1, pending_size=-size)

    def snapshot(self) -> dict[str, int]:
        """Return all counters at one moment, by name; inputs that are pending are among those that wait."""
        with self._counting:
            totals = {ending.value: self.totals[ending] for ending in Ending}
            return {
                "waiting": self.waiting + self.pending,
                "waiting_bytes": self.size + self.pending_size,
                "answered": self.answered,
                **totals,
            }

    def _count(
        self,
        *,
        waiting: int = 0,
        answered: int = 0,
        size: int = 0,
        pending: int = 0,
        pending_size: int = 0,
        ended: tuple[Ending, int] | None = None,
    ) -> None:
        with self._counting:
            self.waiting += waiting
            self.answered += answered
            self.size += size
            self.pending += pending
            self.pending_size += pending_size
            if ended is not None:
                self.totals[ended[0]] += ended[1]

    # Inputs and questions.

    def has(self, key: str) -> bool:
        """Whether an input or an answer of this key is stored."""
        with self._reading() as db:
            found = "SELECT 1 FROM input WHERE key=?1 UNION ALL SELECT 1 FROM answer WHERE key=?1"
            return db.execute(found, (_blob(key),)).fetchone() is not None

    def add(
        self,
        key: str,
        kind: str,
        data: Bytes,
        local: Bytes,
        *,
        moment: Moment,
        grace: float,
        reserved: int | None = None,
    ) -> None:
        """Store an input, unless its key is stored already.

        Args:
            key: the application's.
            kind: of the input.
            data: its bytes.
            local: the local prediction's bytes.
            moment: when it came.
            grace: seconds from then in which it is not sent.
            reserved: bytes that it was counted as pending by, if it was.
        """
        digest, size, ready = _digest(data), len(local) + len(key), moment.age + grace
        blob = _blob(key)
        pending, pending_size = (0, 0) if reserved is None else (-1, -reserved)
        with self.lock:
            if self.has(key):
                self._count(pending=pending, pending_size=pending_size)
                return
            with self._writing() as db:
                known = db.execute("SELECT 1 FROM question WHERE digest=?", (digest,)).fetchone()
                if known is None:
                    columns = "digest, kind, size, ready, pause, tries"
                    values = (digest, kind, len(data), ready)
                    question = db.execute(f"INSERT INTO question({columns}) VALUES(?,?,?,?,0,0)", values).lastrowid
                    db.execute("INSERT INTO content VALUES(?,?)", (question, data))
                    size += len(data)
                checksum = _checksum(blob, digest, local)
                row = (self._next, blob, digest, moment.age, moment.wall, len(local) + len(key), checksum, local)
                db.execute("INSERT INTO input VALUES(?,?,?,?,?,?,?,?)", row)
            self._next += 1
            self.unsynced += len(data) + len(local)
            self._count(waiting=1, size=size, pending=pending, pending_size=pending_size)

    def due(self, most: int, most_bytes: int) -> list[Question]:
        """Return the oldest question that may be sent now, and others of its kind.

        Those that were postponed come after those that were postponed for less: one that never gets through stops no
        other.

        Args:
            most: number of questions in one request.
            most_bytes: of them together; a question that is larger leaves alone.
        """
        columns = "SELECT id, digest, kind, size, pause, tries FROM question WHERE ready<=?"
        with self._reading() as db:
            now = self.now()
            first = db.execute(f"{columns} ORDER BY pause, id LIMIT 1", (now,)).fetchone()
            if first is None:
                return []
            alike = f"{columns} AND kind=? AND pause=? ORDER BY id LIMIT ?"
            rows = db.execute(alike, (now, first[2], first[4], most)).fetchall()
        group, size = list[Question](), 0
        for one in map(Question._make, rows):
            size += one.size
            if group and size > most_bytes:
                break
            group.append(one)
        return group

    def content(self, one: Question) -> bytes:
        """Return a question's bytes.

        Raises:
            PackedError: they are damaged, or not there.
        """
        with self._reading() as db:
            row = db.execute("SELECT data FROM content WHERE id=?", (one.id,)).fetchone()
        if row is None or not isinstance(row[0], bytes) or _digest(row[0]) != one.digest:
            raise PackedError("content: the bytes are damaged: their hash differs")
        return row[0]

    def postpone(self, one: Question | Answered, pause: float, tries: int) -> None:
        """Leave a question or an answer alone for some seconds, and store how often it was tried."""
        table = "question" if isinstance(one, Question) else "answer"
        with self._writing() as db:
            values = (self.now() + pause, pause, tries, one.id)
            db.execute(f"UPDATE {table} SET ready=?, pause=?, tries=? WHERE id=?", values)
        if isinstance(one, Answered):
            self.give_back(one.id)

    def answer(self, one: Question, remote: Bytes) -> None:
        """Put the answer in place of all inputs that ask a question."""
        now = self.now()
        with self.lock:
            with self._writing() as db:
                rows = db.execute(
                    "SELECT id, key, since, size, local, checksum FROM input WHERE digest=?", (one.digest,)
                )
                answered = []
                for i, key, since, size, local, checksum in rows.fetchall():
                    good = _checksum(key, one.digest, local) == checksum  # else the answer's never matches, either
                    sealed = _checksum(key, one.digest, local, remote) if good else -1
                    answered.append((i, key, one.digest, since, now, size + len(remote), sealed, local, remote))
                db.executemany("INSERT INTO answer VALUES(?,?,?,?,?,0,0,0,?,?,?,?)", answered)
                removed = self._drop(db, one)
            n = len(answered)
            self._count(waiting=-n, answered=n, size=n * len(remote) - removed)
            self.arrived.notify_all()

    def answer_key(self, key: str, remote: Bytes) -> bool:
        """Do the same for the question of the input with this key, if there is one; return whether there was."""
        columns = "q.id, q.digest, q.kind, q.size, q.pause, q.tries"
        with self.lock:
            with self._reading() as db:
                found = f"SELECT {columns} FROM input i JOIN question q ON q.digest=i.digest WHERE i.key=?"
                row = db.execute(found, (_blob(key),)).fetchone()
            if row is not None:
                self.answer(Question._make(row), remote)
            return row is not None

    def end(self, one: Question | Answered, ending: Ending) -> None:
        """Remove a question with its inputs, or an answer, and count how it ended."""
        with self.lock:
            if isinstance(one, Question):
                with self._writing() as db:
                    found = "SELECT count(*), total(size) FROM input WHERE digest=?"
                    n, size = db.execute(found, (one.digest,)).fetchone()
                    size = int(size) + self._drop(db, one)
                    self._total(db, ending, n)
                self._count(waiting=-n, size=-size, ended=(ending, n))
            else:
                with self._writing() as db:
                    n = db.execute("DELETE FROM answer WHERE id=?", (one.id,)).rowcount
                    self._total(db, ending, n)
                self._count(answered=-n, size=-n * one.size, ended=(ending, n))
                self.give_back(one.id)

    def expire(self, keep: float) -> None:
        """Remove inputs and answers that came more than `keep` seconds ago, except answers that are being taken."""
        absence = self._ages.absence()
        before = self.now() - keep
        with self.lock:
            if absence:
                with self._writing() as db:
                    for table in ("input", "answer"):
                        db.execute(f"UPDATE {table} SET since=since-? WHERE id<?", (absence, self._own))
            with self._reading() as db:
                oldest = db.execute("SELECT min(since) FROM input").fetchone()[0]
                first = db.execute("SELECT min(arrived) FROM answer").fetchone()[0]
            if not any(one is not None and one < before for one in (oldest, first)):
                return
            with self._writing() as db:
                old, size = db.execute("SELECT count(*), total(size) FROM input WHERE since<?", (before,)).fetchone()
                db.execute("DELETE FROM input WHERE since<?", (before,))
                lone = "FROM question WHERE digest NOT IN (SELECT digest FROM input)"
                size += db.execute(f"SELECT total(size) {lone}").fetchone()[0]
                db.execute(f"DELETE FROM content WHERE id IN (SELECT id {lone})")
                db.execute(f"DELETE {lone}")
                gone = f"FROM answer WHERE arrived<? AND id NOT IN {self._taken_now()}"
                late, bytes_ = db.execute(f"SELECT count(*), total(size) {gone}", (before,)).fetchone()
                db.execute(f"DELETE {gone}", (before,))
                self._total(db, Ending.EXPIRED, old + late)
            self._count(waiting=-old, answered=-late, size=-int(size + bytes_), ended=(Ending.EXPIRED, old + late))

    # Answers.

    def take(self) -> Answered | None:
        """Return the oldest answer that may be delivered and that is not taken; `end`, `postpone` or give it back.

        A damaged answer is removed.
        """
        columns = "id, key, since, local, remote, pause, tries, size, digest, checksum"
        with self.lock:
            while True:
                with self._reading() as db:
                    which = f"WHERE ready<=? AND id NOT IN {self._taken_now()} ORDER BY arrived, id LIMIT 1"
                    row = db.execute(f"SELECT {columns} FROM answer {which}", (self.now(),)).fetchone()
                if row is None:
                    return None
                i, key, since, local, remote, pause, tries, size, digest, checksum = row
                if checksum == _checksum(key, digest, local, remote):
                    self._taken.add(i)
                    return Answered(i, _text(key), float(since), local, remote, float(pause), int(tries), int(size))
                _LOG.warning("an answer in the outbox is damaged: its CRC-32 differs")
                self.end(Answered(i, "", 0.0, b"", b"", 0.0, 0, int(size)), Ending.DAMAGED)

    def give_back(self, id: int) -> None:
        """Let others take an answer that was taken."""
        self._taken.discard(id)

    def due_at(self) -> tuple[float, float]:
        """Return when the next question may be sent, and the next answer delivered; infinity if there is none."""
        with self._reading() as db:
            send = db.execute("SELECT min(ready) FROM question").fetchone()[0]
            deliver = f"SELECT min(ready) FROM answer WHERE id NOT IN {self._taken_now()}"
            found = db.execute(deliver).fetchone()[0]
        return (math.inf if send is None else send), (math.inf if found is None else found)

    def _taken_now(self) -> str:
        return f"({','.join(map(str, self._taken))})"

    # The file.

    def sync(self) -> None:
        """Move what was written ahead into its place, wait for the disk, and store the time."""
        with self._reading() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self.save()  # the first write after a checkpoint waits for the disk
            self.unsynced = 0

    def save(self) -> None:
        """Store the time."""
        now = self.moment()
        with self._writing() as db:
            db.execute("DELETE FROM moment")
            db.execute("INSERT INTO moment VALUES(?,?,?,?)", (now.age, now.wall, now.monotonic, now.boot))

    def close(self) -> None:
        """Close the file; from then on nothing changes."""
        with self.lock:
            if self.unusable is Cause.CLOSED:
                return
            with contextlib.suppress(sqlite3.Error):
                self.save()
            self.unusable = Cause.CLOSED
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._release()
            self.arrived.notify_all()

    def failed(self, error: BaseException) -> Cause:
        """Return what a failed access means; if the file is damaged, begin a new one. Call it with the lock held."""
        cause = cause_of(error)
        if cause not in self._said:
            self._said.add(cause)
            _LOG.warning("the outbox cannot be used: %s (%s); logged once", cause.value, error)
        if cause is Cause.DAMAGED and self.unusable is None:
            self._renew(error)
        return cause

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self.lock:
            db = self._db
            try:
                yield db
            except sqlite3.Error as error:
                if db is self._db:  # else it was replaced meanwhile, by a call within this one
                    self.failed(error)
                raise

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
            self.unsynced += 4 * _PAGE

    def _drop(self, db: sqlite3.Connection, one: Question) -> int:
        """Remove a question and its inputs; return the question's size."""
        db.execute("DELETE FROM input WHERE digest=?", (one.digest,))
        db.execute("DELETE FROM content WHERE id=?", (one.id,))
        return one.size * db.execute("DELETE FROM question WHERE id=?", (one.id,)).rowcount

    def _total(self, db: sqlite3.Connection, ending: Ending, n: int) -> None:
        db.execute("UPDATE total SET n=n+? WHERE ending=?", (n, ending.value))

    def _first_id(self) -> int:
        ids = "SELECT max(id) FROM (SELECT max(id) AS id FROM input UNION ALL SELECT max(id) FROM answer)"
        return int(self._db.execute(ids).fetchone()[0] or 0) + 1

    def _open(self) -> tuple[sqlite3.Connection, Moment | None]:
        if not os.path.isdir(os.path.dirname(self._path)):
            raise ArgumentError(f"path: expected a file in a folder that exists, got {self._path}")
        if os.path.exists(self._path) and not os.path.isfile(self._path):
            raise ArgumentError(f"path: expected a regular file, got {self._path}")
        try:
            self._held = self._held or _hold(self._path)
            try:
                return self._read(self._path)
            except (sqlite3.Error, ValueError, TypeError) as error:
                if isinstance(error, ArgumentError) or cause_of(error) is not Cause.DAMAGED:
                    raise
                self._set_aside(error)
                return self._read(self._path)
        except ArgumentError:
            self._release()
            raise
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            return self._nowhere(error)

    def _read(self, path: str) -> tuple[sqlite3.Connection, Moment | None]:
        db = _connect(path)
        try:
            _create(db, path, power_safe=self._power_safe)
            for table, types in _TYPES.items():
                wrong = [f"typeof({name})<>'{kind}'" for name, kind in types.items()]
                wrong += [f"abs({name})>1e15" for name, kind in types.items() if kind in ("real", "integer")]
                if db.execute(f"SELECT count(*) FROM {table} WHERE {' OR '.join(wrong)}").fetchone()[0]:
                    raise sqlite3.DatabaseError(f"the table {table} has values of another type")
            waiting, size = db.execute("SELECT count(*), total(size) FROM input").fetchone()
            answered, late = db.execute("SELECT count(*), total(size) FROM answer").fetchone()
            (asked,) = db.execute("SELECT total(size) FROM question").fetchone()
            totals = {Ending(name): int(n) for name, n in db.execute("SELECT ending, n FROM total")}
            last = _last_moment(db)
        except BaseException:
            db.close()
            raise
        self.waiting, self.answered, self.size = int(waiting), int(answered), int(size + late + asked)
        self.totals.update(totals)
        return db, last

    def _nowhere(self, error: BaseException) -> tuple[sqlite3.Connection, None]:
        self._release()
        self.unusable = cause_of(error)
        _LOG.warning("the outbox cannot be used, and nothing is stored: %s (%s)", self.unusable.value, error)
        return self._read(":memory:")[0], None

    def _set_aside(self, error: BaseException) -> None:
        self.damaged_files += 1
        aside = _set_aside(self._path, "old" if isinstance(error, _OlderVersion) else "damaged")
        _LOG.warning("the outbox was moved to %s, and a new one begun: %s", aside, error)

    def _renew(self, error: BaseException) -> None:
        """Begin a new file, with the totals of the old one."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        with self._counting:
            self.totals[Ending.DAMAGED] += self.waiting + self.answered
            totals = dict(self.totals)
        try:
            self._set_aside(error)
            self._db, _ = self._open()
        except (OSError, ArgumentError) as reason:
            self._db, _ = self._nowhere(reason)
        with self._counting:
            self.totals = totals
        self._taken.clear()
        with contextlib.suppress(sqlite3.Error):
            with self._writing() as db:
                db.executemany("UPDATE total SET n=? WHERE ending=?", [(n, e.value) for e, n in totals.items()])
            self.save()

    def _release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


class _OlderVersion(sqlite3.DatabaseError):
    """The file was written by an older version, whose inputs this one cannot read."""


def cause_of(error: BaseException) -> Cause:
    """Return what is wrong with the file, from what SQLite or the system raised."""
    if isinstance(error, sqlite3.Error):
        if type(error) in (sqlite3.DatabaseError, sqlite3.IntegrityError, _OlderVersion):
            return Cause.DAMAGED
        return next((cause for said, cause in _CAUSES.items() if said in str(error)), Cause.OTHER)
    if isinstance(error, (PermissionError, IsADirectoryError)):
        return Cause.READ_ONLY
    return Cause.DAMAGED if isinstance(error, (ValueError, TypeError)) else Cause.OTHER


def _connect(path: str) -> sqlite3.Connection:
    """Open a database that only the owner can read, for any thread, without transactions of Python's own."""
    if path != ":memory:":
        _make_private(path)
    db = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA trusted_schema=OFF")
    return db


def _make_private(path: str) -> None:
    with contextlib.suppress(FileExistsError):  # never opened here if it exists: closing it would free SQLite's locks
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with contextlib.suppress(OSError):
        os.chmod(path, 0o600)


def _create(db: sqlite3.Connection, path: str, *, power_safe: bool) -> None:
    """Create the tables if the file is empty, else see that it is an outbox of this version.

    Raises:
        ArgumentError: it is of a newer version.
        sqlite3.DatabaseError: it is another application's, damaged, or of an older version.
    """
    (application,), (version,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    empty = not application and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not empty and application != _APPLICATION:
        raise sqlite3.DatabaseError("the file is another application's")
    if not empty and version > _VERSION:
        raise ArgumentError(f"path: expected an outbox of version {_VERSION} or older, got {path} of version {version}")
    if not empty and version < _VERSION:
        raise _OlderVersion(f"it is of version {version}, and this edgecascade reads version {_VERSION}")
    if empty:
        db.execute(f"PRAGMA page_size={_PAGE}")
    mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != ("memory" if path == ":memory:" else "wal"):
        raise sqlite3.OperationalError(f"no write-ahead log here, but {mode}")
    db.execute(f"PRAGMA synchronous={'FULL' if power_safe else 'NORMAL'}")
    db.execute("PRAGMA wal_autocheckpoint=0")
    if empty:
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            db.execute(statement)
        db.executemany("INSERT INTO total VALUES(?,0)", [(ending.value,) for ending in Ending])
        db.execute("COMMIT")


def _hold(path: str) -> sqlite3.Connection:
    """Hold a file for this process until the connection is closed, or the process ends.

    SQLite's locks are the system's own. They are not inherited by children, and exclude this process itself as well.

    Raises:
        ArgumentError: it is held already.
        sqlite3.Error: nothing can be written there.
    """
    lock = f"{path}-lock"
    for once_more in (True, False):
        _make_private(lock)
        connection = sqlite3.connect(lock, timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            break
        except sqlite3.Error as error:
            connection.close()
            if cause_of(error) is Cause.BUSY:
                raise ArgumentError(f"path: {path} is in use by another outbox, in this process or another") from None
            if cause_of(error) is not Cause.DAMAGED or not once_more:
                raise
            os.unlink(lock)  # another program wrote into it; it never holds anything
    return connection


def _set_aside(path: str, word: str) -> str:
    """Rename a file to `path.<word>-<n>`, and return that name; the last three such files are kept.

    Raises:
        OSError: it cannot be renamed.
    """
    place, name = Path(path).parent, Path(path).name
    numbered = re.compile(re.escape(f"{name}.{word}-") + r"(\d+)")
    kept = sorted(int(match[1]) for match in map(numbered.fullmatch, os.listdir(place)) if match)
    aside = f"{path}.{word}-{kept[-1] + 1 if kept else 1}"
    os.replace(path, aside)
    with contextlib.suppress(FileNotFoundError):
        os.replace(f"{path}-wal", f"{aside}-wal")
    outdated = [f"{path}.{word}-{n}{end}" for n in kept[: -(_KEPT_ASIDE - 1)] for end in ("", "-wal")]
    for old in (f"{path}-shm", f"{path}-journal", *outdated):
        with contextlib.suppress(OSError):
            os.unlink(old)
    return aside


def _last_moment(db: sqlite3.Connection) -> Moment | None:
    """Return the last moment known: the one stored, or that of a later input of the same process."""
    saved = db.execute("SELECT age, wall, monotonic, boot FROM moment").fetchone()
    if saved is None:
        return None
    age, wall, monotonic, boot = saved
    last = Moment(float(age), float(wall), float(monotonic), str(boot))
    latest = db.execute("SELECT since, wall FROM input ORDER BY since DESC LIMIT 1").fetchone()
    if latest is None or latest[0] <= last.age:
        return last
    return Moment(latest[0], latest[1], last.monotonic + latest[0] - last.age, last.boot)


def _checksum(*parts: Bytes) -> int:
    """Return the CRC-32 of parts, with their lengths; one that never matches if a part is not bytes."""
    total = 0
    for part in parts:
        if not isinstance(part, (bytes, bytearray)):
            return -2
        total = zlib.crc32(part, zlib.crc32(len(part).to_bytes(8, "little"), total))
    return total


def _blob(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _text(key: Any) -> str:
    return bytes(key).decode("utf-8", "surrogatepass")
