"""The answers of a served run, kept as they come until its report is written: interrupted, it goes on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.kept_chunks import CHUNK, KeptChunks
from edgecascade.benchmarks.packages import sha256_of
from edgecascade.benchmarks.store import hash_of
from edgecascade.export.data import LabelledData

__all__ = ["NOBODY", "ROW", "KeptAnswers"]

NOBODY = -1  # in `remote`: it gave no label; in the traffic: nobody counts it
ROW = np.dtype(
    [
        ("label", np.int64),
        ("reason", "U32"),
        ("forwarded", np.bool_),
        ("remote", np.int64),  # the remote's own label
        ("elapsed", np.float64),  # seconds
        ("requests", np.int64),  # since the answer before, as the next two, which are bytes
        ("sent", np.int64),
        ("received", np.int64),
        ("sitting", np.int64),  # which of the processes answered, from 1
    ]
)
_WAY_OUT = "remove it"


@dataclass(frozen=True)
class KeptAnswers(KeptChunks):
    """A folder with one file of rows for each chunk of answers, of one cascade, one remote and one deadline."""

    @classmethod
    def of(
        cls, root: Path, cascade: str | os.PathLike[str], data: LabelledData, remote: str, deadline: float
    ) -> KeptAnswers:
        """Where they are kept: under a hash of all that they depend on, latencies too.

        Args:
            root: the folder with all such folders.
            cascade: a cascade model, known by its bytes.
            data: labelled inputs.
            remote: an address; an ONNX file, known by its bytes as well; or what else tells the remote from others.
            deadline: seconds each call is given.
        """
        about = {
            "recipe": [1, CHUNK],
            "cascade": sha256_of(Path(cascade)),
            "data": [data.digest, len(data.labels)],
            "remote": [remote, sha256_of(Path(remote)) if Path(remote).is_file() else None],
            "deadline": float(deadline),
        }
        return cls(root / hash_of(about), len(data.labels))

    @property
    def told(self) -> str:
        """How many there are, and where."""
        return f"{self.done} of {self.n} answers of an interrupted served run are kept, in {self.folder}"

    @property
    def sittings(self) -> int:
        """Processes so far that have left an answer.

        Raises:
            BenchmarkError: what is kept is damaged.
        """
        kept = (start for start in range(0, self.n, CHUNK) if self._file(start).exists())
        return max((int(self._read(start, (), _WAY_OUT, ROW)["sitting"].max()) for start in kept), default=0)

    def rows(self) -> NDArray[Any]:
        """Of every input, `ROW` [n], once all are kept.

        Raises:
            BenchmarkError: what is kept is damaged, or not all.
        """
        return np.concatenate([self._read(start, (), _WAY_OUT, ROW) for start in range(0, self.n, CHUNK)])
