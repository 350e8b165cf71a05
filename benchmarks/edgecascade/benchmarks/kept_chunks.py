"""Rows about inputs in a folder, one file for each chunk of inputs: an interruption costs one chunk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.export.cache import once
from edgecascade.export.labelled import Inputs
from edgecascade.runtime.batch import rows
from edgecascade.types.errors import BenchmarkError

__all__ = ["CHUNK", "KeptChunks", "chunk_of"]

CHUNK = 256  # inputs, as many as an interruption may cost


@dataclass(frozen=True)
class KeptChunks:
    """What is kept so far; the chunks that are not there are still to be done.

    Attributes:
        folder: of these rows and no others.
        n: how many inputs there are.
    """

    folder: Path
    n: int

    @property
    def done(self) -> int:
        """Inputs whose rows are kept."""
        return self.n - sum(map(self._size, self.missing))

    @property
    def missing(self) -> list[int]:
        """The first input of each chunk that is not there."""
        return [start for start in range(0, self.n, CHUNK) if not self._file(start).exists()]

    def keep(self, start: int, found: NDArray[Any]) -> None:
        """Write the rows of the chunk that begins with this input; the file appears whole or not at all."""
        once(self._file(start), partial(_save, found))

    def forget(self) -> None:
        """Remove what is kept, and the folder around it if nothing else is there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # it is not there, or not empty
            self.folder.parent.rmdir()

    def _read(self, start: int, row: tuple[int, ...], way_out: str, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """The rows, each of this shape and of this type, if one is given."""
        damaged = f"{self._file(start)}: damaged, {way_out}"
        try:
            found = np.asarray(np.load(self._file(start), allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise BenchmarkError(f"{damaged}: {error}") from error
        if found.shape != (self._size(start), *row):
            raise BenchmarkError(f"{damaged}: got {list(found.shape)}")
        if dtype is not None and found.dtype != dtype:
            raise BenchmarkError(f"{damaged}: expected other columns, got {found.dtype}")
        return found

    def _size(self, start: int) -> int:
        return min(CHUNK, self.n - start)

    def _file(self, start: int) -> Path:
        return self.folder / f"{start:09d}.npy"


def chunk_of(inputs: Inputs, start: int) -> Inputs:
    """The inputs of the chunk that begins with this one."""
    chunk = slice(start, start + CHUNK)
    return rows(inputs, chunk) if isinstance(inputs, Mapping) else inputs[chunk]


def _save(found: NDArray[Any], path: Path) -> None:
    with path.open("wb") as file:  # np.save would add a suffix to a name without one
        np.save(file, found, allow_pickle=False)
