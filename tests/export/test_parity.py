"""A file that decides differently from the reference is not written."""

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
    """Return the cascade model of the body."""
    return fold(body, logits="logits", rule=rule, document=document_of(rule))


@pytest.mark.parametrize("score", SCORES)
def test_a_faithful_copy_passes(identity: Body, rule: DecisionRule, score: str) -> None:
    """The report names every available provider and the largest difference."""
    edges = {"confidence": [0.4, 0.6, 0.8], "margin": [0.3, 1.0, 3.0], "entropy": [-1.0, -0.6, -0.2]}[score]
    scored = replace(rule, score=score, table=replace(rule.table, edges=np.array(edges, np.float32)))
    found = check_parity(folded(identity(3), scored), LOGITS, LOGITS, scored)
    assert "CPUExecutionProvider" in found.providers
    assert found.n == 200
    assert found.largest < found.tolerance == 1e-5


def test_an_unavailable_provider_is_reported(
    identity: Body, rule: DecisionRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that cannot run here is listed as not compared."""
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("edgecascade.runtime.engine.available", lambda: both)
    found = check_parity(folded(identity(3), rule), LOGITS, LOGITS, rule)
    assert (found.unusable, found.providers) == (("CUDAExecutionProvider",), ("CPUExecutionProvider",))


def test_nan_rows_agree(identity: Body, rule: DecisionRule) -> None:
    """Rows with NaN get the same decision."""
    rows = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [5, 0, 0], [-np.inf, 1, 0]], np.float32)
    assert check_parity(folded(identity(3), rule), rows, rows, rule).n == 4


def test_a_number_in_place_of_nan_is_detected(build: Body, rule: DecisionRule) -> None:
    """A file that replaces NaN by a number would hide an input that must be forwarded."""
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
def test_a_fixed_batch_is_fed_in_full_batches(identity: Body, rule: DecisionRule, batch: int) -> None:
    """Inputs are fed in batches of the fixed size, and every input is compared."""
    assert check_parity(folded(identity(3, batch=batch), rule), LOGITS, LOGITS, rule).n == 200


def other_table(rule: DecisionRule) -> AdvantageTable:
    """Return the same bins with the opposite advantage."""
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
def test_another_rule_is_detected(
    identity: Body, rule: DecisionRule, change: Callable[[DecisionRule], DecisionRule], name: str
) -> None:
    """The error names the provider, the first input that differs, the value found and the value expected."""
    with pytest.raises(
        ParityError,
        match=rf"^parity failed on CPUExecutionProvider: {name} of input \d+ is \S+, expected \S+ \(\d+ of 200",
    ):
        check_parity(folded(identity(3), change(rule)), LOGITS, LOGITS, rule)


def test_the_first_difference_is_reported(identity: Body, rule: DecisionRule) -> None:
    """The report holds its index, both values, and the number of differences."""
    rows = np.array([[0, 0, 0], [0, 0, 0], [3, 0, 0], [0, 3, 0]], np.float32)
    with pytest.raises(ParityError) as refusal:
        check_parity(folded(identity(3), replace(rule, temperature=3.0)), rows, rows, rule)
    assert re.sub(r"(0\.\d{3})\d+", r"\1", str(refusal.value)) == (
        "parity failed on CPUExecutionProvider: confidence of input 2 is 0.576, expected 0.786 (2 of 4 inputs differ); "
        "nothing was written"
    )


def test_permuted_classes_are_detected(build: Body, rule: DecisionRule) -> None:
    """Labels are compared as well as confidences."""
    body = build(
        [helper.make_node("Gather", ["z", "order"], ["logits"], axis=1)], [3], [3], {"order": np.array([1, 2, 0])}
    )
    with pytest.raises(ParityError, match="label of input 0"):
        check_parity(folded(body, rule), LOGITS, LOGITS, rule)


def test_lost_precision_is_detected(build: Body, rule: DecisionRule) -> None:
    """A cast to half precision exceeds the tolerance."""
    nodes = [
        helper.make_node("Cast", ["z"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["logits"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(ParityError, match="confidence of input"):
        check_parity(folded(build(nodes, [3], [3]), rule), LOGITS, LOGITS, rule)


def test_a_score_near_an_edge_may_fall_on_either_side(build: Body, rule: DecisionRule) -> None:
    """Within the tolerance of an edge, either decision is accepted."""
    drift = np.array([2e-5, 0, 0], np.float32)
    body = build([helper.make_node("Add", ["z", "drift"], ["logits"])], [3], [3], {"drift": drift})
    rows = np.array([[1.6, 0, 0]], np.float32)
    between = (decide(rows, rule).confidence + decide(rows + drift, rule).confidence) / 2
    edge = replace(rule, table=replace(rule.table, edges=np.array([0.4, between[0], 0.8], np.float32)))
    assert decide(rows, edge).forward != decide(rows + drift, edge).forward
    assert check_parity(folded(body, edge), rows, rows, edge).n == 1
