"""The board: its model, system release, power mode and clocks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["Board", "Clock", "read_board", "read_clocks", "read_number", "read_text"]

_PLACEHOLDERS = {"default string", "not specified", "system product name", "to be filled by o.e.m."}
_MOST_BYTES = 65_536
_CPU_FILES = ("scaling_governor", "scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq")  # kHz
_DEVICE_FILES = ("governor", "cur_freq", "max_freq")  # Hz


@dataclass(frozen=True)
class Clock:
    """A clock domain: a group of cores, or a device such as a GPU.

    Attributes:
        name: "cpu 0-3", or the device's name.
        governor: the kernel's rule for setting the clock.
        megahertz: current frequency.
        limit_megahertz: highest frequency that the governor may choose now; power modes and heat lower it.
        maximum_megahertz: highest frequency that the hardware supports.
    """

    name: str
    governor: str | None
    megahertz: float | None
    limit_megahertz: float | None
    maximum_megahertz: float | None


@dataclass(frozen=True)
class Board:
    """The system's description of its hardware; None where it gives none.

    Attributes:
        model: name in the device tree or in the firmware.
        l4t: release of Jetson Linux, such as "36.4.3".
        jetpack: JetPack release.
        power_mode: nvpmodel's, such as "MAXN_SUPER (2)".
        clocks: domains of the CPU and of devices; empty if the system shows none.
    """

    model: str | None
    l4t: str | None
    jetpack: str | None
    power_mode: str | None
    clocks: tuple[Clock, ...]


def read_board(root: Path = Path("/")) -> Board:
    """Return the board whose file system is mounted at `root`.

    Args:
        root: `/`, or a folder with recorded files.
    """
    jetson = _jetson() if (root / "etc/nv_tegra_release").exists() else (None, None, None)
    return Board(_model(root), *jetson, read_clocks(root))


def read_clocks(root: Path = Path("/")) -> tuple[Clock, ...]:
    """Return the clock domains in cpufreq (CPU) and devfreq (such as a Jetson's GPU and memory)."""
    policies = sorted(root.glob("sys/devices/system/cpu/cpufreq/policy*"), key=lambda path: (len(path.name), path.name))
    cpu = (_clock(path, f"cpu {_cores(path)}", 1e-3, *_CPU_FILES) for path in policies)
    devices = (_clock(path, path.name, 1e-6, *_DEVICE_FILES) for path in sorted(root.glob("sys/class/devfreq/*")))
    return (*cpu, *devices)


def read_text(path: Path) -> str | None:
    """Return a small file's text without surrounding space and NULs; None if it is empty or cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)
    except (OSError, ValueError):
        return None
    return data.decode(errors="replace").strip("\0 \t\r\n") or None


def read_number(path: Path, scale: float = 1.0) -> float | None:
    """Return the finite number in a file, times `scale`; None if the file holds anything else."""
    text = read_text(path)
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value * scale if math.isfinite(value) else None


@lru_cache(maxsize=1)
def _jetson() -> tuple[str | None, str | None, str | None]:
    """Return Jetson Linux release, JetPack and power mode from the jetson-stats service; None if it does not answer."""
    try:
        from jtop import jtop

        with jtop() as jetson:
            hardware, mode = jetson.board["hardware"], jetson.nvpmodel
            power_mode = None if mode is None else f"{mode.name} ({mode.id})"
            return hardware.get("L4T") or None, hardware.get("Jetpack") or None, power_mode
    except Exception:  # not installed, no service, no permission, or a service of another version
        pass
    return None, None, None


def _model(root: Path) -> str | None:
    if (model := read_text(root / "proc/device-tree/model")) is not None:
        return model
    named = [read_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    return " ".join(name for name in named if name is not None and name.lower() not in _PLACEHOLDERS) or None


def _clock(path: Path, name: str, scale: float, governor: str, now: str, limit: str, maximum: str = "") -> Clock:
    if maximum:
        highest = read_number(path / maximum, scale)
    else:
        steps = re.findall(r"\b\d{1,12}\b", read_text(path / "available_frequencies") or "")
        highest = max((int(step) * scale for step in steps), default=None)
    frequencies = (read_number(path / now, scale), read_number(path / limit, scale), highest)
    return Clock(name, read_text(path / governor), *frequencies)


def _cores(policy: Path) -> str:
    """Return the cores of a cpufreq policy: "0 1 2 3" as "0-3", any other list as it is."""
    cpus = read_text(policy / "related_cpus")
    numbers = (cpus or "").split()
    if len(numbers) < 2 or not all(re.fullmatch(r"\d{1,5}", number) for number in numbers):
        return cpus or policy.name
    first, last = int(numbers[0]), int(numbers[-1])
    return (
        f"{first}-{last}" if [int(number) for number in numbers] == [*range(first, last + 1)] else cpus or policy.name
    )
