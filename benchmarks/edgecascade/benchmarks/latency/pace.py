"""Warm a subject up, and learn from that how many queries LoadGen has to draw."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgecascade.benchmarks.latency.cascading import Cascading
from edgecascade.benchmarks.latency.plan import Plan
from edgecascade.benchmarks.latency.recorder import Outcome
from edgecascade.benchmarks.latency.scenario import STREAMS, Load, Scenario
from edgecascade.benchmarks.latency.subject import Kind, Subject

__all__ = ["Pace", "pace"]

_MOST = 200_000  # samples in a run: LoadGen's trace of them is some 130 MB in the temporary folder while it runs
_TRIAL = 0.3  # seconds that offline is tried for
_HASTE = 1.3  # by which a long run may be faster than the trial, whose last forwards are waited for
_LONGEST = 4096  # inputs in that trial


@dataclass(frozen=True)
class Pace:
    """How a run is to be.

    Attributes:
        load: for LoadGen.
        runs: answers that warmed the subject up.
        seconds: that they took.
        note: what of the plan could not be kept; empty if nothing.
    """

    load: Load
    runs: int
    seconds: float
    note: str


def pace(subject: Subject, plan: Plan, inputs: int, *, wakes: int) -> Pace:
    """Warm up with `plan.warm_up` answers, by the same calls as the run.

    Args:
        subject: which has answered once.
        plan: the cell.
        inputs: how many there are.
        wakes: further forwards of a subject that asks, before the rest.
    """
    started, runs = time.monotonic(), 0
    if isinstance(subject, Cascading) and plan.subject is Kind.CASCADE:
        subject.wake_remote([i % inputs for i in range(wakes)])
        runs += wakes
    expected, done = _expected(subject, plan, inputs)
    seconds = time.monotonic() - started
    per_query = STREAMS if plan.scenario is Scenario.MULTI_STREAM else 1
    most = _MOST // per_query
    arrivals = plan.qps if plan.scenario is Scenario.SERVER else 1 / expected
    length = min(plan.seconds, most / arrivals)
    note = "" if length == plan.seconds else f"shortened to {length:.3g} s: {_MOST} answers are the most in one run"
    load = Load(plan.scenario, length, plan.queries, expected, plan.qps, plan.deadline, 2 * most)
    return Pace(load, runs + done, seconds, note)


def _expected(subject: Subject, plan: Plan, inputs: int) -> tuple[float, int]:
    """Seconds of a query at the least, or of an input of offline; and how many answers told."""
    order = [i % inputs for i in range(max(plan.warm_up, 1))]
    if plan.scenario is Scenario.OFFLINE:
        return _offline(subject, plan, inputs)
    if plan.scenario is Scenario.MULTI_STREAM:
        groups = [[i % inputs for i in range(at, at + STREAMS)] for at in range(0, len(order), STREAMS)]
        return min(_timed(lambda g=g: list(subject.several(g))) for g in groups), STREAMS * len(groups)  # type: ignore[misc]
    return min(_timed(lambda i=i: subject.one(i)) for i in order), len(order)  # type: ignore[misc]


def _offline(subject: Subject, plan: Plan, inputs: int) -> tuple[float, int]:
    """By trials that grow until one is long enough; LoadGen draws a tenth more inputs than fill the time."""
    n, done = max(plan.warm_up, 1), 0
    while True:
        seconds = _timed(lambda n=n: sum(1 for _ in _cycled(subject, inputs, n)))  # type: ignore[misc]
        done += n
        if seconds >= min(_TRIAL, plan.seconds) or n >= _LONGEST:
            return seconds / n / _HASTE, done
        n *= 2


def _cycled(subject: Subject, inputs: int, n: int) -> Iterator[Outcome]:
    return subject.many([i % inputs for i in range(n)])


def _timed(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return max(time.monotonic() - started, 1e-7)
