"""A file that decides otherwise than the reference is never written."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from documents import document_of
from edgecascade.calibration import SCORES, AdvantageTable, DecisionRule, decide
from edgecascade.export import ParityError, check_parity, fold

Body = Callable[..., ModelProto]
LOGITS = np.random.default_rng(0).normal(0, 2, (200, 3)).astype(np.float32)


def folded(body: ModelProto, rule: DecisionRule) -> ModelProto:
    """The cascade model of the body."""
    return fold(body, logits="logits", rule=rule, document=document_of(rule))


@pytest.mark.parametrize("score", SCORES)
def test_a_true_copy_passes(identity: Body, rule: DecisionRule, score: str) -> None:
    """On every provider here, with the largest difference seen."""
    edges = {"confidence": [0.4, 0.6, 0.8], "margin": [0.3, 1.0, 3.0], "entropy": [-1.0, -0.6, -0.2]}[score]
    scored = replace(rule, score=score, table=replace(rule.table, edges=np.array(edges, np.float32)))
    found = check_parity(folded(identity(3), scored), LOGITS, LOGITS, scored)
    assert "CPUExecutionProvider" in found.providers
    assert found.n == 200
    assert found.largest < found.tolerance == 1e-5


def test_a_provider_that_cannot_run_here_is_named(
    identity: Body, rule: DecisionRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was not compared, instead of passing for one that agreed."""
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("edgecascade.runtime.engine.available", lambda: both)
    found = check_parity(folded(identity(3), rule), LOGITS, LOGITS, rule)
    assert (found.unusable, found.providers) == (("CUDAExecutionProvider",), ("CPUExecutionProvider",))


def test_rows_that_are_no_numbers_agree_too(identity: Body, rule: DecisionRule) -> None:
    """NaN here and there is the same decision."""
    rows = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [5, 0, 0], [-np.inf, 1, 0]], np.float32)
    assert check_parity(folded(identity(3), rule), rows, rows, rule).n == 4


def test_a_number_where_there_is_none_is_found_out(build: Body, rule: DecisionRule) -> None:
    """A file that repairs NaN hides what the device must not trust."""
    nodes = [
        helper.make_node("IsNaN", ["z"], ["broken"]),
        helper.make_node("Where", ["broken", "zero", "z"], ["logits"]),
    ]
    body = build(nodes, [3], [3], {"zero": np.zeros(1, np.float32)})
    rows = np.array([[5, 0, 0], [np.nan, 0, 0]], np.float32)
    with pytest.raises(ParityError, match=r"confidence of input 1 is 0\.33\d*, expected nan"):
        check_parity(folded(body, rule), rows, rows, rule)


@pytest.mark.parametrize(
    "batch",
    [
        1,
        8,
        pytest.param(
            7,
        ),
        pytest.param(
            256,
        ),
    ],
)
def test_a_fixed_batch_is_fed_as_it_wants(identity: Body, rule: DecisionRule, batch: int) -> None:
    """So many at a time, and every input is compared."""
    assert check_parity(folded(identity(3, batch=batch), rule), LOGITS, LOGITS, rule).n == 200


def other_table(rule: DecisionRule) -> AdvantageTable:
    """The same bins with the opposite advantage."""
    return replace(rule.table, values=-rule.table.values)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda rule: replace(rule, temperature=1.6), "confidence"),
        (lambda rule: replace(rule, threshold=0.2), "forward"),
        (lambda rule: replace(rule, table=other_table(rule)), "forward"),
        (lambda rule: replace(rule, table=replace(rule.table, edges=rule.table.edges - np.float32(0.1))), "forward"),
        (lambda rule: replace(rule, score="margin"), "forward"),
        pytest.param(
            lambda rule: replace(rule, table=replace(rule.table, values=2 * rule.table.values)),
            "advantage",
        ),
    ],
)
def test_another_rule_is_found_out(
    identity: Body, rule: DecisionRule, change: Callable[[DecisionRule], DecisionRule], name: str
) -> None:
    """The sentence shows the provider, the first input that differs, what it got and what was expected."""
    with pytest.raises(
        ParityError,
        match=rf"^parity failed on CPUExecutionProvider: {name} of input \d+ is \S+, expected \S+ \(\d+ of 200",
    ):
        check_parity(folded(identity(3), change(rule)), LOGITS, LOGITS, rule)


def test_the_first_difference_is_shown(identity: Body, rule: DecisionRule) -> None:
    """Where it is, what the file gives, what the rule gives, and how many there are."""
    rows = np.array([[0, 0, 0], [0, 0, 0], [3, 0, 0], [0, 3, 0]], np.float32)
    with pytest.raises(ParityError) as refusal:
        check_parity(folded(identity(3), replace(rule, temperature=3.0)), rows, rows, rule)
    assert re.sub(r"(0\.\d{3})\d+", r"\1", str(refusal.value)) == (
        "parity failed on CPUExecutionProvider: confidence of input 2 is 0.576, expected 0.786 (2 of 4 inputs differ); "
        "nothing was written"
    )


def test_classes_in_another_order_are_found_out(build: Body, rule: DecisionRule) -> None:
    """A label is compared and not only how sure it is."""
    body = build(
        [helper.make_node("Gather", ["z", "order"], ["logits"], axis=1)], [3], [3], {"order": np.array([1, 2, 0])}
    )
    with pytest.raises(ParityError, match="label of input 0"):
        check_parity(folded(body, rule), LOGITS, LOGITS, rule)


def test_a_model_that_loses_precision_is_found_out(build: Body, rule: DecisionRule) -> None:
    """Half precision on the way is more than the tolerance."""
    nodes = [
        helper.make_node("Cast", ["z"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["logits"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(ParityError, match="confidence of input"):
        check_parity(folded(build(nodes, [3], [3]), rule), LOGITS, LOGITS, rule)


def test_a_score_on_an_edge_may_fall_either_way(build: Body, rule: DecisionRule) -> None:
    """Within the tolerance of an edge, rounding decides, and that is no failure."""
    drift = np.array([2e-5, 0, 0], np.float32)
    body = build([helper.make_node("Add", ["z", "drift"], ["logits"])], [3], [3], {"drift": drift})
    rows = np.array([[1.6, 0, 0]], np.float32)
    between = (decide(rows, rule).confidence + decide(rows + drift, rule).confidence) / 2
    edge = replace(rule, table=replace(rule.table, edges=np.array([0.4, between[0], 0.8], np.float32)))
    assert decide(rows, edge).forward != decide(rows + drift, edge).forward
    assert check_parity(folded(body, edge), rows, rows, edge).n == 1
