"""Sensors of power and counters of energy: INA3221 on Jetson, RAPL of Intel and AMD, NVIDIA GPUs (see `gpu.py`).

Seen on a real machine: one that has none of them. INA3221 as hwmon (Jetson Linux 34 and later) and as industrial I/O
(32 and earlier) and RAPL are known from documentation and from published recordings only, since no such
machine was at hand. A Raspberry Pi has no sensor that the kernel shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgecascade.benchmarks.device.gpu import GpuPower, query_gpus
from edgecascade.benchmarks.device.system import CommandRunner, command_output, read_number, read_text

__all__ = [
    "EnergyCounter",
    "Ina3221Rail",
    "PowerSensor",
    "RaplDomain",
    "Sensors",
    "find_sensors",
]


class PowerSensor(Protocol):
    """Something that tells the power of a part of the machine."""

    @property
    def name(self) -> str:
        """The part, the kind of sensor and where it is."""

    def watts(self) -> float | None:
        """Now; None if it does not answer."""


class EnergyCounter(Protocol):
    """Something that counts the energy of a part of the machine."""

    @property
    def name(self) -> str:
        """The part, the kind of counter and where it is."""

    @property
    def range_joules(self) -> float | None:
        """Where it starts anew from 0."""

    def joules(self) -> float | None:
        """Since some moment; None if it does not answer."""


@dataclass(frozen=True)
class Ina3221Rail:
    """One rail of an INA3221: bus voltage times current, or the power itself.

    VDD_IN and POM_5V_IN are whole modules; the other rails are parts of them, and are not to be added to them. An AGX
    has no rail for the whole.

    Attributes:
        label: the rail, "VDD_IN".
        place: chip and channel.
        factors: one file in mW, or two in mV and mA.
    """

    label: str
    place: str
    factors: tuple[Path, ...]

    @property
    def name(self) -> str:
        """As "VDD_IN (INA3221, hwmon1 channel 1)"."""
        return f"{self.label} (INA3221, {self.place})"

    def watts(self) -> float | None:
        """Now; None while the channel is switched off."""
        values = [read_number(path, 1e-3) for path in self.factors]
        return math.prod(value for value in values if value is not None) if None not in values else None


@dataclass(frozen=True)
class RaplDomain:
    """One domain of RAPL. "core", "uncore" and "dram" of a package are its parts; "psys" holds the packages.

    Attributes:
        label: the domain, "package-0".
        folder: below `/sys/class/powercap`.
    """

    label: str
    folder: Path

    @property
    def name(self) -> str:
        """As "package-0 (RAPL, intel-rapl:0)"."""
        return f"{self.label} (RAPL, {self.folder.name})"

    @property
    def range_joules(self) -> float | None:
        """Some 262 kJ on many processors: an hour at 70 W."""
        return read_number(self.folder / "max_energy_range_uj", 1e-6)

    def joules(self) -> float | None:
        """Since some moment. Linux lets only root read it, since CVE-2020-8694."""
        return read_number(self.folder / "energy_uj", 1e-6)


@dataclass(frozen=True)
class Sensors:
    """What this machine measures.

    Attributes:
        power: sensors that answered.
        energy: counters that answered.
        silent: names of those that exist and did not answer: a channel switched off, or a counter for root only.
    """

    power: tuple[PowerSensor, ...]
    energy: tuple[EnergyCounter, ...]
    silent: tuple[str, ...]


def find_sensors(root: Path = Path("/"), run: CommandRunner | None = None) -> Sensors:
    """Every sensor under `root`, each asked once.

    Args:
        root: of the file system, or of a recording of one.
        run: gives a command's output; unless given, nvidia-smi is asked only if `root` is this machine's own.
    """
    if run is None and root == Path("/"):
        run = command_output
    gpus = () if run is None else query_gpus(run) or ()
    power: list[PowerSensor] = [*_hwmon_rails(root), *_iio_rails(root)]
    power += [GpuPower(gpu.index, gpu.name, run) for gpu in gpus if run is not None]
    zones = sorted(root.glob("sys/class/powercap/intel-rapl:*"))
    energy = [RaplDomain(label, zone) for zone in zones if (label := read_text(zone / "name")) is not None]
    answered = {sensor.name for sensor in power if sensor.watts() is not None}
    answered |= {counter.name for counter in energy if counter.joules() is not None}
    names = [*(sensor.name for sensor in power), *(counter.name for counter in energy)]
    return Sensors(
        power=tuple(sensor for sensor in power if sensor.name in answered),
        energy=tuple(counter for counter in energy if counter.name in answered),
        silent=tuple(name for name in names if name not in answered),
    )


def _hwmon_rails(root: Path) -> list[Ina3221Rail]:
    """Channels 1 to 3; 4 to 7 are shunt voltages. An unlabelled channel is not connected.

    Source: https://docs.kernel.org/hwmon/ina3221.html
    """
    chips = [chip for chip in sorted(root.glob("sys/class/hwmon/hwmon*")) if read_text(chip / "name") == "ina3221"]
    return [
        Ina3221Rail(
            label, f"{chip.name} channel {channel}", (chip / f"in{channel}_input", chip / f"curr{channel}_input")
        )
        for chip in chips
        for channel in (1, 2, 3)
        if (label := read_text(chip / f"in{channel}_label")) and label != "NC"
    ]


def _iio_rails(root: Path) -> list[Ina3221Rail]:
    """The layout of NVIDIA's own driver, up to Jetson Linux 32, which tells the power itself."""
    devices = sorted(root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*"))
    return [
        Ina3221Rail(label, f"{device.parent.name} channel {channel}", (device / f"in_power{channel}_input",))
        for device in devices
        for channel in (0, 1, 2)
        if (label := read_text(device / f"rail_name_{channel}")) and label != "NC"
    ]
