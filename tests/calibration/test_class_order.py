"""Another order of a model's classes is found where there is one, and only there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, MostAccuracy, plan_cascade
from edgecascade.calibration.class_order import better_order, order_sentence

Answers = tuple[NDArray[np.int64], NDArray[np.int64]]


def answered(
    classes: int, n: int, accuracy: float, seed: int, order: Sequence[int] | NDArray[np.int64] | None = None
) -> Answers:
    """Return answers and labels; an answer is right with this probability, otherwise drawn at random."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    answers = np.where(rng.random(n) < accuracy, labels, rng.integers(0, classes, n))
    return (answers if order is None else np.asarray(order)[answers]), labels


@pytest.mark.parametrize(
    ("classes", "n", "accuracy"), [(2, 1000, 0.0), (2, 20, 0.0), (3, 300, 0.2), (10, 1000, 0.0), (1000, 1000, 0.1)]
)
def test_a_weak_model_is_not_taken_for_one_of_another_order(classes: int, n: int, accuracy: float) -> None:
    """Models at or near chance pass, although some order always fits the same inputs better."""
    found = [better_order(*answered(classes, n, accuracy, seed), classes) for seed in range(20)]
    assert found == [None] * 20


def test_false_alarms_on_rare_events_are_no_other_order() -> None:
    """A detector that answers 1 on most inputs of a rare class would be right more often if it were inverted."""
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < 0.02).astype(np.int64)
    answers = np.where(labels == 1, rng.random(2000) < 0.95, rng.random(2000) < 0.6).astype(np.int64)
    assert (answers == labels).mean() < 0.5
    assert better_order(answers, labels, 2) is None


@pytest.mark.parametrize(("classes", "n", "accuracy"), [(2, 200, 0.6), (5, 300, 0.6), (10, 2000, 0.5), (26, 3000, 0.8)])
def test_the_true_order_is_named(classes: int, n: int, accuracy: float) -> None:
    """Outputs in any other order are put back into that of the labels."""
    for seed in range(10):
        order = np.roll(np.random.default_rng(seed).permutation(classes), seed)
        found = better_order(*answered(classes, n, accuracy, seed, order), classes)
        if (order == np.arange(classes)).all():
            assert found is None
        else:
            assert found is not None
            assert found[order].tolist() == list(range(classes))


def test_labels_that_are_no_classes_say_nothing_about_the_order() -> None:
    """They are refused elsewhere, with their range."""
    answers, labels = answered(3, 300, 0.9, 0, [1, 2, 0])
    assert better_order(answers, labels + 1, 3) is None
    assert better_order(answers, labels - 1, 3) is None
    assert better_order(answers[:1], labels[:1], 3) is None
    assert "for 2, 0, 1 and not for 0, 1, 2" in (order_sentence(answers, labels, 3, ["a", "b"]) or "")


def test_two_classes_that_change_places_are_found_among_many() -> None:
    """The sentence names the order and both accuracies; of many classes, only those that move."""
    swap = [0, 1, 3, 2]
    answers, labels = answered(4, 400, 0.7, 0, swap)
    sentence = order_sentence(answers, labels, 4, ["ant", "bee", "mole", "zebra"])
    assert sentence is not None
    assert sentence.endswith("if its outputs stand for ant, bee, zebra, mole and not for ant, bee, mole, zebra")
    many = [*range(28), 29, 28]
    answers, labels = answered(30, 2000, 0.9, 0, many)
    assert (order_sentence(answers, labels, 30) or "").endswith(
        "if 2 of its outputs stand for other classes: output 28 for 29, output 29 for 28"
    )


@pytest.mark.parametrize("model", ["local model", "remote"])
def test_a_plan_refuses_another_order(model: str) -> None:
    """The error names the model, the order that fits and the cure."""
    rng = np.random.default_rng(0)
    logits: NDArray[Any] = rng.normal(0, 3, (600, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    other = logits[:, [2, 0, 1]]
    pair = (other, logits) if model == "local model" else (logits, other)
    with pytest.raises(
        CalibrationError, match=rf"^{model}: another order .* if its outputs stand for c, a, b and not for a, b, c; "
    ):
        plan_cascade(*pair, labels, MostAccuracy(0.3), names=["a", "b", "c"])
