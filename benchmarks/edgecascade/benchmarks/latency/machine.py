"""What the machine tells of itself around one cell: clocks, heat, throttling, energy and this process's memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgecascade.benchmarks.device.board import Board, read_board, read_clocks
from edgecascade.benchmarks.device.energy import Energy
from edgecascade.benchmarks.device.power import find_sensors
from edgecascade.benchmarks.device.sampling import Measurement, Range, measured
from edgecascade.benchmarks.device.thermal import hottest, read_thermal, slowdowns

__all__ = ["Course", "MachineState", "Watched", "resident_mib", "watched"]

_MEMORY = "resident MiB"
_TEMPERATURE = "hottest zone, degrees Celsius"


@dataclass(frozen=True)
class Course:
    """What one gauge showed while the cell ran.

    Attributes:
        name: with the unit.
        least: smallest reading.
        mean: of the readings.
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
    """None or empty is what this machine does not tell.

    Attributes:
        board: before the run: model, release, power mode, clocks.
        celsius: the hottest zone before the run.
        during: temperature and clocks while it ran.
        slowdowns: what slowed the machine down; empty if nothing did, None if it has nothing that would tell.
        energies: of each sensor while it ran; empty if it has none: not measured.
        silent: sensors that exist and did not answer.
        resident_before: MiB of this process before the subject was made, its inputs read.
        resident_peak: MiB at most while it ran, sampled ten times a second.
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
        """MiB that the subject and the run added at most."""
        if self.resident_before is None or self.resident_peak is None:
            return None
        return max(0.0, self.resident_peak - self.resident_before)


class Watched:
    """Filled in when the block ends.

    Attributes:
        state: None until then.
    """

    state: MachineState | None = None


@contextmanager
def watched(resident_before: float | None) -> Iterator[Watched]:
    """Watch the machine while a block runs.

    Args:
        resident_before: MiB of this process before the subject was made.
    """
    found, sensors, board, before, celsius = Watched(), find_sensors(), read_board(), read_thermal(), hottest()
    with measured(sensors, gauges=_gauges(board)) as measurement:
        yield found
    found.state = MachineState(
        board=board,
        celsius=celsius,
        during=tuple(_course(one) for one in measurement.ranges if one.name != _MEMORY),
        slowdowns=slowdowns(before, read_thermal()),
        energies=measurement.energies,
        silent=sensors.silent,
        resident_before=resident_before,
        resident_peak=_peak(measurement),
    )


def _course(found: Range) -> Course:
    return Course(found.name, found.low, found.mean, found.high, found.samples)


def resident_mib() -> float | None:
    """Memory of this process that is in use now, in MiB; None where the system does not tell as Linux does."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _gauges(board: Board) -> dict[str, Callable[[], float | None]]:
    gauges: dict[str, Callable[[], float | None]] = {_MEMORY: resident_mib, _TEMPERATURE: hottest}
    for place, clock in enumerate(board.clocks):
        gauges[f"{clock.name}, MHz"] = lambda at=place: _megahertz(at)  # type: ignore[misc]
    return gauges


def _megahertz(place: int) -> float | None:
    clocks = read_clocks()
    return clocks[place].megahertz if place < len(clocks) else None


def _peak(measurement: Measurement) -> float | None:
    return next((one.high for one in measurement.ranges if one.name == _MEMORY), None)
