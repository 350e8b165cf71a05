"""What `predict` costs when the answer stays on the device: against the bare model, and against doing it by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.benchmarks.head_cost import body_output
from edgecascade.benchmarks.ratio import Ratio, medians, ratio
from edgecascade.calibration import AdvantageTable, DecisionRule
from edgecascade.export import fold, save_model, unfold
from edgecascade.export.graph import load_model
from edgecascade.runtime import Cascade
from edgecascade.runtime.engine import open_session
from edgecascade.types.document import Calibration, CascadeDocument, PolicyRecord, SourceRecord
from edgecascade.types.estimate import Estimate, OperatingPoint

__all__ = ["measure_hot_path", "tiny_cascade"]

_KEEP_ALL = -2.0  # below every advantage


def measure_hot_path(
    name: str,
    path: str | os.PathLike[str],
    inputs: Sequence[NDArray[Any]],
    *,
    goal: float,
    rounds: int,
    builds: int = 15,
) -> list[Ratio]:
    """`Cascade.predict`, `session.run` of the body inside, and the usual lines of numpy after it, in turn.

    Args:
        name: of the model, for the table.
        path: a cascade model with one input whose body gives logits.
        inputs: without the batch axis, taken in turn.
        goal: for `predict` against the bare run.
        rounds: calls of each, for every pair of sessions.
        builds: pairs of sessions.
    """
    model = load_model(path)
    body, output = unfold(model).SerializeToString(), body_output(model)

    def predicting() -> dict[str, Callable[[int], object]]:
        cascade = Cascade.load(path, threshold=_KEEP_ALL)
        return {"ours": lambda turn: cascade.predict(inputs[turn % len(inputs)]), "bare": _bare(body, output, inputs)}

    def by_hand() -> dict[str, Callable[[int], object]]:
        run = _bare(body, output, inputs)
        return {"by hand": lambda turn: _decision(run(turn)[0][0]), "bare": _bare(body, output, inputs)}

    ours, theirs = medians(predicting, builds=builds, rounds=rounds), medians(by_hand, builds=builds, rounds=rounds)
    return [
        ratio(f"predict against a bare run, {name}", ours["ours"], ours["bare"], goal=goal),
        ratio(f"numpy by hand against a bare run, {name}", theirs["by hand"], theirs["bare"]),
    ]


def _bare(body: bytes, output: str, inputs: Sequence[NDArray[Any]]) -> Callable[[int], list[NDArray[Any]]]:
    session = open_session(body)
    name = session.get_inputs()[0].name

    def run(turn: int) -> list[NDArray[Any]]:
        got: list[NDArray[Any]] = session.run([output], {name: inputs[turn % len(inputs)][None]})
        return got

    return run


def _decision(logits: NDArray[Any]) -> tuple[int, float, bool]:
    """What people write: softmax with a temperature, and a threshold."""
    scaled = logits / np.float32(1.5)
    raised = np.exp(scaled - scaled.max())
    probabilities = raised / raised.sum()
    label = int(probabilities.argmax())
    confidence = float(probabilities[label])
    return label, confidence, confidence < 0.8


def tiny_cascade(folder: Path, hidden: int = 128) -> tuple[Path, list[NDArray[np.float32]]]:
    """A network of two layers on 784 numbers, with random weights: for its time, which is tens of microseconds."""
    rng = np.random.default_rng(0)
    edges, values = (np.linspace(0.1, 0.9, n).astype(np.float32) for n in (9, 10))
    rule = DecisionRule(1.5, AdvantageTable(edges, values, np.full(10, 100)), threshold=0.0)
    unmeasured = Estimate(0.0, 0.0, 1.0, 1)
    calibration = Calibration("temperature", 1.5, 1, *[unmeasured] * 5)
    point = OperatingPoint(0.0, 0.5, 0.5, (0.0, 1.0), (0.0, 1.0), (0.0, 1.0), 1)
    document = CascadeDocument(
        written_by="edgecascade.benchmarks",
        labels=tuple(str(label) for label in range(10)),
        preprocessing=None,
        calibration=calibration,
        remote=replace(calibration, temperature=1.0),
        remote_scores="logits",
        policy=PolicyRecord(
            score="confidence",
            merge="replace",
            estimate="labels",
            objective="none: random weights",
            threshold=0.0,
            chosen=point,
            advice=(),
            bins=10,
            edges=tuple(edges.tolist()),
            values=tuple(values.tolist()),
            counts=(100,) * 10,
            intervals=((0.0, 1.0),) * 10,
            considered=(),
        ),
        operating_curve=(point,),
        certificate=None,
        source=SourceRecord("none", "0" * 64, "logits", "logits", "0" * 64),
    )
    path = folder / "tiny.onnx"
    save_model(fold(_two_layers(rng, hidden), logits="logits", rule=rule, document=document), path)
    return path, list(rng.normal(size=(64, 784)).astype(np.float32))


def _two_layers(rng: np.random.Generator, hidden: int) -> ModelProto:
    shapes = {"w1": (784, hidden), "b1": (hidden,), "w2": (hidden, 10), "b2": (10,)}
    weights = [
        numpy_helper.from_array((rng.normal(size=shape) / 28).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"]),
        ],
        "two layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 784])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
