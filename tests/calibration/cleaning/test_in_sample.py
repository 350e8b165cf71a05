"""Experts that saw the labels they judge are refused; honest ones pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.cleaning import Experts, check_columns, check_held_out


def test_honest_splits_pass(population: Callable[..., Any]) -> None:
    """None of 200 random splits is refused."""
    for seed in range(200):
        drawn = population(n=400, seed=seed)
        first = np.random.default_rng(seed).permutation(400) < 250
        check_held_out(
            drawn.experts.select(first), drawn.labels[first], drawn.experts.select(~first), drawn.labels[~first]
        )


def test_an_expert_that_saw_the_labels_is_refused(population: Callable[..., Any]) -> None:
    """The sentence says which, by what, and what to do."""
    drawn = population(n=2000)
    judged = np.arange(2000) < 1000
    drawn.arrays[1][judged] += 3 * np.eye(5)[drawn.labels[judged]]
    experts = drawn.experts
    with pytest.raises(
        CalibrationError, match=r"expert 2: .*did not see the labels.*give out-of-fold outputs"
    ) as found:
        check_held_out(experts.select(judged), drawn.labels[judged], experts.select(~judged), drawn.labels[~judged])
    assert "% of 1000 judged labels but" in str(found.value)


def test_held_out_rows_that_are_judged_are_refused(population: Callable[..., Any]) -> None:
    """Also where only some of them are."""
    drawn = population(n=2000)
    judged, held_out = np.arange(1500), np.arange(1400, 2000)
    with pytest.raises(CalibrationError, match="got 100 of 600 with exactly the outputs of a judged row"):
        check_held_out(
            drawn.experts.select(judged), drawn.labels[judged], drawn.experts.select(held_out), drawn.labels[held_out]
        )


def test_repeated_inputs_and_coarse_outputs_are_no_overlap(population: Callable[..., Any]) -> None:
    """Rows that have equals everywhere say nothing about the split."""
    drawn = population(n=4000)
    experts = Experts.of([np.round(array / 4) for array in drawn.arrays], kinds=["logits"] * 2)
    judged = np.arange(4000) < 2500
    check_held_out(experts.select(judged), drawn.labels[judged], experts.select(~judged), drawn.labels[~judged])


def test_columns_in_another_order_are_refused(population: Callable[..., Any]) -> None:
    """All of them, or two that changed places."""
    drawn = population(n=2000)
    judged = np.arange(2000) < 1000
    for order in ([1, 2, 3, 4, 0], [1, 0, 2, 3, 4]):
        experts = Experts.of([drawn.arrays[0], drawn.arrays[1][:, order]])
        with pytest.raises(CalibrationError, match=r"expert 2: another order of its classes fits far better"):
            check_held_out(experts.select(judged), drawn.labels[judged], experts.select(~judged), drawn.labels[~judged])
        with pytest.raises(CalibrationError, match=r"expert 2: another order of its classes fits far better"):
            check_columns(experts, drawn.labels)
    check_columns(drawn.experts, drawn.labels)


def test_an_expert_worse_than_chance_is_refused(population: Callable[..., Any]) -> None:
    """It answers any class but the label, which no order of the classes makes right."""
    drawn = population(n=4000, classes=30)
    judged = np.arange(4000) < 2000
    avoiding = np.random.default_rng(1).normal(size=(4000, 30)) - 9 * np.eye(30)[drawn.labels]
    experts = Experts.of([drawn.arrays[0], avoiding])
    with pytest.raises(CalibrationError, match=r"expert 2: expected answers better than chance, got 0.0% right"):
        check_held_out(experts.select(judged), drawn.labels[judged], experts.select(~judged), drawn.labels[~judged])


def test_other_experts_on_the_held_out_rows_are_refused(population: Callable[..., Any]) -> None:
    """Both sides have the same experts."""
    drawn = population(n=500)
    with pytest.raises(CalibrationError, match="held-out rows: expected the experts expert 1, expert 2 with 5 classes"):
        check_held_out(drawn.experts, drawn.labels, drawn.experts.only(0), drawn.labels)
