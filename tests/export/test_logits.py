"""Logits are found or recovered without guessing, and numpy and the graph agree."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from documents import document_of
from edgecascade.calibration import DecisionRule, decide
from edgecascade.export import KINDS, ExportError, LogitsSource, find_logits, fold, logits_of
from edgecascade.export.logits import kind_of, recognise_scores
from edgecascade.runtime.engine import open_session

Body = Callable[..., ModelProto]


def _softmax(logits: NDArray[Any]) -> NDArray[np.float32]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)


def _scores(kind: str, n: int = 100) -> NDArray[np.float32]:
    """Return outputs of this kind, extremes included."""
    rng = np.random.default_rng(0)
    table = rng.normal(0, 4, (n, 3)).astype(np.float32)
    one = rng.normal(0, 4, (n, 1)).astype(np.float32)
    probabilities = _softmax(table)
    probabilities[0] = [0, 1, 0]
    chance = (1 / (1 + np.exp(-one))).astype(np.float32)
    chance[:2] = [[0], [1]]
    return {
        "logits": table,
        "probabilities": probabilities,
        "binary-logits": one,
        "binary-probabilities": chance,
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("datatype", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_the_graph_recovers_logits_as_numpy_does(
    identity: Body, rule: DecisionRule, kind: str, datatype: TensorProto.DataType
) -> None:
    """For every kind and precision, the folded file decides as the reference does on the recovered logits."""
    scores = _scores(kind).astype({1: np.float32, 10: np.float16, 11: np.float64}[int(datatype)])
    body = identity(scores.shape[1], kind=datatype)
    session = open_session(
        fold(body, logits="logits", kind=kind, rule=rule, document=document_of(rule)).SerializeToString()
    )
    label, confidence, probabilities = session.run(["label", "confidence", "probabilities"], {"z": scores})
    wanted = decide(logits_of(scores, kind), rule)
    np.testing.assert_allclose(probabilities, wanted.probabilities, atol=1e-6)
    np.testing.assert_allclose(confidence, wanted.confidence, atol=1e-6)
    np.testing.assert_array_equal(label, wanted.label)


def test_recovered_logits_give_the_same_probabilities() -> None:
    """At temperature 1, the softmax of the recovered logits is the input."""
    for kind, expected in {
        "probabilities": _scores("probabilities"),
        "binary-probabilities": np.hstack([1 - _scores("binary-probabilities"), _scores("binary-probabilities")]),
    }.items():
        np.testing.assert_allclose(_softmax(logits_of(_scores(kind), kind)), expected, atol=1e-6)
    z = _scores("binary-logits")
    np.testing.assert_allclose(_softmax(logits_of(z, "binary-logits"))[:, 1:], 1 / (1 + np.exp(-z)), atol=1e-6)


def test_a_binary_head_may_omit_its_axis(build: Body, rule: DecisionRule) -> None:
    """Scores [batch] are read as [batch, 1]."""
    node = helper.make_node("Squeeze", ["z", "axis"], ["score"])
    body = build([node], [1], [], {"axis": np.array([1], np.int64)}, output="score")
    source = find_logits(body)
    assert source == LogitsSource("score", None)
    session = open_session(
        fold(body, logits="score", kind="binary-logits", rule=rule, document=document_of(rule)).SerializeToString()
    )
    label, probabilities = session.run(["label", "probabilities"], {"z": np.array([[-3], [2]], np.float32)})
    assert label.tolist() == [0, 1]
    assert probabilities.shape == (2, 2)


@pytest.mark.parametrize(("shape", "tensor"), [([1], "raw"), ([], "raw")], ids=["[batch, 1]", "[batch]"])
def test_logits_before_a_sigmoid_are_found(build: Body, shape: list[int], tensor: str) -> None:
    """The binary logit is the input of the sigmoid."""
    nodes = [helper.make_node("Neg", ["z"], ["raw"]), helper.make_node("Sigmoid", ["raw"], ["chance"])]
    assert find_logits(build(nodes, shape, shape, output="chance")) == LogitsSource(tensor, "binary-logits")


def test_several_sigmoids_are_refused(build: Body) -> None:
    """Independent labels do not exclude each other, so a softmax over them has no meaning."""
    body = build([helper.make_node("Sigmoid", ["z"], ["labels"])], [3], [3], output="labels")
    with pytest.raises(ExportError, match=r"^logits: 'labels' is a Sigmoid over labels \[batch, 3\]: independent"):
        find_logits(body)


@pytest.mark.parametrize(
    "after", [["Flatten"], ["Reshape"], ["Identity", "Flatten", "Clip"], ["Transpose", "Transpose"]]
)
@pytest.mark.parametrize("activation", ["Sigmoid", "HardSigmoid"])
def test_several_sigmoids_are_refused_in_any_shape(build: Body, after: list[str], activation: str) -> None:
    """Operators that only move or bound values do not hide where they come from."""
    nodes, last = [helper.make_node(activation, ["z"], ["p0"])], "p0"
    for position, name in enumerate(after, 1):
        others = ["sides"] if name == "Reshape" else []
        nodes.append(helper.make_node(name, [last, *others], [f"p{position}"]))
        last = f"p{position}"
    body = build(nodes, [3], [3], {"sides": np.array([-1, 3])}, output=last)
    with pytest.raises(ExportError, match=r"is a Sigmoid over .*: independent labels, of which several may be right"):
        find_logits(body)
    for kind in ("probabilities", "logits"):
        assert find_logits(body, kind=kind) == LogitsSource(last, kind)


def test_one_sigmoid_for_each_class_is_refused(build: Body) -> None:
    """A head for each label, joined, is a model of independent labels; the two shares of one binary head are not."""
    heads = [helper.make_node("Sigmoid", ["z"], [f"p{k}"]) for k in range(3)]
    join = helper.make_node("Concat", ["p0", "p1", "p2"], ["labels"], axis=1)
    with pytest.raises(ExportError, match="independent labels"):
        find_logits(build([*heads, join], [1], [3], output="labels"))
    rest = helper.make_node("Sub", ["one", "p0"], ["q0"])
    shares = helper.make_node("Concat", ["q0", "p0"], ["shares"], axis=1)
    both = build([heads[0], rest, shares], [1], [2], {"one": np.ones(1, np.float32)}, output="shares")
    assert find_logits(both) == LogitsSource("shares", None)


def test_a_binary_sigmoid_in_another_shape_gives_probabilities(build: Body) -> None:
    """The graph tells what the values alone do not."""
    nodes = [helper.make_node("Sigmoid", ["z"], ["p"]), helper.make_node("Flatten", ["p"], ["chance"])]
    body = build(nodes, [1], [1], output="chance")
    assert find_logits(body) == LogitsSource("chance", "binary-probabilities")
    with pytest.raises(ExportError, match=r"^kind: expected binary-probabilities, as 'chance' is a Sigmoid"):
        find_logits(body, kind="binary-logits")


def test_log_probabilities_are_logits(build: Body) -> None:
    """Log-probabilities differ from logits by a constant per row."""
    body = build([helper.make_node("LogSoftmax", ["z"], ["logp"])], [3], [3], output="logp")
    assert find_logits(body) == LogitsSource("logp", "logits")


OPEN = LogitsSource("out", None)


def test_the_values_decide_what_the_graph_leaves_open() -> None:
    """Rows that are distributions are probabilities; rows with a number outside [0, 1] are not."""
    assert kind_of(OPEN, _scores("logits")) == "logits"
    assert kind_of(OPEN, _scores("probabilities")) == "probabilities"
    assert kind_of(OPEN, _scores("binary-logits")) == "binary-logits"
    assert kind_of(LogitsSource("out", KINDS[3]), _scores(KINDS[3])[:, 0]) == "binary-probabilities"


@pytest.mark.parametrize(
    ("source", "scores", "message"),
    [
        (OPEN, _scores("binary-probabilities"), r"all 100 numbers in 'out' lie in \[0, 1\].* --kind binary-prob"),
        (LogitsSource("out", "binary-logits"), _scores("logits"), r"expected binary-logits .* got \[100, 3\]"),
        (LogitsSource("out", "logits"), _scores("binary-logits"), r"expected logits in 'out', got \[100, 1\]"),
        (OPEN, np.zeros((2, 3, 4), np.float32), r"expected scores in 'out', got \[2, 3, 4\]"),
        (LogitsSource("out", "probabilities"), _scores("logits"), r"in \[0, 1\] in 'out' with --kind probabilities"),
    ],
)
def test_ambiguous_scores_require_the_option(source: LogitsSource, scores: NDArray[Any], message: str) -> None:
    """The error is one sentence that describes the values."""
    with pytest.raises(ExportError, match=f"^logits: .*{message}"):
        kind_of(source, scores)


def test_an_unknown_kind_is_refused(identity: Body) -> None:
    """The error lists the known kinds."""
    with pytest.raises(ExportError, match=r"^kind: expected one of logits, probabilities, .* got 'odds'"):
        find_logits(identity(3), kind="odds")


@pytest.mark.parametrize(
    ("dtype", "least"), [(np.float64, 2.0**-25), (np.float32, 2.0**-25), (np.float16, 2.0**-12)], ids=str
)
def test_a_binary_probability_near_one_is_rounded(dtype: type[np.floating], least: float) -> None:
    """1 - p cannot be smaller than half a step of the numbers below 1, and is bounded there on both sides."""
    one = (1 / (1 + np.exp(-np.random.default_rng(0).normal(0, 8, (500, 1))))).astype(dtype)
    found = recognise_scores(one, "binary-probabilities")
    assert found.floor == least
    logits = logits_of(np.array([[0.0], [1.0]], dtype), "binary-probabilities", found.floor)
    np.testing.assert_allclose(np.abs(logits[:, 1] - logits[:, 0]), -np.log(least), rtol=1e-6)


def test_rounded_binary_probabilities_have_the_floor_of_their_grid() -> None:
    """Zeros and ones are bounded alike."""
    one = (1 / (1 + np.exp(-np.random.default_rng(0).normal(0, 4, (500, 1))))).round(3)
    found = recognise_scores(one, "binary-probabilities")
    assert found.rounding == "3 decimals"
    assert found.zeros == np.count_nonzero((one == 0) | (one == 1))
    assert 1e-5 < found.floor < 5e-4
