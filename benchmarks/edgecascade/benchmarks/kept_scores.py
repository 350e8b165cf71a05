"""What a remote said about the user's data, kept as it comes: an interrupted measurement goes on where it stopped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.kept_chunks import CHUNK, KeptChunks, chunk_of
from edgecascade.export.labelled import Inputs, LabelledData, batches, count
from edgecascade.export.scores import Progress
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.remote import Remote, RemoteLabels, connect
from edgecascade.types.errors import BenchmarkError, RemoteError

__all__ = ["KeptScores", "RemoteLike", "ask"]

RemoteLike = str | os.PathLike[str] | Remote | Callable[[Any], NDArray[Any]]

_BATCH = 32
_PATIENCE = 60.0  # seconds for one request, where nobody waits for the answer
_WAY_OUT = "remove it or use --fresh"


@dataclass(frozen=True)
class KeptScores(KeptChunks):
    """A folder with one file for each chunk of inputs, of one remote on one set of data."""

    @classmethod
    def of(cls, root: Path, data: LabelledData, remote: str, classes: int) -> KeptScores:
        """Where they are kept: under a hash of the data, of the remote's address and, if it is a file, of its bytes.

        Args:
            root: the folder with all such folders.
            data: labelled inputs.
            remote: an address or an ONNX file.
            classes: how many scores each input has.
        """
        key = hashlib.sha256(f"1 {CHUNK} {classes} {data.digest} {len(data.labels)} {remote}".encode())
        if Path(remote).is_file():
            with open(remote, "rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    key.update(block)
        return cls(root / key.hexdigest()[:24], len(data.labels))

    def complete(
        self, remote: RemoteLike, inputs: Inputs, *, classes: int, progress: Progress | None = None
    ) -> NDArray[np.floating]:
        """Scores [n, classes] of all inputs; the remote is asked about those that are missing.

        Args:
            remote: whom to ask.
            inputs: all of them.
            classes: how many scores each input must have.
            progress: called with the number of inputs just done, of those that were missing.

        Raises:
            BenchmarkError: the remote failed on an input, or what is kept is damaged. What came before it is kept.
        """
        missing = self.missing
        if missing:
            connection = connect(remote)
            assert connection is not None
            try:
                for start in missing:
                    part = chunk_of(inputs, start)
                    scores = ask(connection, part, classes, progress=progress, name=_named(remote), before=start)
                    self.keep(start, scores)
            finally:
                if connection is not remote:  # the caller's own is the caller's to close
                    connection.close()
        return np.concatenate([self._read(start, (classes,), _WAY_OUT) for start in range(0, self.n, CHUNK)])


def ask(
    connection: Remote,
    inputs: Inputs,
    classes: int,
    *,
    progress: Progress | None = None,
    name: str = "remote",
    before: int = 0,
) -> NDArray[np.floating]:
    """Scores [n, classes] of an open remote; of opinions, their probabilities.

    Args:
        connection: whom to ask.
        inputs: about what.
        classes: how many scores each input must have.
        progress: called with the number of inputs just done.
        name: of the remote, in a refusal.
        before: how many inputs were done before these.

    Raises:
        BenchmarkError: the remote failed, or its scores have another shape.
    """
    parts: list[NDArray[Any]] = []
    most = int(getattr(connection, "request_inputs", _BATCH))
    try:
        for batch in batches(inputs, max(1, min(_BATCH, most))):
            said = connection.infer(batch, Deadline.after(_PATIENCE))
            scores = said.probabilities(classes) if isinstance(said, RemoteLabels) else np.asarray(said)
            n = count(batch)
            if scores.shape != (n, classes):
                raise BenchmarkError(f"{name}: expected scores [{n}, {classes}], got {list(scores.shape)}")
            parts.append(scores)
            if progress:
                progress(n)
    except (RemoteError, TimeoutError) as error:
        failed = before + sum(map(len, parts))
        raise BenchmarkError(f"{name}: it failed after {failed} inputs: {error}") from error
    return np.concatenate(parts)


def _named(remote: RemoteLike) -> str:
    return os.fspath(remote) if isinstance(remote, (str, os.PathLike)) else "remote"
