"""On what it was measured."""

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

from edgecascade.benchmarks.arm_cores import arm_processor
from edgecascade.benchmarks.device.board import read_board
from edgecascade.benchmarks.device.system import read_text

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


@dataclass(frozen=True)
class Environment:
    """The machine and the software, as far as the system tells; nothing is guessed, and None is what it does not tell.

    Attributes:
        date: of the run, UTC.
        processor: its model's name, or the designs of its cores.
        cores: logical ones that the system has.
        memory_gib: of the system.
        system: its name and architecture.
        python: version.
        versions: of packages.
        usable_cores: those this process may run on.
        cpu_quota: how many cores' time its control group may use; None also where there is no quota.
        kernel: release, its number only.
        libc: name and version.
        board: the machine's model, as its device tree or firmware names it.
        jetpack: NVIDIA's release, on a Jetson.
        power_mode: on a Jetson.
        governor: the rule that sets the CPU's clock.
        megahertz: the CPU's highest clock when this was read.
        limit_megahertz: the highest clock that the governor may choose.
        container: what the process runs in, if that leaves a mark.
        virtual_machine: whether the processor says that it is a virtual one; x86 only.
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
        """One line."""
        memory = f", {self.memory_gib:.0f} GiB" if self.memory_gib is not None else ""
        machine = f"{self.processor}, {self.cores} cores{memory}, {self.system}"
        return f"{self.date}, {machine}, Python {self.python}, {_pairs(self.versions)}"

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Name and value of every field, as they are read; last, the names of what the system does not tell."""
        names = {f.name: _NAMES.get(f.name, f.name.replace("_", " ")) for f in fields(self)}
        told = [(name, getattr(self, name)) for name in names if getattr(self, name) not in (None, {})]
        untold = ", ".join(shown for name, shown in names.items() if getattr(self, name) in (None, {}))
        rows = tuple((names[name], _said(name, value)) for name, value in told)
        return (*rows, ("not set, or not told", untold)) if untold else rows


def read_environment(root: Path = Path("/")) -> Environment:
    """This machine, now.

    Args:
        root: of the file system, or of a recording of one.
    """
    board = read_board(root)
    clocks = [clock for clock in board.clocks if clock.name.startswith("cpu ")]
    told = read_text(root / "proc/cpuinfo") or ""
    return Environment(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        processor=_processor(told),
        cores=os.cpu_count() or 1,
        memory_gib=_memory(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: version(name) for name in ("edgecascade", "onnxruntime", "numpy")},
        usable_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        cpu_quota=_quota(root),
        kernel=next(iter(re.findall(r"^[\d.]*\d", platform.release())), None),  # what follows names the machine's maker
        libc=" ".join(platform.libc_ver()).strip() or None,
        board=board.model,
        jetpack=board.jetpack,
        power_mode=board.power_mode,
        governor=", ".join(sorted({clock.governor for clock in clocks if clock.governor})) or None,
        megahertz=_highest(clock.megahertz for clock in clocks) or _highest(map(_number, _values(told, "cpu MHz"))),
        limit_megahertz=_highest(clock.limit_megahertz for clock in clocks),
        container=next((name for mark, name in _CONTAINERS.items() if (root / mark).exists()), None),
        virtual_machine=_virtual(told),
        thread_variables={name: os.environ[name] for name in _THREAD_VARIABLES if os.environ.get(name)},
    )


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, OSError, ValueError):
        return None


def _quota(root: Path) -> float | None:
    """Of the control group that this process sees as the root, in cores."""
    groups = root / "sys/fs/cgroup"
    old = [read_text(groups / "cpu" / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    quota, period = (*map(_number, (read_text(groups / "cpu.max") or " ".join(old)).split()), None, None)[:2]
    return quota / period if quota and period and quota > 0 else None


def _processor(cpuinfo: str) -> str:
    arm = arm_processor(_values(cpuinfo, "CPU implementer"), _values(cpuinfo, "CPU part"))
    return next(iter(_values(cpuinfo, "model name")), arm or platform.processor()) or "processor not reported"


def _values(cpuinfo: str, name: str) -> list[str]:
    return [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.partition(":")[0].strip() == name]


def _virtual(cpuinfo: str) -> bool | None:
    flags = _values(cpuinfo, "flags")
    return "hypervisor" in flags[0].split() if flags else None


def _highest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text) else None


def _said(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return _pairs(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}{_UNITS.get(name, ' MHz')}" if isinstance(value, float) else str(value)


def _pairs(named: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in named.items())
