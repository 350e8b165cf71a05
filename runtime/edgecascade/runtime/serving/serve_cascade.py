"""A cascade behind the Open Inference Protocol v2, for other processes on the device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, first_of, size
from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.metrics.prometheus import prometheus_text
from edgecascade.runtime.run.answer_line import probabilities_of
from edgecascade.runtime.serving.kserve_server import ServedModel, serve_model
from edgecascade.runtime.serving.serve import describe
from edgecascade.types.answer import Answer
from edgecascade.types.errors import InputError

__all__ = ["OUTPUTS", "serve_cascade", "served"]

# name: datatype, how it is made of an answer
OUTPUTS: Mapping[str, tuple[str, Callable[[Answer], Any]]] = {
    "label": ("INT64", lambda answer: answer.label),
    "name": ("BYTES", lambda answer: answer.name.encode()),
    "confidence": ("FP32", lambda answer: answer.confidence),
    "advantage": ("FP32", lambda answer: answer.advantage),
    "source": ("BYTES", lambda answer: answer.source.value.encode()),
    "reason": ("BYTES", lambda answer: answer.reason.value.encode()),
    "forwarded": ("BOOL", lambda answer: answer.forwarded),
}
_DTYPES = {"INT64": np.int64, "BYTES": object, "FP32": np.float32, "BOOL": np.bool_}
_PROBABILITIES = "probabilities"
_BATCHES = 16  # requests with several inputs at once; each waits in a thread for its deadline


def serve_cascade(cascade: Cascade, *, name: str, host: str, port: int) -> None:
    """Serve answers until SIGINT or SIGTERM.

    Args:
        cascade: that answers.
        name: the model's name in the address, `/v2/models/NAME`.
        host: address to listen on.
        port: TCP port to listen on.

    Raises:
        ArgumentError: the port is taken, or the address not to be had.
        ModuleNotFoundError: the `serve` extra is not installed.
    """
    threads = ThreadPoolExecutor(_BATCHES, thread_name_prefix="edgecascade-serve")
    try:
        serve_model(served(cascade, name, threads), host=host, port=port)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def served(cascade: Cascade, name: str, threads: ThreadPoolExecutor) -> ServedModel:
    """The cascade as a model whose inputs are its file's, and whose outputs are the parts of an answer.

    Images may come as BYTES [n], files as they are; sentences come as BYTES [n] in an input called `text`.

    Args:
        cascade: that answers.
        name: the model's name.
        threads: in which requests with several inputs wait.
    """
    inputs = cascade.inputs
    declared = [describe(one) for one in inputs.declared]
    if inputs.text is not None:
        declared = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    classes = len(cascade.document.labels)

    async def infer(feeds: Mapping[str, NDArray[Any]], names: list[str]) -> Mapping[str, NDArray[Any]]:
        unknown = [one for one in names if one not in OUTPUTS and one != _PROBABILITIES]
        if unknown:
            raise InputError(f"outputs: expected among {', '.join([*OUTPUTS, _PROBABILITIES])}, got {unknown[0]}")
        batch = _batch(feeds, [one["name"] for one in declared], text=inputs.text is not None)
        answers = await _answers(cascade, batch, threads)
        return {one: _column(one, answers, cascade.policy.merge, classes) for one in names}

    outputs = [{"name": one, "datatype": datatype, "shape": [-1]} for one, (datatype, _) in OUTPUTS.items()]
    outputs.append({"name": _PROBABILITIES, "datatype": "FP32", "shape": [-1, classes]})
    return ServedModel(name, declared, outputs, infer, lambda: prometheus_text(cascade.metrics()))


def _batch(feeds: Mapping[str, NDArray[Any]], names: Sequence[str], *, text: bool) -> Batch:
    """The arrays as a cascade takes them."""
    if feeds.keys() != set(names):
        raise InputError(f"inputs: expected {', '.join(names)}, got {', '.join(feeds) or 'none'}")
    if any(array.ndim == 0 for array in feeds.values()):
        raise InputError("inputs: expected arrays [n, ...], got a single number")
    if len({len(array) for array in feeds.values()}) != 1:
        raise InputError("inputs: expected as many inputs in every array, got others")
    if len(feeds) > 1:
        return feeds
    array = next(iter(feeds.values()))
    if array.dtype.kind not in "OSU":
        return array
    if array.ndim != 1:
        raise InputError(f"{names[0]}: expected BYTES [n], got {list(array.shape)}")
    if text:
        return np.array([_sentence(one) for one in array.tolist()], np.str_)
    files = np.empty(len(array), object)
    files[:] = [one.encode() if isinstance(one, str) else one for one in array.tolist()]
    return files


async def _answers(cascade: Cascade, batch: Batch, threads: ThreadPoolExecutor) -> list[Answer]:
    n = size(batch)
    encoded = isinstance(batch, np.ndarray) and batch.dtype.kind == "O"  # images of whatever sizes
    if n == 1 or encoded:
        ones = batch.tolist() if isinstance(batch, np.ndarray) and encoded else [first_of(batch)]
        return list(await asyncio.gather(*(cascade.predict_async(one) for one in ones)))
    return await asyncio.get_running_loop().run_in_executor(threads, cascade.predict_batch, batch)


def _column(name: str, answers: Sequence[Answer], merged_by: str, classes: int) -> NDArray[Any]:
    if name == _PROBABILITIES:
        rows = [probabilities_of(answer, merged_by) for answer in answers]
        return np.array(rows, np.float32).reshape(len(answers), classes)
    datatype, part = OUTPUTS[name]
    return np.array([part(answer) for answer in answers], _DTYPES[datatype])


def _sentence(one: Any) -> str:
    return one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
