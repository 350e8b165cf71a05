"""KServe's SDK: `serve_kserve.py WEIGHTS HTTP_PORT GRPC_PORT` serves the models of `test_real_servers.py`."""

import asyncio
import base64
import sys
from typing import Any

import numpy as np

weights, http_port, grpc_port = sys.argv[1:]
sys.argv = sys.argv[:1]  # kserve parses the command line when it is imported

import kserve  # noqa: E402

W = np.load(weights)


class Linear(kserve.Model):  # type: ignore[misc]
    """A linear model that takes half a minute for an input of -1."""

    async def get_input_types(self) -> list[dict[str, Any]]:
        """Return the inputs in the metadata."""
        return [{"name": "z", "datatype": "FP32", "shape": [-1, 3]}]

    async def get_output_types(self) -> list[dict[str, Any]]:
        """Return the outputs in the metadata."""
        return [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "certainty", "datatype": "FP32", "shape": [-1]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
        ]

    async def predict(self, payload: Any, *_: Any) -> Any:
        """Return scores and the outputs derived from them."""
        z = payload.inputs[0].as_numpy()
        if z[0, 0] == -1:
            await asyncio.sleep(30)
        scores = z @ W
        return reply(payload, {"label": scores.argmax(1), "certainty": scores.max(1), "scores": scores})


class Files(kserve.Model):  # type: ignore[misc]
    """A model that returns the length of each file and its first and last byte."""

    async def get_input_types(self) -> list[dict[str, Any]]:
        """Return the inputs in the metadata."""
        return [{"name": "file", "datatype": "BYTES", "shape": [-1]}]

    async def get_output_types(self) -> list[dict[str, Any]]:
        """Return the outputs in the metadata."""
        return [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}]

    async def predict(self, payload: Any, *_: Any) -> Any:
        """Return one row for each file, which the SDK takes over REST only as base64 text."""
        files = [base64.b64decode(one) if isinstance(one, str) else one for one in payload.inputs[0].as_numpy()]
        return reply(payload, {"scores": np.array([[len(f), f[0], f[-1]] for f in files], np.float32)})


def reply(payload: Any, arrays: dict[str, Any]) -> Any:
    """Return the requested arrays, in binary if requested."""
    asked = {o.name for o in payload.request_outputs or ()} or set(arrays)
    outputs = []
    for name, array in arrays.items():
        if name in asked:
            tensor = kserve.InferOutput(name, list(array.shape), {"f": "FP32", "i": "INT64"}[array.dtype.kind])
            tensor.set_data_from_numpy(array, binary_data=payload.use_binary_outputs)
            outputs.append(tensor)
    return kserve.InferResponse(
        payload.id or "1",
        payload.model_name,
        outputs,
        requested_outputs=payload.request_outputs,
        use_binary_outputs=payload.use_binary_outputs,
    )


if __name__ == "__main__":
    models: list[Any] = [Linear("large"), Files("files")]
    for model in models:
        model.ready = True
    kserve.ModelServer(http_port=int(http_port), grpc_port=int(grpc_port)).start(models)
