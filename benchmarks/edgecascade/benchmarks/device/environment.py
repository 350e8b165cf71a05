"""The machine and the software that a result was measured on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from edgecascade.benchmarks.device.board import read_board, read_text

__all__ = ["Environment", "read_environment"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
_CONTAINERS = {".dockerenv": "Docker", "run/.containerenv": "Podman"}
_NAMES = {
    "cpu_quota": "CPU quota",
    "jetpack": "JetPack",
    "libc": "C library",
    "limit_megahertz": "clock limit",
    "megahertz": "clock",
    "memory_gib": "memory",
}
_UNITS = {"cpu_quota": " cores", "memory_gib": " GiB"}
_ARM, _NVIDIA = 0x41, 0x4E  # implementers in Arm's Main ID Register
_ARM_DESIGNS = {
    (_ARM, 0xC07): "Cortex-A7",
    (_ARM, 0xD03): "Cortex-A53",
    (_ARM, 0xD04): "Cortex-A35",
    (_ARM, 0xD05): "Cortex-A55",
    (_ARM, 0xD07): "Cortex-A57",
    (_ARM, 0xD08): "Cortex-A72",
    (_ARM, 0xD09): "Cortex-A73",
    (_ARM, 0xD0A): "Cortex-A75",
    (_ARM, 0xD0B): "Cortex-A76",
    (_ARM, 0xD0C): "Neoverse-N1",
    (_ARM, 0xD0D): "Cortex-A77",
    (_ARM, 0xD40): "Neoverse-V1",
    (_ARM, 0xD41): "Cortex-A78",
    (_ARM, 0xD42): "Cortex-A78AE",
    (_ARM, 0xD44): "Cortex-X1",
    (_ARM, 0xD46): "Cortex-A510",
    (_ARM, 0xD47): "Cortex-A710",
    (_ARM, 0xD49): "Neoverse-N2",
    (_ARM, 0xD4F): "Neoverse-V2",
    (_ARM, 0xD80): "Cortex-A520",
    (_ARM, 0xD81): "Cortex-A720",
    (_NVIDIA, 0x003): "Denver 2",
    (_NVIDIA, 0x004): "Carmel",
}  # those of common boards; any other is given by its numbers


@dataclass(frozen=True)
class Environment:
    """The machine and the software; None where the system reports nothing.

    Attributes:
        date: of the run, UTC.
        processor: model name, or the designs of an Arm processor's cores.
        cores: logical cores of the system.
        memory_gib: memory of the system.
        system: name and architecture.
        python: version.
        versions: of packages.
        usable_cores: cores that this process may run on.
        cpu_quota: cores' worth of time that the control group may use; None also where there is no quota.
        kernel: release, the number only.
        libc: name and version.
        board: the machine's model, as its device tree or firmware names it.
        jetpack: NVIDIA's release, on a Jetson.
        power_mode: nvpmodel's, on a Jetson.
        governor: the kernel's rule for setting the CPU's clock.
        megahertz: the CPU's highest clock when this was read.
        limit_megahertz: the highest clock that the governor may choose.
        container: the kind of container that the process runs in, if it can be told.
        virtual_machine: whether the processor reports a hypervisor; x86 only.
        thread_variables: environment variables that set numbers of threads, if set.
    """

    date: str
    processor: str
    cores: int
    memory_gib: float | None
    system: str
    python: str
    versions: dict[str, str]
    usable_cores: int | None = None
    cpu_quota: float | None = None
    kernel: str | None = None
    libc: str | None = None
    board: str | None = None
    jetpack: str | None = None
    power_mode: str | None = None
    governor: str | None = None
    megahertz: float | None = None
    limit_megahertz: float | None = None
    container: str | None = None
    virtual_machine: bool | None = None
    thread_variables: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return one line."""
        memory = f", {self.memory_gib:.0f} GiB" if self.memory_gib is not None else ""
        machine = f"{self.processor}, {self.cores} cores{memory}, {self.system}"
        return f"{self.date}, {machine}, Python {self.python}, {_pairs(self.versions)}"

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Return name and value of every field as text, and last the names of those without a value."""
        names = {f.name: _NAMES.get(f.name, f.name.replace("_", " ")) for f in fields(self)}
        known = [(name, getattr(self, name)) for name in names if getattr(self, name) not in (None, {})]
        unknown = ", ".join(shown for name, shown in names.items() if getattr(self, name) in (None, {}))
        rows = tuple((names[name], _text(name, value)) for name, value in known)
        return (*rows, ("not set, or not reported", unknown)) if unknown else rows


def read_environment(root: Path = Path("/")) -> Environment:
    """Return the present environment.

    Args:
        root: `/`, or a folder with recorded files.
    """
    board = read_board(root)
    clocks = [clock for clock in board.clocks if clock.name.startswith("cpu ")]
    cpuinfo = read_text(root / "proc/cpuinfo") or ""
    flags = _values(cpuinfo, "flags")
    return Environment(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        processor=_processor(cpuinfo),
        cores=os.cpu_count() or 1,
        memory_gib=float(psutil.virtual_memory().total) / 2**30,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: version(name) for name in ("edgecascade", "onnxruntime", "numpy")},
        usable_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        cpu_quota=_quota(root),
        kernel=next(iter(re.findall(r"^[\d.]*\d", platform.release())), None),  # the rest names the machine's maker
        libc=" ".join(platform.libc_ver()).strip() or None,
        board=board.model,
        jetpack=board.jetpack,
        power_mode=board.power_mode,
        governor=", ".join(sorted({clock.governor for clock in clocks if clock.governor})) or None,
        megahertz=_highest(clock.megahertz for clock in clocks) or _highest(map(_number, _values(cpuinfo, "cpu MHz"))),
        limit_megahertz=_highest(clock.limit_megahertz for clock in clocks),
        container=next((name for mark, name in _CONTAINERS.items() if (root / mark).exists()), None),
        virtual_machine="hypervisor" in flags[0].split() if flags else None,
        thread_variables={name: os.environ[name] for name in _THREAD_VARIABLES if os.environ.get(name)},
    )


def _quota(root: Path) -> float | None:
    """Return the quota, in cores, of the control group that this process sees as the root."""
    groups = root / "sys/fs/cgroup"
    old = [read_text(groups / "cpu" / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    quota, period = (*map(_number, (read_text(groups / "cpu.max") or " ".join(old)).split()), None, None)[:2]
    return quota / period if quota and period and quota > 0 else None


def _processor(cpuinfo: str) -> str:
    """Return the model; on Arm, where Linux gives only numbers, the designs of the cores, each once."""
    cores = zip(_values(cpuinfo, "CPU implementer"), _values(cpuinfo, "CPU part"), strict=False)
    arm = ", ".join(_arm_design(*core) for core in dict.fromkeys(cores))
    return next(iter(_values(cpuinfo, "model name")), arm or platform.processor()) or "processor not reported"


def _arm_design(implementer: str, part: str) -> str:
    try:
        return _ARM_DESIGNS[int(implementer, 16), int(part, 16)]
    except (KeyError, ValueError):
        return f"Arm core of implementer {implementer}, part {part}"


def _values(cpuinfo: str, name: str) -> list[str]:
    return [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.partition(":")[0].strip() == name]


def _highest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text) else None


def _text(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return _pairs(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}{_UNITS.get(name, ' MHz')}" if isinstance(value, float) else str(value)


def _pairs(named: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in named.items())
