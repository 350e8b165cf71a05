"""An ONNX file behind the Open Inference Protocol v2, on KServe's server: a remote for one machine."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from typing import Any

from edgecascade.runtime.model_inputs import numpy_dtype
from edgecascade.runtime.open_inference import DATATYPES
from edgecascade.runtime.session import open_session

__all__ = ["serve"]


def serve(path: str | os.PathLike[str], *, name: str, host: str, port: int, threads: int) -> None:
    """Serve every input and output of an ONNX file until SIGINT or SIGTERM.

    Args:
        path: the file.
        name: the model's name in the address, `/v2/models/NAME`.
        host: address to listen on.
        port: TCP port to listen on.
        threads: onnxruntime's threads.

    Raises:
        ModelFileError: the file is missing or no ONNX model.
        ModuleNotFoundError: the `serve` extra is not installed.
    """
    session = open_session(path, threads=threads)
    arguments, sys.argv = sys.argv, sys.argv[:1]  # kserve parses the command line as it is imported
    try:
        import kserve
        from kserve.model_server import app  # noqa: F401  # the application that the server serves
        from kserve.protocol.dataplane import DataPlane
        from kserve.protocol.model_repository_extension import ModelRepositoryExtension
        from kserve.protocol.rest.server import RESTServer
    finally:
        sys.argv = arguments

    class OnnxModel(kserve.Model):  # type: ignore[misc]  # kserve has no types
        async def get_input_types(self) -> list[dict[str, Any]]:
            return [_describe(i) for i in session.get_inputs()]

        async def get_output_types(self) -> list[dict[str, Any]]:
            return [_describe(o) for o in session.get_outputs()]

        async def predict(self, payload: Any, *_: Any) -> Any:
            feeds = {i.name: i.as_numpy() for i in payload.inputs}
            names = [o.name for o in payload.request_outputs or session.get_outputs()]
            try:
                arrays = await asyncio.to_thread(session.run, names, feeds)
            except Exception as error:  # onnxruntime's word on a wrong input is the client's to read
                raise kserve.errors.InvalidInput(str(error)) from error
            outputs = []
            for output, array in zip(names, arrays, strict=True):
                tensor = kserve.InferOutput(output, list(array.shape), DATATYPES[array.dtype.name])
                tensor.data = array
                outputs.append(tensor)
            return kserve.InferResponse(
                payload.id or uuid.uuid4().hex,
                self.name,
                outputs,
                requested_outputs=payload.request_outputs,
                use_binary_outputs=payload.use_binary_outputs,
            )

    model = OnnxModel(name)
    model.ready = True
    repository = kserve.ModelRepository()
    repository.update(model)
    server = RESTServer("kserve.model_server:app", DataPlane(repository), ModelRepositoryExtension(repository), port)
    server.config.host = host  # kserve would listen on every address
    server.run()


def _describe(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": DATATYPES[numpy_dtype(tensor.type).name],
        "shape": [side if isinstance(side, int) else -1 for side in tensor.shape],
    }
