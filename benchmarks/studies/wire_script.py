"""Run in the environment of `wire_cost`: `serve HTTP_PORT GRPC_PORT`, or `measure HTTP_PORT FORWARDS ROUNDS`.

`serve` starts Triton with two models of almost no work; `measure` prints the CPU seconds of forwards as JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def theirs(port: int, model: str, x: NDArray[np.float32]) -> Callable[[], NDArray[Any]]:
    """Return a forward as in tritonclient's examples."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(f"127.0.0.1:{port}")

    def forward() -> NDArray[Any]:
        tensor = triton.InferInput("z", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=True)
        asked = [triton.InferRequestedOutput("logits", binary_data=True)]
        logits: NDArray[Any] = client.infer(model, [tensor], outputs=asked).as_numpy("logits")
        return logits

    return forward


def ours(port: int, model: str, x: NDArray[np.float32]) -> Callable[[], NDArray[Any]]:
    """Return a forward of the runtime."""
    from edgecascade.runtime import Deadline, OpenInference

    remote = OpenInference(f"http://127.0.0.1:{port}/v2/models/{model}")
    return lambda: np.asarray(remote.infer(x, Deadline.after(5)))


def measure(port: int, forwards: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return CPU seconds per forward, [rounds] by model and client."""
    found: dict[str, dict[str, list[float]]] = {}
    for model, shape in (("small", (1, 3)), ("image", (1, 3, 224, 224))):
        x = np.random.default_rng(0).random(shape, np.float32)
        clients = {"ours": ours(port, model, x), "theirs": theirs(port, model, x)}
        np.testing.assert_array_equal(clients["ours"](), clients["theirs"]())
        spent: dict[str, list[float]] = {name: [] for name in clients}
        for turn in range(rounds + 1):
            for name, client in list(clients.items())[:: 1 if turn % 2 else -1]:
                started = time.process_time()
                for _ in range(forwards):
                    client()
                spent[name].append((time.process_time() - started) / forwards)
        found[model] = {name: seconds[1:] for name, seconds in spent.items()}
    return found


def serve(http_port: int, grpc_port: int) -> None:
    """Serve the two models until the process is terminated."""
    from pytriton.decorators import batch
    from pytriton.model_config import ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    models = {
        "small": ((3,), lambda z: {"logits": z * 2}),
        "image": ((3, 224, 224), lambda z: {"logits": z[:, :, 0, 0]}),
    }
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=http_port,
        grpc_address="127.0.0.1",
        grpc_port=grpc_port,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        for name, (shape, function) in models.items():
            triton.bind(
                name,
                batch(function),
                inputs=[Tensor(name="z", dtype=np.float32, shape=shape)],
                outputs=[Tensor(name="logits", dtype=np.float32, shape=(3,))],
                config=ModelConfig(max_batch_size=64),
            )
        triton.serve()


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    if what == "serve":
        serve(*map(int, numbers))
    else:
        print(json.dumps(measure(*map(int, numbers))))
