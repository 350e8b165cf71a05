"""Fold the decision of a general task into a body's graph: score, confidence, advantage and forward.

The arithmetic is that of `edgecascade.calibration.decide_task`, in ONNX operators of opset 13 and newer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from edgecascade.calibration.advantage import AdvantageTable
from edgecascade.calibration.task import TaskRule
from edgecascade.export.graph import opset, renamed, tensor_names
from edgecascade.export.head import INNER, Head, Names, attach
from edgecascade.export.task.confidence import SCORE_PREFIX
from edgecascade.export.task.operators import Operators
from edgecascade.types.document import KEY, MOVED_KEY, TaskDocument
from edgecascade.types.platt import Platt
from edgecascade.types.policy import confidence_inputs

__all__ = ["TASK", "confidence_of", "fold_task", "task_rule_of", "with_score"]

TASK = Names(
    outputs={
        "score": (TensorProto.FLOAT, ["batch"]),
        "confidence": (TensorProto.FLOAT, ["batch"]),
        "advantage": (TensorProto.FLOAT, ["batch"]),
        "forward": (TensorProto.BOOL, ["batch"]),
    },
    overridable={
        "threshold": [],
        "advantage_edges": ["edges"],
        "advantage_values": ["bins"],
        "confidence_slope": [],
        "confidence_intercept": [],
        "confidence_starts": ["segments"],
        "confidence_rates": ["segments"],
        "confidence_rises": ["segments"],
    },
)
_FINITE = 3e38  # to which scores are limited, so that no infinity is subtracted from another


def fold_task(
    body: ModelProto, *, confidence: ModelProto, rule: TaskRule, document: TaskDocument, singly: bool = False
) -> ModelProto:
    """Return a copy of the body with the four outputs of a general task's cascade model and its metadata.

    Threshold, advantage table and the map from score to confidence are initializers that are also inputs: defaults,
    which a caller may override at `run`.

    Args:
        body: an ONNX model of opset 13 or newer, not a cascade model.
        confidence: from outputs of the body, by name, to the score [batch], as `Confidence.graph` returns it.
        rule: map of the score, advantage table and threshold.
        document: the content of the metadata key `edgecascade`. Names of the body's outputs that had to change are
            changed in it.
        singly: whether the cascade model takes one input at a time; otherwise it takes as many as the body does.

    Raises:
        ExportError: the body is a cascade model already, or one of its inputs has a reserved name.
    """

    def described(moved: Mapping[str, str]) -> str:
        task = document.task
        outputs, unbatched = (tuple(moved.get(one, one) for one in names) for names in (task.outputs, task.unbatched))
        return replace(document, task=replace(task, outputs=outputs, unbatched=unbatched)).to_json()

    return attach(body, TASK, lambda moved: _head(confidence, moved, rule, opset(body)), described, singly=singly)


def with_score(body: ModelProto, confidence: ModelProto) -> tuple[ModelProto, str]:
    """Return a copy of the body that also gives the score, and the name of that output."""
    watched, added = ModelProto(), _placed(confidence, {})
    watched.CopyFrom(body)
    watched.graph.node.extend(added.graph.node)
    watched.graph.initializer.extend(added.graph.initializer)
    score = added.graph.output[0].name
    watched.graph.output.append(ValueInfoProto(name=score))
    return watched, score


def task_rule_of(model: ModelProto) -> TaskRule:
    """Return the rule that was folded into a cascade model of a general task."""
    value = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer if one.name in TASK.overridable}
    text = next(entry.value for entry in model.metadata_props if entry.key == KEY)
    document = TaskDocument.from_json(text, "model")
    table = AdvantageTable(value["advantage_edges"], value["advantage_values"], np.asarray(document.policy.counts))
    return TaskRule(document.calibration.confidence, table, float(value["threshold"]))


def confidence_of(model: ModelProto) -> ModelProto:
    """Return the confidence function in a cascade model of a general task, from outputs of its body to the score."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    given = {new: old for old, new in json.loads(properties.get(MOVED_KEY, "{}")).items()}
    nodes = [node for node in model.graph.node if any(name.startswith(SCORE_PREFIX) for name in node.output)]
    constants = [one for one in model.graph.initializer if one.name.startswith(SCORE_PREFIX)]
    read = {name for node in nodes for name in node.input if name and not name.startswith(SCORE_PREFIX)}
    (score,) = (node.input[0] for node in model.graph.node if list(node.output) == ["score"])
    graph = helper.make_graph(
        nodes,
        "confidence",
        [one for one in model.graph.output if one.name in read],
        [helper.make_tensor_value_info(score, TensorProto.FLOAT, ["batch"])],
        constants,
    )
    function = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return renamed(function, {name: given[name] for name in read if name in given})


def _placed(confidence: ModelProto, moved: Mapping[str, str]) -> ModelProto:
    """Return a confidence function whose inputs have the names that the body's outputs have now."""
    inputs = {one.name for one in confidence.graph.input}
    own = {
        name: f"{SCORE_PREFIX}{name}"
        for name in tensor_names(confidence) - inputs
        if name and not name.startswith(INNER)
    }
    placed = renamed(confidence, {**own, **{name: moved[name] for name in inputs if name in moved}})
    for position, node in enumerate(placed.graph.node):
        node.name = node.name or f"{SCORE_PREFIX}unnamed_{position}"  # by which it is known not to be the body's
    return placed


def _head(confidence: ModelProto, moved: Mapping[str, str], rule: TaskRule, version: int) -> Head:
    scored = _placed(confidence, moved)
    add = Operators(INNER, version)
    score = add("Identity", scored.graph.output[0].name, name="score")
    column, lost = add("Reshape", score, [-1, 1]), add("IsNaN", score)
    mapped = _platt(add, score) if isinstance(rule.confidence, Platt) else _map(add, column)
    add("Where", lost, score, mapped, name="confidence")  # a clipped NaN would be a number on some providers
    steps = add("Cast", add("GreaterOrEqual", column, "advantage_edges"), to=TensorProto.INT32)
    add("Gather", "advantage_values", add.reduce("Sum", steps, axis=1), name="advantage")
    add("Or", add("Less", "advantage", "threshold"), lost, name="forward")
    defaults: dict[str, NDArray[np.float32] | float] = {
        "threshold": rule.threshold,
        "advantage_edges": rule.table.edges,
        "advantage_values": rule.table.values,
        **confidence_inputs(rule.confidence),
    }
    return Head([*scored.graph.node, *add.nodes], [*scored.graph.initializer, *add.constants], defaults)


def _platt(add: Operators, score: str) -> str:
    return add("Sigmoid", add("Add", add("Mul", score, "confidence_slope"), "confidence_intercept"))


def _map(add: Operators, column: str) -> str:
    """Return the value [batch] of a map: a sum of shares of its rises, which never falls in floating point either."""
    finite = add("Clip", column, -_FINITE, _FINITE)
    shares = add("Mul", add("Sub", finite, "confidence_starts"), "confidence_rates")
    return add.reduce("Sum", add("Mul", add("Clip", shares, 0.0, 1.0), "confidence_rises"), axis=1)
