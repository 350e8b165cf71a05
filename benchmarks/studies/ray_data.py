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

_SIDE = 80  # of an image: the model then takes a millisecond
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


def measure_ray(python: str, rows: int = 30_000, rounds: int = 6) -> RayCosts:
    """Measure with an artificial network of a millisecond, whose remote is a network of the same size.

    Args:
        python: Python of an environment with ray[data], onnxruntime and pandas.
        rows: Rows of the table.
        rounds: Measurements of each, in turn.

    Raises:
        BenchmarkError: the script of Ray fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        for part in ("body", "remote"):
            (folder / part).mkdir()
        body, x = convolutions(folder / "body", _SIDE)
        convolutions(folder / "remote", _SIDE, seed=1)[0].rename(folder / "large.onnx")
        inputs = rng.normal(size=(600, *x.shape[1:])).astype(np.float32)
        cascade_of(body, folder / "local.onnx", inputs, rng)
        _write(folder, rows, x.shape[1:], rng)
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
    seconds = {key: rows / np.array(found[1:]) for key, found in json.loads(ran.stdout.splitlines()[-1]).items()}
    what = f"Ray Data with 2 workers, {rows} rows, to a loop on one core"
    found = ratio(what, seconds["workers"], seconds["loop"], goal=1.6, unit="rows/s", scale=1.0, better="higher")
    return RayCosts((found,), milliseconds)


def _write(folder: Path, rows: int, shape: Sequence[int], rng: np.random.Generator) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "rows").mkdir()
    np.save(folder / "side.npy", shape[-1])
    for i, ids in enumerate(np.array_split(np.arange(rows), _FILES)):
        numbers = pa.array(rng.normal(size=len(ids) * int(np.prod(shape))).astype(np.float32))
        column = pa.FixedSizeListArray.from_arrays(numbers, int(np.prod(shape)))
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
    parser.add_argument("--rows", type=int, default=30_000, help="Rows of the table (default: 30000).")
    parser.add_argument("--rounds", type=int, default=6, help="Measurements of each (default: 6).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    found = measure_ray(asked.ray, asked.rows, asked.rounds)
    command = f"python -m studies.ray_data --ray PYTHON --rows {asked.rows} --rounds {asked.rounds}"
    write_study(asked.out, "ray", found, command=command, summary=str(found))
    print(found)
    return int(not all(one.met for one in found.ratios))


if __name__ == "__main__":
    raise SystemExit(main())
