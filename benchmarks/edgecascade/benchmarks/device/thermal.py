"""Temperatures, the points at which the system acts on them, and whether it slowed down.

Seen on a real machine: a virtual one without a sensor. Zones and cooling devices of Jetson, Raspberry Pi and x86 are
known from documentation and from published recordings only, since no such board was at hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgecascade.benchmarks.device.system import read_number, read_text

__all__ = [
    "CoolingDevice",
    "Thermal",
    "Trip",
    "Zone",
    "decode_get_throttled",
    "hottest",
    "is_temperature",
    "read_thermal",
    "slowdowns",
]

# Fans, backlights and radios are cooling devices too; only these make a computation slower.
_SLOWING = re.compile(r"cpu|gpu|processor|devfreq|throttle-alert|powerclamp", re.IGNORECASE)
_GET_THROTTLED = re.compile(r"(?:throttled=)?(?:0x)?([0-9a-f]{1,8})", re.IGNORECASE)
_RASPBERRY_PI = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_OFF = -256.0


@dataclass(frozen=True)
class Trip:
    """A temperature at which the system acts.

    Attributes:
        kind: "active" (fan), "passive" (slower), "hot" or "critical" (off).
        celsius: the temperature.
    """

    kind: str
    celsius: float


@dataclass(frozen=True)
class Zone:
    """One thermal zone.

    Attributes:
        name: its type, "gpu-thermal".
        celsius: now; None if the sensor does not answer, as that of a part without power.
        trips: in the system's order.
    """

    name: str
    celsius: float | None
    trips: tuple[Trip, ...]


@dataclass(frozen=True)
class CoolingDevice:
    """Something that the system does against heat.

    Attributes:
        name: its type, "cpufreq-cpu0" or "pwm-fan".
        state: 0 is idle.
        most: the highest state.
    """

    name: str
    state: int | None
    most: int | None

    @property
    def slows(self) -> bool:
        """Whether it cools by computing more slowly."""
        return _SLOWING.search(self.name) is not None and "fan" not in self.name.lower()


@dataclass(frozen=True)
class Thermal:
    """One reading of everything about heat.

    Attributes:
        zones: empty if there is none.
        cooling: empty if there is none.
        counts: events since the system started, by name: x86 thermal throttling, summed over cores and over packages,
            and a Jetson's under-voltage and over-current events (oc1 under-voltage, oc2 average and oc3 instantaneous
            over-current).
        raspberry_pi: what a Raspberry Pi's firmware says of now and of the time since it started; None elsewhere.
    """

    zones: tuple[Zone, ...]
    cooling: tuple[CoolingDevice, ...]
    counts: dict[str, int]
    raspberry_pi: tuple[str, ...] | None


def read_thermal(root: Path = Path("/")) -> Thermal:
    """Zones, cooling devices and throttling under `root`, now."""
    folder = root / "sys/class/thermal"
    pi = [read_text(path) for path in sorted(root.glob("sys/devices/platform/soc*/*firmware*/get_throttled"))]
    return Thermal(
        zones=tuple(_zone(path) for path in _numbered(folder, "thermal_zone")),
        cooling=tuple(_cooling(path) for path in _numbered(folder, "cooling_device")),
        counts={**_x86_counts(root), **_jetson_counts(root)},
        raspberry_pi=decode_get_throttled(pi[0]) if pi and pi[0] is not None else None,
    )


def hottest(root: Path = Path("/")) -> float | None:
    """The highest temperature of all zones, degrees Celsius."""
    return max((zone.celsius for zone in read_thermal(root).zones if zone.celsius is not None), default=None)


def slowdowns(before: Thermal, after: Thermal) -> tuple[str, ...] | None:
    """What the system did between two readings that made it slower, one sentence each.

    A cooling device is seen only as it is at the two readings; counters tell of everything between them.

    Returns:
        None if this machine has nothing that would tell.
    """
    slowing = [device for device in after.cooling if device.slows and device.state is not None]
    counted = [name for name in after.counts if name in before.counts]
    if not slowing and not counted and after.raspberry_pi is None:
        return None
    rises = [(name, after.counts[name] - before.counts[name]) for name in counted]
    firmware = [said for said in after.raspberry_pi or () if said not in (before.raspberry_pi or ()) or "now" in said]
    return (
        *(f"{name}: {rise} times" for name, rise in rises if rise > 0),
        *(f"{device.name}: state {device.state} of {device.most}" for device in slowing if device.state),
        *firmware,
    )


def decode_get_throttled(text: str) -> tuple[str, ...] | None:
    """A Raspberry Pi's throttling in words, from the firmware's bits in hexadecimal.

    Args:
        text: "50005", as sysfs gives it, or "throttled=0x50005", as `vcgencmd get_throttled` prints it.

    Returns:
        Empty if nothing ever happened; None if `text` is no such value.

    Source: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
    """
    match = _GET_THROTTLED.fullmatch(text.strip())
    if match is None:
        return None
    bits = int(match[1], 16)
    now = [f"{name} now" for bit, name in enumerate(_RASPBERRY_PI) if bits >> bit & 1]
    ever = [f"{name} since start" for bit, name in enumerate(_RASPBERRY_PI) if bits >> (bit + 16) & 1]
    return (*now, *ever)


def is_temperature(celsius: float) -> bool:
    """Whether a sensor's figure is a temperature; a Tegra says -256 for a part without power."""
    return celsius > _OFF


def _numbered(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}[0-9]*"), key=lambda path: (len(path.name), path.name))


def _zone(path: Path) -> Zone:
    celsius = read_number(path / "temp", 1e-3)
    numbers = sorted(int(found[1]) for file in path.glob("trip_point_*_temp") if (found := _trip_number(file)))
    trips = (_trip(path, number) for number in numbers)
    return Zone(
        name=read_text(path / "type") or path.name,
        celsius=celsius if celsius is not None and is_temperature(celsius) else None,
        trips=tuple(trip for trip in trips if trip is not None),
    )


def _trip_number(path: Path) -> re.Match[str] | None:
    return re.fullmatch(r"trip_point_(\d+)_temp", path.name)


def _trip(path: Path, number: int) -> Trip | None:
    kind, celsius = read_text(path / f"trip_point_{number}_type"), read_number(path / f"trip_point_{number}_temp", 1e-3)
    return None if kind is None or celsius is None or not is_temperature(celsius) else Trip(kind, celsius)


def _cooling(path: Path) -> CoolingDevice:
    state, most = (read_number(path / name) for name in ("cur_state", "max_state"))
    return CoolingDevice(
        name=read_text(path / "type") or path.name,
        # Intel's powerclamp says -1 when idle.
        state=None if state is None else max(0, int(state)),
        most=None if most is None else int(most),
    )


def _x86_counts(root: Path) -> dict[str, int]:
    """Every core of a package shows its package's count, and every thread its core's: each is taken once."""
    cores: dict[tuple[str, str], int] = {}
    packages: dict[str, int] = {}
    for path in root.glob("sys/devices/system/cpu/cpu[0-9]*"):
        package = read_text(path / "topology/physical_package_id") or "0"
        core = read_text(path / "topology/core_id") or path.name
        if (count := read_number(path / "thermal_throttle/core_throttle_count")) is not None:
            cores[package, core] = int(count)
        if (count := read_number(path / "thermal_throttle/package_throttle_count")) is not None:
            packages[package] = int(count)
    found = {"core throttled": sum(cores.values())} if cores else {}
    return found | ({"package throttled": sum(packages.values())} if packages else {})


def _jetson_counts(root: Path) -> dict[str, int]:
    """The kernel's `soctherm_oc` sensor of Orin, JetPack 5 and later."""
    chips = [chip for chip in root.glob("sys/class/hwmon/hwmon*") if read_text(chip / "name") == "soctherm_oc"]
    files = sorted(file for chip in chips for file in chip.glob("oc*_event_cnt"))
    counts = {file.name.removesuffix("_event_cnt"): read_number(file) for file in files}
    return {f"{name} event": int(count) for name, count in counts.items() if count is not None}
