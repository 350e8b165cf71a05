"""Fold the decision into a body's graph, so that every runtime decides alike from one file; and unfold it again.

The arithmetic is that of `edgecascade.calibration.decide`, in ONNX operators of opset 13 and newer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecascade.calibration import AdvantageTable, DecisionRule, LearnedScore
from edgecascade.export.graph import Step, opset
from edgecascade.export.head import INNER, Head, Names, attach, detach
from edgecascade.export.logits import logits_steps
from edgecascade.export.task.fold import TASK
from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.document import KEY, CascadeDocument, read_any_document
from edgecascade.types.errors import ExportError
from edgecascade.types.softmax import SMALLEST

__all__ = ["CLASSIFIER", "fold", "rule_of", "unfold"]

CLASSIFIER = Names(
    outputs={
        "label": (TensorProto.INT64, ["batch"]),
        "confidence": (TensorProto.FLOAT, ["batch"]),
        "advantage": (TensorProto.FLOAT, ["batch"]),
        "forward": (TensorProto.BOOL, ["batch"]),
        "probabilities": (TensorProto.FLOAT, ["batch", "classes"]),
    },
    overridable={
        "temperature": [],
        "threshold": [],
        "advantage_edges": ["edges"],
        "advantage_values": ["bins"],
    },
)
_CONSTANTS: dict[str, NDArray[Any]] = {
    "axis": np.array([1], np.int64),
    "two": np.array([2], np.int64),
    "first": np.array([0], np.int64),
    "second": np.array([1], np.int64),
    "tiny": np.array(np.finfo(np.float32).tiny, np.float32),
    "zero": np.array(0, np.float32),
    "one": np.array(1, np.float32),
    "column": np.array([-1, 1], np.int64),
}
# From `score` to the decision, in as few operators as possible: a NaN in the confidence does not become a NaN in the
# advantage, and forwards anyway.
_DECISION: list[Step] = [
    ("GreaterOrEqual", ["score", "advantage_edges"], "passed", {}),
    ("Cast", ["passed"], "steps", {"to": TensorProto.INT32}),
    ("ReduceSum", ["steps", "axis"], "bin", {"keepdims": 0}),
    ("Gather", ["advantage_values", "bin"], "advantage", {}),
    ("Less", ["advantage", "threshold"], "below", {}),
    ("IsNaN", ["confidence"], "not_a_number", {}),
    ("Or", ["below", "not_a_number"], "forward", {}),
]
# From `scaled`, `largest` and `probabilities` to `score` [batch, 1], as `calibration.routing_score`.
_SCORES: dict[str, list[Step]] = {
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
    "learned": [
        ("Mul", ["probabilities", "learned_classes"], "learned_parts", {}),
        ("ReduceSum", ["learned_parts", "axis"], "learned_sum", {"keepdims": 1}),
        ("Mul", ["largest", "learned_confidence"], "learned_largest", {}),
        ("Add", ["learned_sum", "learned_largest"], "score", {}),
    ],
}


def fold(
    body: ModelProto,
    *,
    logits: str,
    kind: str = "logits",
    rule: DecisionRule,
    document: CascadeDocument,
    singly: bool = False,
) -> ModelProto:
    """Return a copy of the body with the five outputs of a cascade model and its metadata.

    Temperature, threshold and advantage table are initializers that are also inputs: defaults, which a caller may
    override at `run`.

    Args:
        body: an ONNX model of opset 13 or newer, not a cascade model.
        logits: the tensor that holds the logits [batch, classes], or what they are computed from.
        kind: what that tensor holds, one of `KINDS`.
        rule: temperature, advantage table, threshold, score, costs, confidence map and learned score.
        document: the content of the metadata key `edgecascade`; its `source.floor` bounds probabilities.
        singly: whether the cascade model takes one input at a time; otherwise it takes as many as the body does.

    Raises:
        ExportError: the body is a cascade model already, or one of its inputs has a reserved name.
    """
    return attach(
        body,
        CLASSIFIER,
        lambda moved: _head(opset(body), moved.get(logits, logits), kind, rule, document.source.floor),
        lambda _: document.to_json(),
        singly=singly,
    )


def _head(version: int, logits: str, kind: str, rule: DecisionRule, floor: float) -> Head:
    scoring = _SCORES[rule.score] if rule.score != "cost" else _cost_steps(version, rule.costs)
    steps = [
        *logits_steps(logits, kind, "tiny" if floor == SMALLEST else "floor"),
        *_confidence_steps(version, rule),
        *scoring,
        *_DECISION,
    ]
    used = {name for _, inputs, _, _ in steps for name in inputs}
    constants = {**_CONSTANTS, "floor": np.array(floor, np.float32)}
    if rule.costs is not None:
        constants["costs"] = rule.costs.shares
    constants = {**constants, **_map_constants(rule.confidence_map), **_learned_constants(rule.learned)}
    return Head(
        _nodes(steps),
        [numpy_helper.from_array(value, f"{INNER}{name}") for name, value in constants.items() if name in used],
        {
            "temperature": rule.temperature,
            "threshold": rule.threshold,
            "advantage_edges": rule.table.edges,
            "advantage_values": rule.table.values,
        },
    )


def rule_of(model: ModelProto) -> DecisionRule:
    """Return the rule that was folded into a cascade model."""
    value = {
        one.name: numpy_helper.to_array(one) for one in model.graph.initializer if one.name in CLASSIFIER.overridable
    }
    text = next(entry.value for entry in model.metadata_props if entry.key == KEY)
    document = CascadeDocument.from_json(text, "model")
    planned = document.policy
    counts = np.asarray(planned.counts)
    return DecisionRule(
        temperature=float(value["temperature"]),
        table=AdvantageTable(value["advantage_edges"], value["advantage_values"], counts),
        threshold=float(value["threshold"]),
        score=planned.score,
        costs=planned.costs,
        confidence_map=document.calibration.confidence_map,
        learned=None if planned.learned is None else LearnedScore(planned.learned[0], planned.learned[1:]),
    )


def unfold(model: ModelProto) -> ModelProto:
    """Return the body that a cascade model was folded from, equal in every field.

    Raises:
        ExportError: the model is not a cascade model.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if text is None:
        raise ExportError(f"model: expected a cascade model, got one without `{KEY}` metadata")
    document = read_any_document(text, "model")
    return detach(model, CLASSIFIER if isinstance(document, CascadeDocument) else TASK)


def _map_constants(found: ConfidenceMap | None) -> dict[str, NDArray[np.float32]]:
    """Return the constants of a map: a column per segment, and before them one for the lowest value.

    A share is (p - start) * rate, clipped to 0..1; that of the first column is 1 for every probability.
    """
    if found is None:
        return {}
    knots, values = np.array(found.knots, np.float64), np.array(found.values, np.float64)
    return {
        "map_starts": np.append(-1.0, knots[:-1]).astype(np.float32),
        "map_rates": np.append(1.0, 1 / np.diff(knots)).astype(np.float32),
        "map_rises": np.append(values[0], np.diff(values)).astype(np.float32),
    }


def _learned_constants(found: LearnedScore | None) -> dict[str, NDArray[np.float32]]:
    if found is None:
        return {}
    return {
        "learned_classes": np.array(found.classes, np.float32),
        "learned_confidence": np.array(found.confidence, np.float32),
    }


def _confidence_steps(version: int, rule: DecisionRule) -> list[Step]:
    """Return the steps from `logits` to label and confidence, and to everything that a score is computed from."""
    inputs, attributes = (["probabilities"], {"axes": [1]}) if version < 18 else (["probabilities", "axis"], {})
    calibrated: list[Step] = [
        ("Div", ["logits", "temperature"], "scaled", {}),
        ("Softmax", ["scaled"], "probabilities", {"axis": 1}),
        ("ReduceMax", inputs, "largest", {"keepdims": 1, **attributes}),
    ]
    if rule.costs is None:
        return [("ArgMax", ["logits"], "label", {"axis": 1, "keepdims": 0}), *calibrated, *_final("largest", rule)]
    combine, choose = ("Mul", "ArgMax") if rule.costs.shares.ndim == 1 else ("MatMul", "ArgMin")
    return [
        *calibrated,
        (combine, ["probabilities", "costs"], "weighted", {}),
        (choose, ["weighted"], "answer", {"axis": 1, "keepdims": 1}),
        ("Squeeze", ["answer", "axis"], "label", {}),
        ("GatherElements", ["probabilities", "answer"], "probability", {"axis": 1}),
        *_final("probability", rule),
    ]


def _final(probability: str, rule: DecisionRule) -> list[Step]:
    """Return the steps to `confidence` from the probability [batch, 1] of the label.

    A map is linear interpolation, here a sum of shares of its rises: it never falls in floating point either, as long
    as sums have the same order. No operator multiplies matrices, which some providers do with ten bits.
    """
    if rule.confidence_map is None:
        return [("Squeeze", [probability, "axis"], "confidence", {})]
    return [
        ("Sub", [probability, "map_starts"], "map_past", {}),
        ("Mul", ["map_past", "map_rates"], "map_shares", {}),
        ("Clip", ["map_shares", "zero", "one"], "map_passed", {}),
        ("Mul", ["map_passed", "map_rises"], "map_risen", {}),
        ("ReduceSum", ["map_risen", "axis"], "confidence", {"keepdims": 0}),
    ]


def _cost_steps(version: int, costs: ErrorCosts | None) -> list[Step]:
    """Return the steps from `weighted` to the score `cost`."""
    if costs is None:
        raise ExportError("rule: expected costs with the score `cost`, got none")
    least, attributes = (["weighted"], {"axes": [1]}) if version < 18 else (["weighted", "axis"], {})
    if costs.shares.ndim == 2:
        return [("ReduceMin", least, "least", {"keepdims": 1, **attributes}), ("Neg", ["least"], "score", {})]
    return [
        ("ReduceMax", least, "answered", {"keepdims": 1, **attributes}),
        ("ReduceSum", ["weighted", "axis"], "all", {"keepdims": 1}),
        ("Sub", ["answered", "all"], "score", {}),
    ]


def _nodes(steps: Sequence[Step]) -> list[NodeProto]:
    def named(name: str) -> str:
        return name if name in CLASSIFIER else f"{INNER}{name}"

    nodes = []
    for position, (operator, inputs, output, attributes) in enumerate(steps):
        feeds = (
            inputs if position == 0 else [named(name) for name in inputs]
        )  # the first step reads the body's own tensor
        outputs = [named(output), named("top_index")] if operator == "TopK" else [named(output)]
        nodes.append(helper.make_node(operator, feeds, outputs, name=f"{INNER}{position}_{operator}", **attributes))
    return nodes
