"""Count answers and how long they took, in numbers that add up: local + forwarded = inputs.

`CascadeHealth` says what the counts mean for the certificate in the file.
"""

from __future__ import annotations

from _thread import allocate_lock  # threading.Lock itself; importing threading takes a millisecond
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from edgecascade.types.answer import Answer, Reason, Source

if TYPE_CHECKING:
    from edgecascade.types.document import Certificate

__all__ = ["BOUNDS", "CascadeHealth", "Counts", "Durations", "Histogram", "Tally"]

# Inclusive upper bounds of the histogram's buckets, in seconds.
BOUNDS = (
    *(1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4),
    *(1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class Durations(NamedTuple):
    """A snapshot of a histogram.

    Attributes:
        buckets: number of durations in each bucket of `BOUNDS`, and above the last bound.
        sum: sum of all durations, in seconds.
    """

    buckets: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:  # type: ignore[override]  # not how often a tuple has an item
        """Number of durations."""
        return sum(self.buckets)

    @property
    def cumulative(self) -> list[int]:
        """Number of durations up to each bound, and finally of all."""
        return list(accumulate(self.buckets))


class Histogram:
    """Counts durations in the buckets of `BOUNDS`. Safe to share between threads."""

    __slots__ = ("_buckets", "_lock", "_sum")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration in seconds; a negative one or NaN counts as 0."""
        if not seconds >= 0.0:
            seconds = 0.0
        bucket = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._buckets[bucket] += 1
            self._sum += seconds

    def observe_many(self, seconds: float, n: int) -> None:
        """Count n durations of the same number of seconds, 0 or more."""
        with self._lock:
            self._buckets[bisect_left(BOUNDS, seconds)] += n
            self._sum += seconds * n

    def snapshot(self) -> Durations:
        """Return the durations counted so far."""
        with self._lock:
            return Durations(tuple(self._buckets), self._sum)


class Counts(NamedTuple):
    """A snapshot of the answers given so far. Every input is local or forwarded, and has one reason.

    Attributes:
        answers: number of answers by source and reason; pairs that never occurred are absent.
        local_seconds: how long the inputs that stay on the device took.
        forwarded_seconds: how long the forwarded inputs took.
    """

    answers: Mapping[tuple[Source, Reason], int]
    local_seconds: Durations
    forwarded_seconds: Durations

    @property
    def reasons(self) -> dict[Reason, int]:
        """Number of answers by reason."""
        return {one: sum(n for (_, reason), n in self.answers.items() if reason is one) for one in Reason}

    @property
    def sources(self) -> dict[Source, int]:
        """Number of answers by source."""
        return {one: sum(n for (source, _), n in self.answers.items() if source is one) for one in Source}

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return sum(self.answers.values())

    @property
    def local(self) -> int:
        """Number of inputs that the policy answers on the device, without the remote."""
        return self.local_seconds.count

    @property
    def forwarded(self) -> int:
        """Number of inputs that the policy forwarded, including those that got a local answer."""
        return self.inputs - self.local

    @property
    def missed(self) -> dict[Reason, int]:
        """Number of inputs that were to be forwarded and got the local answer, by reason; absent where there are none.

        Inputs of the reason `NOT_A_NUMBER` got the remote's answer.
        """
        reached = (Reason.CONFIDENT, Reason.OFFLOADED, Reason.NOT_A_NUMBER)
        return {reason: n for reason, n in self.reasons.items() if n and reason not in reached}


class CascadeHealth(NamedTuple):
    """Whether the certificate in the file applies to the answers so far. `print` says it in words.

    A certificate is about the policy in the file and assumes that the remote answers every forwarded input. An input
    that was to be forwarded and got the local answer adds at most 1 / `inputs` to the loss of accuracy.

    Attributes:
        certificate: the guarantee in the file, or None.
        inputs: number of answers so far.
        missed: number of inputs that were to be forwarded and got the local answer, by reason.
        overridden: whether a policy other than the file's is, or was, in force. The certificate is void then.
        alarms: active alarms of the watch, and `remote model` once a generative model has replied that is not the one
            in the file. A certificate also assumes inputs and a remote like those of its test.
    """

    certificate: Certificate | None
    inputs: int
    missed: Mapping[Reason, int]
    overridden: bool
    alarms: frozenset[str] = frozenset()

    @property
    def excess(self) -> float:
        """The most that missed forwards add to the loss of accuracy of these answers, in [0, 1]."""
        return sum(self.missed.values()) / self.inputs if self.inputs else 0.0

    @property
    def bound(self) -> float | None:
        """The certified loss plus `excess`, at most 1; 1 if the certificate is void, None if there is none."""
        if self.certificate is None:
            return None
        return 1.0 if self.overridden else min(1.0, self.certificate.loss + self.excess)

    def __str__(self) -> str:
        if self.certificate is None:
            return "no certificate"
        if self.overridden:
            return "certificate void: a policy other than the file's is or was in force"
        answered = f"all of {self.inputs} inputs were answered as planned" if self.inputs else "there was no input yet"
        said = f"certificate applies: {self.certificate}; {answered}"
        if self.missed:
            reasons = ", ".join(f"{reason.value}: {n}" for reason, n in self.missed.items())
            said = (
                f"certified loss of {self.certificate.loss:.1%} exceeded by at most {self.excess:.2%}: "
                f"of {self.inputs} inputs, {sum(self.missed.values())} were to be forwarded and got the local "
                f"answer ({reasons})"
            )
        return f"{said}; in doubt while alarms are active: {', '.join(sorted(self.alarms))}" if self.alarms else said


class Tally:
    """Counts answers. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._local, self._forwarded = Histogram(), Histogram()
        self._answers: Counter[tuple[Source, Reason]] = Counter()
        self.add_local = self._local.observe  # count an input that stays on the device

    def add(self, answer: Answer) -> None:
        """Count the answer to a forwarded input."""
        with self._lock:
            self._answers[answer.source, answer.reason] += 1
            self._forwarded.observe(answer.elapsed)

    def add_many(self, counts: Mapping[tuple[Source, Reason], int], elapsed: float) -> None:
        """Count the answers to many inputs, by source and reason, after so many seconds."""
        local = counts.get((Source.LOCAL, Reason.CONFIDENT), 0)
        with self._lock:
            self._answers.update({pair: n for pair, n in counts.items() if pair[1] is not Reason.CONFIDENT})
            self._local.observe_many(elapsed, local)
            self._forwarded.observe_many(elapsed, sum(counts.values()) - local)

    def snapshot(self) -> Counts:
        """Return the counts so far."""
        with self._lock:
            local, answers = self._local.snapshot(), dict(self._answers)
            if local.count:
                answers[Source.LOCAL, Reason.CONFIDENT] = local.count
            return Counts(answers, local, self._forwarded.snapshot())
