"""Whether the machine slowed itself down: throttle counters, cooling devices and the Raspberry Pi's firmware.

No library reads these. The layouts of Jetson, Raspberry Pi and x86 come from documentation and published recordings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecascade.benchmarks.device.board import read_number, read_text

__all__ = ["Throttling", "decode_get_throttled", "read_throttling", "slowdowns"]

# Fans, backlights and radios are cooling devices too; only these make a computation slower.
_SLOWING = re.compile(r"cpu|gpu|processor|devfreq|throttle-alert|powerclamp", re.IGNORECASE)
_GET_THROTTLED = re.compile(r"(?:throttled=)?(?:0x)?([0-9a-f]{1,8})", re.IGNORECASE)
_RASPBERRY_PI = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


@dataclass(frozen=True)
class Throttling:
    """One reading of everything that reports throttling.

    Attributes:
        counts: events since the system started, by name: x86 thermal throttling, summed over cores and over packages,
            and a Jetson's over-current events (oc1 under-voltage, oc2 average and oc3 instantaneous over-current).
        cooling: "NAME: state N of MOST" for each active cooling device that slows the computation, by its folder.
        reports: whether there is any such cooling device.
        raspberry_pi: conditions that the firmware reports, now and since the start; None on other boards.
    """

    counts: Mapping[str, int]
    cooling: Mapping[str, str]
    reports: bool
    raspberry_pi: tuple[str, ...] | None


def read_throttling(root: Path = Path("/")) -> Throttling:
    """Return the present state under `root`."""
    states: dict[str, tuple[str, int, float | None]] = {}
    for path in sorted(root.glob("sys/class/thermal/cooling_device[0-9]*"), key=lambda p: (len(p.name), p.name)):
        name, state = read_text(path / "type") or path.name, read_number(path / "cur_state")
        if state is not None and _SLOWING.search(name) and "fan" not in name.lower():
            states[path.name] = name, int(state), read_number(path / "max_state")
    pi = [read_text(path) for path in sorted(root.glob("sys/devices/platform/soc*/*firmware*/get_throttled"))]
    return Throttling(
        counts={**_x86_counts(root), **_jetson_counts(root)},
        # Intel's powerclamp reports -1 when idle.
        cooling={at: f"{name}: state {now} of {_whole(most)}" for at, (name, now, most) in states.items() if now > 0},
        reports=bool(states),
        raspberry_pi=decode_get_throttled(pi[0]) if pi and pi[0] is not None else None,
    )


def slowdowns(before: Throttling, after: Throttling) -> tuple[str, ...] | None:
    """Return what slowed the machine down between two readings, one phrase each.

    Counters cover all the time between the readings; the state of a cooling device is that of the second reading.

    Returns:
        Empty if nothing did; None if this machine reports nothing of the kind.
    """
    counted = [name for name in after.counts if name in before.counts]
    if not after.reports and not counted and after.raspberry_pi is None:
        return None
    rises = [(name, after.counts[name] - before.counts[name]) for name in counted]
    firmware = [said for said in after.raspberry_pi or () if said not in (before.raspberry_pi or ()) or "now" in said]
    return (*(f"{name}: {rise} times" for name, rise in rises if rise > 0), *after.cooling.values(), *firmware)


def decode_get_throttled(text: str) -> tuple[str, ...] | None:
    """Return a Raspberry Pi's throttling in words.

    Args:
        text: the firmware's bits in hexadecimal, "50005" in sysfs or "throttled=0x50005" from `vcgencmd get_throttled`.

    Returns:
        Empty if nothing ever happened; None if `text` is not such a value.

    Source: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
    """
    match = _GET_THROTTLED.fullmatch(text.strip())
    if match is None:
        return None
    bits = int(match[1], 16)
    now = [f"{name} now" for bit, name in enumerate(_RASPBERRY_PI) if bits >> bit & 1]
    ever = [f"{name} since start" for bit, name in enumerate(_RASPBERRY_PI) if bits >> (bit + 16) & 1]
    return (*now, *ever)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _x86_counts(root: Path) -> dict[str, int]:
    """Return events summed over cores and packages; threads repeat their core's count, cores their package's."""
    found: dict[str, dict[tuple[str, str], int]] = {"core": {}, "package": {}}
    for path in root.glob("sys/devices/system/cpu/cpu[0-9]*"):
        package = read_text(path / "topology/physical_package_id") or "0"
        core = read_text(path / "topology/core_id") or path.name
        for kind, part in (("core", core), ("package", "")):
            if (count := read_number(path / f"thermal_throttle/{kind}_throttle_count")) is not None:
                found[kind][package, part] = int(count)
    return {f"{kind} throttled": sum(counts.values()) for kind, counts in found.items() if counts}


def _jetson_counts(root: Path) -> dict[str, int]:
    """Return the events of Orin's `soctherm_oc` sensor (JetPack 5 and later)."""
    chips = [chip for chip in root.glob("sys/class/hwmon/hwmon*") if read_text(chip / "name") == "soctherm_oc"]
    files = sorted(file for chip in chips for file in chip.glob("oc*_event_cnt"))
    counts = {file.name.removesuffix("_event_cnt"): read_number(file) for file in files}
    return {f"{name} event": int(count) for name, count in counts.items() if count is not None}
