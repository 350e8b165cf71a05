"""Intervals that are valid at all times simultaneously."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.runtime.watch.intervals import mean_gap, rate, stratified
from edgecascade.runtime.watch.watch import Comparisons
from edgecascade.types.estimate import Estimate

RUNS, LONGEST, RISK = 400, 10_000, 0.1
MOST_MISSES = 64  # of 400: a rate of 0.1 exceeds it with a probability of 1e-4


def log_mixture(successes: NDArray[np.int64], n: NDArray[np.int64], p: float) -> NDArray[np.float64]:
    """Return, by quadrature over the prior, the log of the likelihood ratio of the mixture and the rate p."""
    q = np.sin((np.arange(2000) + 0.5) * np.pi / 4000) ** 2  # equally likely under Beta(1/2, 1/2)
    each = successes[:, None] * np.log(q / p) + (n - successes)[:, None] * np.log((1 - q) / (1 - p))
    top = each.max(axis=1)
    mean: NDArray[np.float64] = top + np.log(np.exp(each - top[:, None]).mean(axis=1))
    return mean


@pytest.mark.parametrize("p", [0.02, 0.5, 0.9])
def test_a_rate_is_in_its_interval_at_all_times(p: float) -> None:
    """Over 300 looks up to n = 10,000, the probability of ever missing the rate is at most `risk`.

    The interval is left by crossing a bound on the number of successes, which is computed from the function itself.
    """
    rng = np.random.default_rng(7)
    times = np.unique(np.geomspace(1, LONGEST, 300).astype(int))
    seen = (rng.random((RUNS, LONGEST)) < p).cumsum(axis=1)[:, times - 1]
    missed = np.zeros(RUNS, bool)
    for n, column in zip(times.tolist(), seen.T, strict=True):
        for successes in np.unique(column).tolist():
            estimate = rate(successes, n, RISK)
            missed |= (column == successes) & ((p < estimate.low) | (p > estimate.high))
    assert missed.sum() <= MOST_MISSES


@pytest.mark.parametrize(
    "weights", [[0.1, 0, 0, 0, 0.9], [0.05, 0.05, 0.1, 0.2, 0.6], [0, 0, 1, 0, 0], [0.9, 0.1, 0, 0, 0]]
)
def test_a_mean_of_graded_values_is_in_its_interval_at_all_times(weights: list[float]) -> None:
    """Values are quarters: nearly right and wrong, spread, always the same, and mostly worthless."""
    rng = np.random.default_rng(13)
    times = np.unique(np.geomspace(1, LONGEST, 60).astype(int))
    values = rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], (RUNS, LONGEST), p=weights)
    mean = float(np.dot(weights, [0.0, 0.25, 0.5, 0.75, 1.0]))
    sums = values.cumsum(axis=1)[:, times - 1]
    missed = np.zeros(RUNS, bool)
    for n, column in zip(times.tolist(), sums.T, strict=True):
        for total in np.unique(column).tolist():
            estimate = rate(total, n, RISK)
            missed |= (column == total) & ((mean < estimate.low) | (mean > estimate.high))
    assert missed.sum() <= MOST_MISSES


def test_the_sum_of_graded_values_may_be_rounded() -> None:
    """A sum a little beyond the number of observations, or below it, counts as all of them."""
    whole = rate(10, 10, 0.05)
    assert rate(math.nextafter(10, 11), 10, 0.05).value == 1.0
    assert rate(math.nextafter(10, 9), 10, 0.05).low == pytest.approx(whole.low)


def test_the_interval_of_a_rate_is_nearly_tight() -> None:
    """It is less than twice as wide as an interval for a single n."""
    estimate = rate(900, 1000, 0.05)
    assert estimate.high - estimate.low < 2 * 2 * 1.96 * math.sqrt(0.9 * 0.1 / 1000)


@given(n=st.integers(1, 300), share=st.floats(0, 1), risk=st.sampled_from([0.3, 0.05, 1e-3]))
def test_the_ends_have_a_likelihood_ratio_of_1_over_risk(n: int, share: float, risk: float) -> None:
    """By quadrature, the ends are rejected by exactly that factor, and the inside is not rejected."""
    successes = round(share * n)
    estimate = rate(successes, n, risk)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    for end in (estimate.low, estimate.high):
        if 0 < end < 1:
            found = log_mixture(np.array([successes]), np.array([n]), end)[0]
            assert found == pytest.approx(-math.log(risk), abs=0.02)


@pytest.mark.parametrize("n", [1, 10, 1000, 10**6])
def test_no_failures_and_no_successes_are_mirrored(n: int) -> None:
    """Without failures the interval reaches 1, without successes 0, and it has a positive width."""
    none, all_ = rate(0, n, 0.05), rate(n, n, 0.05)
    assert none.low == 0
    assert all_.high == 1
    assert 0 < none.high == pytest.approx(1 - all_.low, rel=1e-6)


def test_a_long_run_has_a_narrow_interval() -> None:
    """A thousand million observations cause no numerical error."""
    estimate = rate(899_999_999, 10**9, 1e-6)
    assert estimate.low < 0.9 < estimate.high
    assert estimate.high - estimate.low < 2e-4


@pytest.mark.parametrize("kind", ["alike", "drifting", "clairvoyant"])
def test_the_mean_gap_is_covered_at_all_times(kind: str) -> None:
    """The coverage holds at each n up to 10,000, also if the gap drifts or the confidence depends on the past."""
    rng = np.random.default_rng(3)
    claim = rng.uniform(0.5, 1, (RUNS, LONGEST))
    truth = claim - 0.2
    if kind == "drifting":
        truth = claim - np.linspace(-0.0, 0.4, LONGEST)
    outcome = rng.random((RUNS, LONGEST)) < truth
    if kind == "clairvoyant":  # after a right answer, the confidence is lower and right less often
        before = np.concatenate([np.zeros((RUNS, 1), bool), outcome[:, :-1]], axis=1)
        claim = np.where(before, 0.5, 0.9)
        truth = np.where(before, 0.5, 0.5)
        outcome = rng.random((RUNS, LONGEST)) < truth
    n = np.arange(1, LONGEST + 1)
    total, expected = (claim - outcome).cumsum(axis=1), (claim - truth).cumsum(axis=1) / n
    radius = np.array([mean_gap(0.0, i, RISK).high for i in n.tolist()])
    missed = (np.abs(total / n - expected) > radius).any(axis=1)
    assert missed.sum() <= MOST_MISSES
    assert radius[-1] < 0.03


@given(gaps=st.lists(st.floats(-1, 1), max_size=50), risk=st.sampled_from([0.3, 0.05, 1e-6]))
def test_a_gap_is_within_its_interval_and_range(gaps: list[float], risk: float) -> None:
    """Low, value and high are in order."""
    estimate = mean_gap(sum(gaps), len(gaps), risk)
    assert -1 <= estimate.low <= estimate.high <= 1
    assert estimate.n == len(gaps)
    if gaps:
        assert estimate.low - 1e-9 <= estimate.value <= estimate.high + 1e-9
    else:
        assert math.isnan(estimate.value)


def test_without_observations_the_interval_is_the_whole_range() -> None:
    """There is no value."""
    estimate = rate(0, 0, 0.05)
    assert (math.isnan(estimate.value), estimate.low, estimate.high, estimate.n) == (True, 0, 1, 0)


def test_strata_have_the_weights_of_the_population() -> None:
    """The share of the sample does not matter, and a stratum without weight is ignored."""
    strata = [(0.7, Estimate(0.9, 0.8, 1.0, 10)), (0.3, Estimate(0.5, 0.4, 0.6, 5000))]
    whole = stratified(strata)
    assert [whole.value, whole.low, whole.high] == pytest.approx([0.78, 0.68, 0.88])
    assert whole.n == 5010
    assert stratified([(1.0, strata[0][1]), (0.0, Estimate(math.nan, 0, 1, 0))]) == strata[0][1]


def test_a_stratum_without_observations_widens_the_interval() -> None:
    """It widens by the weight of the stratum."""
    whole = stratified([(0.75, Estimate(0.9, 0.8, 1.0, 10)), (0.25, Estimate(math.nan, 0.0, 1.0, 0))])
    assert math.isnan(whole.value)
    assert [whole.low, whole.high] == pytest.approx([0.6, 1.0])


def test_an_audited_sample_represents_all_local_inputs() -> None:
    """Agreement from 2 % of the local inputs and all forwarded ones is unbiased, and nearly always in its interval."""
    rng = np.random.default_rng(11)
    values, missed = [], 0
    for _ in range(200):
        forwarded = rng.random(20_000) < 0.3
        agrees = rng.random(20_000) < np.where(forwarded, 0.5, 0.95)
        audited = ~forwarded & (rng.random(20_000) < 0.02)
        sums = Comparisons(inputs=20_000, forwarded=int(forwarded.sum()))
        for one, was_audited in zip(agrees[audited | forwarded], audited[audited | forwarded], strict=True):
            sums.add(bool(one), 0.9, 0.9, audited=bool(was_audited))
        estimate = sums.agreement(RISK)
        values.append(estimate.value)
        missed += not estimate.low <= 0.7 * 0.95 + 0.3 * 0.5 <= estimate.high
    assert np.mean(values) == pytest.approx(0.815, abs=0.004)
    assert missed <= 36
