"""The folded graph decides as the reference does for any logits, and leaves the body unchanged."""

import hashlib
from collections.abc import Callable
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

from documents import document_of, some_document
from edgecascade.calibration import AdvantageTable, Decision, DecisionRule, LearnedScore, decide, routing_score
from edgecascade.export import ExportError, find_logits, fold, unfold
from edgecascade.export.fold import rule_of
from edgecascade.runtime.engine import open_session
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.document import CascadeDocument

Body = Callable[..., ModelProto]
OUTPUTS = ("label", "confidence", "advantage", "forward", "probabilities")


def table_of(edges: NDArray[np.float32], values: NDArray[np.float32]) -> AdvantageTable:
    """Return a table whose counts, which do not affect decisions, are all 1."""
    return AdvantageTable(edges, values, np.ones(len(values), np.int64))


def overrides(rule: DecisionRule) -> dict[str, NDArray[np.float32]]:
    """Return a rule as the override inputs of a cascade model."""
    return {
        "temperature": np.asarray(rule.temperature, np.float32),
        "threshold": np.asarray(rule.threshold, np.float32),
        "advantage_edges": rule.table.edges,
        "advantage_values": rule.table.values,
    }


def run(session: Any, logits: NDArray[Any], **inputs: NDArray[np.float32]) -> Decision:
    """Run the graph and return its decision."""
    return Decision(*session.run(OUTPUTS, {"z": logits, **inputs}))


def fold_and_open(body: ModelProto, rule: DecisionRule, logits: str = "logits") -> Any:
    """Check the folded body with the ONNX checker and open a session on it."""
    model = fold(body, logits=logits, rule=rule, document=document_of(rule))
    onnx.checker.check_model(model, full_check=True)
    return open_session(model.SerializeToString())


def assert_agrees(graph: Decision, logits: NDArray[np.floating], rule: DecisionRule) -> None:
    """Assert that probabilities agree to 1e-6 and that all values that follow from the confidence are equal."""
    reference = decide(logits, rule)
    np.testing.assert_allclose(graph.probabilities, reference.probabilities, rtol=0, atol=1e-6)
    np.testing.assert_allclose(graph.confidence, reference.confidence, rtol=0, atol=1e-6)
    number = ~np.isnan(graph.confidence)
    np.testing.assert_array_equal(graph.label[number], reference.label[number])
    np.testing.assert_array_equal(graph.advantage[number], rule.table(graph.confidence[number]))
    np.testing.assert_array_equal(graph.forward, (graph.advantage < np.float32(rule.threshold)) | ~number)
    for name in OUTPUTS:
        assert getattr(graph, name).dtype == getattr(reference, name).dtype
        assert getattr(graph, name).shape == getattr(reference, name).shape


@pytest.fixture(scope="module", params=[(2, 1), (3, 4), (10, 15), (33, 2)], ids="{0[0]} classes, {0[1]} bins".format)
def folded(request: pytest.FixtureRequest, identity: Body) -> tuple[Any, int, int]:
    """Return a session of an identity body with a rule to override, its classes, and the bins of its table."""
    classes, bins = request.param
    table = table_of(np.zeros(bins - 1, np.float32), np.zeros(bins, np.float32))
    return fold_and_open(identity(classes), DecisionRule(1.0, table, 0.0)), classes, bins


@st.composite
def rules(draw: st.DrawFn, bins: int) -> DecisionRule:
    """Draw any rule with this number of bins."""
    edges = draw(arrays(np.float32, bins - 1, elements=st.floats(0.0, 1.0, width=32), unique=True))
    values = draw(arrays(np.float32, bins, elements=st.floats(-1.0, 1.0, width=32)))
    temperature = draw(st.floats(2**-10, 2**10, width=32))
    return DecisionRule(temperature, table_of(np.sort(edges), values), draw(st.floats(-1.0, 2.0, width=32)))


SPECIAL = st.sampled_from([np.nan, np.inf, -np.inf, float(np.finfo(np.float32).max), float(np.finfo(np.float32).min)])
# Draw one of three kinds with equal chance: round numbers, which make ties; any number; and special values such as NaN
# and infinity.
LOGITS = st.integers(-3, 3).map(float) | st.floats(width=32) | SPECIAL


@given(data=st.data())
def test_the_graph_decides_as_the_reference(folded: tuple[Any, int, int], data: st.DataObject) -> None:
    """All outputs agree on ties, NaN, infinities, huge values and masked rows."""
    session, classes, bins = folded
    logits = data.draw(arrays(np.float32, (data.draw(st.integers(1, 5)), classes), elements=LOGITS))
    rule = data.draw(rules(bins))
    assert_agrees(run(session, logits, **overrides(rule)), logits, rule)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_ten_thousand_ordinary_rows_are_decided_as_by_the_reference(folded: tuple[Any, int, int], scale: float) -> None:
    """The graph and the reference agree on network-like logits with equal-count bins of their confidence."""
    session, classes, bins = folded
    rng = np.random.default_rng(0)
    logits = rng.normal(0, scale, (10_000, classes)).astype(np.float32)
    flat = DecisionRule(1.3, table_of(np.zeros(0, np.float32), np.zeros(1, np.float32)), 0.0)
    edges = np.quantile(decide(logits, flat).confidence, np.arange(1, bins) / bins).astype(np.float32)
    rule = replace(flat, table=table_of(edges, np.linspace(-0.5, 0.5, bins, dtype=np.float32)))
    assert_agrees(run(session, logits, **overrides(rule)), logits, rule)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param([np.nan, 0, 0], id="NaN first"),
        pytest.param([0, 0, np.nan], id="NaN last"),
        pytest.param([np.inf, 0, 0], id="+inf"),
        pytest.param([np.inf, -np.inf, 0], id="both infinities"),
        pytest.param([-np.inf] * 3, id="nothing but -inf"),
    ],
)
def test_a_nan_confidence_is_forwarded(identity: Body, rule: DecisionRule, row: list[float]) -> None:
    """A NaN confidence is forwarded even if the rule forwards no input; the row beside it is answered locally."""
    session = fold_and_open(identity(3), replace(rule, threshold=-1.0))
    decision = run(session, np.array([row, [9, 0, 0]], np.float32))
    assert decision.forward.tolist() == [True, False]
    np.testing.assert_array_equal(np.isnan(decision.confidence), [True, False])


BATCH = np.random.default_rng(0).normal(0, 2, (200, 3)).astype(np.float32)


def test_no_advantage_is_below_a_nan_threshold(identity: Body, rule: DecisionRule) -> None:
    """The runtime refuses a NaN threshold; fed directly to the graph, it gives the same result as the reference."""
    rows, absurd = np.array([[np.nan, 0, 0], [9, 0, 0], [0, 0.1, 0]], np.float32), replace(rule, threshold=np.nan)
    decision = run(fold_and_open(identity(3), rule), rows, threshold=np.asarray(np.nan, np.float32))
    assert decision.forward.tolist() == decide(rows, absurd).forward.tolist() == [True, False, False]


@pytest.mark.parametrize("name", ["temperature", "threshold", "advantage_edges", "advantage_values"])
def test_each_default_can_be_overridden_alone(identity: Body, rule: DecisionRule, name: str) -> None:
    """A policy given at `run` replaces the default of the file; each value that is not given stays."""
    others = {
        "temperature": replace(rule, temperature=0.5),
        "threshold": replace(rule, threshold=0.2),
        "advantage_edges": replace(rule, table=replace(rule.table, edges=rule.table.edges + np.float32(0.1))),
        "advantage_values": replace(rule, table=replace(rule.table, values=-rule.table.values)),
    }
    session, other = fold_and_open(identity(3), rule), others[name]
    assert_agrees(run(session, BATCH), BATCH, rule)
    assert_agrees(run(session, BATCH, **{name: overrides(other)[name]}), BATCH, other)
    assert (run(session, BATCH).forward != decide(BATCH, other).forward).any()


def test_a_table_can_be_overridden_by_one_of_a_different_length(identity: Body, rule: DecisionRule) -> None:
    """The graph accepts an override table with fewer bins than the file's, which ties can cause."""
    shorter = replace(rule, table=table_of(rule.table.edges[:1], rule.table.values[:2]))
    assert_agrees(run(fold_and_open(identity(3), rule), BATCH, **overrides(shorter)), BATCH, shorter)


@pytest.mark.parametrize(("opset", "ir"), [(13, 7), (17, 8), (21, 10)])
def test_the_versions_stay_those_of_the_body(identity: Body, rule: DecisionRule, opset: int, ir: int) -> None:
    """A runtime that reads the body also reads the cascade model."""
    model = fold(identity(3, opset=opset, ir=ir), logits="logits", rule=rule, document=document_of(rule))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version == ir
    assert_agrees(run(fold_and_open(identity(3, opset=opset, ir=ir), rule), BATCH), BATCH, rule)


def test_the_body_is_unchanged_and_its_outputs_come_first(identity: Body, rule: DecisionRule) -> None:
    """The logits stay an output, the five outputs of the cascade model follow, and metadata is added to the body's."""
    body = identity(3)
    body.metadata_props.add(key="author", value="me")
    before = body.SerializeToString()
    model = fold(body, logits="logits", rule=rule, document=document_of(rule))
    assert body.SerializeToString() == before
    assert [output.name for output in model.graph.output] == ["logits", *OUTPUTS]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties.keys() == {"author", "edgecascade"}
    assert CascadeDocument.from_json(properties["edgecascade"], "model") == document_of(rule)
    (logits,) = open_session(model.SerializeToString()).run(["logits"], {"z": BATCH})
    np.testing.assert_array_equal(logits, BATCH)


@pytest.mark.parametrize("name", [*OUTPUTS, "temperature", "advantage_edges", "edgecascade/index", "edgecascade/axis"])
def test_names_in_the_body_do_not_collide(build: Body, rule: DecisionRule, name: str) -> None:
    """The body may use any name that folding adds, for a tensor, a constant or a node."""
    nodes = [
        helper.make_node("Add", ["z", "zero"], [name], name="edgecascade/0_Cast"),
        helper.make_node("Identity", [name], ["logits"], name=name),
    ]
    body = build(nodes, [3], [3], {"zero": np.zeros(3, np.float32)})
    assert_agrees(run(fold_and_open(body, rule), BATCH), BATCH, rule)


@pytest.mark.parametrize("name", ["label", "probabilities", "edgecascade/index"])
def test_an_output_of_the_body_with_a_reserved_name_is_renamed(identity: Body, rule: DecisionRule, name: str) -> None:
    """The cascade model's output has the reserved name, and the body's output gets another name."""
    session = fold_and_open(identity(3, output=name), rule, logits=name)
    assert_agrees(run(session, BATCH), BATCH, rule)
    assert [output.name for output in session.get_outputs()] == [f"body/{name}", *OUTPUTS]


@pytest.mark.parametrize(
    "name",
    [
        "label",
        "temperature",
        "edgecascade/index",
    ],
)
def test_an_input_with_a_reserved_name_is_refused(identity: Body, rule: DecisionRule, name: str) -> None:
    """Callers feed inputs by name, so folding does not rename one and raises an error."""
    with pytest.raises(ExportError, match=f"^body: its input '{name}'"):
        fold(identity(3, source=name), logits="logits", rule=rule, document=document_of(rule))


def test_a_cascade_model_is_not_folded_twice(identity: Body, rule: DecisionRule) -> None:
    """A body that already has a head is refused."""
    once = fold(identity(3), logits="logits", rule=rule, document=document_of(rule))
    with pytest.raises(ExportError, match=r"^body: .*got a cascade model"):
        fold(once, logits="logits", rule=rule, document=document_of(rule))


def test_a_document_with_nan_is_refused(identity: Body, rule: DecisionRule) -> None:
    """JSON has no NaN, and only Python's parser would read it."""
    with pytest.raises(ValueError, match="JSON"):
        fold(identity(3), logits="logits", rule=rule, document=some_document(threshold=float("nan")))


def test_float16_logits_are_decided_in_float32(identity: Body, rule: DecisionRule) -> None:
    """Half-precision logits give a confidence in full precision."""
    session = fold_and_open(identity(3, kind=TensorProto.FLOAT16), rule)
    logits = BATCH.astype(np.float16)
    assert_agrees(run(session, logits), logits, rule)


@pytest.mark.parametrize("output", ["scores", "probabilities"])
def test_a_body_that_ends_in_softmax_is_decided_on_its_logits(build: Body, rule: DecisionRule, output: str) -> None:
    """The temperature divides the logits before the softmax, so the head bypasses the body's own softmax."""
    nodes = [helper.make_node("Neg", ["z"], ["negative"]), helper.make_node("Softmax", ["negative"], [output])]
    body = build(nodes, [3], [3], output=output)
    assert_agrees(run(fold_and_open(body, rule, logits=find_logits(body).tensor), BATCH), -BATCH, rule)


def test_logits_that_are_the_input_survive_renaming(build: Body, rule: DecisionRule) -> None:
    """The logits of a single Softmax over the input, with a reserved output name, are the input."""
    body = build([helper.make_node("Softmax", ["z"], ["probabilities"])], [3], [3], output="probabilities")
    assert_agrees(run(fold_and_open(body, rule, logits=find_logits(body).tensor), BATCH), BATCH, rule)


# SHA-256 of the head, for each kind of output and score, as in the files in use. A changed hash means a changed file
# format: bump the version or restore the graph.
HEADS = {
    ("logits", "confidence"): "bcfcaa5112454c6f",
    ("logits", "margin"): "407477bbcbe4505b",
    ("logits", "entropy"): "5ed3733adc1d7f4b",
    ("probabilities", "confidence"): "67bb891663209ee6",
    ("probabilities", "margin"): "a8c5842a7f4fba56",
    ("probabilities", "entropy"): "097df36593dba091",
    ("binary-logits", "confidence"): "49e27d9954f4266b",
    ("binary-logits", "margin"): "e2d53372a649d2da",
    ("binary-logits", "entropy"): "76a3a1ccaafa7405",
    ("binary-probabilities", "confidence"): "a97a456fc6ff87a8",
    ("binary-probabilities", "margin"): "d9645e622f43caa7",
    ("binary-probabilities", "entropy"): "f85e3838cc35d5d0",
}


def _head(kind: str, score: str, identity: Body, rule: DecisionRule) -> str:
    """Return the hash of the head's nodes, constants, inputs and outputs as text."""
    body = identity(1) if kind.startswith("binary") else identity(3)
    model = fold(body, logits="logits", kind=kind, rule=replace(rule, score=score), document=some_document())
    lines = [
        f"{node.name}: {node.op_type} {list(node.input)} -> {list(node.output)} "
        f"{sorted((one.name, str(helper.get_attribute_value(one))) for one in node.attribute)}"
        for node in model.graph.node
    ]
    lines += [f"{one.name} = {onnx.numpy_helper.to_array(one).tolist()}" for one in model.graph.initializer]
    lines += [onnx.helper.printable_value_info(one) for one in (*model.graph.input, *model.graph.output)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("score", ["confidence", "margin", "entropy"])
@pytest.mark.parametrize("kind", ["logits", "probabilities", "binary-logits", "binary-probabilities"])
def test_the_head_equals_that_of_existing_files(kind: str, score: str, identity: Body, rule: DecisionRule) -> None:
    """The head has the recorded hash."""
    assert _head(kind, score, identity, rule) == HEADS[kind, score]


# Labels of least expected cost.


def _costs(classes: int, kind: str) -> ErrorCosts:
    rng = np.random.default_rng(classes)
    if kind == "by class":
        return ErrorCosts(rng.uniform(0.5, 20, classes).tolist())
    return ErrorCosts((rng.uniform(0.5, 20, (classes, classes)) * (1 - np.eye(classes))).tolist())


@pytest.mark.parametrize("score", ["confidence", "margin", "entropy", "cost"])
@pytest.mark.parametrize("kind", ["by class", "matrix"])
@pytest.mark.parametrize("classes", [2, 3, 33])
def test_the_label_of_least_expected_cost_is_that_of_the_reference(
    identity: Body, rule: DecisionRule, classes: int, kind: str, score: str
) -> None:
    """Labels, the probabilities at them, and the decisions agree wherever no two answers cost the same."""
    costs = _costs(classes, kind)
    logits = np.random.default_rng(0).normal(0, 2, (2000, classes)).astype(np.float32)
    found = routing_score(score, logits, rule.temperature, costs)
    edges = np.quantile(found, [0.25, 0.5, 0.75]).astype(np.float32)
    costly = replace(rule, costs=costs, score=score, table=table_of(edges, rule.table.values))
    with_costs = run(fold_and_open(identity(classes), costly), logits)
    without = run(fold_and_open(identity(classes), replace(rule, score="confidence")), logits)
    reference = decide(logits, costly)
    least = np.sort(costs.expected(reference.probabilities), axis=1)
    clear = least[:, 1] - least[:, 0] > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(with_costs.label[clear], reference.label[clear])
    np.testing.assert_allclose(with_costs.confidence[clear], reference.confidence[clear], atol=1e-6)
    at_label = np.take_along_axis(with_costs.probabilities, with_costs.label[:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(with_costs.confidence, at_label)
    assert (with_costs.label != without.label).any()
    np.testing.assert_array_equal(with_costs.probabilities, without.probabilities)
    far = np.abs(found[:, None] - edges).min(axis=1) > 1e-5
    for name in ("advantage", "forward"):
        np.testing.assert_array_equal(getattr(with_costs, name)[far], getattr(reference, name)[far])
    assert len(np.unique(with_costs.advantage)) == 4


@pytest.mark.parametrize("kind", ["by class", "matrix"])
@pytest.mark.parametrize("row", [[np.nan, 0, 0], [0, 0, np.nan], [np.inf, -np.inf, 0], [-np.inf] * 3])
def test_a_nan_confidence_is_forwarded_under_costs(
    identity: Body, rule: DecisionRule, row: list[float], kind: str
) -> None:
    """The probability at any label of such a row is NaN."""
    session = fold_and_open(identity(3), replace(rule, threshold=-1.0, costs=_costs(3, kind)))
    decision = run(session, np.array([row, [9, 0, 0]], np.float32))
    assert decision.forward.tolist() == [True, False]
    np.testing.assert_array_equal(np.isnan(decision.confidence), [True, False])


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("kind", ["by class", "matrix"])
def test_costs_travel_in_the_document_and_leave_the_body_unchanged(
    identity: Body, rule: DecisionRule, kind: str, opset: int
) -> None:
    """The folded rule can be read back, and unfolding returns the body."""
    body, costly = identity(3, opset=opset), replace(rule, costs=_costs(3, kind))
    model = fold(body, logits="logits", rule=costly, document=document_of(costly))
    onnx.checker.check_model(model, full_check=True)
    assert rule_of(model).costs == costly.costs
    assert unfold(model).SerializeToString() == body.SerializeToString()
    assert_equal_labels(open_session(model.SerializeToString()), costly)


def assert_equal_labels(session: Any, rule: DecisionRule) -> None:
    """Assert that the graph gives the labels of the reference on a batch without ties."""
    np.testing.assert_array_equal(run(session, BATCH).label, decide(BATCH, rule).label)


def test_a_learned_score_is_folded_and_read_back(identity: Body) -> None:
    """Graph and reference look up the same advantage, and the rule in the file is the one that was folded."""
    rng = np.random.default_rng(0)
    score = LearnedScore(0.5, tuple(rng.normal(size=5).astype(np.float32).tolist()))
    logits = rng.normal(0, 3, (200, 5)).astype(np.float32)
    order = np.sort(routing_score("learned", logits, 1.5, learned=score))
    edges = (order[50:200:50] + order[49:199:50]) / 2
    rule = DecisionRule(
        1.5,
        table_of(edges.astype(np.float32), np.array([-0.4, 0.1, -0.1, 0.3], np.float32)),
        0.0,
        score="learned",
        learned=score,
    )
    model = fold(identity(5), logits="logits", rule=rule, document=document_of(rule))
    graph = run(open_session(model.SerializeToString()), logits)
    reference = decide(logits, rule)
    np.testing.assert_array_equal(graph.advantage, reference.advantage)
    np.testing.assert_array_equal(graph.forward, reference.forward)
    assert 0 < reference.forward.sum() < len(logits)
    assert rule_of(model).learned == score
