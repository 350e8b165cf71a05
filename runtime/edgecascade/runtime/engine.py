"""The engine that runs a model: ONNX Runtime, or LiteRT behind the same few methods.

An engine is set up for a device: one thread, and no thread that spins while it waits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import onnxruntime as ort

from edgecascade.runtime.batch import filled, rows, size
from edgecascade.runtime.providers import CPU, PROVIDERS, available, engine_options, preferred
from edgecascade.types.errors import ModelFileError, first_line, no_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecascade.types.document import CascadeDocument, TaskDocument

__all__ = [
    "WITHOUT_ZIPMAP",
    "Declared",
    "Engine",
    "fixed_batch",
    "numpy_dtype",
    "open_session",
    "read_classifier",
    "read_document",
    "read_properties",
    "run_in_batches",
    "score_output",
    "sessions",
]

_FLOATING = ("tensor(float)", "tensor(float16)", "tensor(double)")
_FATAL_ONLY = 4  # otherwise onnxruntime warns at every load, and prints each error that it raises too
WITHOUT_ZIPMAP = (
    "a list of dictionaries is no output for a cascade: convert the model again with options={'zipmap': False} "
    "(skl2onnx) or zipmap=False (onnxmltools)"
)
_DTYPES = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool", "string": "object"}


class Declared(NamedTuple):
    """An input or output that a model declares, as onnxruntime's `NodeArg` has it.

    Attributes:
        name: name of the tensor.
        type: such as `tensor(float)`.
        shape: the length of each side, or the name of a side of any length.
    """

    name: str
    type: str
    shape: list[int | str]


class Engine(Protocol):
    """An open model: the methods of `onnxruntime.InferenceSession` that edgecascade uses."""

    def get_inputs(self) -> Sequence[Declared]:
        """Return the inputs that a caller must give."""
        ...

    def get_outputs(self) -> Sequence[Declared]:
        """Return the outputs that `run` can give."""
        ...

    def get_overridable_initializers(self) -> Sequence[Declared]:
        """Return the inputs that have a default in the file."""
        ...

    def get_providers(self) -> list[str]:
        """Return the execution providers in use, the first one first."""
        ...

    def get_modelmeta(self) -> Any:
        """Return an object whose `custom_metadata_map` holds the file's metadata."""
        ...

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return the outputs named, or all of them, for arrays by input name."""
        ...


def open_session(
    path: str | os.PathLike[str] | bytes,
    *,
    threads: int = 1,
    providers: str | Sequence[str] = CPU,
    fallback: bool = False,
    engine_cache: str | os.PathLike[str] | None = None,
) -> Engine:
    """Open an ONNX model, or a `.tflite` cascade model.

    Args:
        path: the file, or an ONNX file's bytes.
        threads: the engine's threads within one operator; no thread of onnxruntime spins.
        providers: execution providers by preference, or `auto`, as `providers.preferred` takes them.
        fallback: whether another provider may replace the first; otherwise a missing one is an error.
        engine_cache: a folder in which providers that compile the model store the result.

    Raises:
        ModelFileError: the file is missing or not a model, its weights are in another file that is missing or changed,
            or a provider is not available.
        ArgumentError: a provider name is unknown.
        ModuleNotFoundError: the file is a `.tflite`, and the `litert` extra is not installed.
    """
    source = path if isinstance(path, bytes) else os.fspath(path)
    name = "model" if isinstance(source, bytes) else source
    if isinstance(source, str) and not os.path.isfile(source):
        raise ModelFileError(no_file(source))
    if name.endswith(".tflite"):
        from edgecascade.runtime.litert import LiteSession

        if providers not in ("auto", "cpu", CPU, [CPU], (CPU,)):
            given = providers if isinstance(providers, str) else ", ".join(providers)
            raise ModelFileError(f"providers: expected {CPU} for a .tflite file, got {given}")
        return LiteSession(name, threads)
    chosen = preferred(providers, fallback=fallback)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1 if chosen[0] == PROVIDERS["xnnpack"] else threads  # XNNPACK has its own pool
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _FATAL_ONLY
    from edgecascade.runtime.saturation import saturates_here, unsafe_weights  # needed to load a file only

    if isinstance(source, str):
        from edgecascade.runtime.weights_file import check_weights

        check_weights(source)
    exact = saturates_here() and bool(unsafe_weights(source))
    if exact:
        import logging

        options.add_session_config_entry("session.x64quantprecision", "1")
        log = logging.getLogger(__name__)
        log.info(
            "%s: its int8 weights run in slower kernels here, since the fast ones clip sums on this CPU; quantize with "
            "reduce_range=True to avoid it",
            name,
        )
    try:
        session: Engine = ort.InferenceSession(
            _in_utf8(source),
            options,
            providers=chosen,
            provider_options=[engine_options(p, engine_cache, threads) for p in chosen],
            enable_fallback=int(chosen != [CPU]),  # it prints a banner on standard output, and tries the CPU again
        )
        for one in (*session.get_inputs(), *session.get_outputs()):
            _ = one.name, one.shape  # raises what a damaged name raises here, not where it is used
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        cure = (
            "; it has no exact int8 kernels for all of it on this CPU: quantize with reduce_range=True" if exact else ""
        )
        from edgecascade.types.document import is_chat_file

        if isinstance(source, str) and is_chat_file(source):
            raise ModelFileError(
                f"{name}: expected a model, got JSON; a file of two chat endpoints is served by `edgecascade gateway`"
            ) from error
        raise ModelFileError(f"{name}: onnxruntime cannot load it: {first_line(error)}{cure}") from error
    used = session.get_providers()[0]
    if used != chosen[0] and not fallback and providers != "auto":
        raise ModelFileError(f"{name}: expected to run on {chosen[0]}, onnxruntime fell back to {used}")
    return session


def _in_utf8(source: str | bytes) -> str | bytes:
    """Return a path in UTF-8 whatever the locale, as onnxruntime takes it; the bytes of a file of another name."""
    if isinstance(source, bytes):
        return source
    try:
        return os.fsencode(source).decode()
    except UnicodeDecodeError:
        with open(source, "rb") as file:
            return file.read()


def sessions(path: str | os.PathLike[str] | bytes) -> Iterator[tuple[str, Engine | ModelFileError]]:
    """Open the model on every execution provider of this machine, and yield each by name, or its error.

    Raises:
        ModelFileError: the CPU cannot run it.
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


def score_output(session: Engine, path: str | os.PathLike[str]) -> str:
    """Return the name of the output that holds logits: `logits`, or the only floating [n, classes] output.

    Raises:
        ModelFileError: the model has no such output, or several.
    """
    outputs = {o.name: o for o in session.get_outputs()}
    if "logits" in outputs:
        return "logits"
    tables = [n for n, o in outputs.items() if o.type in _FLOATING and len(o.shape) == 2]
    if len(tables) != 1:
        zipped = any(one.type.startswith("seq(map(") for one in outputs.values())
        raise ModelFileError(
            f"{path}: expected an output named `logits` or one floating [n, classes] output, "
            f"got {', '.join(f'{o.name} {o.type} {o.shape}' for o in outputs.values())}; "
            f"{WITHOUT_ZIPMAP if zipped else 'name it with --remote-output'}"
        )
    return str(tables[0])


def run_in_batches(session: Engine, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return outputs for checked feeds [n, ...]. A file of a fixed batch runs on batches of that size.

    The last batch is filled up with its last input, and its outputs are cut again.
    """
    n = size(feeds)
    step = fixed_batch(session.get_inputs()) or n
    parts = []
    for start in range(0, n, step):
        part = rows(feeds, slice(start, start + step))
        parts.append([array[: size(part)] for array in session.run(list(outputs), filled(part, step))])
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def fixed_batch(declared: Sequence[Declared]) -> int | None:
    """Return how many inputs a file takes at once, or None if it takes any number."""
    sides = [one.shape[0] for one in declared if one.shape]
    return next((side for side in sides if isinstance(side, int)), None)


def numpy_dtype(onnx_type: str) -> np.dtype[Any]:
    """Return the numpy type of onnxruntime's `tensor(...)`."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype(_DTYPES.get(name, name))


def read_properties(session: Engine, path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata of an open session, by key.

    Raises:
        ModelFileError: it is not UTF-8.
    """
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: its metadata is damaged: {error}") from error


def read_document(session: Engine, path: str | os.PathLike[str]) -> CascadeDocument | TaskDocument:
    """Return the document of an open session.

    Raises:
        ModelFileError: the document is missing, damaged, or of an unknown format.
    """
    from edgecascade.types.document import KEY, read_any_document  # needed to load a file, not to import the runtime

    text = read_properties(session, path).get(KEY)
    if text is None:
        raise ModelFileError(
            f"{path}: is not a cascade model (it has no `{KEY}` metadata); create one with `edgecascade calibrate`"
        )
    return read_any_document(text, str(path))


def read_classifier(session: Engine, path: str | os.PathLike[str]) -> CascadeDocument:
    """Return the document of an open session of a classifier.

    Raises:
        ModelFileError: as `read_document`, or the file is that of a general task.
    """
    document = read_document(session, path)
    from edgecascade.types.document import CascadeDocument

    if not isinstance(document, CascadeDocument):
        raise ModelFileError(f"{path}: expected the cascade file of a classifier, got that of {document.task.name!r}")
    return document
