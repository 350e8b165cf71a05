"""Finished cells on disk, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from edgecascade.benchmarks.latency.decode import decode

__all__ = ["Store"]

T = TypeVar("T")


class Store:
    """One JSON file for each cell, named by the hash of what the cell depends on.

    Args:
        folder: made when the first cell is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.reused = 0

    def get(self, kind: type[T], key: str) -> T | None:
        """What was kept under this key; None if there is nothing, or a file that cannot be read."""
        try:
            document = json.loads(self._path(key).read_text(encoding="utf-8"))
            found = decode(kind, document["found"]) if document["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self.reused += found is not None
        return found

    def keep(self, key: str, found: Any) -> None:
        """Write a dataclass; the file appears whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._path(key).with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"key": key, "found": asdict(found)}, indent=1) + "\n", encoding="utf-8")
        os.replace(part, self._path(key))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
