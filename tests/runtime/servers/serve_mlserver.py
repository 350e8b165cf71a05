"""MLServer: `serve_mlserver.py WEIGHTS HTTP_PORT GRPC_PORT` serves the models of `test_real_servers.py`."""

import asyncio
import sys
from typing import Any

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceResponse, MetadataTensor


class Linear(MLModel):  # type: ignore[misc]
    """A linear model."""

    async def load(self) -> bool:
        """Load the weights from their file."""
        self.weights = np.load(sys.argv[1])
        return True

    async def predict(self, payload: Any) -> Any:
        """Return scores and the outputs derived from them; an output of one dimension is sent as [n, 1]."""
        scores = NumpyCodec.decode_input(payload.inputs[0]) @ self.weights
        arrays = {"label": scores.argmax(1), "certainty": scores.max(1), "scores": scores}
        outputs = [NumpyCodec.encode_output(name, array) for name, array in arrays.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)


class Files(MLModel):  # type: ignore[misc]
    """A model that returns the length of each file and its first and last byte."""

    async def predict(self, payload: Any) -> Any:
        """Return one row for each file."""
        files = Base64Codec.decode_input(payload.inputs[0])
        scores = np.array([[len(f), f[0], f[-1]] for f in files], np.float32)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", scores)])


def tensor(name: str, datatype: str, shape: list[int]) -> Any:
    """Return an output as the metadata declares it."""
    return MetadataTensor(name=name, datatype=datatype, shape=shape)


async def main() -> None:
    """Serve both models until a signal."""
    settings = Settings(
        host="127.0.0.1",
        http_port=int(sys.argv[2]),
        grpc_port=int(sys.argv[3]),
        metrics_endpoint=None,
        parallel_workers=0,
        load_models_at_startup=False,
    )
    scores = tensor("scores", "FP32", [-1, 3])
    outputs = [tensor("label", "INT64", [-1]), tensor("certainty", "FP32", [-1]), scores]
    large = ModelSettings(name="large", implementation=Linear, inputs=[tensor("z", "FP32", [-1, 3])], outputs=outputs)
    files = ModelSettings(name="files", implementation=Files, inputs=[tensor("file", "BYTES", [-1])], outputs=[scores])
    await MLServer(settings).start([large, files])


if __name__ == "__main__":
    asyncio.run(main())
