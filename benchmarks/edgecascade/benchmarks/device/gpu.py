"""NVIDIA GPUs, as nvidia-smi tells of them.

Its output is known from documentation and from published recordings only, since no such GPU was at hand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgecascade.benchmarks.device.system import CommandRunner, command_output

__all__ = ["Gpu", "GpuPower", "decode_clock_reasons", "parse_nvidia_smi", "query_gpus"]

# `clocks_event_reasons` is called `clocks_throttle_reasons` by drivers before 535, which refuse the new name.
_GPU_FIELDS = "index,name,power.draw,power.limit,clocks.sm,clocks.max.sm,temperature.gpu,clocks_{}_reasons.active"
_CLOCK_REASONS = (
    "idle",
    "application clocks",
    "software power cap",
    "hardware slowdown",
    "sync boost",
    "software thermal slowdown",
    "hardware thermal slowdown",
    "hardware power brake",
    "display clocks",
)


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, as nvidia-smi tells; None is what it does not support.

    Attributes:
        index: number.
        name: product.
        watts: of the whole board; a mean over the last second on Ampere and later, GA100 excepted.
        limit_watts: the power limit.
        megahertz: of the streaming multiprocessors, now.
        maximum_megahertz: their highest.
        celsius: of the chip.
        clock_reasons: why the clock is not higher; empty if nothing holds it.
    """

    index: int
    name: str
    watts: float | None
    limit_watts: float | None
    megahertz: float | None
    maximum_megahertz: float | None
    celsius: float | None
    clock_reasons: tuple[str, ...] | None


@dataclass(frozen=True)
class GpuPower:
    """The power of one GPU; every reading starts a process, which takes tens of milliseconds.

    Attributes:
        index: number of the GPU.
        product: its name.
        run: gives a command's output.
    """

    index: int
    product: str
    run: CommandRunner = command_output

    @property
    def name(self) -> str:
        """As "GPU 0 NVIDIA L4 (nvidia-smi power.draw)"."""
        return f"GPU {self.index} {self.product} (nvidia-smi power.draw)"

    def watts(self) -> float | None:
        """Now, or over the last second: see `Gpu.watts`."""
        query = ("--query-gpu=power.draw", "--format=csv,noheader,nounits")
        return _figure(self.run("nvidia-smi", f"--id={self.index}", *query) or "")


def query_gpus(run: CommandRunner = command_output) -> tuple[Gpu, ...] | None:
    """The NVIDIA GPUs of this machine; None if nvidia-smi is missing or fails."""
    for word in ("event", "throttle"):
        text = run("nvidia-smi", f"--query-gpu={_GPU_FIELDS.format(word)}", "--format=csv,noheader,nounits")
        if text is not None and (gpus := parse_nvidia_smi(text)) is not None:
            return gpus
    return None


def parse_nvidia_smi(text: str) -> tuple[Gpu, ...] | None:
    """GPUs in the CSV that `query_gpus` asks for; lines that are none are left out, and None if all are."""
    rows = [[field.strip() for field in line.split(",")] for line in text.splitlines()]
    gpus = [_gpu(row) for row in rows if len(row) >= 8 and re.fullmatch(r"\d{1,4}", row[0])]
    return tuple(gpus) or None


def decode_clock_reasons(text: str) -> tuple[str, ...] | None:
    """NVML's clock event reasons in words, from "0x0000000000000004"; None if `text` is no such value."""
    try:
        bits = int(text.strip(), 16)
    except ValueError:
        return None
    return tuple(reason for bit, reason in enumerate(_CLOCK_REASONS) if bits >> bit & 1)


def _gpu(row: Sequence[str]) -> Gpu:
    watts, limit, megahertz, maximum, celsius = (_figure(text) for text in row[-6:-1])
    name = ", ".join(row[1:-6])
    return Gpu(int(row[0]), name, watts, limit, megahertz, maximum, celsius, decode_clock_reasons(row[-1]))


def _figure(text: str) -> float | None:
    """A finite number; "[N/A]" and "[Not Supported]" are none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
