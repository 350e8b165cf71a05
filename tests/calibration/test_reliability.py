"""Reliability bins and the expected calibration error, against their definitions written out."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, expected_calibration_error, reliability
from edgecascade.calibration.reliability import maximum_calibration_error

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


@SPACINGS
@given(VERDICTS | TIED, st.integers(1, 20))
def test_the_largest_error_is_the_largest_gap(spacing: str, verdicts: Verdicts, bins: int) -> None:
    """Of any bin; the mean gap is never above it."""
    table = reliability(*columns(verdicts), bins, spacing)
    gaps = np.abs(table.confidence - table.accuracy)
    largest = maximum_calibration_error(*columns(verdicts), bins, spacing=spacing)
    assert largest == max(gap for gap in gaps if not np.isnan(gap))
    assert expected_calibration_error(*columns(verdicts), bins, spacing=spacing) <= largest + 1e-12


def test_the_bias_is_what_sampling_says() -> None:
    """Accuracies drawn from a normal around those seen have gaps that are larger by what is taken away."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.0, 1.0, 300)
    correct = rng.random(300) < confidence
    table = reliability(confidence, correct)
    deviation = np.sqrt(table.accuracy * (1 - table.accuracy) / table.count)
    drawn = rng.normal(table.confidence - table.accuracy, deviation, (40_000, 15))
    plain, share = expected_calibration_error(confidence, correct), table.count / 300
    wanted = plain - (np.mean(np.abs(drawn) @ share) - plain)
    found = expected_calibration_error(confidence, correct, debiased=True)
    assert 0.0 < found < plain
    assert found == pytest.approx(wanted, abs=5e-4)


@SPACINGS
@given(VERDICTS | TIED)
def test_debiasing_takes_away_and_never_too_much(spacing: str, verdicts: Verdicts) -> None:
    """Down to 0, and nothing where chance had no part."""
    plain = expected_calibration_error(*columns(verdicts), spacing=spacing)
    assert 0.0 <= expected_calibration_error(*columns(verdicts), spacing=spacing, debiased=True) <= plain + 1e-12
    settled = columns([(confidence, True) for confidence, _ in verdicts])
    assert expected_calibration_error(*settled, debiased=True) == expected_calibration_error(*settled)


@pytest.mark.parametrize(("shift", "left"), [(0.0, 0.65), (0.03, 0.65), (0.05, 0.5)])
def test_the_debiased_error_is_nearer_the_truth(shift: float, left: float) -> None:
    """On average over repeated draws of a model that is calibrated, or nearly."""
    plain, debiased = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(0.5, 0.9, 600)
        correct = rng.random(600) < confidence - shift
        plain.append(expected_calibration_error(confidence, correct, spacing="mass"))
        debiased.append(expected_calibration_error(confidence, correct, spacing="mass", debiased=True))
    assert abs(np.mean(debiased) - shift) < left * abs(np.mean(plain) - shift)


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
