"""Intervals at 95 % have the stated coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from edgecascade.calibration import (
    expected_calibration_error,
    mean,
    paired_difference_interval,
    proportion_interval,
    quantile,
)
from edgecascade.calibration.intervals import bootstrap

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


def test_the_bootstrap_of_a_mean_agrees_with_the_normal_approximation() -> None:
    """For a thousand values, it is the mean plus or minus 1.96 standard errors, without bias."""
    values = np.random.default_rng(0).exponential(size=1000)
    found = bootstrap(lambda v: float(v.mean()), values, resamples=2000)
    error = values.std() / np.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - Z * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + Z * error, abs=0.2 * error)
    assert abs(found.bias) < 0.1 * error


def test_rows_are_resampled_together() -> None:
    """Two equal columns stay equal in every resample."""
    values = np.arange(50.0)
    found = bootstrap(lambda a, b: float(np.abs(a - b).max()), values, values)
    assert (found.low, found.high, found.bias) == (0.0, 0.0, 0.0)


def test_the_bias_of_a_calibration_error_is_estimated() -> None:
    """Perfect confidences have a positive error in finite data; resampling estimates its size."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, 1000)
    correct = rng.random(1000) < confidence
    found = bootstrap(expected_calibration_error, confidence, correct)
    assert 0.0 < found.bias < 2 * expected_calibration_error(confidence, correct)


def test_the_same_seed_gives_the_same_interval() -> None:
    """An interval is reproducible."""
    values = np.random.default_rng(0).normal(size=100)
    first, again, other = (bootstrap(lambda v: float(v.mean()), values, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


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


def test_a_mean_estimate_has_the_interval_of_the_normal_approximation() -> None:
    """For many values, the bootstrap interval is the mean plus or minus 1.96 standard errors."""
    values = np.random.default_rng(0).normal(size=2000)
    error = values.std() / np.sqrt(len(values))
    estimate = mean(values)
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)


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
