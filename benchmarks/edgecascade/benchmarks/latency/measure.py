"""Measure one cell in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.device.watching import resident_mib, watched
from edgecascade.benchmarks.latency.bare import Bare
from edgecascade.benchmarks.latency.cascading import Cascading
from edgecascade.benchmarks.latency.cell import Cell, Forwards, WarmUp
from edgecascade.benchmarks.latency.data import Inputs
from edgecascade.benchmarks.latency.distribution import Distribution, distribution
from edgecascade.benchmarks.latency.loadgen import Loaded, run_loadgen
from edgecascade.benchmarks.latency.pace import Pace, pace
from edgecascade.benchmarks.latency.plan import Plan
from edgecascade.benchmarks.latency.recorder import Outcome
from edgecascade.benchmarks.latency.scenario import Scenario
from edgecascade.benchmarks.latency.subject import Kind, drive
from edgecascade.calibration import proportion
from edgecascade.types.answer import Reason
from edgecascade.types.estimate import Estimate

__all__ = ["PATIENCE", "measure_cell", "open_subject"]

PATIENCE = 30.0  # seconds that "remote only" waits for an answer: longer than any outage of a profile
_WAKES = 2  # forwards before the run: below the failures at which the circuit breaker opens


def measure_cell(plan: Plan, inputs: Inputs) -> Cell:
    """Make the subject, warm it up, and let LoadGen ask it.

    Args:
        plan: the cell.
        inputs: at `plan.data`.
    """
    resident = resident_mib()
    engines = _engines(plan)
    started = time.monotonic()
    with closing(open_subject(plan, inputs)) as subject:
        session = time.monotonic() - started
        started = time.monotonic()
        if isinstance(subject, Cascading) and plan.subject.asks:
            subject.wake_remote(range(min(1, len(inputs.given))))
        else:
            subject.one(0)
        first = time.monotonic() - started
        found = pace(subject, plan, len(inputs.given), wakes=_WAKES)
        cpu = time.process_time()
        with watched(resident) as machine:
            run = run_loadgen(drive(subject, plan.scenario), found.load, inputs=len(inputs.given))
        cpu = time.process_time() - cpu
        provider = subject.provider
    assert machine.state is not None
    warm_up = WarmUp(session, engines, first, found.runs, found.seconds)
    return _cell(plan, inputs, run, found, cpu, warm_up=warm_up, machine=machine.state, provider=provider)


def open_subject(plan: Plan, inputs: Inputs) -> Bare | Cascading:
    """The subject; what it opens, `close` closes."""
    options: dict[str, Any] = {"threads": plan.threads, "engines": plan.engines, "fallback": True}
    wanted = tuple(dict.fromkeys((*plan.providers, "cpu")))  # the CPU may stand in, and that is said
    options["providers"] = plan.providers[0] if plan.providers == ("auto",) else wanted if len(wanted) > 1 else "cpu"
    if plan.subject is Kind.ALONE:
        return Bare(plan.file, inputs.given, **options)
    if plan.subject is Kind.LOCAL:
        return Cascading(plan.file, inputs.given, threshold=-2.0, deadline=plan.deadline, **options)
    options["remote"] = plan.remote
    if plan.subject is Kind.REMOTE:
        options |= {"threshold": 2.0, "merge": "replace", "deadline": max(PATIENCE, plan.deadline)}
        return Cascading(plan.file, inputs.given, **options)
    return Cascading(plan.file, inputs.given, deadline=plan.deadline, **options)


def _engines(plan: Plan) -> int | None:
    if plan.engines is None:
        return None
    return sum(1 for file in Path(plan.engines).rglob("*") if file.is_file())


def _cell(plan: Plan, inputs: Inputs, run: Loaded, found: Pace, cpu: float, **rest: Any) -> Cell:
    samples, n = run.samples, len(run.outcomes)
    seconds = _duration(plan.scenario, run)
    return Cell(
        name=str(plan),
        plan=plan,
        answers=n,
        queries=int(samples.query.max()) + 1,
        seconds=seconds,
        throughput=n / seconds,
        latency=_latency(plan.scenario, run),
        forwards=None if plan.subject is Kind.ALONE else _forwards(plan, run),
        right=_right(run.outcomes, samples.index, inputs.labels),
        cpu=cpu / n,
        verdict=run.verdict,
        note=found.note,
        **rest,
    )


def _duration(scenario: Scenario, run: Loaded) -> float:
    """Seconds that LoadGen's own throughput is over, where it gives one; else the sum of the queries' times."""
    n, detail = len(run.outcomes), run.detail
    if scenario is Scenario.OFFLINE:
        return n / float(detail["result_samples_per_second"])
    if scenario is Scenario.SERVER:
        return n / float(detail["result_completed_samples_per_sec"])
    return float(run.samples.per_query().sum()) / 1e9


def _latency(scenario: Scenario, run: Loaded) -> Distribution | None:
    if scenario is Scenario.OFFLINE:
        return None
    per_query = run.samples.per_query() if scenario is Scenario.MULTI_STREAM else run.samples.latency
    return distribution(per_query / 1e9)


def _forwards(plan: Plan, run: Loaded) -> Forwards:
    kept = np.array([one.reason is Reason.CONFIDENT for one in run.outcomes])
    apart = plan.scenario in (Scenario.SINGLE_STREAM, Scenario.SERVER)
    deadline = max(PATIENCE, plan.deadline) if plan.subject is Kind.REMOTE else plan.deadline
    over = np.array([one.elapsed for one in run.outcomes]) - deadline
    reasons = [one.reason.value for one in run.outcomes if one.reason is not None]
    return Forwards(
        reasons={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        share=proportion(float(1 - kept.mean()), len(kept)),
        kept=distribution(run.samples.latency[kept] / 1e9) if apart else None,
        forwarded=distribution(run.samples.latency[~kept] / 1e9) if apart else None,
        late=int((over > 0).sum()),
        overshoot=max(0.0, float(over.max())),
    )


def _right(outcomes: Sequence[Outcome], index: NDArray[np.int64], labels: NDArray[np.int64]) -> Estimate:
    asked, first = np.unique(index, return_index=True)
    given = np.array([outcomes[position].label for position in first.tolist()])
    return proportion(float((given == labels[asked]).mean()), len(asked))
