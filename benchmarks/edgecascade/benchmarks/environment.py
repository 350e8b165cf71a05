"""On what it was measured."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

__all__ = ["Environment", "read_environment"]


@dataclass(frozen=True)
class Environment:
    """The machine and the software, as far as the system tells; nothing is guessed."""

    date: str
    processor: str
    cores: int
    memory_gib: float | None
    system: str
    python: str
    versions: dict[str, str]

    def __str__(self) -> str:
        """One line."""
        memory = f", {self.memory_gib:.0f} GiB" if self.memory_gib is not None else ""
        packages = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        machine = f"{self.processor}, {self.cores} cores{memory}, {self.system}"
        return f"{self.date}, {machine}, Python {self.python}, {packages}"


def read_environment() -> Environment:
    """This machine, now."""
    return Environment(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=_memory(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: version(name) for name in ("edgecascade", "onnxruntime", "numpy")},
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "processor not reported"


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, OSError, ValueError):
        return None
