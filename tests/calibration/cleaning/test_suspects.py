"""Suspects are ordered by how probable it is that their label is wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.cleaning import Experts, Suspects, find_suspects, fit_pool


def average_precision(suspects: Suspects, wrong: NDArray[np.bool_]) -> float:
    """Return the mean precision at each wrong label, of a list of every row."""
    hit = wrong[suspects.row]
    return float((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean())


@pytest.mark.parametrize("noise", ["symmetric", "pair"])
def test_the_posterior_orders_as_well_as_the_truth_would(population: Callable[..., Any], noise: str) -> None:
    """It comes close to the order of the exact posterior, which knows the experts and the noise."""
    drawn = population(n=6000, noise=noise, signals=(2.0, 1.5))
    suspects = find_suspects(drawn.experts, drawn.labels, fit_pool(drawn.experts, drawn.labels), every_row=True)
    pooled = drawn.arrays[0] + drawn.arrays[1]
    chance = np.exp(pooled - pooled.max(axis=1, keepdims=True))
    away = (drawn.labels[:, None] - np.arange(5)) % 5
    confusion = np.where(away == 0, 0.95, 0.05 / 4 if noise == "symmetric" else 0.05 * (away == 1))
    joint = chance * confusion
    exact = 1 - joint[np.arange(6000), drawn.labels] / joint.sum(axis=1)
    best = np.argsort(-exact)
    hit = drawn.wrong[best]
    reachable = float((np.cumsum(hit) / np.arange(1, 6001))[hit].mean())
    assert average_precision(suspects, drawn.wrong) > reachable - 0.01


@pytest.mark.parametrize("rule", ["posterior", "pool", "all-disagree"])
def test_the_columns_say_what_the_experts_say(population: Callable[..., Any], rule: str) -> None:
    """Rows come best first, given labels are the given ones, and confidences are those of each expert."""
    drawn = population()
    pool = fit_pool(drawn.experts, drawn.labels)
    suspects = find_suspects(drawn.experts, drawn.labels, pool, rule=rule)
    assert 0 < len(suspects) < 1000
    assert (np.diff(suspects.score) <= 0).all()
    assert (suspects.given == drawn.labels[suspects.row]).all()
    assert (suspects.suggested != suspects.given).all()
    assert drawn.wrong[suspects.row[suspects.flagged]].mean() > 0.8
    assert suspects.posterior == pytest.approx(suspects.expected_wrong[suspects.row], abs=1e-6)
    assert len(suspects.expected_wrong) == suspects.n == 3000
    for k, array in enumerate(drawn.arrays):
        chance = np.exp(array / pool.temperatures[k])
        chance /= chance.sum(axis=1, keepdims=True)
        for found, classes in (
            (suspects.confidences, suspects.suggested),
            (suspects.given_confidences, suspects.given),
        ):
            assert found[:, k] == pytest.approx(chance[suspects.row, classes], abs=1e-4)


def test_all_disagree_is_the_rule_of_the_paper(population: Callable[..., Any]) -> None:
    """A row is flagged where every expert answers another class with at least the threshold's confidence."""
    drawn = population()
    pool = fit_pool(drawn.experts, drawn.labels)
    expected = np.ones(3000, bool)
    for k, array in enumerate(drawn.arrays):
        chance = np.exp(array / pool.temperatures[k])
        chance /= chance.sum(axis=1, keepdims=True)
        expected &= (chance.argmax(axis=1) != drawn.labels) & (chance.max(axis=1) >= 0.8)
    suspects = find_suspects(drawn.experts, drawn.labels, pool, rule="all-disagree", threshold=0.8)
    assert set(suspects.row[suspects.flagged]) == set(np.flatnonzero(expected))


def test_a_weak_expert_costs_next_to_nothing(population: Callable[..., Any]) -> None:
    """The pool gives it a small weight."""
    drawn = population(n=6000, signals=(2.0, 1.8, 0.3))
    two = Experts.of(drawn.arrays[:2])
    found = [
        average_precision(
            find_suspects(experts, drawn.labels, fit_pool(experts, drawn.labels), every_row=True), drawn.wrong
        )
        for experts in (two, drawn.experts)
    ]
    assert found[1] > found[0] - 0.01


def test_many_classes_and_chunks_give_what_few_chunks_give(population: Callable[..., Any]) -> None:
    """A thousand classes, of which the best of each row are looked at."""
    drawn = population(n=2000, classes=1000, signals=(4.0, 3.5))
    suspects = find_suspects(drawn.experts, drawn.labels, fit_pool(drawn.experts, drawn.labels), every_row=True)
    assert len(suspects) == 2000
    assert average_precision(suspects, drawn.wrong) > 0.95


def test_two_classes_will_do(population: Callable[..., Any]) -> None:
    """The suggested class is the other one."""
    drawn = population(classes=2)
    suspects = find_suspects(drawn.experts, drawn.labels, fit_pool(drawn.experts, drawn.labels), every_row=True)
    assert (suspects.suggested == 1 - suspects.given).all()


def test_clean_labels_have_few_suspects(population: Callable[..., Any]) -> None:
    """Without wrong labels hardly any is flagged."""
    drawn = population(n=6000, rate=0.0, signals=(3.0, 3.0))
    suspects = find_suspects(drawn.experts, drawn.labels, fit_pool(drawn.experts, drawn.labels))
    assert suspects.flagged.sum() <= 6


def test_what_does_not_fit_is_refused(population: Callable[..., Any]) -> None:
    """An unknown rule, a threshold that is no chance, and a pool of other experts."""
    drawn = population(n=500)
    pool = fit_pool(drawn.experts, drawn.labels)
    with pytest.raises(CalibrationError, match="rule: expected one of posterior, pool, all-disagree, got best"):
        find_suspects(drawn.experts, drawn.labels, pool, rule="best")
    with pytest.raises(CalibrationError, match=r"threshold: expected a chance in \[0, 1\], got 2"):
        find_suspects(drawn.experts, drawn.labels, pool, threshold=2)
    with pytest.raises(CalibrationError, match="pool: expected one of the experts expert 1 with 5 classes"):
        find_suspects(drawn.experts.only(0), drawn.labels, pool)


def test_systematic_wrong_labels_are_learned_and_even_ones_cost_nothing(population: Callable[..., Any]) -> None:
    """Allowing for the confusion helps where each class is taken for one other, and does no harm otherwise."""
    gains = {}
    for noise in ("pair", "symmetric"):
        drawn = population(n=8000, classes=10, noise=noise, signals=(2.0, 1.5))
        pool = fit_pool(drawn.experts, drawn.labels)
        with_it, without = (
            average_precision(find_suspects(drawn.experts, drawn.labels, pool, rule=rule, every_row=True), drawn.wrong)
            for rule in ("posterior", "pool")
        )
        gains[noise] = with_it - without
    assert gains["pair"] > 0.03
    assert gains["symmetric"] > -0.003


def test_labels_that_all_experts_share_have_no_suspects() -> None:
    """Nothing is listed, and every row has its small chance."""
    labels = np.arange(300) % 3
    experts = Experts.of([20.0 * np.eye(3)[labels] + np.arange(300)[:, None] % 7])
    suspects = find_suspects(experts, labels, fit_pool(experts, labels))
    assert len(suspects) == 0
    assert suspects.expected_wrong.max() < 0.01
    assert suspects.confidences.shape == (0, 1)


def test_extreme_outputs_have_finite_scores() -> None:
    """A label against which the pool has a thousand nats is the first suspect."""
    rng = np.random.default_rng(0)
    labels = np.arange(3000) % 3
    arrays = [(40.0 * np.eye(3)[labels] + rng.normal(size=(3000, 3))).astype(np.float32) for _ in range(2)]
    for array in arrays:
        array[7, labels[7]] -= 1e5
    given = labels.copy()
    given[11] = (labels[11] + 1) % 3
    experts = Experts.of(arrays)
    suspects = find_suspects(experts, given, fit_pool(experts, labels), every_row=True)
    assert np.isfinite(suspects.score).all()
    assert suspects.row[:2].tolist() == [7, 11]
    assert suspects.posterior[0] == pytest.approx(1)
