"""Energy, temperature, clocks and memory while a block of code runs: a thread reads the sensors in constant memory.

Power is integrated over time by the trapezoid rule. Counters are read by their difference, and also in between, so that
one that starts again from 0 more than once is still followed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from edgecascade.benchmarks.device.board import Board, read_board, read_clocks
from edgecascade.benchmarks.device.sensors import Sensor, find_sensors
from edgecascade.benchmarks.device.throttling import read_throttling, slowdowns

__all__ = ["Course", "Energy", "MachineState", "Measurement", "Meter", "hottest", "measured", "resident_mib", "watched"]

_STOP_SECONDS = 15.0
_ABSENT = -256.0  # degrees Celsius that a Tegra reports for a part without power
_MEMORY = "resident MiB"
_TEMPERATURE = "hottest zone, degrees Celsius"


@dataclass(frozen=True)
class Energy:
    """What one sensor measured around a block.

    Attributes:
        sensor: its name.
        method: power sampled and integrated, or the difference of a counter.
        joules: from the first reading to the last; None if these do not enclose the block, or if a counter fell.
        seconds: from the first reading to the last: the block, and the readings just before and after it.
        watts: mean power over `seconds`; None if there are fewer than two readings.
        samples: readings.
        missed: attempts without an answer; the trapezoid rule bridges them.
        longest_gap: longest time between two readings, in seconds.
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
        """Return the joules per inference of `count`, the machine's consumption at rest included."""
        return None if self.joules is None else self.joules / count


@dataclass(frozen=True)
class Course:
    """The course of one gauge, such as a temperature or a clock, during a block.

    Attributes:
        name: with the unit.
        least: smallest reading.
        mean: mean reading.
        most: largest reading.
        samples: readings.
    """

    name: str
    least: float
    mean: float
    most: float
    samples: int


@dataclass(frozen=True)
class MachineState:
    """The machine around one block; None or empty where it reports nothing.

    Attributes:
        board: before the block: model, release, power mode, clocks.
        celsius: the hottest sensor before the block.
        during: temperature and clocks during the block.
        slowdowns: what slowed the machine down; empty if nothing did, None if the machine does not report it.
        energies: of each sensor during the block; empty if energy is not measured.
        silent: sensors that exist and did not answer.
        resident_before: MiB of this process before the measured object was made, its inputs read.
        resident_peak: largest MiB during the block, sampled ten times a second.
    """

    board: Board
    celsius: float | None
    during: tuple[Course, ...]
    slowdowns: tuple[str, ...] | None
    energies: tuple[Energy, ...]
    silent: tuple[str, ...]
    resident_before: float | None
    resident_peak: float | None

    @property
    def growth(self) -> float | None:
        """Largest MiB that the measured object and the block added."""
        if self.resident_before is None or self.resident_peak is None:
            return None
        return max(0.0, self.resident_peak - self.resident_before)


@dataclass
class Measurement:
    """Filled in when the block of `measured` ends.

    Attributes:
        energies: one for each sensor; empty if the machine has none.
        courses: one for each gauge that answered.
    """

    energies: tuple[Energy, ...] = ()
    courses: tuple[Course, ...] = ()


class Watched:
    """Filled in when the block of `watched` ends."""

    state: MachineState | None = None


@dataclass
class Meter:
    """The energy that one sensor measured so far, in constant memory.

    Attributes:
        sensor: the source of the readings.
        joules: between the first reading and the last; None after a counter fell for an unknown reason.
        first: time of the first reading, in seconds.
        last: time of the last reading.
        samples: readings.
        missed: attempts without an answer.
        longest_gap: longest time between two readings.
    """

    sensor: Sensor
    joules: float | None = 0.0
    first: float = math.nan
    last: float = math.nan
    samples: int = 0
    missed: int = 0
    longest_gap: float = 0.0
    _value: float = 0.0

    def read(self) -> None:
        """Add one attempt now; of a slow sensor, in the middle of the call."""
        asked = time.monotonic()
        value = _answer(self.sensor.read)
        self.add((asked + time.monotonic()) / 2, value)

    def add(self, moment: float, value: float | None) -> None:
        """Add one attempt at `moment`, in seconds that never fall: watts, or a counter's joules, or None."""
        if value is None or not math.isfinite(value):
            self.missed += 1
            return
        if self.samples:
            gap = moment - self.last
            rise = gap * (self._value + value) / 2 if self.sensor.method == "samples" else self._rise(value)
            self.joules = None if self.joules is None or rise is None else self.joules + rise
            self.longest_gap = max(self.longest_gap, gap)
        else:
            self.first = moment
        self.last, self._value = moment, value
        self.samples += 1

    def _rise(self, value: float) -> float | None:
        """Return a counter's rise, also through its limit; None if that cannot explain a fall."""
        before, limit = self._value, self.sensor.limit
        if value >= before:
            return value - before
        return None if limit is None or before > limit else value + limit - before

    def energy(self, started: float, ended: float) -> Energy:
        """Return the energy around a block that ran between these times."""
        seconds = self.last - self.first if self.samples else 0.0
        encloses = self.samples > 1 and self.first <= started and self.last >= ended
        return Energy(
            sensor=self.sensor.name,
            method=self.sensor.method,
            joules=self.joules if encloses else None,
            seconds=seconds,
            watts=self.joules / seconds if self.joules is not None and seconds > 0 else None,
            samples=self.samples,
            missed=self.missed,
            longest_gap=self.longest_gap,
        )


@dataclass
class _Gauge:
    name: str
    ask: Callable[[], float | None]
    least: float = math.inf
    most: float = -math.inf
    total: float = 0.0
    samples: int = 0

    def read(self) -> None:
        value = _answer(self.ask)
        if value is not None and math.isfinite(value):
            self.least, self.most = min(self.least, value), max(self.most, value)
            self.total += value
            self.samples += 1

    def courses(self) -> tuple[Course, ...]:
        if not self.samples:
            return ()
        return (Course(self.name, self.least, self.total / self.samples, self.most, self.samples),)


@contextmanager
def measured(
    sensors: Sequence[Sensor],
    *,
    rate: float = 10.0,
    gauges: Mapping[str, Callable[[], float | None]] | None = None,
) -> Iterator[Measurement]:
    """Measure the energy of a block, and follow gauges.

    Every sensor is read just before the block, about `rate` times a second during it, and just after it. A slow sensor
    delays the others, which then have fewer samples. A sensor that raises has not answered.

    Args:
        sensors: those to read, from `find_sensors`; the slowest last.
        rate: readings per second; a counter must not run through its range between two.
        gauges: further values to follow, by name.
    """
    meters = [Meter(sensor) for sensor in sensors]
    followed = [_Gauge(name, read) for name, read in (gauges or {}).items()]

    readers = [*(meter.read for meter in meters), *(gauge.read for gauge in followed)]
    measurement, stop = Measurement(), threading.Event()
    thread = threading.Thread(target=_sample, args=(readers, 1 / rate, stop), name="power sampling", daemon=True)
    for read in readers[::-1]:  # the slow ones first here and last below, so that the others lie close to the block
        read()
    started = time.monotonic()
    thread.start()
    try:
        yield measurement
    finally:
        ended = time.monotonic()
        stop.set()
        thread.join(_STOP_SECONDS)
        # A sensor that hangs is abandoned: without a reading after the block, its energy is unknown.
        for read in [] if thread.is_alive() else readers:
            read()
        measurement.energies = tuple(meter.energy(started, ended) for meter in meters)
        measurement.courses = tuple(course for gauge in followed for course in gauge.courses())


@contextmanager
def watched(resident_before: float | None) -> Iterator[Watched]:
    """Record this machine's state while a block runs.

    Args:
        resident_before: MiB of this process before the measured object was made.
    """
    found, sensors, board, before, celsius = Watched(), find_sensors(), read_board(), read_throttling(), hottest()
    gauges: dict[str, Callable[[], float | None]] = {_MEMORY: resident_mib, _TEMPERATURE: hottest}
    for place, clock in enumerate(board.clocks):
        gauges[f"{clock.name}, MHz"] = lambda at=place: _megahertz(at)  # type: ignore[misc]
    with measured(sensors.found, gauges=gauges) as measurement:
        yield found
    courses = {course.name: course for course in measurement.courses}
    memory = courses.pop(_MEMORY, None)
    found.state = MachineState(
        board=board,
        celsius=celsius,
        during=tuple(courses.values()),
        slowdowns=slowdowns(before, read_throttling()),
        energies=measurement.energies,
        silent=sensors.silent,
        resident_before=resident_before,
        resident_peak=None if memory is None else memory.most,
    )


def hottest() -> float | None:
    """Return the highest temperature of all sensors, in degrees Celsius; None if there is none."""
    sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()  # absent on some systems
    found = [one.current for chip in sensors.values() for one in chip if one.current is not None]
    return max((float(celsius) for celsius in found if celsius > _ABSENT), default=None)


def resident_mib() -> float | None:
    """Return the resident memory of this process, in MiB."""
    try:
        return float(psutil.Process().memory_info().rss) / 2**20
    except psutil.Error:
        return None


def _sample(readers: Sequence[Callable[[], None]], interval: float, stop: threading.Event) -> None:
    due = time.monotonic() + interval
    while not stop.wait(max(0.0, due - time.monotonic())):
        for read in readers:
            if not stop.is_set():
                read()
        due = max(due + interval, time.monotonic())  # a round that took too long is not followed by a burst


def _megahertz(place: int) -> float | None:
    clocks = read_clocks()
    return clocks[place].megahertz if place < len(clocks) else None


def _answer(read: Callable[[], float | None]) -> float | None:
    try:
        return read()
    except Exception:  # must end neither the thread nor the block
        return None
