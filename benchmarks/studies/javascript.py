"""The time of an answer in Node: `predict` of the npm package beside a session of its file, and of the body in it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.export import save_model, unfold
from edgecascade.export.graph import load_model
from studies.speed import tiny_cascade

__all__ = ["GOAL", "main", "measure"]

GOAL = 1.05
_PACKAGE = Path(__file__).parent.parent.parent / "runtime" / "js"
_HIDDEN = (128, 1024, 8192)  # neurons: about .02, .2 and 2 ms


def measure(package: Path, hidden: int, *, builds: int = 15, rounds: int = 200) -> tuple[Ratio, Ratio]:
    """Return the time of `predict` beside that of a session of the file, and beside that of the body alone.

    Args:
        package: Folder of the npm package, in or above which `onnxruntime-node` is installed.
        hidden: Neurons of the body, which has two layers on 784 numbers.
        builds: Number of times that all sessions are made again.
        rounds: Runs of each per build.
    """
    with tempfile.TemporaryDirectory() as folder:
        file, _ = tiny_cascade(Path(folder), hidden)
        save_model(unfold(load_model(file)), Path(folder) / "body.onnx")
        job = {
            "main": str(package.resolve() / "node.js"),
            "bare": str(Path(folder) / "body.onnx"),
            "file": str(file),
            "builds": builds,
            "rounds": rounds,
        }
        command = ["node", str(Path(__file__).with_suffix(".mjs"))]
        ran = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=True)
    seconds = {name: np.array(values) for name, values in json.loads(ran.stdout).items()}
    name = f"predict in Node, {hidden} neurons"
    return (
        ratio(f"{name}, beside a session of the file", seconds["predict"], seconds["file"], goal=GOAL),
        ratio(f"{name}, beside a session of the body", seconds["predict"], seconds["body"]),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ratios. Install the packages with `npm install` in `runtime/js` before."""
    parser = ArgumentParser(prog="python -m studies.javascript", description=__doc__)
    parser.add_argument("--package", type=Path, default=_PACKAGE, help="Folder of the npm package.")
    parser.add_argument("--builds", type=int, default=15, help="Times that all sessions are made again (default 15).")
    given = parser.parse_args(arguments)
    for hidden in _HIDDEN:
        for one in measure(given.package, hidden, builds=given.builds):
            print(one)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
