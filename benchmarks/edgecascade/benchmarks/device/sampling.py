"""Energy and readings of a block of code: a thread asks the sensors while it runs.

Power is integrated over time by the trapezoid rule. Counters are read by their difference, which needs no samples in
between: they are read all the same, so that one that starts anew from 0 more than once is still followed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from edgecascade.benchmarks.device.energy import CounterTotal, Energy, Reading, Trapezoid
from edgecascade.benchmarks.device.power import Sensors
from edgecascade.types.errors import ArgumentError

__all__ = ["Measurement", "Range", "measured"]

_HIGHEST_RATE = 1000.0
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Range:
    """What one gauge showed during a block: a temperature, a clock.

    Attributes:
        name: as given.
        low: smallest reading.
        mean: of the readings.
        high: largest reading.
        samples: readings.
    """

    name: str
    low: float
    mean: float
    high: float
    samples: int


@dataclass
class Measurement:
    """Filled in when the block ends.

    Attributes:
        seconds: that the block took; None until it ends.
        energies: one for each sensor; empty if the machine has none: not measured.
        ranges: one for each gauge that answered.
    """

    seconds: float | None = None
    energies: tuple[Energy, ...] = ()
    ranges: tuple[Range, ...] = ()


class _Sum(Protocol):
    """Adds readings up, in joules."""

    total: float | None
    reading: Reading

    def add(self, moment: float, value: float | None) -> None: ...


@contextmanager
def measured(
    sensors: Sensors,
    *,
    rate: float = 10.0,
    gauges: Mapping[str, Callable[[], float | None]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Measurement]:
    """Measure what a block takes.

    Every sensor is read just before the block, about `rate` times a second while it runs, and just after it. Memory is
    constant. A slow sensor holds up the others, which then have fewer samples.

    Args:
        sensors: of this machine, from `find_sensors`.
        rate: readings per second, above 0 and at most 1000; slower than a counter's round, and energy is lost.
        gauges: further figures to follow, by name.
        clock: seconds, monotonic.

    Raises:
        ArgumentError: if `rate` is out of range.
    """
    if not 0 < rate <= _HIGHEST_RATE:
        raise ArgumentError(f"rate: expected readings per second above 0 and at most {_HIGHEST_RATE:g}, got {rate:g}")
    tracks = [
        _Track(each.name, "counter", each.joules, CounterTotal(each.range_joules), clock) for each in sensors.energy
    ]
    tracks += [_Track(each.name, "samples", each.watts, Trapezoid(), clock) for each in sensors.power]
    followed = [_Gauge(name, ask) for name, ask in (gauges or {}).items()]
    # What is slow, a GPU, is last: asked first before the block and last after it, so that the others lie close to it.
    readers = [*(track.read for track in tracks), *(gauge.read for gauge in followed)]
    measurement, stop = Measurement(), threading.Event()
    thread = threading.Thread(target=_sample, args=(readers, 1 / rate, stop), name="power sampling", daemon=True)
    _read_all(readers[::-1])
    started = clock()
    thread.start()
    try:
        yield measurement
    finally:
        ended = clock()
        stop.set()
        thread.join(_STOP_SECONDS)
        # A sensor that hangs is left alone; no reading then follows the block, and its energy is not known.
        _read_all([] if thread.is_alive() else readers)
        measurement.seconds = ended - started
        measurement.energies = tuple(track.energy(started, ended) for track in tracks)
        measurement.ranges = tuple(found for gauge in followed if (found := gauge.range()) is not None)


def _read_all(readers: Sequence[Callable[[], None]]) -> None:
    for read in readers:
        read()


def _sample(readers: Sequence[Callable[[], None]], interval: float, stop: threading.Event) -> None:
    due = time.monotonic() + interval
    while not stop.wait(max(0.0, due - time.monotonic())):
        for read in readers:
            if not stop.is_set():
                read()
        # A round that took too long is not made up for by a burst.
        due = max(due + interval, time.monotonic())


@dataclass
class _Track:
    name: str
    method: Literal["samples", "counter"]
    ask: Callable[[], float | None]
    into: _Sum
    clock: Callable[[], float]

    def read(self) -> None:
        """The moment of a slow sensor's answer is taken to be the middle of the asking."""
        asked = self.clock()
        value = _answer(self.ask)
        self.into.add((asked + self.clock()) / 2, value)

    def energy(self, started: float, ended: float) -> Energy:
        reading, total = self.into.reading, self.into.total
        seconds = reading.last - reading.first if reading.samples else 0.0
        encloses = reading.samples > 1 and reading.first <= started and reading.last >= ended
        return Energy(
            sensor=self.name,
            method=self.method,
            joules=total if encloses else None,
            seconds=seconds,
            watts=total / seconds if total is not None and seconds > 0 else None,
            samples=reading.samples,
            missed=reading.missed,
            longest_gap=reading.longest_gap,
        )


@dataclass
class _Gauge:
    name: str
    ask: Callable[[], float | None]
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    samples: int = 0

    def read(self) -> None:
        value = _answer(self.ask)
        if value is None or not math.isfinite(value):
            return
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.total += value
        self.samples += 1

    def range(self) -> Range | None:
        if not self.samples:
            return None
        return Range(self.name, self.low, self.total / self.samples, self.high, self.samples)


def _answer(ask: Callable[[], float | None]) -> float | None:
    """A sensor that fails must not end the thread, nor the block: it has not answered."""
    try:
        return ask()
    except Exception:
        return None
