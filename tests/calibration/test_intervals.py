"""Intervals at 95 % have the stated coverage."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, ttest_1samp

from edgecascade.calibration import (
    mean,
    paired_difference_interval,
    proportion_interval,
    quantile,
)
from edgecascade.calibration.intervals import accuracy_interval, loss_interval

Z = 1.959963984540054


@pytest.mark.parametrize("level", [0.9, 0.95, 0.998])
@pytest.mark.parametrize("n", [1, 7, 200, 1000])
def test_a_proportion_is_covered_at_the_level_whatever_its_value(n: int, level: float) -> None:
    """The coverage is summed over all counts, so it is exact; it reaches the level and is close to it on average."""
    counts = np.arange(n + 1)
    low, high = proportion_interval(counts, n, level)
    truth = np.concatenate([np.linspace(0.0, 1.0, 301), 1 - np.array([0.1, 0.2, 0.5, 1.0, 3.0]) / max(n, 4)])
    inside = (low <= truth[:, None]) & (truth[:, None] <= high)
    coverage = (binom.pmf(counts, n, truth[:, None]) * inside).sum(axis=1)
    assert coverage.min() >= level - 1e-9
    if n >= 200:
        assert coverage[10:291].mean() < level + 0.015


@given(st.integers(1, 60), st.data())
def test_a_proportion_has_blakers_interval(n: int, data: st.DataObject) -> None:
    """The test of every proportion inside accepts, just outside it rejects; equal, and mirrored, for arrays."""
    count = data.draw(st.integers(0, n))
    low, high = proportion_interval(count, n)
    assert 0.0 <= low <= count / n <= high <= 1.0
    assert proportion_interval(n - count, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    assert [ends[0] for ends in proportion_interval(np.array([count]), n)] == [low, high]

    def p_value(p: float) -> float:
        tails = np.minimum(binom.cdf(range(n + 1), n, p), binom.sf(np.arange(n + 1) - 1.0, n, p))
        return float(binom.pmf(range(n + 1), n, p)[tails <= tails[count] * (1 + 1e-9)].sum())

    for end, outward in ((low, -1e-5), (high, 1e-5)):
        if 0 < end < 1:
            assert p_value(end + outward) < 0.05
            assert p_value(end - outward / 10) >= 0.05 - 1e-4


def test_a_paired_difference_is_covered_at_95_percent() -> None:
    """Coverage holds over repeated draws, including few inputs and rare disagreement."""
    rng = np.random.default_rng(0)
    for n, better, worse in ((30, 0.1, 0.05), (200, 0.02, 0.02), (200, 0.005, 0.0), (500, 0.3, 0.1)):
        draws = rng.random((2000, n))
        first, second = draws > worse, (draws > worse + better) | (draws < worse)
        low, high = paired_difference_interval(first.T, second.T)
        covered = (low <= better - worse) & (better - worse <= high)
        assert 0.93 < covered.mean() <= 1.0


def test_models_that_always_agreed_have_an_interval_of_positive_width() -> None:
    """Agreement on 50 inputs proves no equality; the interval contains 0."""
    low, high = paired_difference_interval(np.ones(50, bool), np.ones(50, bool))
    assert -0.1 < low < 0 < high < 0.1


def test_a_mean_of_equal_values_has_an_interval_of_width_zero() -> None:
    """The values do not vary."""
    assert mean(np.ones(50)).low == mean(np.ones(50)).high == 1.0


def test_a_mean_without_skewness_has_the_t_interval() -> None:
    """For a symmetric sample, both arms are t standard errors."""
    values = np.concatenate([np.arange(1.0, 11.0), -np.arange(1.0, 11.0)])
    arm = ttest_1samp(values, 0.0).confidence_interval().high
    found = mean(values)
    assert (found.low, found.high) == pytest.approx((-arm, arm))


def test_the_interval_of_a_quantile_has_95_percent_coverage() -> None:
    """Over repeated samples, the interval of p90 contains the true p90 about 95 % of the time."""
    rng = np.random.default_rng(0)
    truth = -np.log(0.1)
    intervals = [quantile(rng.exponential(size=200), 0.9) for _ in range(400)]
    covered = np.mean([i.low <= truth <= i.high for i in intervals])
    assert 0.91 < covered <= 0.99


@given(n=st.integers(1, 2000), q=st.floats(0.01, 0.99))
def test_each_end_of_a_quantile_interval_errs_at_most_1_in_40(n: int, q: float) -> None:
    """The number of n values below the quantile is binomial, and a narrower end would err more often."""
    found = quantile(np.arange(n, dtype=np.float64), q)
    low, high = int(found.low), int(found.high)  # positions, and therefore values, counted from the lowest
    below = binom(n, q)
    assert low == 0 or below.cdf(low) <= 0.025 < below.cdf(low + 1)
    assert high == n - 1 or below.sf(high) <= 0.025 < below.sf(high - 1)


Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def covered(hits: int, draws: int, least: float = 0.95) -> bool:
    """Say whether so many hits are likely, one chance in a thousand, if the coverage is at least this."""
    return bool(binom.cdf(hits, draws, least) > 0.001)


@pytest.mark.parametrize("n", [50, 300])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        pytest.param(lambda rng, n: rng.normal(size=n), 0.0, id="normal"),
        pytest.param(lambda rng, n: rng.exponential(size=n), 1.0, id="exponential"),
        pytest.param(lambda rng, n: rng.choice([-0.5, 0.0, 0.3, 1.0], n, p=[0.1, 0.5, 0.3, 0.1]), 0.14, id="discrete"),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_interval_of_a_mean_allows_for_skewness(draw: Draw, truth: float, n: int, weighted: bool) -> None:
    """Its coverage is 95 % for symmetric and skewed values, and with weights that say nothing about them."""
    rng = np.random.default_rng(0)
    weight = rng.lognormal(0.0, 0.5, n) if weighted else None
    found = [mean(draw(rng, n), weight) for _ in range(600)]
    assert covered(sum(one.low <= truth <= one.high for one in found), 600, 0.93 if weighted else 0.945)


@pytest.mark.parametrize(("rate", "n"), [(0.2, 300), (0.01, 300), (0.001, 300), (0.01, 2000)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_interval_of_losses_covers_their_mean(rate: float, n: int, weighted: bool) -> None:
    """Most losses are small and a few, the wrong answers, are large; the lower end is never below 0."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(600):
        wrong = rng.random(n) < rate
        losses = np.where(wrong, 1 + rng.exponential(2.0, n), 0.05 * rng.random(n))
        weight = rng.lognormal(0.0, 0.5, n) if weighted else None
        low, high = loss_interval(losses, 3.0, weight)
        assert low >= 0
        hits += low <= 3 * rate + 0.025 * (1 - rate) <= high
    assert covered(hits, 600)


@pytest.mark.parametrize(("rate", "n"), [(0.3, 200), (0.02, 1000), (0.002, 1000), (0.99, 500)])
@pytest.mark.parametrize("spread", [0.3, 0.8])
def test_a_weighted_accuracy_is_covered(rate: float, n: int, spread: float) -> None:
    """Weights that say nothing about the answers make fewer inputs of them, whose interval is as exact as it can be."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(600):
        low, high = accuracy_interval(rng.random(n) < rate, rng.lognormal(0.0, spread, n))
        hits += low <= rate <= high
    assert covered(hits, 600)


@pytest.mark.parametrize(("better", "worse", "n"), [(0.1, 0.05, 300), (0.01, 0.002, 1000), (0.001, 0.02, 500)])
@pytest.mark.parametrize("kind", ["weighted", "scores"])
def test_a_weighted_or_scored_difference_is_covered(better: float, worse: float, n: int, kind: str) -> None:
    """Answers of unequal weight, and scores in place of right and wrong, are held as often."""
    rng, hits = np.random.default_rng(0), 0
    size = 0.6 if kind == "scores" else 1.0
    for _ in range(600):
        luck = rng.random(n)
        gain = (luck < better).astype(float) - (luck > 1 - worse)
        part = rng.uniform(0.2, 1.0, n) if kind == "scores" else np.ones(n)
        weight = rng.lognormal(0.0, 0.5, n) if kind == "weighted" else None
        low, high = paired_difference_interval(part * gain.clip(0), part * (-gain).clip(0), weight)
        hits += low <= size * (better - worse) <= high
    assert covered(hits, 600)


def test_columns_and_equal_weights_change_nothing() -> None:
    """Each column of [n, points] has its own interval; weights that are all alike are none."""
    correct = np.random.default_rng(0).random((100, 3)) < [0.3, 0.9, 1.0]
    low, high = accuracy_interval(correct)
    lower, upper = paired_difference_interval(correct, correct[:, 1])
    for at, column in enumerate(correct.T):
        assert (low[at], high[at]) == accuracy_interval(column) == accuracy_interval(column, np.full(100, 3.0))
        assert (lower[at], upper[at]) == pytest.approx(paired_difference_interval(column, correct[:, 1]))
