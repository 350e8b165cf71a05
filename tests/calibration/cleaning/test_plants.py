"""Planted labels are known to be wrong, and the share that is found has an exact interval."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgecascade.calibration import CalibrationError, proportion_interval
from edgecascade.calibration.cleaning import detection, find_suspects, fit_pool, plant


def test_planted_labels_differ_where_it_is_said_and_nowhere_else() -> None:
    """The originals are kept, and the seed decides."""
    labels = np.arange(1000) % 7
    planted = plant(labels, 7, share=0.03, seed=5)
    assert len(planted.rows) == 30
    assert (np.flatnonzero(planted.labels != labels) == planted.rows).all()
    assert (planted.original == labels[planted.rows]).all()
    assert 0 <= planted.labels.min() <= planted.labels.max() < 7
    assert (plant(labels, 7, share=0.03, seed=5).labels == planted.labels).all()
    assert (plant(labels, 7, share=0.03, seed=6).labels != planted.labels).any()


def test_each_other_class_is_planted_alike() -> None:
    """The wrong class is uniform over the other ones."""
    planted = plant(np.full(40_000, 2), 5, share=0.5)
    counts = np.bincount(planted.labels[planted.rows], minlength=5)
    assert counts[2] == 0
    assert counts[[0, 1, 3, 4]] == pytest.approx(5000, rel=0.06)


def test_only_options_that_a_row_has_are_planted() -> None:
    """As in multiple choice; a row with a single option is left alone, and all options change nothing."""
    rng = np.random.default_rng(0)
    count = rng.integers(1, 5, 2000)
    options, labels = np.arange(4) < count[:, None], rng.integers(0, count)
    planted = plant(labels, 4, share=0.3, options=options)
    assert len(planted.rows) == 600
    assert options[planted.rows, planted.labels[planted.rows]].all()
    assert (planted.labels[planted.rows] != planted.original).all()
    assert (count[planted.rows] > 1).all()
    every = plant(labels, 4, options=np.ones((2000, 4), bool))
    assert (every.labels == plant(labels, 4).labels).all()
    for wrong in (options[1:], np.eye(4, dtype=bool)[labels]):
        with pytest.raises(CalibrationError, match="options: expected"):
            plant(labels, 4, options=wrong)


def test_detection_is_the_share_that_is_flagged(population: Callable[..., Any]) -> None:
    """With the exact interval of a proportion."""
    drawn = population(rate=0.0)
    planted = plant(drawn.labels, 5, share=0.02)
    suspects = find_suspects(drawn.experts, planted.labels, fit_pool(drawn.experts, planted.labels))
    found = detection(planted, suspects)
    count = len(set(planted.rows) & set(suspects.row[suspects.flagged]))
    assert (found.value, found.n) == (count / 60, 60)
    assert (found.low, found.high) == proportion_interval(count, 60)
    assert found.value > 0.8
    with pytest.raises(CalibrationError, match="planted: expected the labels that the suspects were found with"):
        detection(plant(drawn.labels, 5, seed=1), suspects)


@pytest.mark.parametrize(
    ("labels", "classes", "share", "sentence"),
    [
        ([0, 1], 2, 0.0, "share: expected a number above 0"),
        ([0, 1], 1, 0.1, "labels: expected 0 to 0 of at least 2 classes"),
        ([0, 5], 3, 0.1, "labels: expected 0 to 2"),
        ([0.0, 1.0], 2, 0.1, r"labels: expected integers \[n\], got float64"),
    ],
)
def test_bad_arguments_are_refused(labels: list[Any], classes: int, share: float, sentence: str) -> None:
    """One sentence each."""
    with pytest.raises(CalibrationError, match=sentence):
        plant(np.array(labels), classes, share)
