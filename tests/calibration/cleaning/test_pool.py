"""The pool's weights are those that the data were drawn with."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.cleaning import Experts, fit_pool


def test_independent_experts_get_their_true_weights(population: Callable[..., Any]) -> None:
    """Independent experts with exact logits have weight 1 each, inside the interval; so has rho."""
    drawn = population(n=20_000, signals=(1.5, 1.0), rate=0.05)
    pool = fit_pool(drawn.experts, drawn.labels)
    for weight in pool.weights:
        assert weight.low < 1 < weight.high
        assert weight.high - weight.low < 0.2
    assert pool.rho.low < 0.05 * 5 / 4 < pool.rho.high


def test_the_fit_is_the_maximum_of_the_likelihood(population: Callable[..., Any]) -> None:
    """A general optimiser finds the same weights and rho."""
    drawn = population(n=2000, rate=0.1, signals=(1.5, 1.0, 0.5))
    scores = np.stack(drawn.arrays)

    def loss(x: Any) -> float:
        pooled = np.tensordot(x[:3], scores, 1)
        right = pooled[np.arange(2000), drawn.labels] - np.log(np.exp(pooled).sum(axis=1))
        return -float(np.log((1 - x[3]) * np.exp(right) + x[3] / 5).mean())

    best = minimize(loss, [0.5, 0.5, 0.5, 0.05], bounds=[(0, None)] * 3 + [(0, 0.9)])
    pool = fit_pool(drawn.experts, drawn.labels, shrink=0)
    assert [one.value for one in pool.weights] == pytest.approx(best.x[:3], abs=2e-3)
    assert pool.rho.value == pytest.approx(best.x[3], abs=1e-3)


def test_the_interval_of_rho_covers_where_few_labels_are_wrong() -> None:
    """It misses on either side about alike, although the likelihood is skewed."""
    low, high, repeats = 0, 0, 120
    for seed in range(repeats):
        rng = np.random.default_rng([3, seed])
        truth = rng.integers(0, 5, 400)
        outputs = [size * (size * np.eye(5)[truth] + rng.normal(size=(400, 5))) for size in (3.0, 2.5)]
        labels = np.where(rng.random(400) < 0.03, rng.integers(0, 5, 400), truth)
        rho = fit_pool(Experts.of(outputs), labels).rho
        low, high = low + (rho.low > 0.03), high + (rho.high < 0.03)
    assert low + high <= 0.12 * repeats
    assert high <= 0.08 * repeats


def test_a_useless_expert_gets_no_weight_and_leaves_the_other_as_it_is(population: Callable[..., Any]) -> None:
    """Noise adds nothing to the pool."""
    drawn = population(n=5000, signals=(2.0,))
    noise = np.random.default_rng(1).normal(size=(5000, 5))
    alone = fit_pool(drawn.experts, drawn.labels)
    pool = fit_pool(Experts.of([*drawn.arrays, noise]), drawn.labels)
    assert pool.weights[1].value < 0.1
    assert pool.weights[0].value == pytest.approx(alone.weights[0].value, rel=0.02)


def test_few_rows_draw_the_weights_towards_equal_and_say_so(population: Callable[..., Any]) -> None:
    """With 30 rows they are shrunk; with 3,000 they are not."""
    drawn = population(n=3000, signals=(2.0, 1.0), rate=0.0)
    few, many = (fit_pool(drawn.experts.select(np.arange(n)), drawn.labels[:n]) for n in (30, 3000))
    assert few.shrunk
    assert not many.shrunk
    assert "shrunk towards equal weights, of which 30 held-out rows tell little" in str(few)


def test_scale_and_form_of_the_outputs_do_not_matter(population: Callable[..., Any]) -> None:
    """Logits at another temperature, or probabilities, give the same pool."""
    drawn = population(n=2000)
    first, second = drawn.arrays
    probabilities = np.exp(second - second.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    pool = fit_pool(drawn.experts, drawn.labels)
    other = fit_pool(Experts.of([first * 1e4, probabilities]), drawn.labels)
    assert other.weights[0].value * 1e4 == pytest.approx(pool.weights[0].value, rel=1e-2)
    assert other.weights[1].value == pytest.approx(pool.weights[1].value, rel=1e-2)


def test_absent_options_take_no_part(population: Callable[..., Any]) -> None:
    """Rows with fewer options give the weights of the rows; a label that is absent is refused."""
    drawn = population(n=5000, rate=0.0)
    absent = (drawn.truth + 1) % 5
    for array in drawn.arrays:
        array[np.arange(5000), absent] = -np.inf
    pool = fit_pool(drawn.experts, drawn.labels)
    assert all(weight.low < 1 < weight.high for weight in pool.weights)
    with pytest.raises(
        CalibrationError, match=r"labels: expected options that the row has, got one that is -inf in row 0"
    ):
        fit_pool(drawn.experts, absent)


def test_too_few_rows_and_chance_are_refused(population: Callable[..., Any]) -> None:
    """No pool comes from nine rows, or from experts that know nothing."""
    drawn = population(n=500)
    with pytest.raises(CalibrationError, match="at least 10 held-out rows, got 9"):
        fit_pool(drawn.experts.select(np.arange(9)), drawn.labels[:9])
    with pytest.raises(CalibrationError, match="no more than chance"):
        fit_pool(Experts.of([-drawn.arrays[0]]), drawn.labels)
