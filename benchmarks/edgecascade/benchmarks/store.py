"""What is finished, on disk: an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from edgecascade.benchmarks.decode import decode
from edgecascade.benchmarks.device.environment import read_environment

__all__ = ["Store", "hash_of"]

T = TypeVar("T")


class Store:
    """One JSON file for each thing, named by the hash of what it depends on.

    Args:
        folder: made when the first is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.reused = 0

    def get(self, kind: type[T], key: str) -> T | None:
        """What was kept under this key; None if there is nothing, or a file that cannot be read."""
        found: T | None = self._read(kind, key)
        self.reused += found is not None
        return found

    def count(self) -> int:
        """How many files can be read."""
        return sum(self._read(Any, path.stem) is not None for path in self._folder.glob("*.json"))

    def keep(self, key: str, found: Any) -> None:
        """Write a dataclass, or what `decode` makes of them; the file appears whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._path(key).with_suffix(f".{os.getpid()}.part")
        text = json.dumps({"key": key, "found": found}, indent=1, default=asdict)
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, self._path(key))

    def _read(self, kind: Any, key: str) -> Any:
        try:
            document = json.loads(self._path(key).read_text(encoding="utf-8"))
            return decode(kind, document["found"]) if document["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def hash_of(about: Mapping[str, Any]) -> str:
    """A name for what depends on all of this, on the machine and on the versions of what runs."""
    environment = read_environment()
    machine = [environment.processor, environment.cores, environment.system]
    whole = {**about, "machine": machine, "versions": _versions()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("edgecascade", "onnxruntime", "onnxruntime-gpu", "numpy", "mlcommons-loadgen", "ai-edge-litert"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
