"""What is served: an ONNX file with its inputs and outputs, or a cascade, whose outputs are parts of its answers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, run_together, size
from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.commands.lines import plain, probabilities_of
from edgecascade.runtime.engine import Declared, numpy_dtype, open_session, read_properties
from edgecascade.runtime.metrics.prometheus import prometheus_text
from edgecascade.runtime.model_inputs import as_declared
from edgecascade.runtime.outputs import share_batch
from edgecascade.runtime.remotes.tensors import DATATYPES
from edgecascade.runtime.request import Request
from edgecascade.runtime.serving.batcher import Batcher, Batching
from edgecascade.runtime.text import text_input
from edgecascade.types.answer import Answer, Outputs
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

_RESULT = "result"
_PARTS = {**OUTPUTS, _RESULT: ("BYTES", lambda answer: json.dumps(plain(answer.result)).encode())}
_OF_ANY_TASK = ("confidence", "advantage", "source", "reason", "forwarded", _RESULT)
_TEXT: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [-1]}  # sentences
_DTYPES = {"INT64": np.int64, "BYTES": object, "FP32": np.float32, "BOOL": np.bool_}
_PROBABILITIES = "probabilities"
_MOST_IMAGES = 1024  # files in a request
_BATCHING = Batching()

_Beginning: TypeAlias = "Batcher[tuple[Batch, float], list[Answer | Request]]"


@dataclass(frozen=True)
class ServedModel:
    """A model to serve.

    Attributes:
        inputs: name, datatype and shape of each input, as the protocol describes them.
        outputs: name, datatype and shape of each output.
        infer: returns the requested outputs by name, from the arrays of the inputs; objects are `bytes` or `str`. The
            client gets the message of an `InputError`.
        batcher: counts the batches that it ran.
        metrics: returns text for Prometheus, which precedes the server's own.
        labels: names of the classes in the order of the scores; empty if they are not known.
    """

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    infer: Callable[[Mapping[str, NDArray[Any]], list[str]], Awaitable[Mapping[str, NDArray[Any]]]]
    batcher: Batcher[Any, Any]
    metrics: Callable[[], str] | None = None
    labels: tuple[str, ...] = ()


def served_file(path: str | os.PathLike[str], batching: Batching = _BATCHING, **options: Any) -> ServedModel:
    """Return an ONNX file as a model with all of its inputs, and its outputs that are tensors.

    A file that `export` wrote with a tokenizer takes sentences, BYTES [n] in an input called `text`, or its own inputs.
    Requests run together if all inputs and outputs declare one symbolic first side. Otherwise nothing says which rows
    of the outputs belong to which request.

    Args:
        path: the file.
        batching: how many inputs run together.
        options: those of `open_session`.

    Raises:
        ModelFileError: the file, or its tokenizer, is missing, is not an ONNX model, or has inputs or outputs without a
            type in the protocol; or a provider is not available.
        ArgumentError: a provider name is unknown.
    """
    session = open_session(path, **options)
    declared = {one.name: one for one in session.get_inputs()}
    inputs = [_described(one) for one in declared.values()]
    tensors = [one for one in session.get_outputs() if one.type.startswith("tensor(")]
    outputs = [_described(one) for one in tensors]
    if not outputs or None in (*inputs, *outputs):
        raise ModelFileError(f"{path}: expected inputs and outputs with a type of the protocol, got others")
    together, text = share_batch([*declared.values()], tensors), text_input(session, path)

    def run(requests: Sequence[tuple[Mapping[str, NDArray[Any]], list[str]]]) -> Sequence[list[Any] | Exception]:
        names = requests[0][1]  # those of one batch ask for the same

        return run_together([feeds for feeds, _ in requests], partial(session.run, names), _split)

    batcher = Batcher(run, batching)

    async def infer(feeds: Mapping[str, NDArray[Any]], names: list[str]) -> Mapping[str, NDArray[Any]]:
        sentences = text is not None and not feeds.keys() & declared.keys()
        _check_names(
            feeds, names, [_TEXT["name"]] if sentences else [*declared], [one["name"] for one in outputs if one]
        )
        if text is not None and sentences:
            feeds = text.encode(_batch(feeds, text=True))  # type: ignore[arg-type]
        arrays = {name: _as_declared(array, declared[name]) for name, array in feeds.items()}
        sizes = {len(array) if array.ndim else 1 for array in arrays.values()}
        kind = (*names, *_kind(arrays)) if together and len(sizes) == 1 else None
        try:
            found = await batcher((arrays, names), kind=kind, rows=max(sizes))
        except Exception as error:  # onnxruntime's words hold names and paths of this machine
            _LOG.warning("%s cannot run on the inputs of a request: %s", path, first_line(error))
            raise InputError("inputs: the model cannot run on them; the server's log says why") from error
        return dict(zip(names, found, strict=True))

    labels = names_in(read_properties(session, path))
    described = [one for one in inputs if one] if text is None else [_TEXT]
    return ServedModel(described, [one for one in outputs if one], infer, batcher, labels=labels)


def served_cascade(cascade: Cascade, threads: ThreadPoolExecutor, batching: Batching = _BATCHING) -> ServedModel:
    """Return a cascade as a model with the inputs of its file, whose outputs are the parts of an answer.

    Those of a general task are the numbers and reasons of the answer, the arrays of the model that answered, and the
    decoded `result` as JSON. The arrays of several inputs are stacked. So a client of a model whose outputs differ in
    shape, or whose remote has others, sends one input at a time. A classifier that decodes has a `result`, too.

    Images can also come as BYTES [n], encoded files; sentences come as BYTES [n] in an input called `text`. The local
    model decides requests together that wait for it, but encoded images one at a time, since each takes as much memory
    as its pixels. Requests of more inputs than a batch holds wait for their deadlines in `threads`.
    """
    inputs = cascade.inputs
    declared = [found for one in inputs.declared if (found := _described(one))]
    if inputs.text is not None:
        declared = [_TEXT]
    parts: _Parts = _ClassParts(cascade) if cascade.labels else _TaskParts(cascade)
    if not cascade.labels:  # the arrays have a batch axis for any number of inputs, also those of a file of one
        declared = [{**one, "shape": [-1, *one["shape"][1:]]} for one in declared]
    batcher: _Beginning = Batcher(cascade.begin, batching)

    async def infer(feeds: Mapping[str, NDArray[Any]], names: list[str]) -> Mapping[str, NDArray[Any]]:
        _check_names(feeds, names, [one["name"] for one in declared], parts.known)
        batch = _batch(feeds, text=inputs.text is not None)
        try:
            if isinstance(batch, np.ndarray) and batch.dtype.kind == "O" and inputs.text is None:
                answers = await _gathered([cascade.predict_async(one) for one in batch.tolist()])
            elif 0 < size(batch) <= batching.most:
                begun = await batcher((batch, time.monotonic()), kind=_kind(batch), rows=size(batch))
                answers = await _finished(cascade, begun)
            else:
                answers = await asyncio.get_running_loop().run_in_executor(threads, cascade.predict_batch, batch)
        except ModuleNotFoundError as error:
            raise InputError(f"inputs: this server cannot read image files, since it lacks {error.name}") from error
        return parts.columns(answers, names)

    return ServedModel(
        declared, parts.outputs, infer, batcher, lambda: prometheus_text(cascade.metrics()), cascade.labels
    )


class _Parts(Protocol):
    """The parts of answers as outputs of the protocol: those described, and names that may be asked for, if known."""

    outputs: list[dict[str, Any]]
    known: Sequence[str] | None

    def columns(self, answers: Sequence[Answer], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return outputs [n, ...] of n answers by name."""
        ...


class _ClassParts:
    """The parts of a classifier's answers, with further outputs of the local model, whichever model answered."""

    def __init__(self, cascade: Cascade) -> None:
        self._classes = len(cascade.labels)
        probabilities = {"name": _PROBABILITIES, "datatype": "FP32", "shape": [-1, self._classes]}
        parts = [*OUTPUTS, *([_RESULT] if cascade.decodes else ())]
        further = _arrays(cascade, [*parts, _PROBABILITIES])
        self._further = [one["name"] for one in further]
        self.outputs = [*map(_part, parts), probabilities, *further]
        self.known: Sequence[str] | None = [one["name"] for one in self.outputs]

    def columns(self, answers: Sequence[Answer], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return outputs [n, ...] of n answers by name."""
        return {name: self._column(name, answers) for name in names}

    def _column(self, name: str, answers: Sequence[Answer]) -> NDArray[Any]:
        if name in self._further:
            return _stacked(name, [answer.local.outputs for answer in answers])
        if name != _PROBABILITIES:
            return _column(name, answers)
        rows = [probabilities_of(answer) for answer in answers]
        return np.array(rows, np.float32).reshape(len(answers), self._classes)


class _TaskParts:
    """The parts of the answers to a general task; where a name is both a part's and an array's, it is the part's."""

    def __init__(self, cascade: Cascade) -> None:
        parts = [name for name in _OF_ANY_TASK if cascade.decodes or name != _RESULT]
        self.outputs = [*map(_part, parts), *_arrays(cascade, _OF_ANY_TASK)]
        self._all, self._parts = [one["name"] for one in self.outputs], parts
        self.known: Sequence[str] | None = None  # a remote may have other arrays

    def columns(self, answers: Sequence[Answer], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return outputs [n, ...] of n answers by name, or those that there are if all are asked for.

        Raises:
            InputError: an answer lacks an array, or they differ in shape.
        """
        if list(names) == self._all:  # also those that only the remote has
            names = [*self._parts, *dict.fromkeys(name for answer in answers for name in answer.outputs)]
        return {
            name: _column(name, answers) if name in self._parts else _stacked(name, [one.outputs for one in answers])
            for name in dict.fromkeys(names)
        }


def _arrays(cascade: Cascade, taken: Collection[str]) -> list[dict[str, Any]]:
    """Return the arrays of a cascade's answers as outputs [n, ...] of the protocol, but for names that are taken."""
    fixed = cascade.inputs.batch is not None
    return [
        {**found, "name": name, "shape": _batched(found["shape"], fixed)}
        for name, one in cascade.outputs.items()
        if (found := _described(one)) and name not in taken
    ]


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
    feeds: Mapping[str, NDArray[Any]], names: Sequence[str], inputs: Sequence[str], outputs: Sequence[str] | None
) -> None:
    """Raise an `InputError` unless all inputs are there, and all outputs that are asked for, if those are known."""
    if feeds.keys() != set(inputs):
        raise InputError(f"inputs: expected {', '.join(inputs)}, got {', '.join(feeds) or 'none'}")
    unknown = next((one for one in names if outputs is not None and one not in outputs), None)
    if outputs is not None and unknown is not None:
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
        sentences = np.empty(len(array), object)  # numpy's type for text takes the memory of the longest for each
        sentences[:] = [_sentence(one) for one in array.tolist()]
        return sentences
    if len(array) > _MOST_IMAGES:  # each is a task
        raise InputError(f"{name}: expected at most {_MOST_IMAGES} images in a request, got {len(array)}")
    files = np.empty(len(array), object)
    files[:] = [one.encode() if isinstance(one, str) else one for one in array.tolist()]
    return files


def _kind(batch: Batch) -> tuple[Any, ...]:
    """Return what is equal for batches that can be concatenated."""
    named = sorted(batch.items()) if isinstance(batch, Mapping) else [("", batch)]
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in named)


def _split(outputs: Any, sizes: Sequence[int]) -> list[Any]:
    """Return the rows of outputs that belong to batches of these sizes.

    Raises:
        ValueError: an output has not a row for each input.
    """
    n = sum(sizes)
    if any(np.ndim(array) == 0 or len(array) != n for array in outputs):
        raise ValueError(f"expected {n} rows in every output, as the file declares, got another number")
    ends = [*accumulate(sizes)]
    return [[array[end - size : end] for array in outputs] for size, end in zip(sizes, ends, strict=True)]


async def _gathered(answers: Sequence[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """Return the answers, or raise the first error and cancel the rest."""
    tasks = [asyncio.ensure_future(one) for one in answers]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _finished(cascade: Cascade, begun: Sequence[Answer | Request]) -> list[Answer]:
    """Return the answers to inputs that were begun. If decoding one fails, the others are counted and stored first."""
    if all(isinstance(one, Answer) for one in begun):
        return [one for one in begun if isinstance(one, Answer)]
    found = await asyncio.gather(*map(cascade.finish_async, begun), return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if isinstance(one, Answer)]


def _part(name: str) -> dict[str, Any]:
    return {"name": name, "datatype": _PARTS[name][0], "shape": [-1]}


def _batched(shape: Sequence[int], fixed: bool) -> list[int]:
    """Return the shape of an output for several inputs, from that in a file of a fixed batch or of any."""
    without = not shape or (fixed and shape[0] < 0)  # such as the boxes in one image
    return [-1, *shape] if without else [-1, *shape[1:]]


def _column(name: str, answers: Sequence[Answer]) -> NDArray[Any]:
    datatype, part = _PARTS[name]
    return np.array([part(answer) for answer in answers], _DTYPES[datatype])


def _stacked(name: str, answers: Sequence[Outputs]) -> NDArray[Any]:
    arrays = [outputs[name] for outputs in answers if name in outputs]
    if len(arrays) < len(answers) or len({(one.shape, one.dtype.kind) for one in arrays}) > 1:
        alone = "; send one input at a time" if len(answers) > 1 else ""
        raise InputError(f"outputs: expected {name!r:.80} of one shape in every answer, got others or none{alone}")
    return np.stack(arrays) if arrays else np.empty(0, np.float32)


def _sentence(one: Any) -> str:
    return one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
