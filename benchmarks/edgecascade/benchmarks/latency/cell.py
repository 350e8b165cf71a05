"""What was found of one subject in one scenario over one network."""

from __future__ import annotations

from dataclasses import dataclass

from edgecascade.benchmarks.device.watching import MachineState
from edgecascade.benchmarks.latency.distribution import Distribution
from edgecascade.benchmarks.latency.loadgen_log import Verdict
from edgecascade.benchmarks.latency.plan import Plan
from edgecascade.calibration.estimate import Estimate

__all__ = ["Cell", "Forwards", "WarmUp"]


@dataclass(frozen=True)
class WarmUp:
    """What it took until the measurement could begin; none of it is in the latencies.

    Attributes:
        session: seconds to open the file and make the session, engines included.
        engines: compiled engines that were there already, as files; None if no folder was kept.
        first: seconds of the first answer; for a subject that asks, the first forward, connection included.
        runs: further answers that were not counted.
        seconds: that they took.
    """

    session: float
    engines: int | None
    first: float
    runs: int
    seconds: float


@dataclass(frozen=True)
class Forwards:
    """How a cascade answered; the inputs that it forwarded apart from those it kept.

    Attributes:
        reasons: answers by reason; their sum is every answer.
        share: forwarded among all. LoadGen draws inputs with replacement, so n answers are fewer inputs.
        kept: latencies of answers that nothing was sent for; None where latencies are no single answer's.
        forwarded: of the others.
        late: answers that came after the deadline.
        overshoot: seconds after the deadline, of the latest; 0 if none was late.
    """

    reasons: dict[str, int]
    share: Estimate
    kept: Distribution | None
    forwarded: Distribution | None
    late: int
    overshoot: float


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        name: which one; `bench compare` pairs them by it.
        plan: what was asked for.
        answers: samples that LoadGen issued, each answered once.
        queries: queries that they came in.
        seconds: from the first arrival to the last answer, by LoadGen's clock.
        throughput: answers per second over these.
        latency: LoadGen's own, from the scheduled arrival: per query of multi stream; None of offline, where all
            inputs are there from the start and only the throughput means anything.
        forwards: of a cascade; None of a model alone.
        right: share of distinct inputs that got their label at the first answer.
        cpu: CPU seconds of this process per answer, LoadGen's threads included; not those of a remote.
        warm_up: what came before.
        machine: what the machine told of itself.
        provider: the execution provider that really ran the local model.
        verdict: LoadGen's.
        note: anything else to know; empty if nothing.
    """

    name: str
    plan: Plan
    answers: int
    queries: int
    seconds: float
    throughput: float
    latency: Distribution | None
    forwards: Forwards | None
    right: Estimate
    cpu: float
    warm_up: WarmUp
    machine: MachineState
    provider: str
    verdict: Verdict
    note: str
