"""The result of one cell: one subject in one scenario over one network."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.device.watching import MachineState
from edgecascade.benchmarks.latency.loadgen import Validity
from edgecascade.benchmarks.latency.plan import Plan
from edgecascade.benchmarks.report.result import HIGHER, LOWER
from edgecascade.calibration import quantile
from edgecascade.types.estimate import Estimate

__all__ = ["QUANTILES", "Cell", "Distribution", "Forwards", "WarmUp", "distribution", "least"]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}
_TAIL = 0.025  # on either side of a 95 % interval


@dataclass(frozen=True)
class Distribution:
    """A summary of latencies in seconds; a percentile is None if there are too few for its interval.

    Attributes:
        n: number of latencies, possibly 0.
        mean: their mean; None if there are none.
        worst: the longest; None if there are none.
        p50: median.
        p90: 90th percentile.
        p99: 99th percentile.
        p99_9: 99.9th percentile.
    """

    n: int
    mean: float | None
    worst: float | None
    p50: Estimate | None = field(metadata=LOWER)
    p90: Estimate | None = field(metadata=LOWER)
    p99: Estimate | None = field(metadata=LOWER)
    p99_9: Estimate | None = field(metadata=LOWER)

    def at(self, name: str) -> Estimate | None:
        """Return the percentile with one of the names in `QUANTILES`."""
        found: Estimate | None = getattr(self, name)
        return found


@dataclass(frozen=True)
class WarmUp:
    """What came before the measurement; none of it counts as latency.

    Attributes:
        session: seconds to open the file and make the session, engines included.
        engines: files of compiled engines that were there already; None if none are stored.
        first: seconds of the first answer; of a subject that asks, the first forward, connection included.
        runs: further answers that were not counted.
        seconds: duration of these.
    """

    session: float
    engines: int | None
    first: float
    runs: int
    seconds: float


@dataclass(frozen=True)
class Forwards:
    """How a cascade answered; forwarded inputs apart from local ones.

    Attributes:
        reasons: answers by reason; they add up to all answers.
        share: forwarded share of the answers. LoadGen draws inputs with replacement: n answers are fewer inputs.
        kept: latencies of local answers; None in scenarios where answers have no latency of their own.
        forwarded: latencies of forwarded inputs, likewise.
        late: answers after the deadline.
        overshoot: seconds by which the latest of them missed it; 0 if none was late.
    """

    reasons: dict[str, int]
    share: Estimate
    kept: Distribution | None = field(metadata=LOWER)
    forwarded: Distribution | None = field(metadata=LOWER)
    late: int
    overshoot: float


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        name: name of the cell, by which `bench compare` pairs cells.
        plan: its plan.
        answers: samples that LoadGen issued, each answered once.
        queries: queries that they came in.
        seconds: from the first arrival to the last answer, by LoadGen's clock.
        throughput: answers per second over these.
        latency: LoadGen's latencies, from the scheduled arrival; of queries in multi stream; None in offline, where all
            inputs arrive at the start and only the throughput has a meaning.
        forwards: of a cascade; None of a model alone.
        right: share of distinct inputs whose first answer is their label.
        cpu: CPU seconds of this process per answer, LoadGen's threads included, a remote's excluded.
        warm_up: what came before.
        machine: the machine's state.
        provider: the execution provider that really ran the local model.
        verdict: LoadGen's decision on the run's validity.
        note: a remark; empty if there is none.
    """

    name: str
    plan: Plan
    answers: int
    queries: int
    seconds: float
    throughput: float
    latency: Distribution | None = field(metadata=LOWER)
    forwards: Forwards | None
    right: Estimate = field(metadata=HIGHER)
    cpu: float
    warm_up: WarmUp
    machine: MachineState
    provider: str
    verdict: Validity
    note: str


def least(q: float) -> int:
    """Return the fewest values whose extremes are a 95 % interval of the q-quantile, for every distribution.

    All n values lie below the quantile with probability q^n, and all above it with (1 - q)^n.

    >>> [least(q) for q in QUANTILES.values()]
    [6, 36, 368, 3688]
    """
    return math.ceil(math.log(_TAIL) / math.log(max(q, 1 - q)))


def distribution(seconds: NDArray[Any]) -> Distribution:
    """Return the percentiles of latencies [n] in seconds.

    The intervals are exact for independent latencies. Those of one run follow each other, and the intervals do not
    cover another run, a warmer board or another network.
    """
    n, values = len(seconds), np.asarray(seconds, np.float64)
    found = {name: quantile(values, q) if n >= least(q) else None for name, q in QUANTILES.items()}
    return Distribution(n, float(values.mean()) if n else None, float(values.max()) if n else None, **found)
