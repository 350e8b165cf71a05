"""One run of MLPerf LoadGen through its Python bindings, and what it writes.

LoadGen decides when a query is issued and when the run may end; the latencies are its own, read from its trace, and
count from the time at which the query was scheduled. This is LoadGen's method, not an MLPerf submission: model, data
and duration are the user's, and the run was not reviewed.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.latency.plan import STREAMS, Scenario
from edgecascade.types.answer import Reason
from edgecascade.types.errors import BenchmarkError

__all__ = [
    "METHOD",
    "Drive",
    "Load",
    "LoadRun",
    "Outcome",
    "Recorder",
    "Samples",
    "Validity",
    "load_module",
    "read_detail",
    "read_samples",
    "run_loadgen",
    "validity_of",
]

METHOD = (
    "MLPerf LoadGen issues the queries, measures the latencies and decides whether a run is valid. This is LoadGen's "
    "method, not an MLPerf submission: model, data and duration are not MLPerf's."
)
_NAMES = {
    Scenario.SINGLE_STREAM: "SingleStream",
    Scenario.MULTI_STREAM: "MultiStream",
    Scenario.SERVER: "Server",
    Scenario.OFFLINE: "Offline",
}
_PAUSE = 0.01  # seconds that a query takes once the run has failed: LoadGen cannot be stopped
_SAMPLE = re.compile(
    rb'"sample_seq":(\d+),"query_seq":(\d+),"sample_idx":(\d+),"issue_start_ns":(\d+),"complete_ns":(\d+)'
)
_DETAIL = ":::MLLOG "
_CONDITIONS = (
    "early_stopping_met",
    "result_min_duration_met",
    "result_min_queries_met",
    "result_perf_constraints_met",
)


@dataclass(frozen=True)
class Load:
    """The settings of a run.

    Attributes:
        scenario: how queries are issued.
        seconds: minimum duration.
        queries: minimum number of queries; in offline, which has one query, of samples.
        expected: shortest plausible seconds of a query, or of an input in offline: LoadGen draws the queries by it
            before it starts, and ends early when they run out.
        qps: arrivals per second; server only.
        target: seconds that 99 % of the latencies must not exceed for a valid run; server only.
        most: maximum number of queries.
    """

    scenario: Scenario
    seconds: float
    queries: int
    expected: float
    qps: float = 0.0
    target: float = 1.0
    most: int = 200_000


class Outcome(NamedTuple):
    """The recorded part of an answer.

    Attributes:
        label: index of the class.
        reason: a cascade's reason; None of a model alone.
        elapsed: seconds from the call to the answer, as the cascade counted them; 0 of a model alone.
    """

    label: int
    reason: Reason | None = None
    elapsed: float = 0.0


@dataclass(frozen=True)
class Samples:
    """Every sample of a run in the order of issue: int64 [n] each.

    Attributes:
        query: number of its query.
        index: number of its input.
        delay: nanoseconds from the scheduled time to the issue.
        latency: nanoseconds from the scheduled time to the answer.
    """

    query: NDArray[np.int64]
    index: NDArray[np.int64]
    delay: NDArray[np.int64]
    latency: NDArray[np.int64]

    def per_query(self) -> NDArray[np.int64]:
        """Return the nanoseconds until the last sample of each query was answered."""
        longest = np.zeros(int(self.query.max(initial=-1)) + 1, np.int64)
        np.maximum.at(longest, self.query, self.latency)
        return longest


@dataclass(frozen=True)
class Validity:
    """Whether LoadGen calls its run valid.

    Attributes:
        valid: LoadGen's decision.
        unmet: conditions that were not met, by LoadGen's names.
        reason: LoadGen's explanation; empty for a valid run.
        errors: errors that it counted.
        version: LoadGen's version.
    """

    valid: bool
    unmet: tuple[str, ...]
    reason: str
    errors: int
    version: str


@dataclass(frozen=True)
class LoadRun:
    """A finished run.

    Attributes:
        samples: as LoadGen recorded them.
        outcomes: the answer to each, in the same order.
        validity: LoadGen's.
        detail: everything else that LoadGen wrote, by its own names.
    """

    samples: Samples
    outcomes: list[Outcome]
    validity: Validity
    detail: dict[str, Any]


class Recorder:
    """Takes samples from LoadGen's thread, and their answers from any thread.

    Nothing may be raised into LoadGen, and it waits for every answer: the first error is stored, its samples are
    answered with nothing, and `outcomes` raises it.

    Args:
        complete: tells LoadGen that the sample with this identifier is answered.
    """

    def __init__(self, complete: Callable[[int], None]) -> None:
        self._complete = complete
        self._ids: list[int] = []
        self._outcomes: list[Outcome | None] = []
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    @property
    def failed(self) -> bool:
        """Whether an error was stored."""
        return self._error is not None

    def issue(self, identifier: int) -> int:
        """Take a sample, and return its position among all."""
        self._ids.append(identifier)
        self._outcomes.append(None)
        return len(self._ids) - 1

    def answer(self, position: int, outcome: Outcome) -> None:
        """Take the answer to the sample at a position.

        Raises:
            BenchmarkError: it has an answer already.
        """
        if self._outcomes[position] is not None:
            raise BenchmarkError(f"sample {position}: expected one answer, got a second one")
        self._outcomes[position] = outcome
        self._complete(self._ids[position])

    def fail(self, error: BaseException, *positions: int) -> None:
        """Store the error if it is the first, and complete these samples where they have no answer."""
        with self._lock:
            self._error = self._error or error
        time.sleep(_PAUSE)
        for position in positions:
            if self._outcomes[position] is None:
                self._outcomes[position] = Outcome(-1)
                self._complete(self._ids[position])

    def outcomes(self) -> list[Outcome]:
        """Return the answers in the order of issue.

        Raises:
            BenchmarkError: a sample has no answer.
            Exception: the first error.
        """
        if self._error is not None:
            raise self._error
        found = [one for one in self._outcomes if one is not None]
        if len(found) != len(self._ids):
            raise BenchmarkError(f"answers: expected {len(self._ids)}, one for each sample, got {len(found)}")
        return found


Drive = Callable[[Recorder, Sequence[int], Sequence[int]], None]
"""Answers the samples at positions, for inputs by index: before it returns, or later from another thread."""


def load_module() -> Any:
    """Return LoadGen's bindings.

    Raises:
        BenchmarkError: they are not installed.
    """
    try:
        return import_module("mlperf_loadgen")
    except ModuleNotFoundError as error:
        raise BenchmarkError("bench latency needs MLPerf LoadGen: pip install 'edgecascade[latency]'") from error


def run_loadgen(drive: Drive, load: Load, *, inputs: int) -> LoadRun:
    """Run LoadGen against a system.

    Args:
        drive: answers the samples.
        load: settings.
        inputs: number of inputs, from which LoadGen draws with replacement.

    Raises:
        BenchmarkError: LoadGen is not installed, or an answer is missing.
        Exception: the first error of `drive`.
    """
    loadgen = load_module()
    response, completed = loadgen.QuerySampleResponse, loadgen.QuerySamplesComplete
    recorder = Recorder(lambda identifier: completed([response(identifier, 0, 0)]))  # no data in performance mode
    indices: list[int] = []

    def issue(samples: Sequence[Any]) -> None:
        positions = [recorder.issue(sample.id) for sample in samples]
        asked = [sample.index for sample in samples]
        indices.extend(asked)
        if recorder.failed:
            recorder.fail(BenchmarkError("the run had failed"), *positions)
            return
        try:
            drive(recorder, positions, asked)
        except BaseException as error:  # nothing may be raised into LoadGen
            recorder.fail(error, *positions)

    with tempfile.TemporaryDirectory(prefix="loadgen-") as folder:
        _start(loadgen, issue, load, inputs, folder)
        outcomes = recorder.outcomes()
        samples = read_samples(Path(folder, "mlperf_log_trace.json"))
        detail = read_detail(Path(folder, "mlperf_log_detail.txt"))
    if not np.array_equal(samples.index, np.array(indices, np.int64)):
        raise BenchmarkError(f"LoadGen's trace: expected the {len(indices)} samples that it issued, got others")
    return LoadRun(samples, outcomes, validity_of(detail), detail)


def read_samples(trace: Path) -> Samples:
    """Return the samples in `mlperf_log_trace.json`, which LoadGen writes as they are answered.

    Raises:
        BenchmarkError: the file does not hold every sample once.
    """
    with trace.open("rb") as lines:
        rows = [[int(one) for one in found.groups()] for line in lines if (found := _SAMPLE.search(line)) is not None]
    table = np.array(sorted(rows), np.int64).reshape(-1, 5)
    if not np.array_equal(table[:, 0], np.arange(len(table))):
        raise BenchmarkError(f"LoadGen's trace: expected samples 0 to {len(table) - 1} once each, got others")
    return Samples(*(np.ascontiguousarray(table[:, column]) for column in range(1, 5)))


def read_detail(detail: Path) -> dict[str, Any]:
    """Return the keys and values in `mlperf_log_detail.txt`; of a key that is repeated, the last value."""
    found: dict[str, Any] = {}
    for line in detail.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(_DETAIL):
            try:
                entry = json.loads(line.removeprefix(_DETAIL), strict=False)
            except ValueError:  # LoadGen does not escape every text
                continue
            found[entry["key"]] = entry["value"]
    return found


def validity_of(detail: dict[str, Any]) -> Validity:
    """Return LoadGen's decision from `read_detail`.

    Raises:
        BenchmarkError: there is none, since the run did not end.
    """
    if "result_validity" not in detail:
        raise BenchmarkError("LoadGen: expected result_validity in its log, got none")
    reasons = [str(detail.get(key, "")) for key in ("result_invalid_reason", "early_stopping_result")]
    valid = detail["result_validity"] == "VALID"
    return Validity(
        valid=valid,
        unmet=tuple(key for key in _CONDITIONS if detail.get(key) is False),
        reason="" if valid else " ".join(" ".join(reasons).replace("*", " ").split()),
        errors=int(detail.get("num_errors", 0)),
        version=str(detail.get("loadgen_version", "")).partition(" ")[0],
    )


def _start(loadgen: Any, issue: Callable[[Sequence[Any]], None], load: Load, inputs: int, folder: str) -> None:
    logs = loadgen.LogSettings()
    logs.enable_trace = True  # the only file that holds every latency
    logs.log_output.outdir = folder
    logs.log_output.copy_summary_to_stdout = False
    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(inputs, inputs, lambda _: None, lambda _: None)
    try:
        loadgen.StartTestWithLogSettings(system, library, _settings(loadgen, load), logs, "")
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)


def _settings(loadgen: Any, load: Load) -> Any:
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, _NAMES[load.scenario])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(load.seconds * 1e3)
    settings.min_query_count = load.queries
    settings.max_query_count = 0 if load.scenario is Scenario.OFFLINE else load.most
    nanoseconds = max(1, round(load.expected * 1e9))
    settings.single_stream_expected_latency_ns = nanoseconds
    settings.multi_stream_expected_latency_ns = nanoseconds
    settings.multi_stream_samples_per_query = STREAMS
    settings.offline_expected_qps = 1 / load.expected
    settings.server_target_qps = load.qps
    settings.server_target_latency_ns = round(load.target * 1e9)
    # The default seeds are 0, which is as fixed as this one; set here so that it can be seen.
    settings.qsl_rng_seed = settings.sample_index_rng_seed = settings.schedule_rng_seed = 2601
    return settings
