"""Labels of least expected cost equal a brute-force search, and invalid costs are refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgecascade.runtime import ArgumentError, Prediction, Source
from edgecascade.types.costs import ErrorCosts, labels_of
from edgecascade.types.merge import MERGES, merge, merged_labels

DEFECT = ErrorCosts((1.0, 20.0))  # a missed defect costs twenty false alarms


def brute_force(row: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the expected cost of each answer, one sum at a time."""
    classes = range(len(row))
    return np.array([sum(float(row[true]) * matrix[true, answer] for true in classes) for answer in classes])


def as_matrix(costs: ErrorCosts) -> NDArray[np.float64]:
    """Return the costs as a matrix by true class and answer."""
    values = np.array(costs.values)
    return values if values.ndim == 2 else values[:, None] * (1 - np.eye(len(values)))


@st.composite
def some_costs(draw: st.DrawFn, classes: int) -> ErrorCosts:
    """Draw costs by class or a matrix, with at least one above 0."""
    cost = st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0])
    if draw(st.booleans()):
        values = draw(arrays(float, classes, elements=cost))
    else:
        values = draw(arrays(float, (classes, classes), elements=cost)) * (1 - np.eye(classes))
    values[(0, 1) if values.ndim == 2 else 0] = 7.0
    return ErrorCosts(values.tolist())


@given(data=st.data(), classes=st.integers(2, 6))
def test_the_label_has_the_least_expected_cost(data: st.DataObject, classes: int) -> None:
    """No other answer is expected to cost less, and expected costs equal a plain sum."""
    costs = data.draw(some_costs(classes))
    weights = data.draw(arrays(np.float32, (4, classes), elements=st.integers(1, 9).map(float)))
    rows = np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
    labels, expected = costs.labels(rows), costs.expected(rows)
    for row, label, ours in zip(rows, labels, expected, strict=True):
        wanted = brute_force(row, as_matrix(costs))
        np.testing.assert_allclose(ours * costs.largest, wanted, atol=1e-5)
        assert wanted[label] <= wanted.min() + 1e-5


def test_equal_costs_give_the_most_probable_class() -> None:
    """Without costs, or if all errors cost the same, the label is the first of the largest probabilities."""
    rows = np.random.default_rng(0).dirichlet(np.ones(5), 1000).astype(np.float32)
    for costs in (None, ErrorCosts([3.0] * 5), ErrorCosts((2 * (1 - np.eye(5))).tolist())):
        np.testing.assert_array_equal(labels_of(rows, costs), rows.argmax(axis=1))


def test_a_costly_class_is_answered_below_one_half() -> None:
    """With two classes the boundary is cost of a false alarm / (sum of both costs) = 1 / 21."""
    chance = np.array([0.0, 0.047, 0.048, 0.5, 1.0])
    rows = np.stack([1 - chance, chance], axis=1).astype(np.float32)
    assert DEFECT.labels(rows).tolist() == [0, 0, 1, 1, 1]
    assert ErrorCosts(((0.0, 1.0), (20.0, 0.0))).labels(rows).tolist() == [0, 0, 1, 1, 1]


def test_the_cost_of_an_answer_is_looked_up_by_true_class_and_answer() -> None:
    """Right answers cost nothing."""
    true, answered = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 0, 1])
    assert ErrorCosts((1.0, 20.0, 5.0)).of(true, answered).tolist() == [0, 1, 0, 20, 5]
    assert ErrorCosts([[0, 2, 3], [4, 0, 5], [6, 7, 0]]).of(true, answered).tolist() == [0, 2, 0, 4, 7]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3.0, r"a cost per class \[classes\] or a matrix \[classes, classes\], got 3.0"),
        ([1.0], r"got \[1\]"),
        ([[0.0, 1.0]], r"got \[1, 2\]"),
        ([[0.0, 1.0], [1.0]], "a matrix"),
        ("costs", "got costs"),
        ([1.0, -2.0], "numbers of 0 or more, and one above 0, got -2.0"),
        ([1.0, float("nan")], "got nan"),
        ([1.0, float("inf")], "got inf"),
        ([0.0, 0.0], "got zeros only"),
        ([[0.0, 1.0], [20.0, 0.5]], "expected 0 on the diagonal, since a right answer costs nothing, got 0.5"),
    ],
)
def test_invalid_costs_are_refused(values: Any, message: str) -> None:
    """The error says what was expected and what came."""
    with pytest.raises(ArgumentError, match=rf"^costs: .*{message}"):
        ErrorCosts(values)


def _prediction(row: NDArray[np.float32], costs: ErrorCosts) -> Prediction:
    label = int(costs.labels(row[None])[0])
    return Prediction(label, float(row[label]), row)


@pytest.mark.parametrize("rule", MERGES)
@given(data=st.data())
def test_the_plan_and_the_device_merge_alike_under_costs(rule: str, data: st.DataObject) -> None:
    """The same probabilities give the same labels, and the confidence is the probability of the label."""
    costs = data.draw(some_costs(3))
    weights = data.draw(arrays(np.float32, (2, 3, 3), elements=st.integers(1, 9).map(float)))
    local, remote = np.asarray(weights / weights.sum(axis=2, keepdims=True), np.float32)
    labels = merged_labels(rule, local, remote, costs)
    for ours, theirs, label in zip(local, remote, labels, strict=True):
        final, _ = merge(rule, _prediction(ours, costs), _prediction(theirs, costs), costs)
        wanted = costs.expected(final.probabilities[None])[0]
        assert wanted[final.label] == pytest.approx(wanted[label], abs=1e-5) or rule == "confident"
        assert final.confidence == final.probabilities[final.label]


@pytest.mark.parametrize(
    ("rule", "local", "remote", "label", "confidence", "source"),
    [
        ("replace", (0.97, 0.03), (0.9, 0.1), 1, 0.1, Source.REMOTE),
        # expected costs: .03 * 20 = .6 for the local 0, .9 for the remote 1
        ("confident", (0.97, 0.03), (0.9, 0.1), 0, 0.97, Source.LOCAL),
        # the local 0 is more probable, but .04 * 20 = .8 is more than the remote's .7
        ("confident", (0.96, 0.04), (0.7, 0.3), 1, 0.3, Source.REMOTE),
        ("average", (0.98, 0.02), (0.9, 0.1), 1, 0.06, Source.MERGED),
        ("average", (0.98, 0.02), (0.98, 0.02), 0, 0.98, Source.MERGED),
    ],
)
def test_two_predictions_are_merged_by_expected_cost(
    rule: str, local: tuple[float, ...], remote: tuple[float, ...], label: int, confidence: float, source: Source
) -> None:
    """Label, confidence and source equal values computed by hand."""
    ours, theirs = (_prediction(np.array(row, np.float32), DEFECT) for row in (local, remote))
    final, whose = merge(rule, ours, theirs, DEFECT)
    assert (final.label, whose) == (label, source)
    assert final.confidence == pytest.approx(confidence)
    assert merged_labels(rule, ours.probabilities[None], theirs.probabilities[None], DEFECT).tolist() == [label]
