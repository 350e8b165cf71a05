"""What forwarding does to throughput: a stream of which a share waits for a remote, against one that never asks."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.runtime import Cascade, Deadline
from edgecascade.runtime.batch import Batch, size

__all__ = ["Distant", "measure_stream"]


class Distant:
    """A remote that is a round trip away and costs this machine nothing else: it sleeps.

    Args:
        seconds: of the round trip.
        classes: how many scores it gives.
    """

    def __init__(self, seconds: float, classes: int) -> None:
        self._seconds, self._classes = seconds, classes

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[Any]:  # noqa: ARG002
        """The same scores for every input."""
        time.sleep(self._seconds)
        return np.eye(1, self._classes, dtype=np.float32).repeat(size(inputs), axis=0)

    def close(self) -> None:
        """Nothing to let go of."""


def measure_stream(
    path: str | os.PathLike[str],
    inputs: Sequence[NDArray[Any]],
    *,
    share: float = 0.3,
    seconds: float = 0.05,
    goal: float = 0.95,
    rounds: int = 31,
    length: int = 5000,
) -> Ratio:
    """Answers per second of `Cascade.stream` with a share forwarded, against the same stream kept local.

    The threshold is set so that the share of these inputs is forwarded.

    Args:
        path: a cascade model with one input.
        inputs: without the batch axis, taken in turn.
        share: of inputs forwarded.
        seconds: of the round trip to the remote.
        goal: for the ratio.
        rounds: of each, in turn.
        length: answers in one round, whose last ones wait for the remote with nothing else to do.
    """
    with Cascade.load(path) as probe:
        advantages = np.sort([answer.advantage for answer in probe.stream(inputs)])
        classes = len(probe.document.labels)
    threshold = float(np.nextafter(advantages[int(share * len(inputs))], -np.inf, dtype=np.float32))
    speeds: dict[str, list[float]] = {"local": [], "asking": []}
    with (
        Cascade.load(path, threshold=-2.0) as local,
        Cascade.load(path, remote=Distant(seconds, classes), deadline=10.0, threshold=threshold) as asking,
    ):
        for turn in range(rounds + 1):
            for name, cascade in (("local", local), ("asking", asking))[:: 1 if turn % 2 else -1]:
                started = time.perf_counter()
                answered = sum(1 for _ in cascade.stream(islice(cycle(inputs), length)))
                speeds[name].append(answered / (time.perf_counter() - started))
        counts = asking.counts()
    forwarded = counts.forwarded / counts.inputs
    return ratio(
        f"stream with {forwarded:.0%} forwarded, {seconds * 1e3:g} ms away, against local only",
        np.array(speeds["asking"][1:]),
        np.array(speeds["local"][1:]),
        goal=goal,
        at_least=True,
        unit="answers/s",
        scale=1.0,
    )
