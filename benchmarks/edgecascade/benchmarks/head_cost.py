"""What the folded head costs at run time: the same body with it and without, in turn, in one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.benchmarks.ratio import Ratio, medians, ratio
from edgecascade.export import unfold
from edgecascade.export.fold import OUTPUTS
from edgecascade.export.graph import load_model
from edgecascade.runtime.engine import open_session

__all__ = ["HeadCost", "body_output", "measure_head_cost"]

_GOAL = 1.02


@dataclass(frozen=True)
class HeadCost:
    """Both, side by side, one thread, one input a run.

    Attributes:
        bound: through buffers bound to both sessions, as the runtime does it.
        run: through `session.run`, which also makes new arrays of five outputs instead of one.
    """

    bound: Ratio
    run: Ratio

    def __str__(self) -> str:
        """Two lines."""
        return f"{self.bound}\n{self.run}"


def measure_head_cost(
    path: str | os.PathLike[str], inputs: NDArray[Any], *, rounds: int = 200, builds: int = 45
) -> HeadCost:
    """Time a cascade model and the body inside it on the same inputs, one by one.

    Args:
        path: a cascade model with one input.
        inputs: [n, ...], taken in turn.
        rounds: runs of each, for every pair of sessions.
        builds: pairs of sessions.
    """
    model = load_model(path)
    files = {"folded": model.SerializeToString(), "bare": unfold(model).SerializeToString()}
    outputs = {"folded": list(OUTPUTS), "bare": [body_output(model)]}
    batches = [one[None] for one in inputs]

    def running() -> dict[str, Callable[[int], object]]:
        return {name: _running(open_session(files[name]), outputs[name], batches) for name in files}

    def bound() -> dict[str, Callable[[int], object]]:
        return {name: _bound(open_session(files[name]), outputs[name], batches) for name in files}

    through, ordinary = (medians(build, builds=builds, rounds=rounds) for build in (bound, running))
    return HeadCost(
        bound=ratio("folded head, bound buffers", through["folded"], through["bare"], goal=_GOAL),
        run=ratio("folded head, session.run", ordinary["folded"], ordinary["bare"]),
    )


def body_output(model: ModelProto) -> str:
    """The name of the body's own output in a cascade model."""
    return str(next(output.name for output in model.graph.output if output.name not in OUTPUTS))


def _running(session: Any, outputs: Sequence[str], batches: Sequence[NDArray[Any]]) -> Callable[[int], object]:
    name = session.get_inputs()[0].name
    return lambda turn: session.run(outputs, {name: batches[turn % len(batches)]})


def _bound(session: Any, outputs: Sequence[str], batches: Sequence[NDArray[Any]]) -> Callable[[int], object]:
    """Runs with every output in a buffer made once."""
    name, binding = session.get_inputs()[0].name, session.io_binding()
    first = session.run(outputs, {name: batches[0]})
    kept = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in first]
    for output, value in zip(outputs, kept, strict=True):
        binding.bind_ortvalue_output(output, value)

    def run(turn: int) -> object:
        binding.bind_cpu_input(name, batches[turn % len(batches)])
        session.run_with_iobinding(binding)
        return kept

    return run
