"""The graph of a general task decides as the reference for any score, and leaves the body unchanged."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from documents import some_task_document
from edgecascade.calibration import AdvantageTable, TaskRule, decide_task
from edgecascade.export import ExportError, unfold
from edgecascade.export.task.confidence import Output
from edgecascade.export.task.fold import TASK, fold_task, task_rule_of
from edgecascade.runtime.engine import open_session
from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.platt import Platt
from edgecascade.types.policy import Policy, confidence_inputs

NAMES = ("score", "confidence", "advantage", "forward")
MAPS: list[Platt | ConfidenceMap] = [
    Platt(1.7, -0.4),
    Platt(0.0, 0.3),
    ConfidenceMap((-2.0, 0.25, 40.0), (0.1, 0.5, 0.9)),
    ConfidenceMap((0.3,), (0.7,)),
]
EDGES, VALUES = np.array([-1.0, 0.5, 3.0], np.float32), np.array([-0.4, -0.1, 0.0, 0.2], np.float32)
TABLE = AdvantageTable(EDGES, VALUES, np.array([5, 5, 5, 5]))


def body_of(opset: int = 17, output: str = "quality", first: str = "x") -> ModelProto:
    """Return a body whose two outputs are its input and twice that."""
    sides: list[str | int | None] = ["batch", 1]
    graph = helper.make_graph(
        [helper.make_node("Identity", [first], [output]), helper.make_node("Add", [first, first], ["twice"])],
        "body",
        [helper.make_tensor_value_info(first, TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in (output, "twice")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def folded(rule: TaskRule, opset: int = 17, output: str = "quality") -> ModelProto:
    """Return the cascade model of that body with the output as its score."""
    samples = [{output: np.zeros((1, 1), np.float32), "twice": np.zeros((1, 1), np.float32)}]
    document = some_task_document()
    document = replace(
        document,
        task=replace(document.task, outputs=(output, "twice")),
        calibration=replace(document.calibration, confidence=rule.confidence),
        policy=replace(document.policy, threshold=rule.threshold, counts=(5, 5, 5, 5), bins=4, edges=None, values=None),
    )
    graph = Output(output).graph(samples, opset)
    model = fold_task(body_of(opset, output), confidence=graph, rule=rule, document=document)
    onnx.checker.check_model(model, full_check=True)
    return model


def assert_agrees(session: Any, score: NDArray[np.float32], rule: TaskRule, **fed: Any) -> None:
    """Assert that scores, advantages and decisions are equal, and confidences to 1e-6."""
    found = dict(zip(NAMES, session.run(NAMES, {"x": score[:, None], **fed}), strict=True))
    wanted = decide_task(score, rule)
    for name, got in found.items():
        assert got.shape == score.shape
        assert got.dtype == getattr(wanted, name).dtype
    number = ~np.isnan(score)
    np.testing.assert_array_equal(found["score"], score)
    np.testing.assert_array_equal(found["forward"], wanted.forward)
    np.testing.assert_array_equal(found["advantage"][number], wanted.advantage[number])
    np.testing.assert_allclose(found["confidence"], wanted.confidence, rtol=0, atol=1e-6)


SCORES = st.integers(-4, 4).map(float) | st.floats(width=32, allow_infinity=False)


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("confidence", MAPS, ids=str)
@given(score=arrays(np.float32, st.integers(1, 5), elements=SCORES))
def test_the_graph_decides_as_the_reference(opset: int, confidence: Any, score: NDArray[np.float32]) -> None:
    """Outputs agree for any score, NaN and the largest numbers among them."""
    rule = TaskRule(confidence, TABLE, 0.0)
    key = (opset, str(confidence))
    if key not in SESSIONS:
        SESSIONS[key] = open_session(folded(rule, opset).SerializeToString())
    assert_agrees(SESSIONS[key], score, rule)


SESSIONS: dict[tuple[int, str], Any] = {}


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
@pytest.mark.parametrize("confidence", [MAPS[0], *MAPS[2:]], ids=str)
def test_an_infinite_score_has_the_confidence_of_the_end(confidence: Any, infinite: float) -> None:
    """It is decided about as any other score."""
    rule = TaskRule(confidence, TABLE, 0.0)
    assert_agrees(open_session(folded(rule).SerializeToString()), np.array([infinite, 0.0], np.float32), rule)


@pytest.mark.parametrize("confidence", [MAPS[0], MAPS[2]], ids=str)
def test_a_policy_can_change_in_the_field(confidence: Any) -> None:
    """Threshold, table and map are inputs with defaults."""
    own = folded(TaskRule(confidence, TABLE, 0.0))
    session = open_session(own.SerializeToString())
    other = Platt(-3.0, 1.0) if isinstance(confidence, Platt) else ConfidenceMap((-9.0, 9.0), (0.2, 0.3))
    table = AdvantageTable(np.array([0.0], np.float32), np.array([0.5, -0.5], np.float32), np.array([1, 1]))
    policy = Policy("replace", None, 0.25, edges=(0.0,), values=(0.5, -0.5), confidence=other)
    fed = policy.overrides(Policy("replace", None, 0.0, confidence=confidence))
    assert fed.keys() == {"threshold", "advantage_edges", "advantage_values", *confidence_inputs(other)}
    assert {one.name for one in session.get_overridable_initializers()} == fed.keys()
    score = np.linspace(-5, 5, 41, dtype=np.float32)
    assert_agrees(session, score, TaskRule(other, table, 0.25), **fed)


@pytest.mark.parametrize("output", ["quality", "score", "threshold", "edgecascade/score", "label", "temperature"])
def test_the_body_is_unchanged(output: str) -> None:
    """Its outputs come first with equal values, and `unfold` returns it; only reserved names move."""
    rule = TaskRule(MAPS[2], TABLE, 0.1)
    model = folded(rule, output=output)
    kept = f"body/{output}" if output in TASK else output
    assert [one.name for one in model.graph.output] == [kept, "twice", *NAMES]
    x = np.array([[1.0], [2.0]], np.float32)
    given = open_session(model.SerializeToString()).run([kept, "twice"], {"x": x})
    np.testing.assert_array_equal(given, [x, x + x])
    assert unfold(model) == body_of(output=output)
    found = task_rule_of(model)
    assert (found.confidence, found.threshold) == (rule.confidence, float(np.float32(rule.threshold)))
    np.testing.assert_array_equal(found.table.edges, TABLE.edges)


def test_a_file_names_the_outputs_as_they_are_in_it() -> None:
    """The document has the name that an output was given to make room."""
    from edgecascade.runtime.engine import read_document

    session = open_session(folded(TaskRule(MAPS[0], TABLE, 0.0), output="score").SerializeToString())
    document: Any = read_document(session, "f")
    assert document.task.outputs == ("body/score", "twice")


def test_an_input_with_a_reserved_name_is_refused() -> None:
    """An input keeps its name, so that a name of the decision is an error."""
    samples = [{"quality": np.zeros((1, 1), np.float32)}]
    with pytest.raises(ExportError, match="its input 'threshold' has a name"):
        fold_task(
            body_of(first="threshold"),
            confidence=Output("quality").graph(samples, 17),
            rule=TaskRule(MAPS[0], TABLE, 0.0),
            document=some_task_document(),
        )
