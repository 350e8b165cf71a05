"""What a remote says about all inputs, stored as it comes: an interrupted measurement continues where it stopped."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import sha256_of
from edgecascade.benchmarks.stored import CHUNK, StoredRows, chunk_of
from edgecascade.export.chat.remote import ask_all, table_of
from edgecascade.export.data import Inputs, LabelledData, batches, count
from edgecascade.export.scores import Progress
from edgecascade.runtime.batch import rows as batch_rows
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.remote import Remote, RemoteLabels, connect, shown
from edgecascade.types.document import AskedChat
from edgecascade.types.errors import BenchmarkError, ExportError, RemoteError

__all__ = ["RemoteLike", "ask", "asked_of", "complete_scores", "differs", "stored_scores"]

RemoteLike = str | os.PathLike[str] | Remote | Callable[[Any], NDArray[Any]]

_log = logging.getLogger(__name__)
_BATCH = 32
_PATIENCE = 60.0  # seconds for one request; no caller is waiting
_ROUNDING = 0.01  # of the range of the scores


def stored_scores(
    root: Path, data: LabelledData, remote: str, classes: int, *, output: str | None = None
) -> StoredRows:
    """Return the stored scores of a remote, found by a hash of the data and of the remote.

    Args:
        root: The folder of all stored scores.
        data: Labelled inputs.
        remote: An address, or an ONNX file, which is known by its bytes too.
        classes: The number of scores for each input.
        output: The remote's output with the scores, if it is named; or how a generative model is asked.
    """
    remote_output = remote if output is None else f"{remote} {output}"
    file = sha256_of(Path(remote)) if Path(remote).is_file() else ""
    key = hashlib.sha256(f"2 {CHUNK} {classes} {data.digest} {len(data.labels)} {remote_output} {file}".encode())
    return StoredRows(root / key.hexdigest()[:24], len(data.labels), (classes,))


def complete_scores(
    stored: StoredRows, remote: RemoteLike, inputs: Inputs, *, name: str = "remote", progress: Progress | None = None
) -> NDArray[np.floating]:
    """Ask the remote about the inputs that are not stored; return the scores [n, classes] of all.

    Args:
        stored: The scores so far.
        remote: The remote to ask.
        inputs: All inputs.
        name: What to call a `Remote` in error messages, such as its address.
        progress: Called with the number of inputs just done.

    Raises:
        BenchmarkError: The remote failed on an input, or a stored file is damaged. What came before is stored.
    """
    missing = stored.missing
    if missing:
        connection = connect(remote)
        assert connection is not None
        name = shown(os.fspath(remote) if isinstance(remote, (str, os.PathLike)) else name)
        try:
            for start in missing:
                part = chunk_of(inputs, start)
                stored.put(start, ask(connection, part, stored.row[0], progress=progress, name=name, before=start))
        finally:
            if connection is not remote:  # the caller closes its own
                connection.close()
    return stored.rows()


def differs(stored: StoredRows, remote: Remote, inputs: Inputs, *, name: str = "remote") -> bool:
    """Return whether a remote's scores differ from those stored beyond rounding; it is asked about a few inputs again.

    Args:
        stored: The scores so far.
        remote: The remote to ask.
        inputs: All inputs.
        name: What to call it in error messages, such as its address.

    Raises:
        BenchmarkError: The remote failed, or a stored file is damaged.
    """
    before = stored.rows()
    if not len(before):
        return False
    missing = stored.missing
    known = [i for i in range(stored.n) if i - i % CHUNK not in missing]
    some = range(0, len(known), -(-len(known) // _BATCH))
    places = [known[i] for i in some]
    again: Inputs
    if isinstance(inputs, Mapping):
        again = batch_rows(inputs, places)
    else:
        again = inputs[places] if isinstance(inputs, np.ndarray) else [inputs[i] for i in places]
    said = ask(remote, again, stored.row[0], name=shown(name))
    return not np.allclose(said, before[list(some)], rtol=0, atol=_ROUNDING * float(np.ptp(before)))


def asked_of(remote: Remote) -> AskedChat | None:
    """Return how a remote asks a generative model; None for a remote of another kind."""
    asked = getattr(remote, "asked", None)  # a remote of somebody else may use this name for anything
    return asked if isinstance(asked, AskedChat) else None


def ask(
    connection: Remote,
    inputs: Inputs,
    classes: int,
    *,
    progress: Progress | None = None,
    name: str = "remote",
    before: int = 0,
) -> NDArray[np.floating]:
    """Return the scores [n, classes] of an open remote; of one that gives only label and confidence, probabilities.

    Args:
        connection: The remote.
        inputs: The inputs.
        classes: The number of scores that each input must have.
        progress: Called with the number of inputs just done.
        name: The name of the remote in an error.
        before: The number of inputs done before these.

    Raises:
        BenchmarkError: The remote failed, or its scores have another shape.
    """
    if asked_of(connection) is not None:
        return _said(connection, inputs, classes, progress=progress, name=name, before=before)
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


def _said(
    connection: Remote, inputs: Inputs, classes: int, *, progress: Progress | None, name: str, before: int
) -> NDArray[np.floating]:
    """Return what a generative model says; without a label, all classes are equally probable."""
    try:
        replies = ask_all(connection, inputs, name=name, before=before, progress=progress)
    except ExportError as error:
        raise BenchmarkError(str(error)) from error
    if missing := sum(isinstance(reply, RemoteError) for reply in replies):
        _log.warning("%s: %d of %d inputs got no label, which counts as any label", name, missing, len(replies))
    return table_of(replies, classes, None)
