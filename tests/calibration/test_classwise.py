"""The classwise calibration error, against its definition written out."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, expected_calibration_error, softmax
from edgecascade.calibration.classwise import classwise_calibration_error, classwise_reliability

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]


@given(st.integers(1, 30), st.integers(2, 5), st.integers(1, 20), st.integers(0, 1000))
def test_it_is_the_mean_gap_over_bins_and_classes(n: int, classes: int, bins: int, seed: int) -> None:
    """The sum over classes and bins of share times |mean probability - frequency|, over the number of classes."""
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.ones(classes), n), rng.integers(classes, size=n)
    edges = np.linspace(0.0, 1.0, bins + 1)
    total = 0.0
    for one in range(classes):
        for low, high in pairwise(edges):
            inside = (low < probabilities[:, one]) & (probabilities[:, one] <= high)
            total += abs(np.sum(probabilities[inside, one]) - np.sum(labels[inside] == one))
    found = classwise_calibration_error(probabilities, labels, bins)
    assert found == pytest.approx(total / n / classes, abs=1e-12)


@given(st.integers(0, 1000))
def test_it_does_not_depend_on_the_order_of_the_classes(seed: int) -> None:
    """Nor on that of the rows."""
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.ones(4), 50), rng.integers(4, size=50)
    classes, rows = rng.permutation(4), rng.permutation(50)
    moved = classwise_calibration_error(probabilities[rows][:, classes], np.argsort(classes)[labels[rows]])
    assert moved == pytest.approx(classwise_calibration_error(probabilities, labels), abs=1e-12)


def test_of_two_classes_each_is_as_wrong_as_the_other(sampled: Sampled) -> None:
    """So the classwise error is that of either."""
    logits, labels = sampled(classes=2, temperature=3.0)
    probabilities = softmax(logits)
    one = expected_calibration_error(probabilities[:, 0], labels == 0)
    assert classwise_calibration_error(probabilities, labels) == pytest.approx(one, rel=0.02)


def test_it_sees_what_the_likeliest_class_hides() -> None:
    """Of the classes that are not the likeliest, 1 always happens and 2 never; confidence is right all the same."""
    probabilities = np.tile([0.6, 0.2, 0.2], (100, 1))
    labels = np.repeat([0, 1], [60, 40])
    assert expected_calibration_error(probabilities.max(axis=1), labels == 0) == pytest.approx(0.0, abs=1e-12)
    assert classwise_calibration_error(probabilities, labels) == pytest.approx(0.4 / 3)


def test_a_probability_that_rounds_to_above_1_is_one() -> None:
    """float32 softmaxes do that."""
    above = np.array([[np.nextafter(np.float32(1), np.float32(2)), 0.0]], np.float32)
    assert classwise_calibration_error(above, np.array([0])) == 0.0


def test_a_class_has_its_own_bins(sampled: Sampled) -> None:
    """One table per class, of all rows."""
    logits, labels = sampled(n=200, classes=3)
    tables = classwise_reliability(softmax(logits), labels, bins=5)
    assert [table.count.sum() for table in tables] == [200, 200, 200]
    assert [np.nansum(t.count * t.accuracy) for t in tables] == pytest.approx(np.bincount(labels))


def test_logits_are_refused(sampled: Sampled) -> None:
    """One sentence that names the argument."""
    with pytest.raises(CalibrationError, match=r"^probabilities: .*logits"):
        classwise_calibration_error(*sampled(n=10))
