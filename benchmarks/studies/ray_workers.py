"""`ray_workers.py FOLDER ROUNDS STEP`: answer the rows of a folder by a loop and by two workers of Ray Data.

It runs where Ray is installed, and prints the seconds of each as JSON. `studies.ray_data` writes the folder.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray

from edgecascade.deploy.stages import Answer, Decide
from edgecascade.runtime.engine import open_session

folder, rounds, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
LOCAL, LARGE = str(folder / "local.onnx"), str(folder / "large.onnx")
side = int(np.load(folder / "side.npy"))


class Both:
    """Both stages in one worker."""

    def __init__(self) -> None:
        self._decide, self._answer = Decide(LOCAL, "x"), Answer(LOCAL, LARGE, "x")

    def __call__(self, columns: Any) -> dict[str, Any]:
        """Return the answers to some rows."""
        x = np.stack(columns["x"]).reshape(-1, 3, side, side)
        answered = self._answer(self._decide({"id": columns["id"], "x": x}))
        return {name: answered[name] for name in ("id", "label", "confidence")}


def workers() -> Any:
    """Answer by two workers, and return the labels by id."""
    rows = ray.data.read_parquet(str(folder / "rows"), override_num_blocks=16)
    pool = ray.data.ActorPoolStrategy(size=2)
    found = rows.map_batches(Both, batch_size=step, compute=pool, num_cpus=1).to_pandas()
    return found.sort_values("id")["label"].to_numpy()


def loop() -> Any:
    """Answer by a loop as one writes it by hand, in this process and on one thread, and return the labels by id."""
    import pyarrow.parquet as pq

    small, large = open_session(LOCAL), open_session(LARGE)
    labels, forwarded = [], 0
    for path in sorted((folder / "rows").iterdir()):
        for batch in pq.ParquetFile(path).iter_batches(step):
            x = batch.column("x").flatten().to_numpy().reshape(-1, 3, side, side)
            label, forward = small.run(["label", "forward"], {"x": x})
            (sent,) = np.nonzero(forward)
            forwarded += len(sent)
            if len(sent):
                (logits,) = large.run(["logits"], {"x": x[sent]})
                label[sent] = logits.argmax(axis=1)
            labels.append(label)
    assert forwarded, "the large model was asked about no row"
    return np.concatenate(labels)


# Two for the workers, and two for the reading of files, which would else wait for them without end.
ray.init(num_cpus=4, include_dashboard=False, object_store_memory=1 << 30, logging_level="ERROR")
ray.data.DataContext.get_current().enable_progress_bars = False
seconds: dict[str, list[float]] = {"workers": [], "loop": []}
try:
    for turn in range(rounds):
        answers = {}
        for name in ("workers", "loop") if turn % 2 else ("loop", "workers"):
            started = time.perf_counter()
            answers[name] = (workers if name == "workers" else loop)()
            seconds[name].append(time.perf_counter() - started)
        assert (answers["workers"] == answers["loop"]).all()
finally:
    ray.shutdown()
print(json.dumps(seconds))
