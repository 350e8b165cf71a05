"""Triton with an ONNX file in its Python backend: `triton_server.py FILE PORT GRPC_PORT MAX_BATCH`, run by `serving`.

It needs an environment with nvidia-pytriton, onnxruntime and numpy < 2, and nothing of edgecascade.
"""

import sys
from typing import Any

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

file, port, grpc_port, max_batch = sys.argv[1:]
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
(x,), (y,) = session.get_inputs(), session.get_outputs()


@batch  # type: ignore[untyped-decorator, unused-ignore]
def answer(**inputs: Any) -> dict[str, Any]:
    """Run the file on the batch that Triton has collected."""
    return {y.name: session.run([y.name], inputs)[0]}


with Triton(
    config=TritonConfig(
        http_address="127.0.0.1",
        http_port=int(port),
        grpc_address="127.0.0.1",
        grpc_port=int(grpc_port),
        allow_metrics=False,
    )
) as triton:
    triton.bind(
        "model",
        answer,
        inputs=[Tensor(name=x.name, dtype=np.float32, shape=tuple(x.shape[1:]))],
        outputs=[Tensor(name=y.name, dtype=np.float32, shape=tuple(y.shape[1:]))],
        config=ModelConfig(max_batch_size=int(max_batch), batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
    )
    triton.serve()
