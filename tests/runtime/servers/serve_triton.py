"""Triton: `serve_triton.py WEIGHTS HTTP_PORT GRPC_PORT` serves the models of `test_real_servers.py`."""

import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

weights, http_port, grpc_port = sys.argv[1:]
W = np.load(weights)


@batch  # type: ignore[untyped-decorator, unused-ignore]
def large(z: Any) -> dict[str, Any]:
    """Serve a linear model whose one-dimensional outputs are declared and sent as [n, 1]."""
    scores = z @ W
    return {"label": scores.argmax(1)[:, None], "certainty": scores.max(1)[:, None], "scores": scores}


@batch  # type: ignore[untyped-decorator, unused-ignore]
def files(file: Any) -> dict[str, Any]:
    """Return the length of each file and its first and last byte."""
    return {"scores": np.array([[len(f), f[0], f[-1]] for (f,) in file], np.float32)}


with Triton(
    config=TritonConfig(
        http_address="127.0.0.1",
        http_port=int(http_port),
        grpc_address="127.0.0.1",
        grpc_port=int(grpc_port),
        allow_metrics=False,
    )
) as triton:
    scores = Tensor(name="scores", dtype=np.float32, shape=(3,))
    one = [Tensor(name="label", dtype=np.int64, shape=(1,)), Tensor(name="certainty", dtype=np.float32, shape=(1,))]
    triton.bind(
        "large",
        large,
        inputs=[Tensor(name="z", dtype=np.float32, shape=(3,))],
        outputs=[*one, scores],
        config=ModelConfig(max_batch_size=1024),
    )
    triton.bind(
        "files",
        files,
        inputs=[Tensor(name="file", dtype=bytes, shape=(1,))],
        outputs=[scores],
        config=ModelConfig(max_batch_size=1024),
    )
    triton.serve()
