"""Lines of NVIDIA's tegrastats.

The forms of JetPack 4, 5, 6 and of some releases of 7 are known from documentation and from published recordings
only, since no Jetson was at hand. Without root, tegrastats leaves out the memory clock and the GPU's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgecascade.benchmarks.device.thermal import is_temperature

__all__ = ["Core", "Rail", "Tegrastats", "parse_tegrastats"]

_MEMORY = r"\b{} (\d{{1,9}})/(\d{{1,9}})([kMG])B"
_MEBIBYTES = {"k": 2**-10, "M": 1.0, "G": 2**10}
_CPU = re.compile(r"\bCPU \[([^\]]*)\]")
_CORE = re.compile(r"(\d{1,9})%(?:@(\d{1,9}))?")
_LOAD = r"\b{}(?: (\d{{1,3}})%)?(?:(?: |(?<=%))@\[?(\d{{1,9}}(?:,\d{{1,9}})*)\]?)?"
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z][\w.-]*)@(-?\d{1,9}(?:\.\d{1,9})?)C(?:/-?\d{1,9}(?:\.\d{1,9})?C)*(?!\S)")
_POWER = re.compile(r"(?<!\S)([A-Za-z]\w*) (\d{1,9})(?:mW)?/(\d{1,9})(?:mW)?(?:/\d{1,9}(?:mW)?)?(?!\S)")


@dataclass(frozen=True)
class Core:
    """One core that is switched on.

    Attributes:
        percent: load, relative to the present clock.
        megahertz: that clock.
    """

    percent: int
    megahertz: int | None


@dataclass(frozen=True)
class Rail:
    """One power rail.

    Attributes:
        watts: now.
        mean_watts: since tegrastats started.
    """

    watts: float
    mean_watts: float


@dataclass(frozen=True)
class Tegrastats:
    """One line; None or empty is what the line does not say.

    Attributes:
        ram_mib: memory in use.
        ram_total_mib: memory that there is.
        swap_mib: swap in use.
        swap_total_mib: swap that there is.
        cores: by number; None for a core that is switched off.
        memory_percent: share of the memory controller's bandwidth in use.
        gpu_percent: load of the GPU.
        gpu_megahertz: clocks of its clusters.
        celsius: by sensor, as named; None for a part without power.
        rails: by name: VDD_IN, VDD_CPU_GPU_CV, or GPU, CPU and SOC on an AGX Xavier.
    """

    ram_mib: float
    ram_total_mib: float
    swap_mib: float | None
    swap_total_mib: float | None
    cores: tuple[Core | None, ...]
    memory_percent: int | None
    gpu_percent: int | None
    gpu_megahertz: tuple[int, ...]
    celsius: dict[str, float | None]
    rails: dict[str, Rail]


def parse_tegrastats(line: str) -> Tegrastats | None:
    """What a line says; None if it does not even tell the memory in use, as every line of tegrastats does."""
    ram, swap = _memory(line, "RAM"), _memory(line, "SWAP")
    if ram is None:
        return None
    gpu_percent, gpu_megahertz = _load(line, "GR3D_FREQ")
    return Tegrastats(
        ram_mib=ram[0],
        ram_total_mib=ram[1],
        swap_mib=None if swap is None else swap[0],
        swap_total_mib=None if swap is None else swap[1],
        cores=_cores(line),
        memory_percent=_load(line, "EMC_FREQ")[0],
        gpu_percent=gpu_percent,
        gpu_megahertz=gpu_megahertz,
        celsius={name: _celsius(text) for name, text in _TEMPERATURE.findall(line)},
        rails={name: Rail(int(now) / 1000, int(mean) / 1000) for name, now, mean in _POWER.findall(line)},
    )


def _memory(line: str, name: str) -> tuple[float, float] | None:
    match = re.search(_MEMORY.format(name), line, re.ASCII)
    if match is None:
        return None
    unit = _MEBIBYTES[match[3]]
    return int(match[1]) * unit, int(match[2]) * unit


def _cores(line: str) -> tuple[Core | None, ...]:
    match = _CPU.search(line)
    texts = match[1].split(",") if match else []
    cores = [_CORE.fullmatch(text) for text in texts]
    if any(core is None and text != "off" for core, text in zip(cores, texts, strict=True)):
        return ()
    return tuple(Core(int(core[1]), int(core[2]) if core[2] else None) if core else None for core in cores)


def _load(line: str, name: str) -> tuple[int | None, tuple[int, ...]]:
    """As "GR3D_FREQ 12%@[1300,1300]", "12%@1300", "12%", or "@[1000]" without a load."""
    match = re.search(_LOAD.format(name), line, re.ASCII)
    if match is None:
        return None, ()
    clocks = tuple(int(text) for text in (match[2] or "").split(",") if text)
    return (int(match[1]) if match[1] else None), clocks


def _celsius(text: str) -> float | None:
    value = float(text)
    return value if is_temperature(value) else None
