"""Does the harness tell the truth: LoadGen's single stream against a bare loop with a clock, in turn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecascade.benchmarks.latency.data import Inputs, read_inputs_as_given
from edgecascade.benchmarks.latency.loadgen import run_loadgen
from edgecascade.benchmarks.latency.measure import open_subject
from edgecascade.benchmarks.latency.plan import DIRECT, Plan
from edgecascade.benchmarks.latency.scenario import Load, Scenario
from edgecascade.benchmarks.latency.subject import Kind, Subject, drive
from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.calibration import quantile
from edgecascade.types.estimate import Estimate

__all__ = ["Agreement", "compare_with_loop", "measure_agreement"]

_GOAL = 1.05
_OVERHEAD = 10e-6  # seconds that LoadGen's callback into Python may add to a query, where 5 % are less than that
_ROUNDS = 15
_SECONDS = 0.3  # of each side of a round


@dataclass(frozen=True)
class Agreement:
    """Both sides answer the same inputs in the same order, with the same session.

    Attributes:
        latency: median latency by LoadGen to that of the loop, over rounds.
        overhead: seconds that LoadGen's median is above the loop's, per query: the median over rounds.
        between: seconds that LoadGen takes between two queries, which no latency shows: the median over rounds.
    """

    latency: Ratio
    overhead: Estimate
    between: Estimate

    @property
    def met(self) -> bool:
        """Within 5 % either way, or within 10 microseconds a query."""
        return 1 / _GOAL <= self.latency.value <= _GOAL or abs(self.overhead.value) <= _OVERHEAD

    def __str__(self) -> str:
        """One line."""
        more, between = (f"{1e6 * e.value:+.1f} us ({1e6 * e.low:+.1f} to {1e6 * e.high:+.1f})" for e in self._both)
        return f"{self.latency}; {more} per query, and {between} between queries"

    @property
    def _both(self) -> tuple[Estimate, Estimate]:
        return self.overhead, self.between


def compare_with_loop(plan: Plan, inputs: Inputs, *, rounds: int = _ROUNDS, seconds: float = _SECONDS) -> Agreement:
    """LoadGen's single stream over the model alone, and a loop over the same inputs, in turn.

    Args:
        plan: of the model alone in single stream.
        inputs: at `plan.data`.
        rounds: pairs that count; one before them does not.
        seconds: of each side.
    """
    ours, theirs, between = [], [], []
    with closing(open_subject(plan, inputs)) as subject:
        order = [i % len(inputs.given) for i in range(max(20, plan.warm_up))]
        expected = min(_loop(subject, order))
        load = Load(Scenario.SINGLE_STREAM, seconds, 64, expected / 2)
        for turn in range(rounds + 1):
            if turn % 2:
                theirs.append(np.median(_loop(subject, order)))
            run = run_loadgen(drive(subject, Scenario.SINGLE_STREAM), load, inputs=len(inputs.given))
            order = run.samples.index.tolist()
            if not turn % 2:
                theirs.append(np.median(_loop(subject, order)))
            ours.append(np.median(run.samples.latency) / 1e9)
            between.append(_between(run.detail))
    loadgen, loop = np.array(ours[1:]), np.array(theirs[1:])
    name = "LoadGen's single stream against a bare loop, the model alone"
    return Agreement(
        ratio(name, loadgen, loop, goal=_GOAL), quantile(loadgen - loop, 0.5), quantile(np.array(between[1:]), 0.5)
    )


def measure_agreement(cache: Path) -> Ratio:
    """On the flagship's local model and test images, prepared in the cache if need be."""
    from edgecascade.benchmarks.flagship import Protocol, prepare_flagship

    pair = prepare_flagship(Protocol(), cache)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "test.npz")
        np.savez(data, x=np.asarray(pair.test.inputs)[:1024], y=pair.test.labels[:1024])
        plan = Plan(
            subject=Kind.ALONE,
            scenario=Scenario.SINGLE_STREAM,
            network=DIRECT,
            file=str(pair.cascade),
            data=str(data),
            remote=None,
            deadline=1.0,
            seconds=_SECONDS,
            queries=64,
            qps=0.0,
            warm_up=20,
            threads=1,
            providers=(),
            engines=None,
        )
        return compare_with_loop(plan, read_inputs_as_given(data)).latency


def _loop(subject: Subject, order: Sequence[int]) -> list[float]:
    """Seconds of each answer."""
    found = []
    for index in order:
        started = time.perf_counter()
        subject.one(index)
        found.append(time.perf_counter() - started)
    return found


def _between(detail: dict[str, object]) -> float:
    """By LoadGen's own account: its rates with and without its overhead."""
    rates = (float(str(detail[f"result_qps_{how}_loadgen_overhead"])) for how in ("with", "without"))
    slow, fast = rates
    return 1 / slow - 1 / fast
