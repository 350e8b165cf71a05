"""Triton with two models of nearly no work, for `wire_cost`: `triton_server.py HTTP_PORT GRPC_PORT`."""

import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


@batch  # type: ignore[untyped-decorator, unused-ignore]
def small(z: Any) -> dict[str, Any]:
    """Three numbers in, three out."""
    return {"logits": z * 2}


@batch  # type: ignore[untyped-decorator, unused-ignore]
def image(z: Any) -> dict[str, Any]:
    """An image in, three numbers out."""
    return {"logits": z[:, :, 0, 0]}


if __name__ == "__main__":
    http_port, grpc_port = map(int, sys.argv[1:])
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=http_port,
        grpc_address="127.0.0.1",
        grpc_port=grpc_port,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        for function, shape in ((small, (3,)), (image, (3, 224, 224))):
            triton.bind(
                function.__name__,
                function,
                inputs=[Tensor(name="z", dtype=np.float32, shape=shape)],
                outputs=[Tensor(name="logits", dtype=np.float32, shape=(3,))],
                config=ModelConfig(max_batch_size=64),
            )
        triton.serve()
