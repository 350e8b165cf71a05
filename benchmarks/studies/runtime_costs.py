"""The costs of the runtime in one run: time, throughput, import, memory, disk and lateness, each with its goal."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import cache_folder, sha256_of
from edgecascade.benchmarks.pairs.flagship import Protocol, prepare_flagship
from edgecascade.benchmarks.pairs.prepared import Prepared
from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.benchmarks.report import LOWER, write_study
from edgecascade.benchmarks.stored import Steps, at_once, stored_steps
from edgecascade.calibration import quantile
from edgecascade.runtime import Cascade, OpenInference
from edgecascade.types.estimate import Estimate
from studies.overshoot import Overshoot, measure_overshoots
from studies.speed import HeadCost, measure_head_cost, measure_hot_path, measure_stream, tiny_cascade

__all__ = [
    "LATE_GOAL",
    "MEMORY_GOAL",
    "SIZE_GOAL",
    "STEPS",
    "RuntimeCosts",
    "black_hole",
    "installed_size",
    "main",
    "measure_import",
    "measure_lateness",
    "measure_memory",
    "measure_runtime_costs",
]

MEMORY_GOAL, SIZE_GOAL = 5.0, 1.0  # MiB
LATE_GOAL = 2.0  # ms beyond a bare timer
STEPS = 8  # of `measure_runtime_costs`
_IMPORT = "import time; a = time.perf_counter(); {}; print(time.perf_counter() - a)"
_THEIRS = "import onnxruntime"
_OURS = "from edgecascade.runtime import Cascade"
_BARE = """
import onnxruntime as ort, numpy as np, sys
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
options.log_severity_level = 3
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
x = np.load(sys.argv[2], allow_pickle=False)
for _ in range(200):
    session.run(None, {session.get_inputs()[0].name: x[None]})
"""
_CASCADE = """
from edgecascade.runtime import Cascade
import numpy as np, sys
cascade = Cascade.load(sys.argv[1], threshold=-2.0)
x = np.load(sys.argv[2], allow_pickle=False)
for _ in range(200):
    cascade.predict(x)
"""
# Not the figure of getrusage, which a new process inherits from its parent.
_RESIDENT = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


@dataclass(frozen=True)
class RuntimeCosts:
    """Everything that was measured.

    Attributes:
        head: The cost of the folded head on the flagship's local model.
        ratios: Ratios of the hot path, streams and imports.
        memory: Peak resident MiB of a process that uses `Cascade`.
        bare_memory: That of a process with a bare session of the same file.
        installed: MiB of the files that `pip install edgecascade` unpacks, before compilation.
        on_device: MiB of those of the packages that a device runs, `runtime` and `types`.
        lateness: Seconds beyond the deadline, 99.9th percentile, with a remote that never replies.
        overslept: The same for a bare wait.
        overshoots: The same where the deadline costs most: outbox, large inputs, asyncio, hostile remote.
    """

    head: HeadCost
    ratios: tuple[Ratio, ...]
    memory: Estimate = field(metadata=LOWER)
    bare_memory: Estimate
    installed: float
    on_device: float
    lateness: Estimate = field(metadata=LOWER)
    overslept: Estimate
    overshoots: tuple[Overshoot, ...] = ()

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
                f"of a bare wait {_milliseconds(self.overslept)}; "
                f"{_said(1e3 * (late.value - self.overslept.value), LATE_GOAL)} beyond it",
                *(f"  {one}; {_said(1e3 * one.beyond, LATE_GOAL)} beyond it" for one in self.overshoots),
                f"files that a device runs: {self.on_device:.2f} MiB; {_said(self.on_device, SIZE_GOAL)}; "
                f"with all else that the same wheel installs: {self.installed:.2f} MiB",
            ]
        )


def measure_runtime_costs(flagship: Prepared, steps: Steps = at_once, *, rounds: int = 200) -> RuntimeCosts:
    """Measure on a tiny network and on the flagship's local model, in `STEPS` steps.

    Args:
        flagship: The pair.
        steps: Stores what is measured.
        rounds: Calls of each function of the hot path, for each of 15 pairs of sessions.
    """
    path, images = flagship.cascade, np.asarray(flagship.test.inputs, np.uint8)
    some = list(images[:1000])

    def small() -> list[Ratio]:
        with tempfile.TemporaryDirectory() as folder:
            tiny, numbers = tiny_cascade(Path(folder))
            return measure_hot_path("784-128-10 network", tiny, numbers, goal=1.45, rounds=5 * rounds)

    def large() -> list[Ratio]:
        return measure_hot_path("EfficientNet-Lite0 at 96 px, int8", path, some, goal=1.03, rounds=rounds)

    hot = [*steps(list[Ratio], "hot path, tiny network", small), *steps(list[Ratio], "hot path, flagship", large)]
    memory, bare = steps(tuple[Estimate, Estimate], "memory", lambda: measure_memory(path, images[0]))
    overshoots = steps(list[Overshoot], "overshoots", lambda: measure_overshoots(path, some))
    lateness, overslept = steps(tuple[Estimate, Estimate], "lateness", lambda: measure_lateness(path, some))
    return RuntimeCosts(
        head=steps(HeadCost, "folded head", lambda: measure_head_cost(path, images, rounds=rounds)),
        ratios=(
            *hot,
            steps(Ratio, "stream", lambda: measure_stream(path, some)),
            steps(Ratio, "import", measure_import),
        ),
        memory=memory,
        bare_memory=bare,
        installed=installed_size(),
        on_device=installed_size(("runtime", "types")),
        lateness=lateness,
        overslept=overslept,
        overshoots=tuple(overshoots),
    )


def measure_import(rounds: int = 41, goal: float = 1.10) -> Ratio:
    """Time the import of `Cascade` against onnxruntime's, in turn, in new processes; compiled, as pip leaves them."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as compiled:
        for _ in range(rounds + 1):
            theirs.append(float(_python(_IMPORT.format(_THEIRS), compiled=compiled)))
            ours.append(float(_python(_IMPORT.format(_OURS), compiled=compiled)))
    return ratio(
        "import Cascade against import onnxruntime",
        np.array(ours[1:]),  # the first of each compiles
        np.array(theirs[1:]),
        goal=goal,
        unit="ms",
        scale=1e3,
    )


def measure_memory(path: str | os.PathLike[str], x: NDArray[Any], rounds: int = 7) -> tuple[Estimate, Estimate]:
    """Return the peak resident MiB of a process that answers by `predict`, and of one with a bare session (Linux only).

    Args:
        path: A cascade model with one input.
        x: One input; each process answers it 200 times.
        rounds: Processes of each, in turn.
    """
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "x.npy")
        np.save(saved, x)
        for _ in range(rounds):
            theirs.append(int(_python(_BARE + _RESIDENT, os.fspath(path), saved)) / 1024)
            ours.append(int(_python(_CASCADE + _RESIDENT, os.fspath(path), saved)) / 1024)
    return quantile(np.array(ours), 0.5), quantile(np.array(theirs), 0.5)


def installed_size(parts: Sequence[str] = ("runtime", "types", "calibration", "export", "chat", "deploy")) -> float:
    """Return the MiB of the files of some parts of the package, before compilation."""
    roots = [Path(root) / part for root in import_module("edgecascade").__path__ for part in parts]
    files = (file for root in roots for file in root.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return sum(file.stat().st_size for file in files) / 2**20


def _python(code: str, *arguments: str, compiled: str | None = None) -> str:
    """Return what a new Python prints that runs this code; its compiled modules go to a folder, if one is given."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if compiled is not None:
        environment["PYTHONPYCACHEPREFIX"] = compiled
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def measure_lateness(
    path: str | os.PathLike[str], inputs: Sequence[NDArray[Any]], *, deadline: float = 0.02, n: int = 3000
) -> tuple[Estimate, Estimate]:
    """Return the 99.9th percentile of seconds after the deadline, when the remote accepts requests and never replies.

    The second estimate is that of the seconds by which a bare wait of the same length oversleeps, in turn.

    Args:
        path: A cascade model with one input.
        inputs: Inputs without the batch axis, accepted in turn.
        deadline: Seconds.
        n: The number of answers.
    """
    late, overslept = [], []
    never = threading.Event()
    with (
        black_hole() as address,
        Cascade.load(path, remote=OpenInference(address), deadline=deadline, threshold=2.0) as cascade,
    ):
        for i in range(n):
            late.append(cascade.predict(inputs[i % len(inputs)]).elapsed - deadline)
            started = time.monotonic()
            never.wait(deadline)
            overslept.append(time.monotonic() - started - deadline)
    return quantile(np.array(late), 0.999), quantile(np.array(overslept), 0.999)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Give the address of a server that accepts everything and never replies."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    accepted: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted.append(listener.accept()[0])
                for old in accepted[:-64]:  # their clients have left
                    old.close()
                del accepted[:-64]

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v2/models/m"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for one in accepted:
            one.close()


def _said(value: float, goal: float) -> str:
    return f"goal <= {goal:g}: {'met' if value <= goal else 'missed'}"


def _milliseconds(seconds: Estimate) -> str:
    ends = f"{seconds.low * 1e3:.2f} to {seconds.high * 1e3:.2f}"
    return f"{seconds.value * 1e3:.2f} ms ({ends}, n = {seconds.n})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what an interrupted run did not, print, and write the result."""
    parser = ArgumentParser(prog="python -m studies.runtime_costs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="Calls of each function for each pair (default: 200).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    flagship = prepare_flagship(Protocol(), cache_folder())
    about = {"rounds": asked.rounds, "cascade": sha256_of(flagship.cascade)}
    with stored_steps(asked.out / "steps", about, STEPS) as steps:
        found = measure_runtime_costs(flagship, steps, rounds=asked.rounds)
        command = f"python -m studies.runtime_costs --rounds {asked.rounds}"
        write_study(asked.out, "runtime", found, command=command, summary=str(found))
    print(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
