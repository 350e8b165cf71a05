"""Where the outbox's file is: opened, and replaced if it is damaged, by one process at a time."""

from __future__ import annotations

import logging
import os
import sqlite3

from edgecascade.runtime.outbox.file import cause_of, hold, set_aside
from edgecascade.runtime.outbox.records import Cause
from edgecascade.runtime.outbox.store import Contents, Store
from edgecascade.types.errors import ArgumentError

__all__ = ["Place"]

_LOG = logging.getLogger("edgecascade.outbox")
_FAILED = (sqlite3.Error, OSError, ValueError, TypeError)


class Place:
    """A path, and this process's hold on it.

    Args:
        path: of the file.
        power_safe: whether each commit waits for the disk.

    Attributes:
        damaged_files: how many were moved aside.
        unusable: why there is no file; None if there is.
    """

    def __init__(self, path: str, *, power_safe: bool) -> None:
        self._path, self._power_safe = path, power_safe
        self._held: sqlite3.Connection | None = None
        self.damaged_files = 0
        self.unusable: Cause | None = None

    def open(self) -> tuple[Store, Contents]:
        """The file, and what it holds; where none can be, one in memory, and `unusable` is set.

        Raises:
            ArgumentError: the path is no file's, in use, or a newer version's.
        """
        _check(self._path)
        try:
            self._held = self._held or hold(self._path)
            try:
                return self._read()
            except _FAILED as error:
                if isinstance(error, ArgumentError) or cause_of(error) is not Cause.DAMAGED:
                    raise
                self._set_aside(error)
                return self._read()
        except ArgumentError:
            self.release()
            raise
        except _FAILED as error:
            return self._nowhere(error)

    def renew(self, error: BaseException) -> Store:
        """A new file in place of one that turned out damaged and was closed."""
        try:
            self._set_aside(error)
            return self.open()[0]
        except (OSError, ArgumentError) as reason:
            return self._nowhere(reason)[0]

    def release(self) -> None:
        """Let others have it."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def _read(self) -> tuple[Store, Contents]:
        store = Store(self._path, power_safe=self._power_safe)
        try:
            return store, store.contents()
        except BaseException:
            store.close()
            raise

    def _nowhere(self, error: BaseException) -> tuple[Store, Contents]:
        self.release()
        self.unusable = cause_of(error)
        _LOG.warning("the outbox cannot be used, nothing is kept: %s (%s)", self.unusable.value, error)
        return Store(":memory:"), Contents([], [], {}, None, 1)

    def _set_aside(self, error: BaseException) -> None:
        self.damaged_files += 1
        _LOG.warning("the outbox was damaged (%s); moved to %s, and a new one begun", error, set_aside(self._path))


def _check(path: str) -> None:
    if not os.path.isdir(os.path.dirname(path)):
        raise ArgumentError(f"path: expected a file in a folder that exists, got {path}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ArgumentError(f"path: expected a file, got {path}, which is none")
