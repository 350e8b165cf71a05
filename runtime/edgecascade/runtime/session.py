"""An onnxruntime session set up for a device: one thread, and no thread spinning while it waits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.errors import InputError, ModelFileError, first_line
from edgecascade.runtime.text import TextInput, are_sentences, text_input

__all__ = [
    "ELSEWHERE",
    "ModelInputs",
    "check_input",
    "model_inputs",
    "numpy_dtype",
    "open_session",
    "run_in_batches",
    "score_output",
]

ELSEWHERE = {"AzureExecutionProvider"}  # calls a cloud service: not a way to run a file here
_CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3  # else onnxruntime warns, at every load, that a threshold can be overridden
_DTYPES = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool", "string": "object"}


def open_session(
    path: str | os.PathLike[str] | bytes,
    *,
    threads: int = 1,
    providers: Sequence[str] = (_CPU,),
) -> Any:
    """Open an ONNX model, or a `.tflite` cascade model behind the same methods.

    Args:
        path: the file, or an ONNX file's bytes.
        threads: the engine's threads within one operator; no thread of onnxruntime spins.
        providers: execution providers by preference. If the first is not the one in use, that is an
            error and not a silent fallback.

    Raises:
        ModelFileError: the file is missing or no model, or a provider is not to be had.
        ModuleNotFoundError: the file is a `.tflite`, and the `litert` extra is not installed.
    """
    source = path if isinstance(path, bytes) else os.fspath(path)
    name = "model" if isinstance(source, bytes) else source
    if isinstance(source, str) and not Path(source).is_file():
        raise ModelFileError(f"{name}: no such file")
    if name.endswith(".tflite"):
        from edgecascade.runtime.litert import LiteSession

        if list(providers) != [_CPU]:
            raise ModelFileError(f"providers: expected {_CPU} for a .tflite file, got {', '.join(providers)}")
        return LiteSession(name, threads)
    missing = [p for p in providers if p not in ort.get_available_providers()]
    if missing:
        raise ModelFileError(
            f"providers: {', '.join(missing)} not in this onnxruntime, "
            f"which has {', '.join(ort.get_available_providers())}"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = ort.InferenceSession(source, options, providers=list(providers))
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        raise ModelFileError(f"{name}: onnxruntime cannot load it: {first_line(error)}") from error
    if session.get_providers()[0] != providers[0]:
        raise ModelFileError(f"{name}: asked for {providers[0]}, onnxruntime fell back to {session.get_providers()[0]}")
    return session


@dataclass(frozen=True)
class ModelInputs:
    """What a model takes.

    Attributes:
        declared: its inputs as onnxruntime declares them (name, type, shape), defaults left out.
        text: makes them of sentences, if the file says how.
    """

    declared: tuple[Any, ...]
    text: TextInput | None = None

    @property
    def batch(self) -> int | None:
        """How many inputs the file takes at once, if that is fixed."""
        sides = [one.shape[0] for one in self.declared if one.shape]
        return next((side for side in sides if isinstance(side, int)), None)

    def feeds(self, argument: str, batch: Batch) -> dict[str, NDArray[Any]]:
        """The arrays by input name, checked.

        Args:
            argument: what to call the batch in a refusal.
            batch: inputs [n, ...]; by name if the model has several; or sentences [n], if it takes text.

        Raises:
            InputError: naming the argument, what came and what was expected.
        """
        if self.text is not None and are_sentences(batch):
            batch = self.text.encode(cast(NDArray[Any], batch).tolist())
        if not isinstance(batch, Mapping):
            if len(self.declared) != 1:
                raise InputError(f"{argument}: expected one array for each of {self}, got a single array")
            check_input(argument, batch, self.declared[0])
            return {self.declared[0].name: batch}
        if batch.keys() != {one.name for one in self.declared}:
            raise InputError(f"{argument}: expected one array for each of {self}, got {', '.join(batch) or 'none'}")
        for one in self.declared:
            check_input(f"{argument}[{one.name!r}]", batch[one.name], one)
        if len({len(array) for array in batch.values()}) != 1:
            counts = ", ".join(f"{len(array)} in {name}" for name, array in batch.items())
            raise InputError(f"{argument}: expected as many inputs in every array, got {counts}")
        return dict(batch)

    def __str__(self) -> str:
        """Name, type and shape of every input."""
        return ", ".join(
            f"{one.name}: {numpy_dtype(one.type)} [{', '.join(str(side) for side in one.shape)}]"
            for one in self.declared
        )


def model_inputs(session: Any, path: str | os.PathLike[str]) -> ModelInputs:
    """The inputs that a caller must give."""
    try:
        declared = tuple(session.get_inputs())
        names = [one.name for one in declared]
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: the names of its inputs are damaged: {error}") from error
    if not names:
        raise ModelFileError(f"{path}: expected a model with an input, got one with none")
    return ModelInputs(declared, text_input(session, path))


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


def numpy_dtype(onnx_type: str) -> np.dtype[Any]:
    """The numpy type of onnxruntime's `tensor(...)`."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype(_DTYPES.get(name, name))


def check_input(argument: str, x: NDArray[Any], declared: Any) -> None:
    """Refuse a batch whose type or shape is not the declared input's.

    Raises:
        InputError: naming the argument, what came and what was expected.
    """
    dtype, shape = numpy_dtype(declared.type), declared.shape
    fits = len(x.shape) == len(shape) and all(
        have == want for have, want in zip(x.shape[1:], shape[1:], strict=True) if isinstance(want, int)
    )
    if x.dtype != dtype or not fits:
        expected = ", ".join(str(side) for side in shape[1:])
        raise InputError(f"{argument}: expected {dtype} [{expected}] per input, got {x.dtype} {list(x.shape[1:])}")
