"""`run_ray.py FOLDER PORT`: answer the images of `test.npz` with Ray Data and with Ray Serve, and save the answers."""

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve

from edgecascade.deploy.ray import app
from edgecascade.deploy.stages import Answer, Decide

folder, port = Path(sys.argv[1]), int(sys.argv[2])
LOCAL, REMOTE = str(folder / "local.onnx"), str(folder / "remote.onnx")
images = np.load(folder / "test.npz")["x"]


class Dies(Decide):
    """The first stage, whose process is killed in the midst of its first batch."""

    def __call__(self, columns: Any) -> dict[str, Any]:
        """Decide, or die once."""
        died = folder / "died"
        if not died.exists():
            died.touch()
            os._exit(1)
        return super().__call__(columns)


def data() -> None:
    """Run both stages on a parquet file of Ray's, in actors of their own."""
    rows = ray.data.from_items([{"id": i, "image": image} for i, image in enumerate(images)], override_num_blocks=4)
    rows.write_parquet(str(folder / "rows"))
    table = ray.data.read_parquet(str(folder / "rows"), override_num_blocks=4)
    decided = table.map_batches(Dies, fn_constructor_args=(LOCAL, "image"), batch_size=50, compute=pool())
    answered = decided.map_batches(Answer, fn_constructor_args=(LOCAL, REMOTE, "image"), batch_size=50, compute=pool())
    found = answered.take_all()
    columns: dict[str, Any] = {name: np.array([row[name] for row in found]) for name in found[0]}
    np.savez(folder / "data.npz", **columns)


def pool() -> Any:
    """Return an actor of its own for a stage."""
    return ray.data.ActorPoolStrategy(size=1)


def served() -> None:
    """Start the application, and ask it over HTTP."""
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(app({"local": LOCAL, "remote": REMOTE, "deadline": "30", "threshold": "-0.1"}))
    sent = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [40, *images.shape[1:]],
        "data": images[:40].ravel().tolist(),
    }
    body = json.dumps({"inputs": [sent]}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/cascade/infer", body, timeout=60) as reply:
        (folder / "served.json").write_bytes(reply.read())
    serve.shutdown()


ray.init(num_cpus=4, include_dashboard=False, object_store_memory=128 << 20)
try:
    data()
    served()
finally:
    ray.shutdown()
