"""What is served: an ONNX file with its inputs and outputs, or a cascade, whose outputs are parts of its answers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, first_of, size
from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.commands.lines import probabilities_of
from edgecascade.runtime.engine import Declared, numpy_dtype, open_session, read_properties
from edgecascade.runtime.metrics.prometheus import prometheus_text
from edgecascade.runtime.model_inputs import as_declared
from edgecascade.runtime.remotes.tensors import DATATYPES
from edgecascade.types.answer import Answer
from edgecascade.types.class_names import names_in
from edgecascade.types.errors import InputError, ModelFileError, first_line

__all__ = ["OUTPUTS", "ServedModel", "served_cascade", "served_file"]

_LOG = logging.getLogger(__name__)

OUTPUTS: Mapping[str, tuple[str, Callable[[Answer], Any]]] = {
    "label": ("INT64", lambda answer: answer.label),
    "name": ("BYTES", lambda answer: answer.name.encode()),
    "confidence": ("FP32", lambda answer: answer.confidence),
    "advantage": ("FP32", lambda answer: answer.advantage),
    "source": ("BYTES", lambda answer: answer.source.value.encode()),
    "reason": ("BYTES", lambda answer: answer.reason.value.encode()),
    "forwarded": ("BOOL", lambda answer: answer.forwarded),
}
"""The outputs of a served cascade, besides `probabilities`: datatype, and the value of an answer."""

_DTYPES = {"INT64": np.int64, "BYTES": object, "FP32": np.float32, "BOOL": np.bool_}
_PROBABILITIES = "probabilities"
_MOST_IMAGES = 1024  # files in a request


@dataclass(frozen=True)
class ServedModel:
    """A model to serve.

    Attributes:
        inputs: name, datatype and shape of each input, as the protocol describes them.
        outputs: name, datatype and shape of each output.
        infer: returns the requested outputs by name, from the arrays of the inputs; objects are `bytes` or `str`. The
            client gets the message of an `InputError`.
        metrics: returns text for Prometheus, which precedes the server's own.
        labels: names of the classes in the order of the scores; empty if they are not known.
    """

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    infer: Callable[[Mapping[str, NDArray[Any]], list[str]], Awaitable[Mapping[str, NDArray[Any]]]]
    metrics: Callable[[], str] | None = None
    labels: tuple[str, ...] = ()


def served_file(path: str | os.PathLike[str], threads: ThreadPoolExecutor, *, engine_threads: int = 1) -> ServedModel:
    """Return an ONNX file as a model with all of its inputs, and its outputs that are tensors.

    Args:
        path: the file.
        threads: run it for requests.
        engine_threads: the engine's threads within one operator.

    Raises:
        ModelFileError: the file is missing, is not an ONNX model, or has inputs or outputs without a type in the
            protocol.
    """
    session = open_session(path, threads=engine_threads)
    declared = {one.name: one for one in session.get_inputs()}
    inputs = [_described(one) for one in declared.values()]
    outputs = [_described(one) for one in session.get_outputs() if one.type.startswith("tensor(")]
    if not outputs or None in (*inputs, *outputs):
        raise ModelFileError(f"{path}: expected inputs and outputs with a type of the protocol, got others")

    async def infer(feeds: Mapping[str, NDArray[Any]], names: list[str]) -> Mapping[str, NDArray[Any]]:
        _check_names(feeds, names, [*declared], [one["name"] for one in outputs if one])
        arrays = {name: _as_declared(array, declared[name]) for name, array in feeds.items()}
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(threads, session.run, names, arrays)
        except Exception as error:  # onnxruntime's words hold names and paths of this machine
            _LOG.warning("%s cannot run on the inputs of a request: %s", path, first_line(error))
            raise InputError("inputs: the model cannot run on them; the server's log says why") from error
        return dict(zip(names, found, strict=True))

    labels = names_in(read_properties(session, path))
    return ServedModel([one for one in inputs if one], [one for one in outputs if one], infer, labels=labels)


def served_cascade(cascade: Cascade, threads: ThreadPoolExecutor) -> ServedModel:
    """Return a cascade as a model with the inputs of its file, whose outputs are the parts of an answer.

    Images can also come as BYTES [n], encoded files; sentences come as BYTES [n] in an input called `text`. Requests
    with several inputs wait for their deadlines in `threads`.
    """
    inputs = cascade.inputs
    declared = [found for one in inputs.declared if (found := _described(one))]
    if inputs.text is not None:
        declared = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    classes = len(cascade.document.labels)

    async def infer(feeds: Mapping[str, NDArray[Any]], names: list[str]) -> Mapping[str, NDArray[Any]]:
        _check_names(feeds, names, [one["name"] for one in declared], [*OUTPUTS, _PROBABILITIES])
        batch = _batch(feeds, text=inputs.text is not None)
        try:
            answers = await _answers(cascade, batch, threads)
        except ModuleNotFoundError as error:
            raise InputError(f"inputs: this server cannot read image files, since it lacks {error.name}") from error
        return {one: _column(one, answers, classes) for one in names}

    outputs = [{"name": one, "datatype": datatype, "shape": [-1]} for one, (datatype, _) in OUTPUTS.items()]
    outputs.append({"name": _PROBABILITIES, "datatype": "FP32", "shape": [-1, classes]})
    return ServedModel(
        declared, outputs, infer, lambda: prometheus_text(cascade.metrics()), labels=cascade.document.labels
    )


def _described(tensor: Declared) -> dict[str, Any] | None:
    """Return a tensor as the protocol describes it, or None if the protocol lacks its type."""
    try:
        name = numpy_dtype(tensor.type).name
    except TypeError:
        return None
    datatype = "BYTES" if name == "object" else DATATYPES.get(name)
    shape = [side if isinstance(side, int) else -1 for side in tensor.shape]
    return None if datatype is None else {"name": tensor.name, "datatype": datatype, "shape": shape}


def _check_names(
    feeds: Mapping[str, NDArray[Any]], names: Sequence[str], inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    """Raise an `InputError` unless all inputs are there, and all outputs exist that are asked for."""
    if feeds.keys() != set(inputs):
        raise InputError(f"inputs: expected {', '.join(inputs)}, got {', '.join(feeds) or 'none'}")
    unknown = next((one for one in names if one not in outputs), None)
    if unknown is not None:
        raise InputError(f"outputs: expected among {', '.join(outputs)}, got {unknown}")


def _as_declared(array: NDArray[Any], declared: Declared) -> NDArray[Any]:
    """Return an array as an ONNX file takes it.

    Raises:
        InputError: it has another type or shape.
    """
    if array.ndim != len(declared.shape):
        raise InputError(
            f"{declared.name}: expected {len(declared.shape)} axes, the first of them for inputs, got {array.ndim}"
        )
    dtype = numpy_dtype(declared.type)
    if array.dtype != dtype:
        raise InputError(f"{declared.name}: expected {dtype}, as the metadata say, got {array.dtype}")
    if array.ndim:
        array = as_declared(declared.name, array, declared)
        first = declared.shape[0]
        if isinstance(first, int) and len(array) != first:
            raise InputError(f"{declared.name}: expected {first} inputs, which the file is fixed to, got {len(array)}")
    if array.dtype.kind != "O":
        return array
    try:
        texts = [one.decode() if isinstance(one, bytes) else one for one in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InputError(f"{declared.name}: expected text in UTF-8, got other bytes") from error
    strings = np.empty(len(texts), object)
    strings[:] = texts
    return strings.reshape(array.shape)


def _batch(feeds: Mapping[str, NDArray[Any]], *, text: bool) -> Batch:
    """Return the arrays of a request as a batch for a cascade."""
    if any(array.ndim == 0 for array in feeds.values()):
        raise InputError("inputs: expected arrays [n, ...], got a single number")
    lengths = {name: len(array) for name, array in feeds.items()}
    if len(set(lengths.values())) != 1:
        raise InputError(f"inputs: expected as many inputs in every array, got {lengths}")
    if len(feeds) > 1:
        return feeds
    ((name, array),) = feeds.items()
    if array.dtype.kind not in "OSU":
        return array
    if array.ndim != 1:
        raise InputError(f"{name}: expected BYTES [n], got {list(array.shape)}")
    if text:
        return np.array([_sentence(one) for one in array.tolist()], np.str_)
    if len(array) > _MOST_IMAGES:  # each is a task
        raise InputError(f"{name}: expected at most {_MOST_IMAGES} images in a request, got {len(array)}")
    files = np.empty(len(array), object)
    files[:] = [one.encode() if isinstance(one, str) else one for one in array.tolist()]
    return files


async def _answers(cascade: Cascade, batch: Batch, threads: ThreadPoolExecutor) -> list[Answer]:
    encoded = isinstance(batch, np.ndarray) and batch.dtype.kind == "O"  # images, which may differ in size
    if encoded or size(batch) == 1:
        ones = batch.tolist() if isinstance(batch, np.ndarray) and encoded else [first_of(batch)]
        tasks = [asyncio.ensure_future(cascade.predict_async(one)) for one in ones]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # the first that fails ends the request
                task.cancel()
    return await asyncio.get_running_loop().run_in_executor(threads, cascade.predict_batch, batch)


def _column(name: str, answers: Sequence[Answer], classes: int) -> NDArray[Any]:
    if name == _PROBABILITIES:
        rows = [probabilities_of(answer) for answer in answers]
        return np.array(rows, np.float32).reshape(len(answers), classes)
    datatype, part = OUTPUTS[name]
    return np.array([part(answer) for answer in answers], _DTYPES[datatype])


def _sentence(one: Any) -> str:
    return one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
