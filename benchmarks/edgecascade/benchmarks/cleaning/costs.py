"""CPU time and memory of edgecascade and of cleanlab on large arrays, each measurement in a process of its own.

edgecascade reads three experts from float16 memory-mapped files. cleanlab reads one matrix of float32 probabilities:
`find_label_issues` from memory, as it needs, and `find_label_issues_batched` from a memory-mapped file.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.benchmarks.report import LOWER
from edgecascade.calibration import quantile, softmax
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["Costs", "Growth", "measure_costs"]

_SEED = 2601
_EXPERTS = 3
_KINDS = ("logits", "probabilities")
_BLOCK = 1000  # rows
_FITTED = 10_000  # rows that fit the weights
_WRONG = 0.05
_STATUS = Path("/proc/self/status")
_EVERY = 0.002  # seconds between two looks at the memory


@dataclass(frozen=True)
class Growth:
    """What a number of rows costs.

    Attributes:
        rows: The number of rows.
        seconds: CPU time of reading and checking three experts and ordering all rows.
        memory: MiB beyond the data at the peak; None where the system does not tell.
    """

    rows: int
    seconds: Estimate = field(metadata=LOWER)
    memory: Estimate | None = field(metadata=LOWER)


@dataclass(frozen=True)
class Costs:
    """The costs of both.

    Attributes:
        rows: The number of rows of the ratios.
        classes: The number of classes.
        rounds: The number of processes of each kind.
        ratios: Of our CPU time to cleanlab's, for logits and for probabilities.
        memory: MiB beyond the data at the peak, by name; empty where the system does not tell.
        fit: CPU seconds of fitting the weights on 10,000 rows, or on all if there are fewer.
        fit_wall: Seconds on the clock of the same.
        growth: Costs for other numbers of rows, of logits.
        extrapolated: The CPU seconds for `largest` rows by the line through the two largest sizes.
        largest: The number of rows that is extrapolated to, or measured last.
    """

    rows: int
    classes: int
    rounds: int
    ratios: tuple[Ratio, ...]
    memory: dict[str, Estimate]
    fit: Estimate = field(metadata=LOWER)
    fit_wall: Estimate = field(metadata=LOWER)
    growth: tuple[Growth, ...]
    extrapolated: float
    largest: int


def measure_costs(
    folder: Path,
    *,
    rows: int = 50_000,
    classes: int = 1000,
    rounds: int = 5,
    largest: int = 1_300_000,
    measured: bool = False,
) -> Costs:
    """Measure the costs of both; the arrays take 6 kB per row and 1,000 classes, and are deleted one after the other.

    Args:
        folder: A folder for the arrays.
        rows: The number of rows of the comparison.
        classes: The number of classes.
        rounds: How often each is measured, in turn.
        largest: The number of rows that the costs are extrapolated to.
        measured: Whether to measure that too, once: 8 GB of files for 1.3 million rows.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in _JOBS}
    with _arrays(folder, rows, classes) as made:
        for turn in range(rounds):
            names = list(_JOBS)[turn % len(_JOBS) :] + list(_JOBS)[: turn % len(_JOBS)]
            for name in names:
                found[name].append(_in_a_process(name, made))
    growth = [Growth(rows, *_cost(found["logits"]))]
    for some in (rows // 2, *((largest,) if measured else ())):
        with _arrays(folder, some, classes, only="logits") as made:
            runs = [_in_a_process("logits", made) for _ in range(1 if some == largest else rounds)]
            growth.append(Growth(some, *_cost(runs)))
    seconds = {name: np.array([one["seconds"] for one in runs]) for name, runs in found.items()}
    half, whole = growth[1], growth[0]
    slope = (whole.seconds.value - half.seconds.value) / (whole.rows - half.rows)
    return Costs(
        rows,
        classes,
        rounds,
        tuple(
            ratio(f"{kind}, against {theirs}", seconds[kind], seconds[theirs], goal=goal, unit="s", scale=1)
            for kind in _KINDS
            for theirs, goal in (("find_label_issues", 0.2), ("find_label_issues_batched", 1.0))
        ),
        {name: cost for name, runs in found.items() if (cost := _cost(runs)[1]) is not None and name != "fit"},
        _median([one["seconds"] for one in found["fit"]]),
        _median([one["wall"] for one in found["fit"]]),
        tuple(sorted(growth, key=lambda one: one.rows)),
        whole.seconds.value + slope * (largest - whole.rows),
        largest,
    )


def _cost(runs: Sequence[dict[str, float]]) -> tuple[Estimate, Estimate | None]:
    memory = [one["memory"] for one in runs if "memory" in one]
    return _median([one["seconds"] for one in runs]), _median(memory) if memory else None


def _median(values: Sequence[float]) -> Estimate:
    return quantile(np.asarray(values, np.float64), 0.5)


@contextmanager
def _arrays(folder: Path, rows: int, classes: int, *, only: str = "") -> Iterator[Path]:
    """Write files of correlated experts about random rows, 5 % of whose labels are wrong; delete them afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {f"{kind}-{k}": np.float16 for kind in ([only] if only else _KINDS) for k in range(_EXPERTS)}
    types: dict[str, type[np.floating]] = kinds if only else {**kinds, "matrix": np.float32}
    paths = {name: folder / f"{name}.npy" for name in (*types, "labels")}
    try:
        files = {
            name: np.lib.format.open_memmap(paths[name], "w+", kind, (rows, classes)) for name, kind in types.items()
        }
        rng = np.random.default_rng(_SEED)
        labels = rng.integers(0, classes, rows)
        for start in range(0, rows, _BLOCK):
            part = slice(start, min(start + _BLOCK, rows))
            for k, logits in enumerate(_block(rng, labels[part], classes)):
                files[f"logits-{k}"][part] = logits
                if not only:
                    files[f"probabilities-{k}"][part] = softmax(logits)
                    if k == 0:
                        files["matrix"][part] = softmax(logits)
        wrong = rng.random(rows) < _WRONG
        labels[wrong] = (labels[wrong] + rng.integers(1, classes, wrong.sum())) % classes
        np.save(paths["labels"], labels)
        yield folder
    finally:
        for path in paths.values():
            path.unlink(missing_ok=True)


def _block(rng: np.random.Generator, labels: NDArray[np.int64], classes: int) -> Iterator[NDArray[np.float32]]:
    """Yield the logits [m, classes] of each expert: noise, half of it common, and more at the right class."""
    shape = len(labels), classes
    common = rng.standard_normal(shape, np.float32)
    for k in range(_EXPERTS):
        logits = common + rng.standard_normal(shape, np.float32)
        logits[np.arange(len(labels)), labels] += 7 - k
        yield 1.5 * logits


def _in_a_process(job: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", __name__, job, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=_one_thread())
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchmarkError(f"{job} on {folder}: the measuring process failed: {last}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _one_thread() -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}


def _judge(kind: str, folder: Path) -> Callable[[], object]:
    """Return the work of finding suspects, with the weights that were fitted on the first rows."""
    from edgecascade.calibration.cleaning import Experts, find_suspects, fit_pool

    labels = np.load(folder / "labels.npy")
    arrays = [np.load(folder / f"{kind}-{k}.npy", mmap_mode="r") for k in range(_EXPERTS)]
    some = Experts.of([one[:_FITTED] for one in arrays])
    pool = fit_pool(some, labels[:_FITTED])
    find_suspects(some.select(np.arange(min(500, len(labels)))), labels[:500], pool)
    return lambda: find_suspects(Experts.of(arrays), labels, pool)


def _fit(folder: Path) -> Callable[[], object]:
    from edgecascade.calibration.cleaning import Experts, fit_pool

    labels = np.load(folder / "labels.npy")[:_FITTED]
    experts = Experts.of([np.load(folder / f"logits-{k}.npy", mmap_mode="r")[:_FITTED] for k in range(_EXPERTS)])
    fit_pool(experts.select(np.arange(min(500, len(labels)))), labels[:500])
    return lambda: fit_pool(experts, labels)


def _issues(folder: Path) -> Callable[[], object]:
    from cleanlab.filter import find_label_issues

    labels, matrix = np.load(folder / "labels.npy"), np.load(folder / "matrix.npy")
    return lambda: find_label_issues(labels, matrix, return_indices_ranked_by="self_confidence", n_jobs=1)


def _batched(folder: Path) -> Callable[[], object]:
    from cleanlab.experimental.label_issues_batched import find_label_issues_batched

    files = {"labels_file": str(folder / "labels.npy"), "pred_probs_file": str(folder / "matrix.npy")}
    return lambda: find_label_issues_batched(**files, n_jobs=1, verbose=False)


_JOBS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "logits": lambda folder: _judge("logits", folder),
    "probabilities": lambda folder: _judge("probabilities", folder),
    "find_label_issues": _issues,
    "find_label_issues_batched": _batched,
    "fit": _fit,
}


class _Peak:
    """The largest anonymous memory of this process while it works; pages of mapped files do not count."""

    def __init__(self) -> None:
        self.most = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY):
            self.most = max(self.most, _anonymous())


def _anonymous() -> float:
    """Return the anonymous memory of this process in MiB."""
    found = re.search(r"RssAnon:\s+(\d+) kB", _STATUS.read_text())
    return int(found[1]) / 1024 if found else 0.0


def _cpu() -> float:
    """Return the CPU seconds of this process and of those that it has started and waited for."""
    used = os.times()
    return time.process_time() + used.children_user + used.children_system


def _measure(job: str, folder: Path) -> dict[str, float]:
    """Return CPU seconds and seconds on the clock of one job, and its memory in MiB in another run of it."""
    work = _JOBS[job](folder)
    started, wall = _cpu(), time.perf_counter()
    kept = work()
    found = {"seconds": _cpu() - started, "wall": time.perf_counter() - wall}
    del kept
    if _STATUS.exists() and (before := _anonymous()):
        with _Peak() as peak:
            work()
        found["memory"] = max(0.0, peak.most - before)
    return found


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]))))
