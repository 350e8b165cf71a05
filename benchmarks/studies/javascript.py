"""The time of an answer in Node: `predict` of the npm package beside a session of its file, and of the body in it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.benchmarks.report import write_study
from edgecascade.export import save_model, unfold
from edgecascade.export.graph import load_model
from studies.speed import tiny_cascade

__all__ = ["GOAL", "NodeCosts", "main", "measure"]

GOAL = 1.05
_PACKAGE = Path(__file__).parent.parent.parent / "runtime" / "js"
_HIDDEN = (128, 1024, 8192)  # neurons: about .02, .2 and 2 ms


@dataclass(frozen=True)
class NodeCosts:
    """What was measured.

    Attributes:
        ratios: The time of `predict` beside that of a session of the file, and beside that of the body alone.
        versions: Of Node, and of the package that runs the model in it.
    """

    ratios: tuple[Ratio, ...]
    versions: Mapping[str, str]

    def __str__(self) -> str:
        """Return one line of text for each ratio, and one for the versions."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return "\n".join([*map(str, self.ratios), versions])


def measure(package: Path, hidden: Sequence[int] = _HIDDEN, *, builds: int = 15, rounds: int = 200) -> NodeCosts:
    """Measure `predict` with bodies of several sizes.

    Args:
        package: Folder of the npm package, in or above which `onnxruntime-node` is installed.
        hidden: Neurons of each body, which has two layers on 784 numbers.
        builds: Number of times that all sessions are made again.
        rounds: Runs of each per build.
    """
    ratios, versions = list[Ratio](), dict[str, str]()
    for neurons in hidden:
        with tempfile.TemporaryDirectory() as folder:
            file, _ = tiny_cascade(Path(folder), neurons)
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
        found = json.loads(ran.stdout)
        seconds, versions = {name: np.array(values) for name, values in found["seconds"].items()}, found["versions"]
        name = f"predict in Node, {neurons} neurons"
        ratios += [
            ratio(f"{name}, beside a session of the file", seconds["predict"], seconds["file"], goal=GOAL),
            ratio(f"{name}, beside a session of the body", seconds["predict"], seconds["body"]),
        ]
    return NodeCosts(tuple(ratios), versions)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the result; return 1 if a goal is missed.

    Install the packages with `npm install` in `runtime/js` before.
    """
    parser = ArgumentParser(prog="python -m studies.javascript", description=__doc__)
    parser.add_argument("--package", type=Path, default=_PACKAGE, help="Folder of the npm package.")
    parser.add_argument("--builds", type=int, default=15, help="Times that all sessions are made again (default 15).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    given = parser.parse_args(arguments)
    found = measure(given.package, builds=given.builds)
    command = f"python -m studies.javascript --builds {given.builds}"
    write_study(given.out, "javascript", found, command=command, summary=str(found))
    print(found)
    return int(not all(one.met for one in found.ratios))


if __name__ == "__main__":
    raise SystemExit(main())
