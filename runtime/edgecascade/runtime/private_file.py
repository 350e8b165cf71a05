"""Write files that only their owner can read, in folders in which others may have placed links."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["NO_LINK", "put", "replace_file"]

NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)
"""The flag of `os.open` that refuses a symbolic link, where the system has one."""


def replace_file(path: Path, write: Callable[[BinaryIO], object], *, durable: bool) -> None:
    """Write a file in one step: a reader finds the old content or the new.

    Args:
        path: the file. A symbolic link would be replaced itself, so resolve it before.
        write: writes the content to a file beside it, which then takes its place.
        durable: whether a reader after a power cut finds one of the two as well.

    Raises:
        OSError: it cannot be written; the old content is still there. `write` may raise others.
    """
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    try:
        with open(new, "wb", opener=_made_anew) as file:
            put(file, write, durable=durable)
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise


def put(file: BinaryIO, write: Callable[[BinaryIO], object], *, durable: bool) -> None:
    """Write to an open file and flush it, and wait for the disk if it is to be durable."""
    write(file)
    file.flush()
    if durable:
        os.fsync(file.fileno())


def _made_anew(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)
