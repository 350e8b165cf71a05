"""What the folded head costs at run time: the same body with it and without, in turn, in one process."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.benchmarks.progress import progress
from edgecascade.calibration import bootstrap
from edgecascade.export import unfold
from edgecascade.export.fold import OUTPUTS
from edgecascade.export.graph import load_model
from edgecascade.runtime.session import open_session

__all__ = ["HeadCost", "measure_head_cost"]

_WARM_UP = 50


@dataclass(frozen=True)
class HeadCost:
    """Both, side by side.

    Attributes:
        runs: of each, one after the other in turn, one input a run.
        bare_ms: median milliseconds of the body alone.
        folded_ms: median milliseconds of the cascade model, all five outputs asked for.
        ratio: median of the ratios of neighbouring runs.
        low: lower end of its 95 % interval, by bootstrap over pairs of runs.
        high: upper end.
        goal: what the ratio may be.
    """

    runs: int
    bare_ms: float
    folded_ms: float
    ratio: float
    low: float
    high: float
    goal: float

    def __str__(self) -> str:
        verdict = "met" if self.ratio <= self.goal else "missed"
        return (
            f"head: {self.ratio:.4f} ({self.low:.4f} to {self.high:.4f}) of the bare body's time, goal {self.goal:g}: "
            f"{verdict}; medians {self.folded_ms:.3f} and {self.bare_ms:.3f} ms, {self.runs} runs of each in turn, "
            "one thread"
        )


def measure_head_cost(
    path: str | os.PathLike[str], inputs: NDArray[Any], *, runs: int = 2000, goal: float = 1.02
) -> HeadCost:
    """Time a cascade model and the body inside it on the same inputs, one by one.

    Args:
        path: a cascade model with one input.
        inputs: [n, ...], taken in turn.
        runs: of each.
        goal: for the ratio.
    """
    model = load_model(path)
    folded, bare = (open_session(one.SerializeToString()) for one in (model, unfold(model)))
    name, logits = folded.get_inputs()[0].name, _body_output(model)
    wanted = {id(folded): list(OUTPUTS), id(bare): [logits]}

    def timed(session: Any, x: NDArray[Any]) -> float:
        started = time.perf_counter()
        session.run(wanted[id(session)], {name: x})
        return time.perf_counter() - started

    batches = [inputs[i % len(inputs)][None] for i in range(runs + _WARM_UP)]
    pairs = []
    for position, x in enumerate(progress(batches, "head", len(batches))):
        first, second = (folded, bare) if position % 2 else (bare, folded)
        seconds = {id(first): timed(first, x), id(second): timed(second, x)}
        pairs.append((seconds[id(folded)], seconds[id(bare)]))
    measured = np.array(pairs[_WARM_UP:])
    ratios = measured[:, 0] / measured[:, 1]
    spread = bootstrap(np.median, ratios)
    return HeadCost(
        runs=runs,
        bare_ms=float(np.median(measured[:, 1]) * 1e3),
        folded_ms=float(np.median(measured[:, 0]) * 1e3),
        ratio=float(np.median(ratios)),
        low=spread.low,
        high=spread.high,
        goal=goal,
    )


def _body_output(model: ModelProto) -> str:
    return str(next(output.name for output in model.graph.output if output.name not in OUTPUTS))
