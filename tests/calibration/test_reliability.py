"""Reliability bins and the expected calibration error, with its interval."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from edgecascade.calibration import CalibrationError, calibration_error, expected_calibration_error, reliability
from edgecascade.calibration.metrics import calibration_error_interval

Rows = list[tuple[float, bool]]


ROWS = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=50)


TIED = st.lists(st.tuples(st.integers(0, 10).map(lambda tenths: tenths / 10), st.booleans()), min_size=1, max_size=50)


SPACINGS = pytest.mark.parametrize("spacing", ["width", "mass"])


def columns(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Draw confidences and correctness."""
    confidence, correct = zip(*rows, strict=True)
    return np.array(confidence), np.array(correct)


def members(rows: Rows, edges: NDArray[np.float64]) -> list[Rows]:
    """Return the members of each bin (low, high]; the first bin includes 0."""
    return [[v for v in rows if low < v[0] <= high] for low, high in pairwise([-1.0, *edges[1:]])]


@SPACINGS
@given(ROWS | TIED, st.integers(1, 20))
def test_each_bin_has_its_count_confidence_and_accuracy(spacing: str, rows: Rows, bins: int) -> None:
    """All are computed for every bin; an empty bin has NaN."""
    table = reliability(*columns(rows), bins, spacing)
    assert table.count.sum() == len(rows)
    for i, inside in enumerate(members(rows, table.edges)):
        assert table.count[i] == len(inside)
        means = np.mean(inside, axis=0) if inside else [np.nan, np.nan]
        np.testing.assert_allclose([table.confidence[i], table.accuracy[i]], means, rtol=1e-12)


@given(ROWS)
def test_the_calibration_error_is_the_weighted_gap_of_the_bins(rows: Rows) -> None:
    """It is the sum over 15 bins of share times |mean confidence - accuracy|."""
    bins = members(rows, np.linspace(0.0, 1.0, 16))
    gaps = [abs(sum(confidence - correct for confidence, correct in inside)) for inside in bins]
    assert expected_calibration_error(*columns(rows)) == pytest.approx(sum(gaps) / len(rows), abs=1e-12)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=100, unique=True), st.integers(1, 20))
def test_bins_of_equal_mass_hold_equal_counts(confidences: list[float], bins: int) -> None:
    """Counts differ by at most one for distinct confidences, and no bin is empty."""
    count = reliability(np.array(confidences), np.ones(len(confidences), bool), bins, "mass").count
    assert len(count) == min(bins, len(confidences))
    assert count.max() - count.min() <= 1


@given(TIED, st.integers(1, 20))
def test_ties_are_never_split(rows: Rows, bins: int) -> None:
    """A bin exceeds its share only by ties of its highest confidence, and edges rise."""
    confidence, correct = columns(rows)
    table = reliability(confidence, correct, bins, "mass")
    assert (table.count > 0).all()
    assert (np.diff(table.confidence) > 0).all()
    assert (np.diff(table.edges) >= 0).all()
    assert table.edges[[0, -1]].tolist() == [0.0, 1.0]
    for inside in members(rows, table.edges):
        inside_bin, _ = columns(inside)
        assert (inside_bin < inside_bin.max()).sum() < np.ceil(len(rows) / bins)


@pytest.mark.parametrize(("spacing", "strategy"), [("width", "uniform"), ("mass", "quantile")])
@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_bins_equal_those_of_scikit_learn(spacing: str, strategy: str, bins: int) -> None:
    """Non-empty bins agree; quantile bins agree where they divide the inputs evenly."""
    calibration = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(0)
    confidence = rng.beta(5.0, 1.0, 600)
    correct = rng.random(600) < confidence
    table = reliability(confidence, correct, bins, spacing)
    accuracy, mean = calibration.calibration_curve(correct, confidence, n_bins=bins, strategy=strategy)
    np.testing.assert_allclose(table.confidence[table.count > 0], mean)
    np.testing.assert_allclose(table.accuracy[table.count > 0], accuracy)


@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        pytest.param([], [], "^confidence, correct: .*n > 0", id="nothing"),
        pytest.param([0.5], [True, False], r"^confidence, correct: .*\[1\] and \[2\]", id="unequal lengths"),
        pytest.param([[0.5]], [[True]], r"^confidence, correct: .*\[1, 1\]", id="not a row"),
        pytest.param([1.5], [True], r"^confidence: .*\[0, 1\]", id="above 1"),
        pytest.param([-0.1], [True], r"^confidence: .*\[0, 1\]", id="below 0"),
        pytest.param([np.nan], [True], "^confidence: .*NaN", id="NaN"),
    ],
)
def test_invalid_confidences_are_refused(confidence: list[float], correct: list[bool], message: str) -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=message):
        reliability(np.array(confidence, float), np.array(correct, bool))


def test_invalid_bins_are_refused() -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=r"^bins: expected at least 1, got 0"):
        reliability(np.ones(2), np.ones(2, bool), 0)
    with pytest.raises(CalibrationError, match=r"^spacing: expected width or mass, got 'odd'"):
        expected_calibration_error(np.ones(2), np.ones(2, bool), spacing="odd")


Draw = tuple[NDArray[np.float64], NDArray[np.float64]]


def calibrated(n: int, rng: np.random.Generator) -> Draw:
    """Draw calibrated confidences, and their probability of being right."""
    confidence = rng.uniform(0.0, 1.0, n)
    return confidence, confidence


def overconfident(n: int, rng: np.random.Generator) -> Draw:
    """Draw confidences that are 0.05 too high everywhere."""
    confidence = rng.uniform(0.5, 1.0, n)
    return confidence, confidence - 0.05


def saturated(n: int, rng: np.random.Generator) -> Draw:
    """Draw confidences that are mostly near 1, where bins are skewed, and too high."""
    confidence = rng.beta(20.0, 1.0, n)
    return confidence, confidence**1.5


def curved(n: int, rng: np.random.Generator) -> Draw:
    """Draw confidences that are too high in the middle and right at the ends."""
    confidence = rng.uniform(0.1, 1.0, n)
    return confidence, confidence**1.3


DRAWS = pytest.mark.parametrize("draw", [calibrated, overconfident, saturated, curved])


@DRAWS
@SPACINGS
@pytest.mark.parametrize("n", [100, 1000])
def test_the_calibration_error_is_covered_at_95_percent(draw: Callable[..., Draw], spacing: str, n: int) -> None:
    """Over repeated draws, the interval contains the expected error of a hundred thousand inputs."""
    truth = expected_calibration_error(*draw(100_000, np.random.default_rng(1)), spacing=spacing)
    held = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        confidence, chance = draw(n, rng)
        low, high = calibration_error_interval(reliability(confidence, rng.random(n) < chance, spacing=spacing))
        held.append(low <= truth + 1e-9 and truth <= high)
    assert binom.cdf(sum(held), 200, 0.95) > 0.001


@pytest.mark.parametrize("n", [500, 1000, 5000])
def test_the_interval_covers_hardly_more_than_it_has_to(n: int) -> None:
    """Over errors of 0 to 0.1, the truth is outside in one to five draws of a hundred, also beyond the upper end."""
    rng = np.random.default_rng(n)
    beyond = []
    for shift in (0.0, 0.005, 0.01, 0.02, 0.04, 0.1) * 150:
        confidence = rng.uniform(0.5, 1.0, n)
        low, high = calibration_error_interval(reliability(confidence, rng.random(n) < confidence - shift))
        beyond.append([shift < low - 1e-9, shift > high + 1e-9])
    above, below = np.mean(beyond, axis=0)
    assert 0.01 < above + below < 0.05
    assert below > 0.004


def test_a_calibrated_model_is_rarely_reported_as_miscalibrated() -> None:
    """The interval nearly always contains 0."""
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        confidence, chance = calibrated(500, rng)
        held.append(calibration_error_interval(reliability(confidence, rng.random(500) < chance))[0] == 0.0)
    assert np.mean(held) > 0.95


def test_the_bias_that_is_taken_off_is_that_of_resamples() -> None:
    """Resampled inputs have an ECE that is larger by what `calibration_error` takes off."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, 1000)
    correct = rng.random(1000) < confidence - 0.02
    value, rows = expected_calibration_error(confidence, correct), rng.integers(0, 1000, (500, 1000))
    bias = np.mean([expected_calibration_error(confidence[some], correct[some]) for some in rows]) - value
    assert 0 < bias == pytest.approx(value - calibration_error(confidence, correct).value, rel=0.1)


@given(ROWS, st.integers(1, 4))
def test_an_integer_weight_is_so_many_equal_inputs(rows: Rows, times: int) -> None:
    """The error is that of the inputs repeated, and its interval is wider."""
    confidence, correct = columns(rows)
    weight = np.arange(len(rows)) % times + 1
    again = np.repeat(confidence, weight), np.repeat(correct, weight)
    weighted = reliability(confidence, correct, weight=weight)
    assert expected_calibration_error(confidence, correct, weight=weight) == pytest.approx(
        expected_calibration_error(*again), abs=1e-12
    )
    assert (weighted.size <= np.maximum(weighted.count, 0) * (1 + 1e-9))[weighted.count > 0].all()


def test_a_constant_gap_is_measured() -> None:
    """A gap of 0.1 everywhere is measured to 0.02 on 5,000 inputs."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.6, 1.0, 5000)
    low, high = calibration_error_interval(reliability(confidence, rng.random(5000) < confidence - 0.1))
    assert 0.08 < low < 0.1 < high < 0.12


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("confidence", [0.0, 0.95, 1.0])
def test_five_identical_inputs_have_a_wide_interval(right: bool, confidence: float) -> None:
    """Their variance is 0, but five inputs are few."""
    table = reliability(np.full(5, confidence), np.full(5, right))
    low, high = calibration_error_interval(table)
    assert 0.0 <= low <= abs(confidence - right) + 1e-12
    assert abs(confidence - right) - 1e-12 <= high <= 1.0
    assert high - low > 0.09


def test_the_corrected_error_of_a_calibrated_model_is_near_zero() -> None:
    """Plain ECE is above 0 for perfect confidences; the corrected one is near 0 and its interval contains 0."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, 2000).astype(np.float32)
    correct = rng.random(2000) < confidence
    assert expected_calibration_error(confidence, correct) > 0.01
    estimate = calibration_error(confidence, correct)
    assert estimate.value < 0.01
    assert estimate.low == 0.0


def test_an_overconfident_model_is_detected() -> None:
    """A gap of 0.1 everywhere is measured with a narrow interval."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.6, 1.0, 4000).astype(np.float32)
    estimate = calibration_error(confidence, rng.random(4000) < confidence - 0.1)
    assert estimate.low < 0.1 < estimate.high
    assert estimate.high - estimate.low < 0.05
