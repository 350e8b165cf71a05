"""The costs of the runtime in one run: time, throughput, import, memory, disk and lateness, each with its goal."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgecascade.benchmarks.cache import cache_folder
from edgecascade.benchmarks.packages import sha256_of
from edgecascade.benchmarks.pairs.flagship import Protocol, prepare_flagship
from edgecascade.benchmarks.pairs.prepared import Prepared
from edgecascade.benchmarks.ratio import Ratio
from edgecascade.benchmarks.report import LOWER, write_study
from edgecascade.benchmarks.stored import Steps, at_once, stored_steps
from edgecascade.types.estimate import Estimate
from studies.footprint import installed_size, measure_import, measure_lateness, measure_memory
from studies.speed import HeadCost, measure_head_cost, measure_hot_path, measure_stream, tiny_cascade
from studies.wire_cost import measure_wire_cost

__all__ = ["LATE_GOAL", "MEMORY_GOAL", "SIZE_GOAL", "RuntimeCosts", "main", "measure_runtime_costs", "runtime_steps"]

MEMORY_GOAL, SIZE_GOAL = 5.0, 1.0  # MiB
LATE_GOAL = 2.0  # ms


@dataclass(frozen=True)
class RuntimeCosts:
    """Everything that was measured.

    Attributes:
        head: The cost of the folded head on the flagship's local model.
        ratios: Ratios of the hot path, streams and imports.
        memory: Peak resident MiB of a process that uses `Cascade`.
        bare_memory: That of a process with a bare session of the same file.
        installed: MiB of the files on the device.
        lateness: Seconds beyond the deadline, 99.9th percentile, with a remote that never replies.
        overslept: The same for a bare wait.
    """

    head: HeadCost
    ratios: tuple[Ratio, ...]
    memory: Estimate = field(metadata=LOWER)
    bare_memory: Estimate
    installed: float
    lateness: Estimate = field(metadata=LOWER)
    overslept: Estimate

    def __str__(self) -> str:
        """Return one line of text for each."""
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


def measure_runtime_costs(
    flagship: Prepared, cache: Path, steps: Steps = at_once, *, rounds: int = 200, triton: bool = True
) -> RuntimeCosts:
    """Measure on a tiny network and on the flagship's local model, in `runtime_steps` steps.

    Args:
        flagship: The pair.
        cache: The folder of the environment for tritonclient.
        steps: Stores what is measured.
        rounds: Calls of each function of the hot path, for each of 15 pairs of sessions.
        triton: Whether to compare with tritonclient too, in an environment of 500 MB.
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
    return RuntimeCosts(
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
    """Return the number of steps of `measure_runtime_costs`."""
    return 7 + triton


def _said(value: float, goal: float) -> str:
    return f"goal <= {goal:g}: {'met' if value <= goal else 'missed'}"


def _milliseconds(seconds: Estimate) -> str:
    ends = f"{seconds.low * 1e3:.2f} to {seconds.high * 1e3:.2f}"
    return f"{seconds.value * 1e3:.2f} ms ({ends}, n = {seconds.n})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what an interrupted run did not, print, and write the result."""
    parser = ArgumentParser(prog="python -m studies.runtime_costs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="Calls of each function for each pair (default: 200).")
    parser.add_argument("--no-triton", action="store_true", help="Leave out tritonclient (an environment of 500 MB).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    cache, triton = cache_folder(), not asked.no_triton
    flagship = prepare_flagship(Protocol(), cache)
    about = {"rounds": asked.rounds, "cascade": sha256_of(flagship.cascade)}
    with stored_steps(asked.out / "steps", about, runtime_steps(triton=triton)) as steps:
        found = measure_runtime_costs(flagship, cache, steps, rounds=asked.rounds, triton=triton)
        command = f"python -m studies.runtime_costs --rounds {asked.rounds}"
        write_study(asked.out, "runtime", found, command=command, summary=str(found))
    print(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
