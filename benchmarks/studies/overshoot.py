"""Overshoot: how long after its deadline an answer comes, where it costs most, beside a bare timer at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.report import LOWER
from edgecascade.calibration import quantile
from edgecascade.runtime import Answer, Cascade, OpenInference, Outbox, Reason
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate
from studies.hostile_remote import hostile_remote

__all__ = ["SCENARIOS", "Overshoot", "Scenario", "measure_overshoots"]

_FRAME = (1080, 1920, 3)  # of uint8
_MOST_IDLE = 20  # openings of a cascade in a row without an answer at the deadline
_PER_FILE = 32  # frames in one outbox, which has room for more; the first answer of a cascade is not counted
_BARE = """
import asyncio, sys, threading, time
seconds, over, late, never = float(sys.argv[2]), threading.Event(), [], threading.Event()

def wait():
    while not over.is_set():
        started = time.monotonic()
        never.wait(seconds)
        late.append(time.monotonic() - started - seconds)

async def wait_in_a_loop():
    never = asyncio.Event()
    while not over.is_set():
        started = time.monotonic()
        try:
            await asyncio.wait_for(never.wait(), seconds)
        except asyncio.TimeoutError:
            late.append(time.monotonic() - started - seconds)

waiting = threading.Thread(target=wait if sys.argv[1] == "thread" else lambda: asyncio.run(wait_in_a_loop()))
waiting.start()
sys.stdin.read()
over.set()
waiting.join()
print(*late)
"""


@dataclass(frozen=True)
class Scenario:
    """What happens at the deadline.

    Attributes:
        remote: `silent` or `hostile`.
        frames: Whether frames of 1080 x 1920 pixels are sent, and stored in an outbox when they get no answer.
        asyncio: Whether the answers are awaited in an event loop.
    """

    remote: str
    frames: bool = False
    asyncio: bool = False

    def __str__(self) -> str:
        return ", ".join(
            [*["asyncio"] * self.asyncio, f"{self.remote} remote", *["outbox and 1080p frames"] * self.frames]
        )


SCENARIOS = (
    Scenario("silent", frames=True),
    Scenario("silent", frames=True, asyncio=True),
    Scenario("hostile"),
    Scenario("hostile", asyncio=True),
    Scenario("hostile", frames=True, asyncio=True),
)


@dataclass(frozen=True)
class Overshoot:
    """Seconds after the deadline in one scenario, and those by which a bare timer in another process overslept.

    Attributes:
        name: The scenario.
        median: Of the answers that had to be given at the deadline.
        late: Their 99.9th percentile.
        largest: The largest.
        bare_median: Of the timer.
        bare_late: Its 99.9th percentile.
        bare_largest: Its largest.
    """

    name: str
    median: float
    late: Estimate = field(metadata=LOWER)
    largest: float
    bare_median: float
    bare_late: Estimate
    bare_largest: float

    @property
    def beyond(self) -> float:
        """Seconds by which the 99.9th percentile exceeds that of the bare timer."""
        return self.late.value - self.bare_late.value

    def __str__(self) -> str:
        ours = _three(self.median, self.late, self.largest)
        return f"{self.name}: {ours}; bare timer {_three(self.bare_median, self.bare_late, self.bare_largest)}"


def _three(median: float, late: Estimate, largest: float) -> str:
    shown = " / ".join(f"{1e3 * seconds:.2f}" for seconds in (median, late.value, largest))
    return f"{shown} ms (median / 99.9 % / largest, n = {late.n})"


def measure_overshoots(
    path: str | os.PathLike[str],
    inputs: Sequence[NDArray[Any]],
    scenarios: Sequence[Scenario] = SCENARIOS,
    *,
    deadline: float = 0.02,
    n: int = 600,
) -> list[Overshoot]:
    """Return the overshoot in each scenario.

    Args:
        path: A cascade model with one input.
        inputs: Inputs without the batch axis, accepted in turn.
        scenarios: What to measure.
        deadline: Seconds.
        n: The number of answers at the deadline in each scenario.
    """
    return [_measure(path, inputs, one, deadline, n) for one in scenarios]


def _measure(
    path: str | os.PathLike[str], inputs: Sequence[NDArray[Any]], scenario: Scenario, deadline: float, n: int
) -> Overshoot:
    late: list[float] = []
    frame = np.random.default_rng(0).integers(0, 256, _FRAME, np.uint8) if scenario.frames else None
    numbers, idle = count(), 0
    with (
        _bare_timer("loop" if scenario.asyncio else "thread", deadline) as overslept,
        hostile_remote(scenario.remote, deadline) as address,
    ):
        while len(late) < n:
            before = len(late)
            with tempfile.TemporaryDirectory() as folder, _opened(path, address, deadline, folder, frame) as cascade:
                some = [inputs[next(numbers) % len(inputs)] for _ in range(1 + min(_PER_FILE, n - len(late)))]
                answers = _awaited(cascade, some, frame) if scenario.asyncio else _called(cascade, some, frame)
            late += [
                took - deadline
                for answer, took in answers[1:]
                if answer.reason is Reason.DEADLINE or took > deadline  # a refusal may come late as well
            ]
            idle = 0 if len(late) > before else idle + 1
            if idle == _MOST_IDLE:
                raise BenchmarkError(f"{scenario}: no answer came at the deadline, but {answers[-1][0].detail!r}")
    ours, bare = np.array(late), np.array(overslept)
    return Overshoot(
        name=str(scenario),
        median=float(np.median(ours)),
        late=quantile(ours, 0.999),
        largest=float(ours.max()),
        bare_median=float(np.median(bare)),
        bare_late=quantile(bare, 0.999),
        bare_largest=float(bare.max()),
    )


def _opened(
    path: str | os.PathLike[str], address: str, deadline: float, folder: str, frame: NDArray[np.uint8] | None
) -> Cascade:
    outbox = None if frame is None else Outbox(Path(folder) / "outbox")
    remote = OpenInference(address)
    return Cascade.load(path, remote=remote, deadline=deadline, threshold=2.0, outbox=outbox)


def _called(
    cascade: Cascade, inputs: Sequence[NDArray[Any]], frame: NDArray[np.uint8] | None
) -> list[tuple[Answer, float]]:
    """Return answers and the seconds that each took."""
    found = []
    for x in inputs:
        original = _new(frame)
        started = time.monotonic()
        answer = cascade.predict(x, original=original)
        found.append((answer, time.monotonic() - started))
    return found


def _awaited(
    cascade: Cascade, inputs: Sequence[NDArray[Any]], frame: NDArray[np.uint8] | None
) -> list[tuple[Answer, float]]:
    async def many() -> list[tuple[Answer, float]]:
        found = []
        for x in inputs:
            original = _new(frame)
            started = time.monotonic()
            answer = await cascade.predict_async(x, original=original)
            found.append((answer, time.monotonic() - started))
        return found

    return asyncio.run(many())


def _new(frame: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    """Return a frame that differs from the one before, as a camera's does."""
    if frame is None:
        return None
    frame[0, :8] = np.frombuffer(os.urandom(24), np.uint8).reshape(8, 3)
    return frame.copy()


@contextlib.contextmanager
def _bare_timer(kind: str, seconds: float) -> Iterator[list[float]]:
    """Run a timer in another process; the list has the seconds by which it overslept once the block has ended."""
    command = [sys.executable, "-c", _BARE, kind, str(seconds)]
    overslept: list[float] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield overslept
        finally:
            overslept += map(float, process.communicate("")[0].split())
