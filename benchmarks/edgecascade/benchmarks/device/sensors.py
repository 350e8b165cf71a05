"""Sensors of power and energy: INA3221 rails on Jetson, RAPL counters of Intel and AMD, NVIDIA GPUs through NVML.

INA3221 and RAPL are read from the kernel: psutil has neither, and jetson-stats publishes power once a second, too
rarely for a short run. Their layouts come from documentation and published recordings. The kernel shows no power sensor
of a Raspberry Pi.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from edgecascade.benchmarks.device.board import read_number, read_text

__all__ = ["Sensor", "Sensors", "find_sensors"]


@dataclass(frozen=True)
class Sensor:
    """A sensor of power, or a counter of energy.

    Attributes:
        name: the part, the kind of sensor and where it is, such as "VDD_IN (INA3221, hwmon1 channel 1)".
        method: "samples" of power in watts, or a "counter" of energy in joules.
        read: returns the present value; None if the sensor does not answer.
        limit: joules at which a counter starts again from 0, if known.
    """

    name: str
    method: Literal["samples", "counter"]
    read: Callable[[], float | None]
    limit: float | None = None


@dataclass(frozen=True)
class Sensors:
    """The sensors of a machine.

    Attributes:
        found: those that answered.
        silent: names of those that exist and did not answer, such as a counter that only root may read.
    """

    found: tuple[Sensor, ...]
    silent: tuple[str, ...]


def find_sensors(root: Path = Path("/")) -> Sensors:
    """Return every sensor under `root`, after reading each once; GPUs are asked only where `root` is `/`."""
    gpus = _gpus() if root == Path("/") else ()
    sensors = [*_rapl_domains(root), *_ina3221_rails(root), *gpus]
    answered = [sensor.read() is not None for sensor in sensors]
    return Sensors(
        found=tuple(sensor for sensor, answer in zip(sensors, answered, strict=True) if answer),
        silent=tuple(sensor.name for sensor, answer in zip(sensors, answered, strict=True) if not answer),
    )


def _rapl_domains(root: Path) -> Iterator[Sensor]:
    """Yield RAPL's domains; "core", "uncore" and "dram" are parts of a package, "psys" contains the packages.

    Linux lets only root read the counters since CVE-2020-8694. Many start again after 262 kJ: an hour at 70 W.
    """
    for zone in sorted(root.glob("sys/class/powercap/intel-rapl:*")):
        if (label := read_text(zone / "name")) is not None:
            read = partial(read_number, zone / "energy_uj", 1e-6)
            yield Sensor(
                f"{label} (RAPL, {zone.name})", "counter", read, read_number(zone / "max_energy_range_uj", 1e-6)
            )


def _ina3221_rails(root: Path) -> Iterator[Sensor]:
    """Yield the rails of each INA3221: bus voltage times current of channels 1 to 3 that have a label.

    VDD_IN is the whole module, and the other rails are parts of it; an AGX has no rail for the whole.

    Source: https://docs.kernel.org/hwmon/ina3221.html
    """
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        for channel in (1, 2, 3) if read_text(chip / "name") == "ina3221" else ():
            label = read_text(chip / f"in{channel}_label")
            if label and label != "NC":
                files = (chip / f"in{channel}_input", chip / f"curr{channel}_input")
                yield Sensor(f"{label} (INA3221, {chip.name} channel {channel})", "samples", partial(_product, files))


def _product(files: tuple[Path, Path]) -> float | None:
    values = [read_number(path, 1e-3) for path in files]
    return math.prod(value for value in values if value is not None) if None not in values else None


def _gpus() -> tuple[Sensor, ...]:
    """Return the NVIDIA GPUs' power: a mean over the last second on Ampere and later, GA100 excepted."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
    except Exception:  # nvidia-ml-py or the driver is not installed
        return ()

    def watts(handle: object) -> float | None:
        try:
            return float(pynvml.nvmlDeviceGetPowerUsage(handle)) * 1e-3
        except pynvml.NVMLError:  # an integrated GPU, such as a Jetson's, does not support it
            return None

    return tuple(
        Sensor(f"GPU {index} {name} (NVML)", "samples", partial(watts, handle))
        for index, (name, handle) in enumerate(zip(names, handles, strict=True))
    )
