"""Asking the system through small files and commands; whatever goes wrong, no answer is None."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

__all__ = ["CommandRunner", "command_output", "read_number", "read_text"]

_COMMAND_SECONDS = 5.0
_MOST_BYTES = 65_536


class CommandRunner(Protocol):
    """Gives what a command prints, or None."""

    def __call__(self, *command: str) -> str | None:
        """The command's name, then its arguments."""


def command_output(*command: str) -> str | None:
    """What a command prints, or None if it is missing, fails, or takes more than five seconds."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=_COMMAND_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def read_text(path: Path) -> str | None:
    """A small file's text without surrounding space and NULs; None if it is empty, or for any reason not readable."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)
    except (OSError, ValueError):
        return None
    return data.decode(errors="replace").strip("\0 \t\r\n") or None


def read_number(path: Path, scale: float = 1.0) -> float | None:
    """The one finite number in a file, times `scale`; None if there is anything else in it."""
    text = read_text(path)
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value * scale if math.isfinite(value) else None
