"""Finished parts of a long measurement on disk, so that an interrupted run continues where it stopped.

`Store` holds one JSON file per part, `stored_steps` the steps of one measurement, and `StoredRows` arrays with a row
for each input. All of them name what they store by a hash of what it depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from cattrs import Converter
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import once
from edgecascade.benchmarks.device.environment import read_environment
from edgecascade.benchmarks.progress import stepping
from edgecascade.export.data import Inputs
from edgecascade.runtime.batch import rows as batch_rows
from edgecascade.types.errors import BenchmarkError

__all__ = ["CHUNK", "Steps", "Store", "StoredRows", "at_once", "chunk_of", "decode", "hash_of", "stored_steps"]

T = TypeVar("T")
_CONVERTER = Converter(detailed_validation=False)
CHUNK = 256  # inputs in one file of `StoredRows`: the most that an interruption can cost


class Store:
    """One JSON file for each finished part, named by the hash of what the part depends on.

    Args:
        folder: The folder; it is made when the first part is stored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.reused = 0

    def get(self, kind: type[T], key: str) -> T | None:
        """Return what was stored under this key, or None if there is nothing or the file cannot be read."""
        found: T | None = self._read(kind, key)
        self.reused += found is not None
        return found

    def count(self) -> int:
        """Return the number of files that can be read."""
        return sum(self._read(Any, path.stem) is not None for path in self._folder.glob("*.json"))

    def put(self, key: str, found: Any) -> None:
        """Write a dataclass, or a list, tuple or dictionary of them; the file appears whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._path(key).with_suffix(f".{os.getpid()}.part")
        text = json.dumps({"key": key, "found": found}, indent=1, default=asdict)
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, self._path(key))

    def _read(self, kind: Any, key: str) -> Any:
        try:
            document = json.loads(self._path(key).read_text(encoding="utf-8"))
            return decode(kind, document["found"]) if document["key"] == key else None
        except (OSError, AttributeError, KeyError, TypeError, ValueError):
            return None

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


class Steps(Protocol):
    """How a measurement takes its steps: each is measured, or read from the run that was interrupted."""

    def __call__(self, kind: type[T], name: str, measure: Callable[[], T]) -> T:
        """Return what `measure` returns, now or in the interrupted run.

        Args:
            kind: The type of the result, such as `list[Ratio]`; `decode` must be able to make it.
            name: The name of the step, unique within the measurement.
            measure: Takes the step.
        """


def at_once(kind: type[T], name: str, measure: Callable[[], T]) -> T:  # noqa: ARG001
    """Take a step without storing it."""
    return measure()


@contextlib.contextmanager
def stored_steps(folder: Path, about: Mapping[str, Any], total: int) -> Iterator[Steps]:
    """Store the steps of a measurement until the `with` block ends without an error; write the result inside it.

    Args:
        folder: The folder of all such measurements; each has a folder of its own inside.
        about: What all steps depend on: arguments, and hashes of what is measured.
        total: The number of steps.
    """
    measurement = hash_of(about)
    own = folder / measurement
    store = Store(own)
    if done := store.count():
        print(f"{done} of {total} steps of an interrupted run are in {own}: remove it to start again", file=sys.stderr)
    with stepping(total) as bar:

        def step(kind: type[T], name: str, measure: Callable[[], T]) -> T:
            key = hashlib.sha256(f"{measurement} {name}".encode()).hexdigest()[:24]
            found = store.get(kind, key)
            if found is not None:
                bar.initial += 1  # a step that took no time tells nothing about the time left
                bar.n += 1
                return found
            bar.set_description(f"{name:<28}")
            found = measure()
            store.put(key, found)
            bar.update()
            return found

        yield step
    shutil.rmtree(own, ignore_errors=True)
    with contextlib.suppress(OSError):  # the steps of another measurement are there
        folder.rmdir()


@dataclass(frozen=True)
class StoredRows:
    """Rows about n inputs, in one file for each chunk of inputs.

    Attributes:
        folder: The folder of these rows and no others.
        n: The number of inputs.
        row: The shape of one row.
        dtype: The type of its elements; None for any.
    """

    folder: Path
    n: int
    row: tuple[int, ...] = ()
    dtype: np.dtype[Any] | None = None

    @property
    def done(self) -> int:
        """The number of inputs whose rows are stored."""
        return self.n - sum(map(self._size, self.missing))

    @property
    def missing(self) -> list[int]:
        """The first input of each chunk that is not stored."""
        return [start for start in range(0, self.n, CHUNK) if not self._file(start).exists()]

    def put(self, start: int, found: NDArray[Any]) -> None:
        """Write the rows of the chunk that begins with this input; the file appears whole or not at all."""
        once(self._file(start), partial(_save, found))

    def rows(self) -> NDArray[Any]:
        """Return the stored rows in the order of their inputs: [n, *row] once no chunk is missing.

        Raises:
            BenchmarkError: A file is damaged.
        """
        stored = [start for start in range(0, self.n, CHUNK) if self._file(start).exists()]
        found = [self._read(start) for start in stored]
        return np.concatenate(found) if found else np.empty((0, *self.row), self.dtype)

    def clear(self) -> None:
        """Remove the rows, and the folder around theirs if nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # it does not exist, or is not empty
            self.folder.parent.rmdir()

    def _read(self, start: int) -> NDArray[Any]:
        damaged = f"{self._file(start)}: damaged; remove it or use --fresh"
        try:
            found = np.asarray(np.load(self._file(start), allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise BenchmarkError(f"{damaged}: {error}") from error
        if found.shape != (self._size(start), *self.row) or self.dtype not in (None, found.dtype):
            raise BenchmarkError(f"{damaged}: it holds {found.dtype} {list(found.shape)}")
        return found

    def _size(self, start: int) -> int:
        return min(CHUNK, self.n - start)

    def _file(self, start: int) -> Path:
        return self.folder / f"{start:09d}.npy"


def chunk_of(inputs: Inputs, start: int) -> Inputs:
    """Return the inputs of the chunk that begins with this one."""
    chunk = slice(start, start + CHUNK)
    return batch_rows(inputs, chunk) if isinstance(inputs, Mapping) else inputs[chunk]


def _save(found: NDArray[Any], path: Path) -> None:
    with path.open("wb") as file:  # np.save would add a suffix to a name without one
        np.save(file, found, allow_pickle=False)


def hash_of(about: Mapping[str, Any]) -> str:
    """Return a name for what depends on all of this, on the machine and on the installed versions."""
    environment = read_environment()
    machine = [environment.processor, environment.cores, environment.system]
    whole = {**about, "machine": machine, "versions": _versions()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("edgecascade", "onnxruntime", "onnxruntime-gpu", "numpy", "mlcommons-loadgen", "ai-edge-litert"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def decode(kind: type[T], value: Any) -> T:
    """Return a value that `json` has read as an instance of `kind`; floats are exact.

    Args:
        kind: A dataclass; or a tuple, list or dictionary, such as `list[Ratio]`.
        value: The value as `json` reads it.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: The value does not have this type.
    """
    found: T = _CONVERTER.structure(value, kind)
    return found
