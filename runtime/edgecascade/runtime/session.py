"""An onnxruntime session set up for a device: one thread, and no thread spinning while it waits."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from edgecascade.runtime.batch import rows, size
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.runtime.providers import CPU, PROVIDERS, available, engine_options, preferred
from edgecascade.runtime.saturation import saturates_here, unsafe_weights
from edgecascade.types.errors import ModelFileError, first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["open_session", "run_in_batches", "score_output", "sessions"]

_LOG = logging.getLogger(__name__)
_ERRORS_ONLY = 3  # else onnxruntime warns, at every load, that a threshold can be overridden


def open_session(
    path: str | os.PathLike[str] | bytes,
    *,
    threads: int = 1,
    providers: str | Sequence[str] = CPU,
    fallback: bool = False,
    engines: str | os.PathLike[str] | None = None,
) -> Any:
    """Open an ONNX model, or a `.tflite` cascade model behind the same methods.

    Args:
        path: the file, or an ONNX file's bytes.
        threads: the engine's threads within one operator; no thread of onnxruntime spins.
        providers: execution providers by preference, or `auto` (see `providers.preferred`).
        fallback: whether another provider may do the work of the first; if not, that is an error, and not silence.
        engines: a folder in which providers that compile the model keep what they compiled.

    Raises:
        ModelFileError: the file is missing or no model, or a provider is not to be had.
        ArgumentError: a provider that nobody knows.
        ModuleNotFoundError: the file is a `.tflite`, and the `litert` extra is not installed.
    """
    source = path if isinstance(path, bytes) else os.fspath(path)
    name = "model" if isinstance(source, bytes) else source
    if isinstance(source, str) and not os.path.isfile(source):
        raise ModelFileError(f"{name}: no such file")
    if name.endswith(".tflite"):
        from edgecascade.runtime.litert import LiteSession

        if providers not in ("auto", "cpu", CPU, [CPU], (CPU,)):
            given = providers if isinstance(providers, str) else ", ".join(providers)
            raise ModelFileError(f"providers: expected {CPU} for a .tflite file, got {given}")
        return LiteSession(name, threads)
    chosen = preferred(providers, fallback=fallback)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1 if chosen[0] == PROVIDERS["xnnpack"] else threads  # XNNPACK has a pool of its own
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    if saturates_here() and unsafe_weights(source):
        options.add_session_config_entry("session.x64quantprecision", "1")
        _LOG.info("%s: its int8 weights run in slower kernels here, since the fast ones clip sums on this CPU", name)
    try:
        session = ort.InferenceSession(
            source, options, providers=chosen, provider_options=[engine_options(p, engines, threads) for p in chosen]
        )
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        raise ModelFileError(f"{name}: onnxruntime cannot load it: {first_line(error)}") from error
    used = session.get_providers()[0]
    if used != chosen[0] and not fallback and providers != "auto":
        raise ModelFileError(f"{name}: asked for {chosen[0]}, onnxruntime fell back to {used}")
    return session


def sessions(path: str | os.PathLike[str] | bytes) -> Iterator[tuple[str, Any]]:
    """The model opened on every execution provider here, by name; or why one cannot run it, as a `ModelFileError`.

    Raises:
        ModelFileError: not even the CPU can run it.
    """
    if not isinstance(path, bytes) and os.fspath(path).endswith(".tflite"):
        yield "LiteRT", open_session(path)
        return
    for provider in available():
        try:
            yield provider, open_session(path, providers=provider)
        except ModelFileError as error:
            if provider == CPU:
                raise
            yield provider, error


def score_output(session: Any, path: str | os.PathLike[str]) -> str:
    """The name of the output that holds logits: `logits`, or the only floating [n, classes] output."""
    outputs = {o.name: o for o in session.get_outputs()}
    if "logits" in outputs:
        return "logits"
    tables = [n for n, o in outputs.items() if o.type in ("tensor(float)", "tensor(float16)") and len(o.shape) == 2]
    if len(tables) != 1:
        raise ModelFileError(
            f"{path}: expected an output named `logits` or one floating [n, classes] output, "
            f"got {', '.join(f'{o.name} {o.type} {o.shape}' for o in outputs.values())}"
        )
    return str(tables[0])


def run_in_batches(session: Any, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Outputs for checked feeds [n, ...]; a file's fixed batch is filled up with the last input, and cut again."""
    n = size(feeds)
    step = ModelInputs(tuple(session.get_inputs())).batch or n
    parts = []
    for start in range(0, n, step):
        part = rows(feeds, slice(start, start + step))
        missing = step - size(part)
        full = rows(part, np.append(np.arange(step - missing), np.full(missing, -1))) if missing else part
        parts.append([array[: step - missing] for array in session.run(list(outputs), full)])
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]
