"""An ONNX file behind the Open Inference Protocol v2: a remote for one machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgecascade.runtime.engine import numpy_dtype, open_session
from edgecascade.runtime.remotes.tensors import DATATYPES
from edgecascade.runtime.serving.kserve_server import ServedModel, serve_model
from edgecascade.types.errors import InputError, first_line

__all__ = ["describe", "serve"]


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
        ArgumentError: the port is taken, or the address not to be had.
        ModuleNotFoundError: the `serve` extra is not installed.
    """
    session = open_session(path, threads=threads)

    async def infer(feeds: Mapping[str, NDArray[Any]], names: list[str]) -> Mapping[str, NDArray[Any]]:
        try:
            arrays = await asyncio.to_thread(session.run, names, feeds)
        except Exception as error:  # onnxruntime's word on a wrong input is the client's to read
            raise InputError(first_line(error)) from error
        return dict(zip(names, arrays, strict=True))

    inputs, outputs = ([describe(one) for one in several] for several in (session.get_inputs(), session.get_outputs()))
    serve_model(ServedModel(name, inputs, outputs, infer), host=host, port=port)


def describe(tensor: Any) -> dict[str, Any]:
    """What onnxruntime says of an input or output, in the protocol's terms."""
    return {
        "name": tensor.name,
        "datatype": DATATYPES.get(numpy_dtype(tensor.type).name, "BYTES"),
        "shape": [side if isinstance(side, int) else -1 for side in tensor.shape],
    }
