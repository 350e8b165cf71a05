"""Unfolding removes the head and returns the body, byte for byte."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from documents import document_of
from edgecascade.calibration import DecisionRule
from edgecascade.export import ExportError, fold, unfold
from edgecascade.export.fold import CLASSIFIER
from edgecascade.runtime.engine import open_session

Body = Callable[..., ModelProto]


def _with_subgraph(name: str) -> ModelProto:
    """Return a body with an If whose branches use a tensor of this name from outside and create another one inside."""
    branches = []
    for position, operator in enumerate(("Neg", "Abs")):
        inner = [
            helper.make_node(operator, [name], [f"{name}/{position}"], name=name),
            helper.make_node("Identity", [f"{name}/{position}"], [f"out/{position}"]),
        ]
        result = helper.make_tensor_value_info(f"out/{position}", TensorProto.FLOAT, ["batch", 3])
        branches.append(helper.make_graph(inner, f"branch {position}", [], [result]))
    nodes = [
        helper.make_node("Identity", ["z"], [name]),
        helper.make_node("If", ["yes"], ["logits"], then_branch=branches[0], else_branch=branches[1]),
    ]
    graph = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.array(True), "yes")],
        value_info=[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)


@pytest.mark.parametrize("score", ["confidence", "margin", "entropy"])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_the_body_is_restored_byte_for_byte(identity: Body, rule: DecisionRule, score: str, kind: str) -> None:
    """The body is restored whatever was folded, and with other metadata around it."""
    body = identity(3)
    body.metadata_props.add(key="author", value="me")
    rule = DecisionRule(rule.temperature, rule.table, rule.threshold, score)
    model = fold(body, logits="logits", kind=kind, rule=rule, document=document_of(rule))
    assert unfold(model).SerializeToString() == body.SerializeToString()


@pytest.mark.parametrize(
    "name",
    [
        *CLASSIFIER.outputs,
        *CLASSIFIER.overridable,
        "edgecascade/index",
        "edgecascade/axis",
        "edgecascade/0_Cast",
        "body/label",
    ],
)
def test_renamed_tensors_get_their_names_back(rule: DecisionRule, name: str) -> None:
    """Names are restored in subgraphs as well, and every model runs in between."""
    body = _with_subgraph(name)
    onnx.checker.check_model(body, full_check=True)
    model = fold(body, logits="logits", rule=rule, document=document_of(rule))
    onnx.checker.check_model(model, full_check=True)
    z = np.array([[1, -2, 3]], np.float32)
    session = open_session(model.SerializeToString())
    np.testing.assert_array_equal(session.run(["logits", "label"], {"z": z})[0], -z)
    assert unfold(model).SerializeToString() == body.SerializeToString()


def test_folding_avoids_taken_names(build: Body, rule: DecisionRule) -> None:
    """If `body/label` already exists, `label` is renamed to another free name."""
    nodes = [helper.make_node("Neg", ["z"], ["label"]), helper.make_node("Add", ["label", "body/label"], ["logits"])]
    body = build(nodes, [3], [3], {"body/label": np.ones(3, np.float32)})
    model = fold(body, logits="logits", rule=rule, document=document_of(rule))
    (logits,) = open_session(model.SerializeToString()).run(["logits"], {"z": np.zeros((1, 3), np.float32)})
    assert logits.tolist() == [[1, 1, 1]]
    assert unfold(model).SerializeToString() == body.SerializeToString()


def test_outputs_with_reserved_names_are_restored(identity: Body, rule: DecisionRule) -> None:
    """The converters of scikit-learn use such names."""
    body = identity(3, output="probabilities")
    model = fold(body, logits="probabilities", kind="probabilities", rule=rule, document=document_of(rule))
    assert unfold(model).SerializeToString() == body.SerializeToString()


def test_a_body_without_a_head_is_refused(identity: Body) -> None:
    """A model that was never folded cannot be unfolded."""
    with pytest.raises(ExportError, match=r"^model: expected a cascade model"):
        unfold(identity(3))
