"""From what a user writes as `remote=` to a `Remote`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.runtime.remote import InProcess, Remote
from edgecascade.runtime.session import open_session, run_in_batches, score_output
from edgecascade.types.errors import ArgumentError

__all__ = ["connect"]


def connect(
    remote: str | os.PathLike[str] | Remote | Callable[[Any], NDArray[Any]] | None, *, threads: int = 1
) -> Remote | None:
    """A remote from an address, an ONNX file, a function, or a remote.

    An address is asked again where that may help, and left alone when it keeps failing. A remote that was made by hand
    is taken as it is.

    Raises:
        ModelFileError: the file is missing or has no logits.
        ArgumentError: an address that is not one of an Open Inference Protocol v2 model.
        ModuleNotFoundError: a grpc:// address, and the `grpc` extra is not installed.
    """
    if remote is None:
        return None
    if isinstance(remote, (str, os.PathLike)):
        address = os.fspath(remote)
        if "://" in address:
            from edgecascade.runtime.remotes.circuit import CircuitBreaker
            from edgecascade.runtime.remotes.retry import Retrying

            return CircuitBreaker(Retrying(_at(address)))
        return InProcess(_onnx_function(address, threads))
    if hasattr(remote, "infer"):
        return cast(Remote, remote)
    if callable(remote):
        return InProcess(remote)
    raise ArgumentError(
        f"remote: expected an address, an ONNX file, a function or a Remote, got {type(remote).__name__}"
    )


def _at(address: str) -> Remote:
    if address.startswith(("grpc://", "grpcs://")):
        from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc

        return OpenInferenceGrpc(address)
    from edgecascade.runtime.remotes.open_inference import OpenInference

    return OpenInference(address)


def _onnx_function(path: str, threads: int) -> Callable[[Batch], NDArray[Any]]:
    session = open_session(path, threads=threads)
    inputs, output = model_inputs(session, path), score_output(session, path)

    def logits(batch: Batch) -> NDArray[Any]:
        return run_in_batches(session, [output], inputs.feeds("remote input", batch))[0]

    return logits
