"""How far the harness itself changes a latency: LoadGen's single stream against a bare loop, in turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from edgecascade.benchmarks.latency.data import Inputs
from edgecascade.benchmarks.latency.loadgen import Load, run_loadgen
from edgecascade.benchmarks.latency.plan import Plan, Scenario
from edgecascade.benchmarks.latency.systems import System, drive, open_system
from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.benchmarks.report.result import LOWER
from edgecascade.calibration import quantile
from edgecascade.types.estimate import Estimate

__all__ = ["Agreement", "compare_with_loop"]

_GOAL = 1.05
_OVERHEAD = 10e-6  # seconds per query that LoadGen's callback into Python may add, where 5 % are less than that
_ROUNDS = 15
_SECONDS = 0.3  # of each side of a round


@dataclass(frozen=True)
class Agreement:
    """LoadGen and a loop answer the same inputs in the same order, with the same session.

    Attributes:
        latency: ratio of LoadGen's median latency to the loop's, over rounds.
        overhead: seconds per query by which LoadGen's median exceeds the loop's: the median over rounds.
        between: seconds that LoadGen takes between two queries, which no latency includes: the median over rounds.
    """

    latency: Ratio
    overhead: Estimate = field(metadata=LOWER)
    between: Estimate = field(metadata=LOWER)

    @property
    def met(self) -> bool:
        """Whether they agree within 5 % either way, or within 10 microseconds per query."""
        return 1 / _GOAL <= self.latency.value <= _GOAL or abs(self.overhead.value) <= _OVERHEAD

    def __str__(self) -> str:
        """Return one line."""
        both = (self.overhead, self.between)
        more, between = (f"{1e6 * e.value:+.1f} us ({1e6 * e.low:+.1f} to {1e6 * e.high:+.1f})" for e in both)
        return f"{self.latency}; {more} per query, and {between} between queries"


def compare_with_loop(plan: Plan, inputs: Inputs, *, rounds: int = _ROUNDS, seconds: float = _SECONDS) -> Agreement:
    """Run LoadGen's single stream over the model alone, and a loop over the same inputs, in turn.

    Args:
        plan: of the model alone in single stream.
        inputs: those at `plan.data`.
        rounds: pairs that count; one before them does not.
        seconds: of each side.
    """
    ours, theirs, between = [], [], []
    with closing(open_system(plan, inputs)) as system:
        order = [i % len(inputs.given) for i in range(max(20, plan.warm_up))]
        expected = min(_loop(system, order))
        load = Load(Scenario.SINGLE_STREAM, seconds, 64, expected / 2)
        for turn in range(rounds + 1):
            if turn % 2:
                theirs.append(np.median(_loop(system, order)))
            run = run_loadgen(drive(system, Scenario.SINGLE_STREAM), load, inputs=len(inputs.given))
            order = run.samples.index.tolist()
            if not turn % 2:
                theirs.append(np.median(_loop(system, order)))
            ours.append(np.median(run.samples.latency) / 1e9)
            between.append(_between(run.detail))
    loadgen, loop = np.array(ours[1:]), np.array(theirs[1:])
    name = "LoadGen's single stream against a bare loop, the model alone"
    return Agreement(
        ratio(name, loadgen, loop, goal=_GOAL), quantile(loadgen - loop, 0.5), quantile(np.array(between[1:]), 0.5)
    )


def _loop(system: System, order: Sequence[int]) -> list[float]:
    """Return the seconds of each answer."""
    found = []
    for index in order:
        started = time.perf_counter()
        system.one(index)
        found.append(time.perf_counter() - started)
    return found


def _between(detail: dict[str, object]) -> float:
    """Return LoadGen's own account, from its rates with and without its overhead."""
    slow, fast = (float(str(detail[f"result_qps_{how}_loadgen_overhead"])) for how in ("with", "without"))
    return 1 / slow - 1 / fast
