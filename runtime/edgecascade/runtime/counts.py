"""Count answers and how long they took, in numbers that add up: local + forwarded = inputs."""

from __future__ import annotations

from _thread import allocate_lock  # threading.Lock itself; importing threading takes a millisecond
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

from edgecascade.types.answer import Answer, Reason, Source

__all__ = ["BOUNDS", "Counts", "Durations", "Histogram", "Tally"]

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

    def snapshot(self) -> Counts:
        """Return the counts so far."""
        with self._lock:
            local, answers = self._local.snapshot(), dict(self._answers)
            if local.count:
                answers[Source.LOCAL, Reason.CONFIDENT] = local.count
            return Counts(answers, local, self._forwarded.snapshot())
