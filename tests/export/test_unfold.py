"""The head comes off, and the body is what it was, byte for byte."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from documents import document_of
from edgecascade.calibration import DecisionRule
from edgecascade.export import ExportError, fold, unfold
from edgecascade.export.fold import OUTPUTS, OVERRIDABLE
from edgecascade.runtime.engine import open_session

Body = Callable[..., ModelProto]


def _with_subgraph(name: str) -> ModelProto:
    """A body with an If whose branches use a tensor of this name from outside, and make one of it inside."""
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
def test_the_body_comes_back_byte_for_byte(identity: Body, rule: DecisionRule, score: str, kind: str) -> None:
    """Whatever was folded, and with other metadata around it."""
    body = identity(3)
    body.metadata_props.add(key="author", value="me")
    rule = DecisionRule(rule.temperature, rule.table, rule.threshold, score)
    model = fold(body, logits="logits", kind=kind, rule=rule, document=document_of(rule))
    assert unfold(model).SerializeToString() == body.SerializeToString()


@pytest.mark.parametrize(
    "name", [*OUTPUTS, *OVERRIDABLE, "edgecascade/index", "edgecascade/axis", "edgecascade/0_Cast", "body/label"]
)
def test_names_that_made_room_come_back(rule: DecisionRule, name: str) -> None:
    """In subgraphs too, and on the way every model runs."""
    body = _with_subgraph(name)
    onnx.checker.check_model(body, full_check=True)
    model = fold(body, logits="logits", rule=rule, document=document_of(rule))
    onnx.checker.check_model(model, full_check=True)
    z = np.array([[1, -2, 3]], np.float32)
    session = open_session(model.SerializeToString())
    np.testing.assert_array_equal(session.run(["logits", "label"], {"z": z})[0], -z)
    assert unfold(model).SerializeToString() == body.SerializeToString()


def test_a_name_that_is_taken_is_not_moved_to(build: Body, rule: DecisionRule) -> None:
    """Where `body/label` is a tensor of its own, `label` moves further."""
    nodes = [helper.make_node("Neg", ["z"], ["label"]), helper.make_node("Add", ["label", "body/label"], ["logits"])]
    body = build(nodes, [3], [3], {"body/label": np.ones(3, np.float32)})
    model = fold(body, logits="logits", rule=rule, document=document_of(rule))
    (logits,) = open_session(model.SerializeToString()).run(["logits"], {"z": np.zeros((1, 3), np.float32)})
    assert logits.tolist() == [[1, 1, 1]]
    assert unfold(model).SerializeToString() == body.SerializeToString()


def test_outputs_of_the_body_with_our_names_come_back(identity: Body, rule: DecisionRule) -> None:
    """As scikit-learn's converters call theirs."""
    body = identity(3, output="probabilities")
    model = fold(body, logits="probabilities", kind="probabilities", rule=rule, document=document_of(rule))
    assert unfold(model).SerializeToString() == body.SerializeToString()


def test_what_was_never_folded_is_refused(identity: Body) -> None:
    """A body has no head to take off."""
    with pytest.raises(ExportError, match=r"^model: expected a cascade model"):
        unfold(identity(3))
