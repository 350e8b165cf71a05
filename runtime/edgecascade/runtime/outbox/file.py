"""Opening the outbox's file: whose it is, what is wrong with it, and where a damaged one goes."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from pathlib import Path

from edgecascade.runtime.outbox.records import Cause, Ending
from edgecascade.types.errors import ArgumentError

__all__ = ["PAGE", "cause_of", "connect", "create", "hold", "set_aside"]

_APPLICATION, _VERSION = 0x65634F42, 1
PAGE = 8192  # bytes: larger ones are quicker for images, and wear flash more with small inputs
_DAMAGED_KEPT = 3
_SCHEMA = (
    "CREATE TABLE input(id INTEGER PRIMARY KEY, key BLOB NOT NULL, since REAL NOT NULL, wall REAL NOT NULL,"
    " ready REAL NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL, local BLOB NOT NULL, data BLOB NOT NULL)",
    "CREATE TABLE answer(id INTEGER PRIMARY KEY, key BLOB NOT NULL, since REAL NOT NULL, arrived REAL NOT NULL,"
    " size INTEGER NOT NULL, local BLOB NOT NULL, remote BLOB NOT NULL)",
    "CREATE TABLE attempt(id INTEGER PRIMARY KEY, tries INTEGER NOT NULL)",
    "CREATE TABLE total(ending TEXT PRIMARY KEY, n INTEGER NOT NULL)",
    "CREATE TABLE moment(age REAL NOT NULL, wall REAL NOT NULL, monotonic REAL NOT NULL, boot TEXT NOT NULL)",
    "CREATE TABLE absence(before INTEGER PRIMARY KEY, seconds REAL NOT NULL)",
    f"PRAGMA application_id={_APPLICATION}",
    f"PRAGMA user_version={_VERSION}",
)
# By message, since Python 3.10 has no codes; sqlite's messages are fixed.
_CAUSES = {
    "database or disk is full": Cause.DISK_FULL,
    "attempt to write a readonly database": Cause.READ_ONLY,
    "unable to open database file": Cause.READ_ONLY,
    "disk I/O error": Cause.DISK_ERROR,
    "database is locked": Cause.BUSY,
    "Could not decode": Cause.DAMAGED,
    "no such": Cause.DAMAGED,  # table or column
}


def connect(path: str) -> sqlite3.Connection:
    """A connection for any thread, without transactions of Python's own."""
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


def create(db: sqlite3.Connection, path: str, *, power_safe: bool) -> None:
    """Make the file ours: create it if it is empty, else see that it is.

    Raises:
        ArgumentError: it is of a newer version.
        sqlite3.DatabaseError: it is somebody else's, or damaged.
    """
    (application,), (version,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    empty = not application and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not empty and application != _APPLICATION:
        raise sqlite3.DatabaseError("the file is another application's")
    if not empty and version > _VERSION:
        raise ArgumentError(f"path: {path} is of version {version}, and this edgecascade knows {_VERSION}")
    if empty:
        db.execute(f"PRAGMA page_size={PAGE}")
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


def hold(path: str) -> sqlite3.Connection:
    """Hold a file for this process until the connection is closed, or the process ends.

    sqlite's locks are the system's own, are not inherited by children, and exclude this process itself as well.

    Raises:
        ArgumentError: it is held already.
        sqlite3.Error: nothing can be written there.
    """
    for once_more in (True, False):
        connection = sqlite3.connect(f"{path}-lock", timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            break
        except sqlite3.Error as error:
            connection.close()
            if cause_of(error) is Cause.BUSY:
                raise ArgumentError(f"path: {path} is in use by another outbox, in this process or another") from None
            if cause_of(error) is not Cause.DAMAGED or not once_more:
                raise
            os.unlink(f"{path}-lock")  # somebody wrote into it: it holds nothing, ever
    return connection


def cause_of(error: BaseException) -> Cause:
    """What is wrong with the file, by what sqlite or reading raised."""
    if isinstance(error, sqlite3.Error):
        if type(error) in (sqlite3.DatabaseError, sqlite3.IntegrityError):
            return Cause.DAMAGED
        return next((cause for said, cause in _CAUSES.items() if said in str(error)), Cause.OTHER)
    return Cause.DAMAGED if isinstance(error, ValueError | TypeError) else Cause.OTHER


def set_aside(path: str) -> str:
    """Rename a damaged file to `path.damaged-<n>`; the last three such are kept.

    Raises:
        OSError: it cannot be renamed.
    """
    place, name = Path(path).parent, Path(path).name
    numbered = re.compile(re.escape(name) + r"\.damaged-(\d+)")
    kept = sorted(int(match[1]) for match in map(numbered.fullmatch, os.listdir(place)) if match)
    aside = f"{path}.damaged-{kept[-1] + 1 if kept else 1}"
    os.replace(path, aside)
    with contextlib.suppress(FileNotFoundError):
        os.replace(f"{path}-wal", f"{aside}-wal")
    outdated = [f"{path}.damaged-{n}{end}" for n in kept[: -(_DAMAGED_KEPT - 1)] for end in ("", "-wal")]
    for old in (f"{path}-shm", f"{path}-journal", *outdated):
        with contextlib.suppress(OSError):
            os.unlink(old)
    return aside
