"""The rows per second of two workers of Ray Data beside a loop over ONNX Runtime on one core, from a parquet file.

The time of the workers includes their start: each opens both models.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.benchmarks.report import write_study
from edgecascade.runtime.engine import open_session
from edgecascade.types.errors import BenchmarkError
from studies.serving import convolutions
from studies.speed import cascade_of

__all__ = ["RayCosts", "main", "measure_ray"]

_WORK = 40 * 64  # side of an image times channels of the network, which then takes somewhat over a millisecond
_STEP = 64  # rows at a time
_FILES = 16


@dataclass(frozen=True)
class RayCosts:
    """What was measured.

    Attributes:
        ratios: Rows per second of the workers and of the loop.
        model: Milliseconds that the local model takes for one row.
    """

    ratios: tuple[Ratio, ...]
    model: float

    def __str__(self) -> str:
        """Return one line of text for each."""
        return "\n".join([*map(str, self.ratios), f"the local model takes {self.model:.2f} ms for a row"])


def measure_ray(python: str, rows: int = 90_000, rounds: int = 3, side: int = 40) -> RayCosts:
    """Measure with an artificial network of a millisecond, whose remote is a network of the same size.

    Images of 40 pixels have 19 kB as float32, which is what photos of 80 pixels have in bytes.

    Args:
        python: Python of an environment with ray[data], onnxruntime and pandas.
        rows: Rows of the table.
        rounds: Measurements of each, in turn.
        side: Of an image, in pixels; the network has the fewer channels, the larger it is.

    Raises:
        BenchmarkError: the script of Ray fails.
    """
    width = _WORK // side
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        for part in ("body", "remote"):
            (folder / part).mkdir()
        body, x = convolutions(folder / "body", side, width=width)
        convolutions(folder / "remote", side, seed=1, width=width)[0].rename(folder / "large.onnx")
        cascade_of(body, folder / "local.onnx", _images(600, side, rng), rng)
        _write(folder, rows, side, rng)
        milliseconds = _alone(folder / "local.onnx", x)
        script = Path(__file__).with_name("ray_workers.py")
        variables = {"PYTHONPATH": os.pathsep.join(_roots()), "RAY_USAGE_STATS_ENABLED": "0", "HOME": name}
        ran = subprocess.run(
            [python, str(script), name, str(rounds + 1), str(_STEP)],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise BenchmarkError(f"ray_workers.py failed: {ran.stderr.strip()[-500:]}")
    found = json.loads(ran.stdout.splitlines()[-1])
    workers, loop = (rows / np.array(found[key][1:]) for key in ("workers", "loop"))
    what = f"Ray Data with 2 workers, {rows} images of {side} px, to a loop on one core"
    return RayCosts((ratio(what, workers, loop, goal=1.6, unit="rows/s", scale=1.0, better="higher"),), milliseconds)


def _images(n: int, side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise [n, 3, side, side] of all strengths, about which a network is more or less sure."""
    noise = rng.standard_normal((n, 3, side, side), np.float32)
    noise *= rng.uniform(0.2, 2.0, (n, 3, 1, 1)).astype(np.float32)
    return noise


def _write(folder: Path, rows: int, side: int, rng: np.random.Generator) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "rows").mkdir()
    np.save(folder / "side.npy", side)
    for i, ids in enumerate(np.array_split(np.arange(rows), _FILES)):
        numbers = pa.array(_images(len(ids), side, rng).ravel())
        column = pa.FixedSizeListArray.from_arrays(numbers, 3 * side * side)
        pq.write_table(pa.table({"id": ids, "x": column}), folder / "rows" / f"{i:02}.parquet", row_group_size=512)


def _alone(path: Path, x: NDArray[np.float32]) -> float:
    session, times = open_session(path), list[float]()
    for _ in range(200):
        started = time.perf_counter()
        session.run(["label"], {"x": x})
        times.append(time.perf_counter() - started)
    return 1e3 * float(np.median(times))


def _roots() -> list[str]:
    import edgecascade

    return [str(Path(root).parent) for root in edgecascade.__path__ if (Path(root) / "runtime").is_dir()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the result; return 1 if the goal is missed."""
    parser = ArgumentParser(prog="python -m studies.ray_data", description=__doc__)
    parser.add_argument(
        "--ray",
        metavar="PYTHON",
        required=True,
        help="Python of an environment with ray[data,serve]==2.60.0, onnxruntime and pandas.",
    )
    parser.add_argument("--rows", type=int, default=90_000, help="Rows of the table (default: 90000).")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each (default: 3).")
    parser.add_argument("--side", type=int, default=40, help="Pixels of an image's side (default: 40).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    found = measure_ray(asked.ray, asked.rows, asked.rounds, asked.side)
    command = f"python -m studies.ray_data --ray PYTHON --rows {asked.rows} --rounds {asked.rounds} --side {asked.side}"
    write_study(asked.out, "ray", found, command=command, summary=str(found))
    print(found)
    return int(not all(one.met for one in found.ratios))


if __name__ == "__main__":
    raise SystemExit(main())
