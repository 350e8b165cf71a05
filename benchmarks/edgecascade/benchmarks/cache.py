"""The user's cache folder, and steps that are done once: interrupted work continues where it stopped."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["cache_folder", "once"]


def cache_folder() -> Path:
    """Return the folder of downloads and finished steps: `$EDGECASCADE_CACHE`, or the system's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("EDGECASCADE_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("edgecascade", appauthor=False)


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """Return `path`, made by `make(part)` if it does not exist yet; the file appears whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            make(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return path
