"""An ONNX file, or the answers of a cascade, on KServe's server: the Open Inference Protocol v2 over REST."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, first_of, size
from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.commands.lines import probabilities_of
from edgecascade.runtime.commands.sockets import listen_tcp
from edgecascade.runtime.engine import Declared, numpy_dtype, open_session
from edgecascade.runtime.metrics.prometheus import CONTENT_TYPE, prometheus_text
from edgecascade.runtime.remotes.tensors import DATATYPES
from edgecascade.types.answer import Answer
from edgecascade.types.errors import InputError, first_line

__all__ = ["OUTPUTS", "ServedModel", "serve_model", "served_cascade", "served_file"]

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


@dataclass(frozen=True)
class ServedModel:
    """A model to serve.

    Attributes:
        inputs: name, datatype and shape of each input, as the protocol describes them.
        outputs: name, datatype and shape of each output.
        infer: returns the requested outputs by name, from the arrays of the inputs; objects are `bytes`. The client
            gets the message of an `InputError`.
        metrics: returns text for Prometheus, which precedes KServe's own.
    """

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    infer: Callable[[Mapping[str, NDArray[Any]], list[str]], Awaitable[Mapping[str, NDArray[Any]]]]
    metrics: Callable[[], str] | None = None


def served_file(path: str | os.PathLike[str], *, threads: int) -> ServedModel:
    """Return an ONNX file as a model with all of its inputs and outputs.

    Raises:
        ModelFileError: the file is missing, or is not an ONNX model.
    """
    session = open_session(path, threads=threads)

    async def infer(feeds: Mapping[str, NDArray[Any]], names: list[str]) -> Mapping[str, NDArray[Any]]:
        try:
            arrays = await asyncio.to_thread(session.run, names, feeds)
        except Exception as error:  # onnxruntime explains a wrong input
            raise InputError(first_line(error)) from error
        return dict(zip(names, arrays, strict=True))

    inputs, outputs = (
        [_described(one) for one in several] for several in (session.get_inputs(), session.get_outputs())
    )
    return ServedModel(inputs, outputs, infer)


def served_cascade(cascade: Cascade, threads: ThreadPoolExecutor) -> ServedModel:
    """Return a cascade as a model with the inputs of its file, whose outputs are the parts of an answer.

    Images can also come as BYTES [n], encoded files; sentences come as BYTES [n] in an input called `text`. Requests
    with several inputs wait for their deadlines in `threads`.
    """
    inputs = cascade.inputs
    declared = [_described(one) for one in inputs.declared]
    if inputs.text is not None:
        declared = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    classes = len(cascade.document.labels)

    async def infer(feeds: Mapping[str, NDArray[Any]], names: list[str]) -> Mapping[str, NDArray[Any]]:
        unknown = [one for one in names if one not in OUTPUTS and one != _PROBABILITIES]
        if unknown:
            raise InputError(f"outputs: expected among {', '.join([*OUTPUTS, _PROBABILITIES])}, got {unknown[0]}")
        batch = _batch(feeds, [one["name"] for one in declared], text=inputs.text is not None)
        answers = await _answers(cascade, batch, threads)
        return {one: _column(one, answers, classes) for one in names}

    outputs = [{"name": one, "datatype": datatype, "shape": [-1]} for one, (datatype, _) in OUTPUTS.items()]
    outputs.append({"name": _PROBABILITIES, "datatype": "FP32", "shape": [-1, classes]})
    return ServedModel(declared, outputs, infer, lambda: prometheus_text(cascade.metrics()))


def _described(tensor: Declared) -> dict[str, Any]:
    datatype = DATATYPES.get(numpy_dtype(tensor.type).name, "BYTES")
    shape = [side if isinstance(side, int) else -1 for side in tensor.shape]
    return {"name": tensor.name, "datatype": datatype, "shape": shape}


def _batch(feeds: Mapping[str, NDArray[Any]], names: Sequence[str], *, text: bool) -> Batch:
    """Return the arrays of a request as a batch for a cascade."""
    if feeds.keys() != set(names):
        raise InputError(f"inputs: expected {', '.join(names)}, got {', '.join(feeds) or 'none'}")
    if any(array.ndim == 0 for array in feeds.values()):
        raise InputError("inputs: expected arrays [n, ...], got a single number")
    lengths = {name: len(array) for name, array in feeds.items()}
    if len(set(lengths.values())) != 1:
        raise InputError(f"inputs: expected as many inputs in every array, got {lengths}")
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
    encoded = isinstance(batch, np.ndarray) and batch.dtype.kind == "O"  # images, which may differ in size
    if encoded or size(batch) == 1:
        ones = batch.tolist() if isinstance(batch, np.ndarray) and encoded else [first_of(batch)]
        return list(await asyncio.gather(*(cascade.predict_async(one) for one in ones)))
    return await asyncio.get_running_loop().run_in_executor(threads, cascade.predict_batch, batch)


def _column(name: str, answers: Sequence[Answer], classes: int) -> NDArray[Any]:
    if name == _PROBABILITIES:
        rows = [probabilities_of(answer) for answer in answers]
        return np.array(rows, np.float32).reshape(len(answers), classes)
    datatype, part = OUTPUTS[name]
    return np.array([part(answer) for answer in answers], _DTYPES[datatype])


def _sentence(one: Any) -> str:
    return one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)


def serve_model(model: ServedModel, *, name: str, host: str, port: int) -> None:
    """Serve a model at `/v2/models/NAME` until SIGINT or SIGTERM.

    Raises:
        ArgumentError: the port is taken, or the host is not an address of this machine.
        ModuleNotFoundError: the `serve` extra is not installed.
    """
    kserve = _import_kserve()
    from kserve.model_server import app  # the application that the server serves
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import RESTServer

    listen_tcp("--port", host, port).close()  # the server would only log that it cannot, and exit
    repository = kserve.ModelRepository()
    repository.update(_as_kserve(model, name, kserve))
    if model.metrics is not None:
        app.add_api_route("/metrics", _metrics_route(model.metrics), methods=["GET"])  # found before KServe's own
    server = RESTServer("kserve.model_server:app", DataPlane(repository), ModelRepositoryExtension(repository), port)
    server.config.host = host  # kserve would listen on every address
    with _ended_by_signals():
        server.run()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ignore the signal that the server sends to itself once more when it ends, so that the caller can close."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, lambda *_: None) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def _import_kserve() -> Any:
    arguments, sys.argv = sys.argv, sys.argv[:1]  # kserve parses the command line when it is imported
    try:
        import kserve
        import kserve.model_server

        return kserve
    finally:
        sys.argv = arguments


def _as_kserve(served: ServedModel, name: str, kserve: Any) -> Any:
    class Model(kserve.Model):  # type: ignore[misc]  # kserve has no types
        async def get_input_types(self) -> list[dict[str, Any]]:
            return served.inputs

        async def get_output_types(self) -> list[dict[str, Any]]:
            return served.outputs

        async def predict(self, payload: Any, *_: Any) -> Any:
            if not isinstance(payload, kserve.InferRequest):
                raise kserve.errors.InvalidInput("expected a request of version 2 of the protocol, got another version")
            try:
                feeds = {one.name: _array(one) for one in payload.inputs}
                asked = payload.request_outputs
                names = [one.name for one in asked] if asked else [one["name"] for one in served.outputs]
                arrays = await served.infer(feeds, names)
            except InputError as error:
                raise kserve.errors.InvalidInput(str(error)) from error
            return kserve.InferResponse(
                payload.id or uuid.uuid4().hex,
                self.name,
                [_tensor(kserve, output, array) for output, array in arrays.items()],
                requested_outputs=asked,
                use_binary_outputs=payload.use_binary_outputs,
            )

    model = Model(name)
    model.ready = True
    return model


def _array(tensor: Any) -> NDArray[Any]:
    try:
        array: NDArray[Any] = tensor.as_numpy()
        if (tensor.parameters or {}).get("content_type") == "base64":
            array = np.array([base64.b64decode(one) for one in array.ravel()], object).reshape(array.shape)
        return array
    except Exception as error:  # kserve raises many kinds for wrong numbers, shapes and types
        raise InputError(f"{tensor.name}: expected data of its shape and datatype, got other data") from error


def _tensor(kserve: Any, name: str, array: NDArray[Any]) -> Any:
    tensor = kserve.InferOutput(name, list(array.shape), DATATYPES.get(array.dtype.name, "BYTES"))
    tensor.data = array
    return tensor


def _metrics_route(text: Callable[[], str]) -> Callable[[], Any]:
    def metrics() -> Any:
        from fastapi import Response
        from prometheus_client import generate_latest

        return Response(text().encode() + generate_latest(), media_type=CONTENT_TYPE)

    return metrics
