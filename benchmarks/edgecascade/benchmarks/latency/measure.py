"""Measure one cell, in a process of its own, so that memory, first session and connections belong to it alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.device.watching import resident_mib, watched
from edgecascade.benchmarks.latency.agreement import compare_with_loop
from edgecascade.benchmarks.latency.cell import Cell, Distribution, Forwards, WarmUp, distribution
from edgecascade.benchmarks.latency.data import Inputs, read_inputs_as_given
from edgecascade.benchmarks.latency.loadgen import Load, LoadRun, Outcome, run_loadgen
from edgecascade.benchmarks.latency.plan import STREAMS, Plan, Scenario, Subject
from edgecascade.benchmarks.latency.systems import CascadeSystem, System, drive, open_system
from edgecascade.benchmarks.stored import decode
from edgecascade.calibration import proportion
from edgecascade.runtime.engine import open_session, read_classifier
from edgecascade.types.answer import Reason
from edgecascade.types.errors import BenchmarkError, EdgecascadeError
from edgecascade.types.estimate import Estimate

__all__ = ["measure_cell", "measured_apart"]

T = TypeVar("T")
_SLACK = 3600.0  # seconds beyond the run for a dead remote, a long first compilation and a slow board
_WAKES = 2  # forwards before the run: fewer than the failures that open the circuit breaker
_MOST = 200_000  # samples in a run: LoadGen's trace of them takes about 130 MB in the temporary folder
_TRIAL = 0.3  # seconds of offline's trial
_LONGEST = 4096  # inputs in that trial
_HASTE = 1.3  # factor by which a long run may be faster than the trial, which waits for its last forwards


def measured_apart(what: str, kind: type[T], plan: Plan) -> T:
    """Measure a plan in a new process.

    Args:
        what: "cell" or "agreement".
        kind: the dataclass of the result.
        plan: of the cell.

    Raises:
        BenchmarkError: the process failed; the message ends with the last line of its standard error.
    """
    with TemporaryDirectory(prefix="latency-") as folder:
        out = Path(folder, "found.json")
        command = [sys.executable, "-m", "edgecascade.benchmarks.latency.measure", what, str(out)]
        try:
            done = subprocess.run(
                command,
                input=json.dumps(asdict(plan)),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=_SLACK + 10 * plan.seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"{plan}: expected an end within {error.timeout:.0f} s, got none") from error
        if done.returncode or not out.exists():
            last = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[-1]
            raise BenchmarkError(f"{plan}: {last}")
        return decode(kind, json.loads(out.read_text(encoding="utf-8")))


def measure_cell(plan: Plan, inputs: Inputs) -> Cell:
    """Open the system, warm it up, and run LoadGen against it.

    Args:
        plan: of the cell.
        inputs: those at `plan.data`.
    """
    resident = resident_mib()
    engines = None if plan.engines is None else sum(file.is_file() for file in Path(plan.engines).rglob("*"))
    started = time.monotonic()
    with closing(open_system(plan, inputs)) as system:
        session = time.monotonic() - started
        first = _seconds(lambda: _first_answer(system, plan))
        pace = _pace(system, plan, len(inputs.given))
        cpu = time.process_time()
        with watched(resident) as machine:
            run = run_loadgen(drive(system, plan.scenario), pace.load, inputs=len(inputs.given))
        cpu = time.process_time() - cpu
        provider = system.provider
    assert machine.state is not None
    seconds, n = _duration(plan.scenario, run), len(run.outcomes)
    return Cell(
        name=str(plan),
        plan=plan,
        answers=n,
        queries=int(run.samples.query.max()) + 1,
        seconds=seconds,
        throughput=n / seconds,
        latency=_latency(plan.scenario, run),
        forwards=None if plan.subject is Subject.ALONE else _forwards(plan, run),
        right=_right(run.outcomes, run.samples.index, inputs.labels),
        cpu=cpu / n,
        warm_up=WarmUp(session, engines, first, pace.runs, pace.seconds),
        machine=machine.state,
        provider=provider,
        verdict=run.validity,
        note=pace.note,
    )


@dataclass(frozen=True)
class _Pace:
    """Settings for LoadGen; answers that warmed up and their seconds; how the settings differ from the plan."""

    load: Load
    runs: int
    seconds: float
    note: str


def _pace(system: System, plan: Plan, inputs: int) -> _Pace:
    """Warm up with `plan.warm_up` answers, by the same calls as the run, and set LoadGen by their duration."""
    started, runs = time.monotonic(), 0
    if isinstance(system, CascadeSystem) and plan.subject is Subject.CASCADE:
        system.wake_remote([i % inputs for i in range(_WAKES)])
        runs += _WAKES
    expected, done = _expected(system, plan, inputs)
    seconds = time.monotonic() - started
    most = _MOST // (STREAMS if plan.scenario is Scenario.MULTI_STREAM else 1)
    arrivals = plan.qps if plan.scenario is Scenario.SERVER else 1 / expected
    length = min(plan.seconds, most / arrivals)
    note = "" if length == plan.seconds else f"shortened to {length:.3g} s: {_MOST} answers are the most in one run"
    load = Load(plan.scenario, length, plan.queries, expected, plan.qps, plan.deadline, 2 * most)
    return _Pace(load, runs + done, seconds, note)


def _expected(system: System, plan: Plan, inputs: int) -> tuple[float, int]:
    """Return the shortest seconds of a query (of an input in offline), and the number of answers it was taken from."""
    if plan.scenario is Scenario.OFFLINE:
        return _offline(system, plan, inputs)
    order = [i % inputs for i in range(max(plan.warm_up, 1))]
    if plan.scenario is Scenario.MULTI_STREAM:
        groups = [[i % inputs for i in range(at, at + STREAMS)] for at in range(0, len(order), STREAMS)]
        return min(_seconds(lambda g=g: list(system.several(g))) for g in groups), STREAMS * len(groups)  # type: ignore[misc]
    return min(_seconds(lambda i=i: system.one(i)) for i in order), len(order)  # type: ignore[misc]


def _offline(system: System, plan: Plan, inputs: int) -> tuple[float, int]:
    """Try growing numbers of inputs until one takes long; LoadGen draws a tenth more inputs than fill the time."""
    n, done = max(plan.warm_up, 1), 0
    while True:
        seconds = _seconds(lambda n=n: sum(1 for _ in system.many([i % inputs for i in range(n)])))  # type: ignore[misc]
        done += n
        if seconds >= min(_TRIAL, plan.seconds) or n >= _LONGEST:
            return seconds / n / _HASTE, done
        n *= 2


def _first_answer(system: System, plan: Plan) -> None:
    if isinstance(system, CascadeSystem) and plan.subject.asks:
        system.wake_remote([0])
    else:
        system.one(0)


def _seconds(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return max(time.monotonic() - started, 1e-7)


def _duration(scenario: Scenario, run: LoadRun) -> float:
    """Return the seconds of LoadGen's own throughput, where it gives one; if not, the sum of the queries' times."""
    n, detail = len(run.outcomes), run.detail
    if scenario is Scenario.OFFLINE:
        return n / float(detail["result_samples_per_second"])
    if scenario is Scenario.SERVER:
        return n / float(detail["result_completed_samples_per_sec"])
    return float(run.samples.per_query().sum()) / 1e9


def _latency(scenario: Scenario, run: LoadRun) -> Distribution | None:
    if scenario is Scenario.OFFLINE:
        return None
    per_query = run.samples.per_query() if scenario is Scenario.MULTI_STREAM else run.samples.latency
    return distribution(per_query / 1e9)


def _forwards(plan: Plan, run: LoadRun) -> Forwards:
    local = np.array([one.reason is Reason.CONFIDENT for one in run.outcomes])
    apart = plan.scenario in (Scenario.SINGLE_STREAM, Scenario.SERVER)
    over = np.array([one.elapsed for one in run.outcomes]) - plan.allowed
    reasons = [one.reason.value for one in run.outcomes if one.reason is not None]
    return Forwards(
        reasons={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        share=proportion(float(1 - local.mean()), len(local)),
        kept=distribution(run.samples.latency[local] / 1e9) if apart else None,
        forwarded=distribution(run.samples.latency[~local] / 1e9) if apart else None,
        late=int((over > 0).sum()),
        overshoot=max(0.0, float(over.max())),
    )


def _right(outcomes: Sequence[Outcome], index: NDArray[np.int64], labels: NDArray[np.int64]) -> Estimate:
    asked, first = np.unique(index, return_index=True)
    given = np.array([outcomes[position].label for position in first.tolist()])
    return proportion(float((given == labels[asked]).mean()), len(asked))


def _main(what: str, out: str) -> int:
    """Measure the plan on standard input, and write the result to a file."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt would otherwise be one more exception inside LoadGen
    measure: dict[str, Callable[[Plan, Inputs], Any]] = {"cell": measure_cell, "agreement": compare_with_loop}
    try:
        plan = decode(Plan, json.load(sys.stdin))
        classes = read_classifier(open_session(plan.file), plan.file).labels
        found = measure[what](plan, read_inputs_as_given(plan.data, classes=classes))
    except EdgecascadeError as error:
        print(error, file=sys.stderr)
        return 2
    Path(out).write_text(json.dumps(asdict(found)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
