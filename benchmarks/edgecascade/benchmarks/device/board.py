"""Which board, which system release, which power mode and which clocks.

Seen on a real machine: a virtual one that tells nothing. The layouts of Jetson, Raspberry Pi and x86 are known from
documentation and from published recordings only, since no such board was at hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgecascade.benchmarks.device.system import CommandRunner, command_output, read_number, read_text

__all__ = [
    "Board",
    "Clock",
    "jetpack_of",
    "parse_l4t",
    "parse_nvpmodel",
    "read_board",
    "read_clocks",
]

_PLACEHOLDERS = {"default string", "not specified", "system product name", "to be filled by o.e.m."}

# Exact releases only, from https://developer.nvidia.com/embedded/jetpack-archive: the next one is not to be guessed.
_JETPACK = {
    "32.7.1": "4.6.1",
    "32.7.2": "4.6.2",
    "32.7.3": "4.6.3",
    "32.7.4": "4.6.4",
    "32.7.5": "4.6.5",
    "32.7.6": "4.6.6",
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
}


@dataclass(frozen=True)
class Clock:
    """One clock domain: a group of cores, or a device such as a GPU.

    Attributes:
        name: "cpu 0-3", or the device's own name.
        governor: the rule by which the kernel sets the clock.
        megahertz: now.
        limit_megahertz: the highest the governor may choose now; a power mode or heat lowers it.
        maximum_megahertz: the highest the hardware offers.
    """

    name: str
    governor: str | None
    megahertz: float | None
    limit_megahertz: float | None
    maximum_megahertz: float | None


@dataclass(frozen=True)
class Board:
    """What the system says of itself; None is what it does not say.

    Attributes:
        model: as the device tree or the firmware names it.
        l4t: release of Jetson Linux, "36.4.3".
        jetpack: the JetPack that this release belongs to, if it is one known for certain.
        power_mode: nvpmodel's, "MAXN_SUPER (2)".
        clocks: of CPU and devices; empty if the system shows none.
    """

    model: str | None
    l4t: str | None
    jetpack: str | None
    power_mode: str | None
    clocks: tuple[Clock, ...]


def read_board(root: Path = Path("/"), run: CommandRunner | None = None) -> Board:
    """The board under `root`.

    Args:
        root: of the file system, or of a recording of one.
        run: gives a command's output; unless given, commands are asked only if `root` is this machine's own.
    """
    release = parse_l4t(read_text(root / "etc/nv_tegra_release") or "")
    if run is None and root == Path("/"):
        run = command_output
    return Board(
        model=_model(root),
        l4t=release,
        jetpack=jetpack_of(release),
        power_mode=_power_mode(root, run),
        clocks=read_clocks(root),
    )


def read_clocks(root: Path = Path("/")) -> tuple[Clock, ...]:
    """Clock domains of the CPU (cpufreq, kHz) and of devices (devfreq, Hz: a Jetson's GPU and memory)."""
    cpu = sorted(root.glob("sys/devices/system/cpu/cpufreq/policy*"), key=lambda path: (len(path.name), path.name))
    found = [
        Clock(
            name=f"cpu {_ranges(read_text(path / 'related_cpus')) or path.name}",
            governor=read_text(path / "scaling_governor"),
            megahertz=read_number(path / "scaling_cur_freq", 1e-3),
            limit_megahertz=read_number(path / "scaling_max_freq", 1e-3),
            maximum_megahertz=read_number(path / "cpuinfo_max_freq", 1e-3),
        )
        for path in cpu
    ]
    return (*found, *(_device_clock(path) for path in sorted(root.glob("sys/class/devfreq/*"))))


def parse_l4t(text: str) -> str | None:
    """The release in the first line of `/etc/nv_tegra_release`: "# R36 (release), REVISION: 4.3, ..." is "36.4.3"."""
    match = re.search(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", text)
    return f"{match[1]}.{match[2]}" if match else None


def jetpack_of(release: str | None) -> str | None:
    """The JetPack of a Jetson Linux release, if that release is known exactly."""
    return None if release is None else _JETPACK.get(release)


def parse_nvpmodel(text: str) -> str | None:
    """The mode in the output of `nvpmodel -q`: "NV Power Mode: 15W", and its number in a line of its own."""
    name = re.search(r"NV Power Mode: *(\S+)", text)
    number = re.search(r"^\s*(\d+)\s*$", text, re.MULTILINE)
    if name is None:
        return None
    return f"{name[1]} ({number[1]})" if number else name[1]


def _model(root: Path) -> str | None:
    for place in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        if (model := read_text(root / place)) is not None:
            return model
    named = [read_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    told = [name for name in named if name is not None and name.lower() not in _PLACEHOLDERS]
    return " ".join(told) or None


def _power_mode(root: Path, run: CommandRunner | None) -> str | None:
    status = re.fullmatch(r"pmode:(\d{1,4})", read_text(root / "var/lib/nvpmodel/status") or "")
    if status is None:
        asked = None if run is None else run("nvpmodel", "-q")
        return None if asked is None else parse_nvpmodel(asked)
    number = int(status[1])
    modes = read_text(root / "etc/nvpmodel.conf") or ""
    name = re.search(rf"^\s*<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+?)\s*>", modes, re.MULTILINE)
    return f"{name[1]} ({number})" if name else str(number)


def _device_clock(path: Path) -> Clock:
    steps = re.findall(r"\b\d{1,12}\b", read_text(path / "available_frequencies") or "")
    return Clock(
        name=path.name,
        governor=read_text(path / "governor"),
        megahertz=read_number(path / "cur_freq", 1e-6),
        limit_megahertz=read_number(path / "max_freq", 1e-6),
        maximum_megahertz=max((int(step) * 1e-6 for step in steps), default=None),
    )


def _ranges(cpus: str | None) -> str | None:
    """The list "0 1 2 3" as "0-3"; what is no such list stays as it is."""
    numbers = (cpus or "").split()
    if len(numbers) < 2 or not all(re.fullmatch(r"\d{1,5}", number) for number in numbers):
        return cpus
    first, last = int(numbers[0]), int(numbers[-1])
    return f"{first}-{last}" if [int(number) for number in numbers] == [*range(first, last + 1)] else cpus
