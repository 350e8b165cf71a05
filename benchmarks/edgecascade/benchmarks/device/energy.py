"""Energy from readings that come one by one, in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from edgecascade.types.errors import ArgumentError

__all__ = ["CounterTotal", "Energy", "Reading", "Trapezoid", "counter_difference"]


@dataclass(frozen=True)
class Energy:
    """What one sensor measured around a block.

    Attributes:
        sensor: its name.
        method: power sampled and integrated, or the difference of a counter.
        joules: from the first reading to the last; None if these do not enclose the block, or a counter fell.
        seconds: from the first reading to the last: the block, and the readings just before and after it.
        watts: mean power over `seconds`; None if there are fewer than two readings.
        samples: readings.
        missed: attempts that the sensor did not answer; the trapezoid bridges them.
        longest_gap: seconds between two readings, at most.
    """

    sensor: str
    method: Literal["samples", "counter"]
    joules: float | None
    seconds: float
    watts: float | None
    samples: int
    missed: int
    longest_gap: float

    def per(self, count: int) -> float | None:
        """Joules per inference, of `count` that the block ran; what the machine takes at rest is in it.

        Raises:
            ArgumentError: if `count` is below 1.
        """
        if count < 1:
            raise ArgumentError(f"count: expected at least 1 inference, got {count}")
        return None if self.joules is None else self.joules / count

    def __str__(self) -> str:
        """One line."""
        how = "a counter's difference" if self.method == "counter" else f"{self.samples} samples"
        if self.joules is None or self.watts is None:
            return f"{self.sensor}: not measured ({self.samples} readings, {self.missed} missed)"
        return f"{self.sensor}: {self.joules:.4g} J in {self.seconds:.3f} s, {self.watts:.4g} W mean; {how}"


@dataclass
class Reading:
    """When a sensor answered, in constant memory.

    Attributes:
        first: moment of the first answer, in seconds.
        last: moment of the last one.
        samples: answers.
        missed: attempts without an answer.
        longest_gap: between two answers.
    """

    first: float = math.nan
    last: float = math.nan
    samples: int = 0
    missed: int = 0
    longest_gap: float = 0.0

    def note(self, moment: float) -> None:
        """One answer."""
        if self.samples:
            self.longest_gap = max(self.longest_gap, moment - self.last)
        else:
            self.first = moment
        self.last = moment
        self.samples += 1


@dataclass
class Trapezoid:
    """A running integral of power over time.

    Attributes:
        total: joules so far.
        reading: when the sensor answered.
    """

    total: float | None = 0.0
    reading: Reading = field(default_factory=Reading)
    _watts: float = 0.0

    def add(self, moment: float, value: float | None) -> None:
        """One attempt at `moment`, in seconds that do not fall: watts, or None if there was no answer."""
        if value is None or not math.isfinite(value):
            self.reading.missed += 1
            return
        if self.reading.samples and self.total is not None:
            self.total += (moment - self.reading.last) * (self._watts + value) / 2
        self._watts = value
        self.reading.note(moment)


@dataclass
class CounterTotal:
    """What a counter rose by, however often it started anew, as long as it is read in between.

    Attributes:
        limit: where it starts anew from 0, if known.
        total: joules so far; None once it fell for no reason known.
        reading: when the counter answered.
    """

    limit: float | None
    total: float | None = 0.0
    reading: Reading = field(default_factory=Reading)
    _joules: float = 0.0

    def add(self, moment: float, value: float | None) -> None:
        """One attempt at `moment`: the counter in joules, or None if there was no answer."""
        if value is None or not math.isfinite(value):
            self.reading.missed += 1
            return
        if self.reading.samples and self.total is not None:
            rise = counter_difference(self._joules, value, self.limit)
            self.total = None if rise is None else self.total + rise
        self._joules = value
        self.reading.note(moment)


def counter_difference(before: float, after: float, limit: float | None) -> float | None:
    """What a counter rose by, if it started anew from 0 at `limit` at most once in between.

    Returns:
        None if it fell, and `limit` is unknown or below one of the values.
    """
    if after >= before:
        return after - before
    return None if limit is None or before > limit else after + limit - before
