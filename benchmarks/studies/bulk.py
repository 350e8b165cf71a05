"""The costs of bulk work beside a plain loop over ONNX Runtime: decisions, whole cascades, parquet files, memory.

All on one thread, by CPU time, with two artificial networks on 784 numbers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.ratio import Ratio, interleaved, medians, ratio
from edgecascade.benchmarks.report import write_study
from edgecascade.cli import main as edgecascade
from edgecascade.export import save_model
from edgecascade.runtime import Cascade
from edgecascade.runtime.decisions import CLASSIFIER_OUTPUTS
from edgecascade.runtime.engine import open_session
from studies.speed import tiny_cascade, two_layers

__all__ = ["BulkCosts", "main", "measure_bulk_costs"]

_STEP = 1337  # rows in a run, as the runtime chooses them for 784 float32
_GROUP = 4096  # rows in a row group of a table
_LARGE = 2048  # hidden units of the remote
_RUN = """
import sys
from edgecascade.cli import main
assert main(sys.argv[1:]) == 0
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@dataclass(frozen=True)
class BulkCosts:
    """What was measured.

    Attributes:
        ratios: CPU time of ours and of a plain loop, and peak memory with a large table and with a small one.
    """

    ratios: tuple[Ratio, ...]

    def __str__(self) -> str:
        """Return one line of text for each."""
        return "\n".join(map(str, self.ratios))


def measure_bulk_costs(rows: int = 100_000, rounds: int = 15) -> BulkCosts:
    """Measure everything (Linux only).

    Args:
        rows: Rows in memory and in a table; the small table of the measurement of memory has a quarter of them.
        rounds: Measurements of each kind, in turn; in memory, each with new sessions, and the median of three.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, _ = tiny_cascade(folder)
        rng = np.random.default_rng(1)
        large = folder / "large.onnx"
        save_model(two_layers(rng, _LARGE), large)
        x = rng.normal(size=(rows, 784)).astype(np.float32)
        table = _write(x, folder / "rows.parquet")
        found = [*_in_memory(small, large, x, rounds), _tables(small, large, table, rounds)]
        return BulkCosts((*found, _memory(small, large, x, folder, max(3, rounds // 3))))


def _in_memory(small: Path, large: Path, x: NDArray[np.float32], rounds: int) -> Iterator[Ratio]:
    def build() -> dict[str, Callable[[int], object]]:
        bare, loop, cascade = open_session(small), Loop(small, large), Cascade.load(small, remote=large)
        return {
            "decide": lambda _: cascade.decide(x),
            "bare": lambda _: [bare.run(CLASSIFIER_OUTPUTS, {"x": x[i : i + _STEP]}) for i in range(0, len(x), _STEP)],
            "at once": lambda _: bare.run(CLASSIFIER_OUTPUTS, {"x": x}),
            "columns": lambda _: cascade.predict_columns(x, in_flight=1),
            "loop": lambda _: loop(x),
        }

    with Cascade.load(small, remote=large) as cascade:
        if not (cascade.predict_columns(x[:_STEP]).label == Loop(small, large)(x[:_STEP])[0]).all():
            raise AssertionError("the loop is another cascade")
    times = medians(build, builds=rounds, rounds=3, warm_up=1, clock=time.process_time)
    name = f"{len(x)} rows"
    yield ratio(f"decide, {name}, to a bare session", times["decide"], times["bare"], goal=1.05, unit="ms", scale=1e3)
    yield ratio(
        f"decide, {name}, to one run of a bare session", times["decide"], times["at once"], unit="ms", scale=1e3
    )
    yield ratio(
        f"predict_columns, {name}, to a numpy loop", times["columns"], times["loop"], goal=1.10, unit="ms", scale=1e3
    )


class Loop:
    """A cascade as one writes it by hand: session, nonzero, large session, softmax, merge."""

    def __init__(self, small: Path, large: Path) -> None:
        self._small, self._large = open_session(small), open_session(large)
        with Cascade.load(small) as cascade:
            calibration = cascade.policy.calibrate_remote
        assert calibration is not None
        self._temperature = np.float32(calibration.temperature)

    def __call__(self, x: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Return labels, confidences, advantages and sources of inputs."""
        parts = [self._some(x[start : start + _STEP]) for start in range(0, len(x), _STEP)]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def _some(self, x: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        label, confidence, advantage, forward, probabilities = self._small.run(CLASSIFIER_OUTPUTS, {"x": x})
        (sent,) = np.nonzero(forward)
        for start in range(0, len(sent), 256):
            some = sent[start : start + 256]
            (logits,) = self._large.run(["logits"], {"x": x[some]})
            raised = np.exp((logits - logits.max(axis=1, keepdims=True)) / self._temperature)
            theirs = raised / raised.sum(axis=1, keepdims=True)
            label[some], confidence[some], probabilities[some] = theirs.argmax(axis=1), theirs.max(axis=1), theirs
        return label, confidence, advantage, forward, probabilities


def _tables(small: Path, large: Path, table: Path, rounds: int) -> Ratio:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def ours(turn: int) -> None:
        output = table.with_name(f"ours-{turn}.parquet")
        arguments = ["run", str(small), str(table), "-o", str(output), "--remote", str(large), "--in-flight", "1"]
        with redirect_stderr(StringIO()):
            assert edgecascade(arguments) == 0
        output.unlink()

    def theirs(_: int) -> None:
        loop, output = Loop(small, large), table.with_name("theirs.parquet")
        with pq.ParquetFile(table) as file:
            schema = pa.schema({"label": pa.int64(), "confidence": pa.float32(), "advantage": pa.float32()})
            with pq.ParquetWriter(output, schema) as writer:
                for batch in file.iter_batches(_GROUP):
                    x = batch.column("x").flatten().to_numpy().reshape(-1, 784)
                    writer.write_batch(pa.record_batch(list(loop(x)[:3]), schema=schema))

    times = interleaved({"ours": ours, "theirs": theirs}, rounds, warm_up=1, clock=time.process_time)
    name = "parquet to parquet, to a loop with pyarrow"
    return ratio(name, times["ours"], times["theirs"], goal=1.2, unit="ms", scale=1e3)


def _memory(small: Path, large: Path, x: NDArray[np.float32], folder: Path, rounds: int) -> Ratio:
    few = _write(x[: len(x) // 4], folder / "few.parquet", group=len(x))
    many = _write(x, folder / "many.parquet", group=len(x))
    peaks: dict[Path, list[float]] = {few: [], many: []}
    for turn in range(rounds):
        for table, found in peaks.items():
            output = folder / f"{table.stem}-{turn}.parquet"
            command = ["run", small, table, "-o", output, "--remote", large]
            ran = subprocess.run(
                [sys.executable, "-c", _RUN, *map(str, command)], capture_output=True, text=True, check=True
            )
            found.append(int(ran.stdout) / 1024)
    name = "peak memory, a table in one row group to one of a quarter of its rows, likewise"
    return ratio(name, np.array(peaks[many]), np.array(peaks[few]), goal=1.1, unit="MiB", scale=1.0)


def _write(x: NDArray[np.float32], path: Path, group: int = _GROUP) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
    pq.write_table(pa.table({"x": column}), path, row_group_size=group)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the result; return 1 if a goal is missed."""
    parser = ArgumentParser(prog="python -m studies.bulk", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="Rows in memory (default: 100000).")
    parser.add_argument("--rounds", type=int, default=15, help="Measurements of each kind (default: 15).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    found = measure_bulk_costs(asked.rows, asked.rounds)
    command = f"python -m studies.bulk --rows {asked.rows} --rounds {asked.rounds}"
    write_study(asked.out, "bulk", found, command=command, summary=str(found))
    print(found)
    return int(not all(one.met for one in found.ratios))


if __name__ == "__main__":
    raise SystemExit(main())
