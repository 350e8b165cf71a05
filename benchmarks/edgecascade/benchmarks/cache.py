"""The user's cache folder, and steps that are done once: interrupted work goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["cache_folder", "once"]


def cache_folder() -> Path:
    """Where downloads and finished steps are kept: `$EDGECASCADE_CACHE`, or the system's place for caches."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("EDGECASCADE_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("edgecascade", appauthor=False)


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """The file at `path`, made by `make(part)` if it is not there yet; it appears whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            make(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return path
