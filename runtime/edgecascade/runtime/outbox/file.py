"""Open the outbox's file: lock it, check it, hold disk space for it, and move a damaged one aside."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import zlib
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from edgecascade.runtime.private_file import NO_LINK
from edgecascade.types.errors import ArgumentError

__all__ = [
    "PAGE",
    "Cause",
    "Ending",
    "OlderVersion",
    "Space",
    "cause_of",
    "checksum",
    "connect",
    "create",
    "hold",
    "roots",
    "set_aside",
]

_APPLICATION, _VERSION = 0x65634F42, 2  # a new version needs a table that differs, or it is taken for damage
PAGE = 8192  # bytes: larger pages are faster for images, and wear flash more with small inputs
_MOST_ASIDE = 3  # files that were set aside
_BUSY = 1.0  # seconds to wait for another program that has the file open
_NO_SPACE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_SPARE, _LOG = 1 << 20, 4 << 20  # bytes of disk space held beyond the pages in use, and for the write-ahead log


def _counted(table: str, name: str | None) -> list[str]:
    """Return triggers that count the rows of a table under a name, and the size of all."""
    return [
        f"CREATE TRIGGER {table}_{event} AFTER {event} ON {table} BEGIN"
        f" UPDATE count SET n=n{sign}{row}.size WHERE name='size';"
        f" UPDATE count SET n=n{sign}1 WHERE name='{name}'; END"
        for event, sign, row in (("insert", "+", "new"), ("delete", "-", "old"))
    ]


_SCHEMA = (  # the columns named `wall` have no use
    "CREATE TABLE question(id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, kind TEXT NOT NULL,"
    " size INTEGER NOT NULL, ready REAL NOT NULL, pause REAL NOT NULL, tries INTEGER NOT NULL)",
    "CREATE TABLE content(id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE input(id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, digest BLOB NOT NULL, since REAL NOT NULL,"
    " wall REAL NOT NULL, size INTEGER NOT NULL, checksum INTEGER NOT NULL, local BLOB NOT NULL)",
    "CREATE INDEX asking ON input(digest)",
    "CREATE INDEX age ON input(since, wall)",
    "CREATE TABLE answer(id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, digest BLOB NOT NULL, since REAL NOT NULL,"
    " arrived REAL NOT NULL, ready REAL NOT NULL, pause REAL NOT NULL, tries INTEGER NOT NULL, size INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL, local BLOB NOT NULL, remote BLOB NOT NULL)",
    "CREATE INDEX arrival ON answer(arrived, id, ready)",
    "CREATE TABLE count(name TEXT PRIMARY KEY, n INTEGER NOT NULL)",
    *_counted("question", None),
    *_counted("input", "waiting"),
    *_counted("answer", "answered"),
    "CREATE TRIGGER asked AFTER DELETE ON input WHEN NOT EXISTS(SELECT 1 FROM input WHERE digest=old.digest)"
    " BEGIN DELETE FROM question WHERE digest=old.digest; END",
    "CREATE TRIGGER emptied AFTER DELETE ON question BEGIN DELETE FROM content WHERE id=old.id; END",
    "CREATE TABLE moment(age REAL NOT NULL, wall REAL NOT NULL, monotonic REAL NOT NULL, boot TEXT NOT NULL)",
    f"PRAGMA application_id={_APPLICATION}",
    f"PRAGMA user_version={_VERSION}",
)
_INDEXES = (  # added later, so that the work for one answer does not depend on the number of inputs that wait
    "CREATE INDEX IF NOT EXISTS sending ON question(pause, id, ready)",
    "CREATE INDEX IF NOT EXISTS alike ON question(pause, kind, id, ready)",
    "CREATE INDEX IF NOT EXISTS due ON question(ready)",
    "CREATE INDEX IF NOT EXISTS delivering ON answer(ready)",
)


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
    """How an acknowledged input ended that is no longer stored."""

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


class OlderVersion(sqlite3.DatabaseError):
    """The file was written by an older version, whose inputs this one cannot read."""


def cause_of(error: BaseException) -> Cause:
    """Return the cause behind an exception of SQLite or the system."""
    if isinstance(error, sqlite3.Error):
        if type(error) in (sqlite3.DatabaseError, sqlite3.IntegrityError, OlderVersion):
            return Cause.DAMAGED
        return next((cause for said, cause in _CAUSES.items() if said in str(error)), Cause.OTHER)
    if isinstance(error, (PermissionError, IsADirectoryError)):
        return Cause.READ_ONLY
    return Cause.DAMAGED if isinstance(error, (ValueError, TypeError)) else Cause.OTHER


def connect(path: str) -> sqlite3.Connection:
    """Open a database that only the owner can read, for any thread, without transactions of Python's own."""
    if path != ":memory:":
        with open(path, "rb", opener=_private) as file:  # no connection of this process is open: no lock is lost
            with contextlib.suppress(OSError):  # the file is another owner's, who shares it
                os.chmod(file.fileno() if os.chmod in os.supports_fd else path, 0o600)
            versions = file.read(20)[18:]
        if versions not in (b"", b"\1\1", b"\2\2"):  # SQLite would take the file for read-only
            raise sqlite3.DatabaseError("the file is not a database of a known format")
    db = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA trusted_schema=OFF")
    db.execute(
        "PRAGMA locking_mode=EXCLUSIVE"
    )  # before all else: the index of the log is then in memory, not in a file
    return db


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | NO_LINK, 0o600)


def create(db: sqlite3.Connection, path: str, *, power_safe: bool) -> None:
    """Create the tables if the file is empty; otherwise check that it is an outbox of this version.

    Raises:
        ArgumentError: it is of a newer version.
        sqlite3.DatabaseError: it is another application's, damaged, or of an older version.
    """
    (application,), (version,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    empty = not application and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not empty and application != _APPLICATION:
        raise sqlite3.DatabaseError("the file belongs to another application")
    if not empty and version != _VERSION and _tables(db) == _own_tables():  # other versions have other tables
        raise sqlite3.DatabaseError(f"its version is damaged: expected {_VERSION}, got {version}")
    if not empty and version > _VERSION:
        raise ArgumentError(f"path: expected an outbox of version {_VERSION} or older, got {path} of version {version}")
    if not empty and version < _VERSION:
        raise OlderVersion(f"expected version {_VERSION}, got version {version}")
    if empty:
        db.execute(f"PRAGMA page_size={PAGE}")
        db.execute("PRAGMA auto_vacuum=NONE")
    db.execute("PRAGMA cache_spill=OFF")  # pages are written once, at the end of a transaction, which has one input
    db.execute("PRAGMA secure_delete=FAST")  # removing an input writes only the pages that change
    mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != ("memory" if path == ":memory:" else "wal"):
        raise sqlite3.OperationalError(f"expected a write-ahead log, got journal mode {mode}")
    db.execute(f"PRAGMA synchronous={'FULL' if power_safe else 'NORMAL'}")
    db.execute("PRAGMA wal_autocheckpoint=0")
    endings = [ending.value for ending in Ending]
    if empty:
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            db.execute(statement)
        db.executemany("INSERT INTO count VALUES(?,0)", [(name,) for name in ("waiting", "answered", "size", *endings)])
        db.execute("COMMIT")
    else:
        _check(db)
    with contextlib.suppress(sqlite3.OperationalError):  # no space: all works without them, if more slowly
        for statement in _INDEXES:
            db.execute(statement)


def roots() -> dict[str, int]:
    """Return the root page of each table, which is the same in every file."""
    return {name: root for name, (root, _) in _own_tables().items()}


def _own_tables() -> dict[str, tuple[int, str]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for statement in _SCHEMA:
            db.execute(statement)
        return _tables(db)


def _tables(db: sqlite3.Connection) -> dict[str, tuple[int, str]]:
    """Return the root page and the definition of each table."""
    found = db.execute("SELECT name, rootpage, sql FROM sqlite_master WHERE type='table'").fetchall()
    return {name: (root, sql) for name, root, sql in found}


class Space:
    """Disk space for a file, so that it can be drained when the disk is full.

    A change goes to the write-ahead log first, and from there into the file. A full disk stops neither if the log has
    space for some changes, and the file for all pages that are in the log: then the log can be emptied and used again.
    Where the system cannot allocate space (macOS, Windows), or a file system writes changes to new places (btrfs), a
    full disk may delay the draining until it has room again.

    Args:
        path: the file, which exists.
    """

    def __init__(self, path: str) -> None:
        self._path, self._held = path, 0
        # Open as long as the connection: closing it would free SQLite's locks.
        self._file = os.open(path, os.O_RDWR | NO_LINK)

    def hold(self, pages: int) -> None:
        """Allocate space for this many pages of the file, and some more if there is room.

        Raises:
            sqlite3.OperationalError: the disk is full.
        """
        need = pages * PAGE
        if need <= self._held:
            return
        for size in (need + _SPARE, need):
            try:
                _allocate(self._file, size)
                self._held = size
                return
            except OSError:
                pass
        raise sqlite3.OperationalError("database or disk is full")

    def released(self) -> None:
        """Record that a checkpoint has cut the file behind its last page."""
        self._held = 0

    def hold_log(self) -> None:
        """Allocate space for the log, if there is room; SQLite takes zeros for an empty log."""
        with contextlib.suppress(OSError):
            os.unlink(f"{self._path}-shm")  # of an earlier version
        with contextlib.suppress(OSError):
            log = os.open(f"{self._path}-wal", os.O_CREAT | os.O_RDWR | NO_LINK, 0o600)
            try:
                _allocate(log, _LOG)
            finally:
                os.close(log)

    def close(self) -> None:
        """Close the file, after its connection; a log stays, for the next start on a full disk."""
        os.close(self._file)
        self.hold_log()


def _allocate(file: int, size: int) -> None:
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno in _NO_SPACE:  # any other: the file system has no such call
            raise


def checksum(*parts: Any) -> int:
    """Return the CRC-32 of parts with their lengths; a number that never matches if a part is not bytes."""
    total = 0
    for part in parts:
        if not isinstance(part, (bytes, bytearray)):
            return -2
        total = zlib.crc32(part, zlib.crc32(len(part).to_bytes(8, "little"), total))
    return total


def _check(db: sqlite3.Connection) -> None:
    """Check that tables and indexes agree and every value has its column's type, and recount the rows.

    The large bytes in `content` are not read: each has a checksum.
    """
    for table in ("question", "input", "answer", "count", "moment"):
        if db.execute(f"PRAGMA integrity_check({table})").fetchone() != ("ok",):
            raise sqlite3.DatabaseError(f"the table {table} is damaged")
        wrong = " OR ".join(
            f"typeof({name})<>'{kind.lower()}'" + (f" OR abs({name})>1e15" if kind == "REAL" else "")
            for _, name, kind, *_ in db.execute(f"PRAGMA table_info({table})").fetchall()
        )
        if db.execute(f"SELECT 1 FROM {table} WHERE {wrong} LIMIT 1").fetchone():
            raise sqlite3.DatabaseError(f"the table {table} has values of another type")
    db.execute("BEGIN IMMEDIATE")
    sizes = " + ".join(f"(SELECT total(size) FROM {table})" for table in ("question", "input", "answer"))
    for name, n in (("waiting", "(SELECT count(*) FROM input)"), ("answered", "(SELECT count(*) FROM answer)")):
        db.execute(f"UPDATE count SET n={n} WHERE name=?", (name,))
    db.execute(f"UPDATE count SET n=CAST({sizes} AS INTEGER) WHERE name='size'")
    db.execute("COMMIT")


def hold(path: str) -> sqlite3.Connection:
    """Hold a file for this process until the connection is closed, or the process ends.

    SQLite's locks are the system's own. They are not inherited by children, and exclude this process itself as well.

    Raises:
        ArgumentError: it is held already.
        sqlite3.Error: nothing can be written there.
    """
    lock = f"{path}-lock"
    for one in (lock, f"{path}-wal"):
        if os.path.islink(one):  # no outbox makes one, and SQLite would lock the file that it points to
            os.unlink(one)
    for once_more in (True, False):
        with contextlib.suppress(FileExistsError):  # not opened then: closing it would free the lock of this process
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(lock, timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=MEMORY")  # so that it needs no disk space
            connection.execute("BEGIN EXCLUSIVE")
            break
        except sqlite3.Error as error:
            connection.close()
            if cause_of(error) is Cause.BUSY:
                raise ArgumentError(
                    f"path: expected a file that no other outbox has open, got {path}, which is in use"
                ) from None
            if cause_of(error) is not Cause.DAMAGED or not once_more:
                raise
            os.unlink(lock)  # another program wrote into it; it never holds anything
    return connection


def set_aside(path: str, word: str) -> str:
    """Rename a file to `path.<word>-<n>`, and return that name; the last three such files remain.

    Raises:
        OSError: it cannot be renamed.
    """
    place, name = Path(path).parent, Path(path).name
    numbered = re.compile(re.escape(f"{name}.{word}-") + r"(\d+)")
    numbers = sorted(int(match[1]) for match in map(numbered.fullmatch, os.listdir(place)) if match)
    aside = f"{path}.{word}-{numbers[-1] + 1 if numbers else 1}"
    os.replace(path, aside)
    log = Path(f"{path}-wal")
    with contextlib.suppress(FileNotFoundError):
        with log.open("rb") as file:
            empty = not any(piece.strip(b"\0") for piece in iter(partial(file.read, _SPARE), b""))
        log.unlink() if empty else log.replace(f"{aside}-wal")
    outdated = [f"{path}.{word}-{n}{end}" for n in numbers[: -(_MOST_ASIDE - 1)] for end in ("", "-wal")]
    for old in (f"{path}-shm", f"{path}-journal", *outdated):
        with contextlib.suppress(OSError):
            os.unlink(old)
    return aside
