"""One run of MLPerf LoadGen, through its Python bindings.

LoadGen decides when a query comes and when the run may end; the latencies are its own, read from its trace, and count
from the moment at which the query was scheduled. This is LoadGen's method, not an MLPerf submission: the model, the
data and the time are the user's, and nobody reviewed the run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgecascade.benchmarks.latency.loadgen_log import Samples, Verdict, read_detail, read_samples, verdict_of
from edgecascade.benchmarks.latency.recorder import Outcome, Recorder, complete_with
from edgecascade.benchmarks.latency.scenario import STREAMS, Load, Scenario
from edgecascade.types.errors import BenchmarkError

__all__ = ["METHOD", "Drive", "Loaded", "load_module", "run_loadgen"]

METHOD = (
    "Queries come from MLPerf LoadGen, and latencies and verdicts are LoadGen's own. This is LoadGen's method, not an "
    "MLPerf submission: model, data and duration are not MLPerf's."
)
_NAMES = {
    Scenario.SINGLE_STREAM: "SingleStream",
    Scenario.MULTI_STREAM: "MultiStream",
    Scenario.SERVER: "Server",
    Scenario.OFFLINE: "Offline",
}

Drive = Callable[[Recorder, Sequence[int], Sequence[int]], None]
"""Answers the samples at positions, for inputs by index: before it returns, or later from another thread."""


@dataclass(frozen=True)
class Loaded:
    """A run.

    Attributes:
        samples: as LoadGen recorded them.
        outcomes: the answer to each, in the same order.
        own: seconds from issue to answer of each, by this process's clock.
        verdict: LoadGen's.
        detail: everything else that it wrote, by its own names.
    """

    samples: Samples
    outcomes: list[Outcome]
    own: list[float]
    verdict: Verdict
    detail: dict[str, Any]


def load_module() -> Any:
    """LoadGen's bindings.

    Raises:
        BenchmarkError: they are not installed.
    """
    try:
        return import_module("mlperf_loadgen")
    except ModuleNotFoundError as error:
        raise BenchmarkError("bench latency needs MLPerf LoadGen: pip install 'edgecascade[latency]'") from error


def run_loadgen(drive: Drive, load: Load, *, inputs: int, flush: Callable[[], None] = lambda: None) -> Loaded:
    """Ask for answers as `load` says.

    Args:
        drive: answers.
        load: how queries come, and how many.
        inputs: how many there are to ask about; LoadGen draws among them, with replacement.
        flush: called once the last query is issued.

    Raises:
        BenchmarkError: LoadGen is not installed, or an answer is missing.
        Exception: what `drive` raised first.
    """
    loadgen = load_module()
    recorder = Recorder(complete_with(loadgen))
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
        _start(loadgen, issue, flush, load, inputs, folder)
        outcomes = recorder.outcomes()
        samples, detail = read_samples(Path(folder, "mlperf_log_trace.json")), _detail(folder)
    if not np.array_equal(samples.index, np.array(indices, np.int64)):
        raise BenchmarkError(f"LoadGen's trace: expected the {len(indices)} samples that it issued, got others")
    return Loaded(samples, outcomes, recorder.own_seconds(), verdict_of(detail), detail)


def _detail(folder: str) -> dict[str, Any]:
    return read_detail(Path(folder, "mlperf_log_detail.txt"))


def _start(
    loadgen: Any,
    issue: Callable[[Sequence[Any]], None],
    flush: Callable[[], None],
    load: Load,
    inputs: int,
    folder: str,
) -> None:
    logs = loadgen.LogSettings()
    logs.enable_trace = True  # the only place where it writes every latency
    logs.log_output.outdir = folder
    logs.log_output.copy_summary_to_stdout = False
    system = loadgen.ConstructSUT(issue, flush)
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
    # The defaults are 0, which is a fixed seed as good as another; said here so that it is seen.
    settings.qsl_rng_seed = settings.sample_index_rng_seed = settings.schedule_rng_seed = 2601
    return settings
