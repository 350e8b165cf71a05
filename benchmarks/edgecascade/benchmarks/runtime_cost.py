"""What the runtime costs, all of it in one run: time, throughput, import, memory and disk, each beside its goal."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecascade.benchmarks.footprint import installed_size, measure_import, measure_memory
from edgecascade.benchmarks.head_cost import HeadCost, measure_head_cost
from edgecascade.benchmarks.hot_path import measure_hot_path, tiny_cascade
from edgecascade.benchmarks.lateness import measure_lateness
from edgecascade.benchmarks.prepared import Prepared
from edgecascade.benchmarks.ratio import Ratio
from edgecascade.benchmarks.steps import Steps, at_once
from edgecascade.benchmarks.stream_speed import measure_stream
from edgecascade.benchmarks.wire_cost import measure_wire_cost
from edgecascade.types.estimate import Estimate

__all__ = ["LATE_GOAL", "MEMORY_GOAL", "SIZE_GOAL", "RuntimeCost", "measure_runtime_cost", "runtime_steps"]

MEMORY_GOAL, SIZE_GOAL = 5.0, 1.0  # MiB
LATE_GOAL = 2.0  # ms


@dataclass(frozen=True)
class RuntimeCost:
    """Everything that was measured.

    Attributes:
        head: what the folded head costs on the flagship's local model.
        ratios: of the hot path, streams and imports.
        memory: resident MiB of a process that uses `Cascade`, at most.
        bare_memory: of one with a bare session of the same file.
        installed: MiB of the device's part.
        lateness: seconds beyond the deadline, 99.9th percentile, with a remote that never answers.
        overslept: the same of a bare wait.
    """

    head: HeadCost
    ratios: tuple[Ratio, ...]
    memory: Estimate
    bare_memory: Estimate
    installed: float
    lateness: Estimate
    overslept: Estimate

    def __str__(self) -> str:
        """One line each, as they are printed and kept."""
        beyond, late = self.memory.value - self.bare_memory.value, self.lateness
        spread = [f"{one.value:.1f} ({one.low:.1f} to {one.high:.1f})" for one in (self.memory, self.bare_memory)]
        return "\n".join(
            [
                str(self.head),
                *map(str, self.ratios),
                f"memory beyond a bare session: {beyond:.1f} MiB; {_said(beyond, MEMORY_GOAL)}; "
                f"medians {spread[0]} and {spread[1]} MiB, n = {self.memory.n} processes each",
                f"beyond the deadline, 99.9th percentile: {_milliseconds(late)}; "
                f"{_said(late.value * 1e3, LATE_GOAL)}; of a bare wait {_milliseconds(self.overslept)}",
                f"installed beyond numpy and onnxruntime: {self.installed:.2f} MiB before compilation; "
                f"{_said(self.installed, SIZE_GOAL)}",
            ]
        )


def measure_runtime_cost(
    flagship: Prepared, cache: Path, steps: Steps = at_once, *, rounds: int = 200, triton: bool = True
) -> RuntimeCost:
    """Measure on a tiny network and on the flagship's local model, in `runtime_steps` steps.

    Args:
        flagship: the pair.
        cache: keeps the environment for tritonclient.
        steps: keep what is measured.
        rounds: calls of each function of the hot path, for each of 15 pairs of sessions.
        triton: whether to compare with tritonclient too, in an environment of 500 MB.
    """
    path, images = flagship.cascade, np.asarray(flagship.test.inputs, np.uint8)
    some = list(images[:1000])

    def small() -> list[Ratio]:
        with tempfile.TemporaryDirectory() as folder:
            tiny, numbers = tiny_cascade(Path(folder))
            return measure_hot_path("784-128-10 network", tiny, numbers, goal=1.10, rounds=5 * rounds)

    def large() -> list[Ratio]:
        return measure_hot_path("EfficientNet-Lite0 at 96 px, int8", path, some, goal=1.01, rounds=rounds)

    hot = [*steps(list[Ratio], "hot path, tiny network", small), *steps(list[Ratio], "hot path, flagship", large)]
    memory, bare = steps(tuple[Estimate, Estimate], "memory", lambda: measure_memory(path, images[0]))
    lateness, overslept = steps(tuple[Estimate, Estimate], "lateness", lambda: measure_lateness(path, some))
    return RuntimeCost(
        head=steps(HeadCost, "folded head", lambda: measure_head_cost(path, images, rounds=rounds)),
        ratios=(
            *hot,
            steps(Ratio, "stream", lambda: measure_stream(path, some)),
            steps(Ratio, "import", measure_import),
            *(steps(list[Ratio], "forwards to Triton", lambda: measure_wire_cost(cache)) if triton else ()),
        ),
        memory=memory,
        bare_memory=bare,
        installed=installed_size(),
        lateness=lateness,
        overslept=overslept,
    )


def runtime_steps(*, triton: bool) -> int:
    """How many steps `measure_runtime_cost` takes."""
    return 7 + triton


def _said(value: float, goal: float) -> str:
    return f"goal <= {goal:g}: {'met' if value <= goal else 'missed'}"


def _milliseconds(seconds: Estimate) -> str:
    ends = f"{seconds.low * 1e3:.2f} to {seconds.high * 1e3:.2f}"
    return f"{seconds.value * 1e3:.2f} ms ({ends}, n = {seconds.n})"
