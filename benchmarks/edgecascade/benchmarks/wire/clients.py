"""CPU seconds of forwards, tritonclient's and ours, as JSON: `clients.py HTTP_PORT FORWARDS ROUNDS`."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.http as triton
from numpy.typing import NDArray

from edgecascade.runtime import Deadline, OpenInference


def theirs(port: int, model: str, x: NDArray[np.float32]) -> Callable[[], NDArray[Any]]:
    """As tritonclient's examples do it."""
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")

    def forward() -> NDArray[Any]:
        tensor = triton.InferInput("z", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=True)
        asked = [triton.InferRequestedOutput("logits", binary_data=True)]
        logits: NDArray[Any] = client.infer(model, [tensor], outputs=asked).as_numpy("logits")
        return logits

    return forward


def ours(port: int, model: str, x: NDArray[np.float32]) -> Callable[[], NDArray[Any]]:
    """As the runtime does it."""
    remote = OpenInference(f"http://127.0.0.1:{port}/v2/models/{model}")
    return lambda: np.asarray(remote.infer(x, Deadline.after(5)))


def measure(port: int, forwards: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """CPU seconds per forward, [rounds] by model and client."""
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


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
