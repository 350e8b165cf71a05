"""Reliability bins and the expected calibration error, with its interval."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, calibration_error, expected_calibration_error, reliability
from edgecascade.calibration.intervals import bootstrap
from edgecascade.calibration.metrics import calibration_error_interval

Verdicts = list[tuple[float, bool]]


VERDICTS = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=50)


TIED = st.lists(st.tuples(st.integers(0, 10).map(lambda tenths: tenths / 10), st.booleans()), min_size=1, max_size=50)


SPACINGS = pytest.mark.parametrize("spacing", ["width", "mass"])


def columns(verdicts: Verdicts) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidences and whether they were right."""
    confidence, correct = zip(*verdicts, strict=True)
    return np.array(confidence), np.array(correct)


def members(verdicts: Verdicts, edges: NDArray[np.float64]) -> list[Verdicts]:
    """Those in (low, high] of each bin, and 0 in the first, which has nothing below it."""
    return [[v for v in verdicts if low < v[0] <= high] for low, high in pairwise([-1.0, *edges[1:]])]


@SPACINGS
@given(VERDICTS | TIED, st.integers(1, 20))
def test_each_bin_holds_its_own(spacing: str, verdicts: Verdicts, bins: int) -> None:
    """Count, mean confidence and accuracy of every bin; NaN where it is empty."""
    table = reliability(*columns(verdicts), bins, spacing)
    assert table.count.sum() == len(verdicts)
    for i, inside in enumerate(members(verdicts, table.edges)):
        assert table.count[i] == len(inside)
        means = np.mean(inside, axis=0) if inside else [np.nan, np.nan]
        np.testing.assert_allclose([table.confidence[i], table.accuracy[i]], means, rtol=1e-12)


@given(VERDICTS)
def test_the_error_is_the_mean_gap_of_the_bins(verdicts: Verdicts) -> None:
    """The sum over 15 bins of share times |mean confidence - accuracy|."""
    bins = members(verdicts, np.linspace(0.0, 1.0, 16))
    gaps = [abs(sum(confidence - correct for confidence, correct in inside)) for inside in bins]
    assert expected_calibration_error(*columns(verdicts)) == pytest.approx(sum(gaps) / len(verdicts), abs=1e-12)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=100, unique=True), st.integers(1, 20))
def test_bins_of_equal_mass_hold_equally_many(confidences: list[float], bins: int) -> None:
    """To within one, where no two confidences are the same; bins without any do not come about."""
    count = reliability(np.array(confidences), np.ones(len(confidences), bool), bins, "mass").count
    assert len(count) == min(bins, len(confidences))
    assert count.max() - count.min() <= 1


@given(TIED, st.integers(1, 20))
def test_ties_are_never_split(verdicts: Verdicts, bins: int) -> None:
    """A bin has more than its share only by the ties of its highest confidence, and edges rise."""
    confidence, correct = columns(verdicts)
    table = reliability(confidence, correct, bins, "mass")
    assert (table.count > 0).all()
    assert (np.diff(table.confidence) > 0).all()
    assert (np.diff(table.edges) >= 0).all()
    assert table.edges[[0, -1]].tolist() == [0.0, 1.0]
    for inside in members(verdicts, table.edges):
        inside_bin, _ = columns(inside)
        assert (inside_bin < inside_bin.max()).sum() < np.ceil(len(verdicts) / bins)


@pytest.mark.parametrize(("spacing", "strategy"), [("width", "uniform"), ("mass", "quantile")])
@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_diagram_is_scikit_learns(spacing: str, strategy: str, bins: int) -> None:
    """Of the bins that are not empty; its quantile bins are ours where they divide the inputs evenly."""
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
def test_what_has_no_reliability_is_refused(confidence: list[float], correct: list[bool], message: str) -> None:
    """One sentence that names the argument."""
    with pytest.raises(CalibrationError, match=message):
        reliability(np.array(confidence, float), np.array(correct, bool))


def test_bins_that_there_are_not_are_refused() -> None:
    """One sentence that names the argument."""
    with pytest.raises(CalibrationError, match=r"^bins: expected at least 1, got 0"):
        reliability(np.ones(2), np.ones(2, bool), 0)
    with pytest.raises(CalibrationError, match=r"^spacing: expected width or mass, got 'odd'"):
        expected_calibration_error(np.ones(2), np.ones(2, bool), spacing="odd")


Draw = tuple[NDArray[np.float64], NDArray[np.float64]]


def calibrated(n: int, rng: np.random.Generator) -> Draw:
    """Confidences that are right as often as they say, and that probability."""
    confidence = rng.uniform(0.0, 1.0, n)
    return confidence, confidence


def overconfident(n: int, rng: np.random.Generator) -> Draw:
    """A twentieth too sure, everywhere."""
    confidence = rng.uniform(0.5, 1.0, n)
    return confidence, confidence - 0.05


def saturated(n: int, rng: np.random.Generator) -> Draw:
    """Most confidences near 1, where bins are skewed, and too high."""
    confidence = rng.beta(20.0, 1.0, n)
    return confidence, confidence**1.5


def curved(n: int, rng: np.random.Generator) -> Draw:
    """Too sure in the middle, right at the ends."""
    confidence = rng.uniform(0.1, 1.0, n)
    return confidence, confidence**1.3


DRAWS = pytest.mark.parametrize("draw", [calibrated, overconfident, saturated, curved])


@DRAWS
@SPACINGS
@pytest.mark.parametrize("n", [100, 1000])
def test_the_error_is_held_19_times_in_20(draw: Callable[..., Draw], spacing: str, n: int) -> None:
    """Over repeated draws, the interval holds the error that a hundred thousand have in expectation."""
    truth = expected_calibration_error(*draw(100_000, np.random.default_rng(1)), spacing=spacing)  # type: ignore[arg-type]
    held = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        confidence, chance = draw(n, rng)
        low, high = calibration_error_interval(reliability(confidence, rng.random(n) < chance, spacing=spacing))
        held.append(low <= truth + 1e-9 and truth <= high)
    assert np.mean(held) > 0.93


def test_a_calibrated_model_is_not_said_to_be_miscalibrated() -> None:
    """Its error of 0 is in the interval all but rarely; the basic bootstrap's leaves it out a quarter of the time."""
    ours, theirs = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        confidence, chance = calibrated(500, rng)
        correct = rng.random(500) < chance
        ours.append(calibration_error_interval(reliability(confidence, correct))[0] == 0.0)
        theirs.append(bootstrap(expected_calibration_error, confidence, correct, resamples=100).low <= 0.0)
    assert np.mean(ours) > 0.95
    assert np.mean(theirs) < 0.75


def test_a_plain_error_is_found() -> None:
    """A gap of 0.1 everywhere, on 5,000 inputs, within two hundredths."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.6, 1.0, 5000)
    low, high = calibration_error_interval(reliability(confidence, rng.random(5000) < confidence - 0.1))
    assert 0.08 < low < 0.1 < high < 0.12


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("confidence", [0.0, 0.95, 1.0])
def test_five_inputs_that_agree_leave_room_for_doubt(right: bool, confidence: float) -> None:
    """No variance was seen, but five are few."""
    table = reliability(np.full(5, confidence), np.full(5, right))
    low, high = calibration_error_interval(table)
    assert 0.0 <= low <= abs(confidence - right) + 1e-12
    assert abs(confidence - right) - 1e-12 <= high <= 1.0
    assert high - low > 0.09


def test_the_corrected_error_of_a_calibrated_model_is_near_zero() -> None:
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
