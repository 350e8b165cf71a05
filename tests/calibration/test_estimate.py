"""Estimates carry their interval and their n."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from edgecascade.calibration import expected_calibration_error
from edgecascade.calibration.estimate import calibration_error, mean, proportion, quantile


def test_a_proportion_has_wilsons_interval() -> None:
    """8 of 10: the textbook interval is 0.490 to 0.943."""
    estimate = proportion(0.8, 10)
    assert estimate.low == pytest.approx(0.490, abs=1e-3)
    assert estimate.high == pytest.approx(0.943, abs=1e-3)
    assert estimate.n == 10


def test_a_mean_of_equal_values_is_certain() -> None:
    """Nothing varies, so there is nothing to resample."""
    assert mean(np.ones(50)).low == mean(np.ones(50)).high == 1.0


def test_a_mean_has_the_interval_of_the_normal_approximation() -> None:
    """For many values the bootstrap's interval is the mean plus or minus 1.96 standard errors."""
    values = np.random.default_rng(0).normal(size=2000)
    error = values.std() / np.sqrt(len(values))
    estimate = mean(values)
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)


def test_the_interval_of_a_quantile_covers_it_19_times_in_20() -> None:
    """Over repeated samples, the interval of p90 holds the true p90 about 95 % of the time."""
    rng = np.random.default_rng(0)
    truth = -np.log(0.1)
    intervals = [quantile(rng.exponential(size=200), 0.9) for _ in range(400)]
    covered = np.mean([i.low <= truth <= i.high for i in intervals])
    assert 0.91 < covered <= 0.99


@given(n=st.integers(1, 2000), q=st.floats(0.01, 0.99))
def test_either_end_of_a_quantiles_interval_errs_in_at_most_one_of_40(n: int, q: float) -> None:
    """Exactly: how many of n values lie below the quantile is binomial. A narrower end would err more often."""
    found = quantile(np.arange(n, dtype=np.float64), q)
    low, high = int(found.low), int(found.high)  # positions, as the values are
    below = binom(n, q)
    assert low == 0 or below.cdf(low) <= 0.025 < below.cdf(low + 1)
    assert high == n - 1 or below.sf(high) <= 0.025 < below.sf(high - 1)


def test_a_calibrated_model_is_not_said_to_be_miscalibrated() -> None:
    """Plain ECE is above 0 for perfect confidences; the corrected one is near 0 and its interval holds 0."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, 2000).astype(np.float32)
    correct = rng.random(2000) < confidence
    assert expected_calibration_error(confidence, correct) > 0.01
    estimate = calibration_error(confidence, correct)
    assert estimate.value < 0.01
    assert estimate.low == 0.0


def test_an_overconfident_model_is_said_to_be_overconfident() -> None:
    """A gap of 0.1 everywhere is found, with a narrow interval round it."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.6, 1.0, 4000).astype(np.float32)
    estimate = calibration_error(confidence, rng.random(4000) < confidence - 0.1)
    assert estimate.low < 0.1 < estimate.high
    assert estimate.high - estimate.low < 0.05
