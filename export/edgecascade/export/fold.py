"""Fold the decision into the graph: what the device runs is one file, and every runtime decides alike.

The arithmetic is that of `edgecascade.calibration.decision`, in ONNX operators of opset 13.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecascade.calibration import DecisionRule
from edgecascade.export.errors import ExportError
from edgecascade.export.graph import tensor_names, with_prefix
from edgecascade.runtime.metadata import KEY

__all__ = ["OUTPUTS", "OVERRIDABLE", "fold"]

OUTPUTS = {
    "label": (TensorProto.INT64, ["batch"]),
    "confidence": (TensorProto.FLOAT, ["batch"]),
    "advantage": (TensorProto.FLOAT, ["batch"]),
    "forward": (TensorProto.BOOL, ["batch"]),
    "probabilities": (TensorProto.FLOAT, ["batch", "classes"]),
}
OVERRIDABLE: dict[str, list[int | str | None]] = {
    "temperature": [],
    "threshold": [],
    "advantage_edges": ["edges"],
    "advantage_values": ["bins"],
}
_INNER = "edgecascade/"
_CONSTANTS: dict[str, NDArray[Any]] = {
    "axis": np.array([1], np.int64),
    "two": np.array([2], np.int64),
    "first": np.array([0], np.int64),
    "second": np.array([1], np.int64),
    "tiny": np.array(np.finfo(np.float32).tiny, np.float32),
}
_Step = tuple[str, list[str], str, dict[str, Any]]
# From `scaled`, `largest` and `probabilities` to `score` [batch, 1], as `calibration.routing_score`.
_SCORES: dict[str, list[_Step]] = {
    "confidence": [("Identity", ["largest"], "score", {})],
    "margin": [
        ("TopK", ["scaled", "two"], "top", {"axis": 1}),
        ("Gather", ["top", "first"], "top_1", {"axis": 1}),
        ("Gather", ["top", "second"], "top_2", {"axis": 1}),
        ("Sub", ["top_1", "top_2"], "score", {}),
    ],
    "entropy": [
        ("Max", ["probabilities", "tiny"], "positive", {}),
        ("Log", ["positive"], "logarithm", {}),
        ("Mul", ["probabilities", "logarithm"], "surprise", {}),
        ("ReduceSum", ["surprise", "axis"], "score", {"keepdims": 1}),
    ],
}


def fold(body: ModelProto, *, logits: str, rule: DecisionRule, document: Mapping[str, Any]) -> ModelProto:
    """A copy of the body with the five outputs of a cascade model and its metadata added.

    Temperature, threshold and table are initializers that are also inputs: defaults, which a caller may
    override at `run`.

    Args:
        body: an ONNX model, opset 13 or newer, not yet a cascade model.
        logits: the tensor that holds the logits, float32 or float16 [batch, classes].
        rule: temperature, advantage table and threshold.
        document: JSON for the metadata key `edgecascade`.

    Raises:
        ExportError: the body is a cascade model already, or an input of it has a reserved name.
    """
    if any(entry.key == KEY for entry in body.metadata_props):
        raise ExportError("body: it is a cascade model already; fold the model it was made from")
    inputs = {i.name for i in body.graph.input}
    taken = sorted(filter(_reserved, inputs))
    if taken:
        raise ExportError(f"body: its input {taken[0]!r} has a name that cascade models reserve; rename it")
    model = ModelProto()
    model.CopyFrom(body)
    if any(map(_reserved, tensor_names(body))):
        model, logits = with_prefix(body, "body/"), logits if logits in inputs else f"body/{logits}"
    defaults: dict[str, Any] = {
        "temperature": rule.temperature,
        "threshold": rule.threshold,
        "advantage_edges": rule.table.edges,
        "advantage_values": rule.table.values,
    }
    for name, value in defaults.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, OVERRIDABLE[name]))
    for name, value in _CONSTANTS.items():
        model.graph.initializer.append(numpy_helper.from_array(value, f"{_INNER}{name}"))
    model.graph.node.extend(_head(logits, rule.score))
    for name, (kind, shape) in OUTPUTS.items():
        model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    model.metadata_props.add(key=KEY, value=json.dumps(document, allow_nan=False))
    return model


def _reserved(name: str) -> bool:
    return name in OUTPUTS or name in OVERRIDABLE or name.startswith(_INNER)


def _head(logits: str, score: str) -> list[NodeProto]:
    """The decision; confidence - confidence is 0, or NaN where the confidence is, which must forward."""
    steps: list[_Step] = [
        ("Cast", [logits], "logits", {"to": TensorProto.FLOAT}),
        ("ArgMax", ["logits"], "index", {"axis": 1, "keepdims": 1}),
        ("Squeeze", ["index", "axis"], "label", {}),
        ("Div", ["logits", "temperature"], "scaled", {}),
        ("Softmax", ["scaled"], "probabilities", {"axis": 1}),
        ("GatherElements", ["probabilities", "index"], "largest", {"axis": 1}),
        ("Squeeze", ["largest", "axis"], "confidence", {}),
        *_SCORES[score],
        ("GreaterOrEqual", ["score", "advantage_edges"], "passed", {}),
        ("Cast", ["passed"], "steps", {"to": TensorProto.INT32}),
        ("ReduceSum", ["steps", "axis"], "bin", {"keepdims": 0}),
        ("Gather", ["advantage_values", "bin"], "step", {}),
        ("Sub", ["confidence", "confidence"], "nothing", {}),
        ("Add", ["step", "nothing"], "advantage", {}),
        ("GreaterOrEqual", ["advantage", "threshold"], "kept", {}),
        ("Not", ["kept"], "forward", {}),
    ]

    def named(name: str) -> str:
        return name if name in OUTPUTS or name in OVERRIDABLE else f"{_INNER}{name}"

    nodes = []
    for position, (operator, inputs, output, attributes) in enumerate(steps):
        feeds = inputs if position == 0 else [named(name) for name in inputs]
        outputs = [named(output), named("top_index")] if operator == "TopK" else [named(output)]
        nodes.append(helper.make_node(operator, feeds, outputs, name=f"{_INNER}{position}_{operator}", **attributes))
    return nodes
