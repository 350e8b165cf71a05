"""A model on KServe's server, which speaks the Open Inference Protocol v2 over REST."""

from __future__ import annotations

import base64
import signal
import socket
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.metrics.prometheus import CONTENT_TYPE
from edgecascade.runtime.remotes.tensors import DATATYPES
from edgecascade.runtime.run.listening import reason
from edgecascade.types.errors import ArgumentError, InputError

__all__ = ["ServedModel", "serve_model"]


@dataclass(frozen=True)
class ServedModel:
    """What is served.

    Attributes:
        name: in the address, `/v2/models/NAME`.
        inputs: name, datatype and shape of each, as the protocol describes them.
        outputs: the same of the outputs.
        infer: the arrays by output name from the arrays by input name and the names asked for; objects are `bytes`.
            An `InputError` of it is the client's to read.
        metrics: text for Prometheus, put before that of KServe itself.
    """

    name: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    infer: Callable[[Mapping[str, NDArray[Any]], list[str]], Awaitable[Mapping[str, NDArray[Any]]]]
    metrics: Callable[[], str] | None = None


def serve_model(model: ServedModel, *, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        model: to be served.
        host: address to listen on.
        port: TCP port to listen on.

    Raises:
        ArgumentError: the port is taken, or the address not to be had.
        ModuleNotFoundError: the `serve` extra is not installed.
    """
    kserve = _import_kserve()
    from kserve.model_server import app  # the application that the server serves
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import RESTServer

    _check_free(host, port)
    repository = kserve.ModelRepository()
    repository.update(_as_kserve(model, kserve))
    if model.metrics is not None:
        app.add_api_route("/metrics", _metrics_of(model.metrics), methods=["GET"])  # found before KServe's own
    server = RESTServer("kserve.model_server:app", DataPlane(repository), ModelRepositoryExtension(repository), port)
    server.config.host = host  # kserve would listen on every address
    with _ended_by_signals():
        server.run()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """The server ends by a signal, and then sends it once more: to nobody, since others have to close, too."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, lambda *_: None) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def _import_kserve() -> Any:
    arguments, sys.argv = sys.argv, sys.argv[:1]  # kserve parses the command line as it is imported
    try:
        import kserve
        import kserve.model_server

        return kserve
    finally:
        sys.argv = arguments


def _check_free(host: str, port: int) -> None:
    """Since the server itself would only log it, and exit."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise ArgumentError(f"--port: cannot listen at {host}:{port}: {reason(error)}") from error


def _as_kserve(served: ServedModel, kserve: Any) -> Any:
    class Model(kserve.Model):  # type: ignore[misc]  # kserve has no types
        async def get_input_types(self) -> list[dict[str, Any]]:
            return served.inputs

        async def get_output_types(self) -> list[dict[str, Any]]:
            return served.outputs

        async def predict(self, payload: Any, *_: Any) -> Any:
            if not isinstance(payload, kserve.InferRequest):
                raise kserve.errors.InvalidInput("expected a request of version 2 of the protocol, got one of another")
            try:
                feeds = {one.name: _array(one) for one in payload.inputs}
                names = [one["name"] for one in served.outputs]
                if payload.request_outputs:
                    names = [one.name for one in payload.request_outputs]
                arrays = await served.infer(feeds, names)
            except InputError as error:
                raise kserve.errors.InvalidInput(str(error)) from error
            return kserve.InferResponse(
                payload.id or uuid.uuid4().hex,
                self.name,
                [_tensor(kserve, name, array) for name, array in arrays.items()],
                requested_outputs=payload.request_outputs,
                use_binary_outputs=payload.use_binary_outputs,
            )

    model = Model(served.name)
    model.ready = True
    return model


def _array(tensor: Any) -> NDArray[Any]:
    try:
        array: NDArray[Any] = tensor.as_numpy()
        if (tensor.parameters or {}).get("content_type") == "base64":
            array = np.array([base64.b64decode(one) for one in array.ravel()], object).reshape(array.shape)
        return array
    except Exception as error:  # kserve lets through whatever is wrong with the numbers, shapes and types
        raise InputError(f"{tensor.name}: expected data of its shape and datatype, got others") from error


def _tensor(kserve: Any, name: str, array: NDArray[Any]) -> Any:
    tensor = kserve.InferOutput(name, list(array.shape), DATATYPES.get(array.dtype.name, "BYTES"))
    tensor.data = array
    return tensor


def _metrics_of(text: Callable[[], str]) -> Callable[[], Any]:
    def metrics() -> Any:
        from fastapi import Response
        from prometheus_client import generate_latest

        return Response(text().encode() + generate_latest(), media_type=CONTENT_TYPE)

    return metrics
