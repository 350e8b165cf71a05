"""What a model says about every input: from a file, a server, or saved from an earlier run."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from edgecascade.export.graph import load_model
from edgecascade.export.labelled import Inputs, batches, count
from edgecascade.export.logits import find_logits
from edgecascade.runtime.batch import size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.engine import open_session, run_in_batches
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.runtime.remotes.remote import connect
from edgecascade.types.errors import ExportError, RemoteError

__all__ = ["local_scores", "remote_scores", "tensor_scores"]

_PATIENCE = 60.0  # seconds for one request while calibrating, where nobody waits for the answer

Progress = Callable[[int], object]


def local_scores(
    path: str | os.PathLike[str],
    inputs: Inputs,
    *,
    output: str | None = None,
    kind: str | None = None,
    progress: Progress | None = None,
) -> NDArray[np.floating]:
    """What an ONNX file's `find_logits` gives, with the single thread that the device will use: [n, classes] or [n].

    Args:
        path: the file.
        inputs: [n, ...].
        output: the output that holds the logits, if it is not evident.
        kind: one of `KINDS`, if its values cannot tell.
        progress: called with the number of inputs just done.
    """
    model = load_model(path)
    return tensor_scores(model, find_logits(model, output, kind).tensor, inputs, str(path), progress=progress)


def tensor_scores(
    model: ModelProto, tensor: str, inputs: Inputs, argument: str, *, progress: Progress | None = None
) -> NDArray[np.floating]:
    """The values of a tensor inside a model, for all inputs; `argument` is what a refusal calls them."""
    watched = ModelProto()
    watched.CopyFrom(model)
    if tensor not in {o.name for o in model.graph.output}:
        watched.graph.output.append(ValueInfoProto(name=tensor))  # onnxruntime infers its type
    session = open_session(watched.SerializeToString())
    declared = model_inputs(session, argument)
    parts = []
    for batch in batches(inputs, declared.batch or 32):
        parts.append(run_in_batches(session, [tensor], declared.feeds(argument, batch))[0])
        if progress:
            progress(size(batch))
    return np.concatenate(parts)


def remote_scores(
    remote: str, inputs: Inputs, *, threads: int = 1, progress: Progress | None = None
) -> NDArray[np.floating]:
    """Scores [n, classes] of a remote: an address, an ONNX file, or saved logits (.npy).

    Raises:
        ExportError: the remote failed on an input, or the saved logits are not one row per input.
    """
    if remote.endswith(".npy"):
        try:
            saved = np.asarray(np.load(remote, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise ExportError(f"{remote}: not an array saved by numpy: {error}") from error
        if saved.ndim != 2 or len(saved) != count(inputs):
            raise ExportError(f"{remote}: expected logits [{count(inputs)}, classes], got {list(saved.shape)}")
        return saved
    connection = connect(remote, threads=threads)
    assert connection is not None
    parts = []
    try:
        for batch in batches(inputs, 32):
            parts.append(np.asarray(connection.infer(batch, Deadline.after(_PATIENCE))))
            if progress:
                progress(size(batch))
    except (RemoteError, TimeoutError) as error:
        raise ExportError(f"{remote}: it failed after {sum(map(len, parts))} inputs: {error}") from error
    finally:
        connection.close()
    return np.concatenate(parts)
