"""Reliability bins and the expected calibration error, against their definitions written out."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, expected_calibration_error, reliability

Verdicts = list[tuple[float, bool]]
VERDICTS = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=50)


def columns(verdicts: Verdicts) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidences and whether they were right."""
    confidence, correct = zip(*verdicts, strict=True)
    return np.array(confidence), np.array(correct)


def members(verdicts: Verdicts, low: float, high: float) -> Verdicts:
    """Those in (low, high], and 0 in the first bin, which has nothing below it."""
    return [v for v in verdicts if low < v[0] <= high or v[0] == low == 0.0]


@given(VERDICTS, st.integers(1, 20))
def test_each_bin_holds_its_own(verdicts: Verdicts, bins: int) -> None:
    """Count, mean confidence and accuracy of every bin; NaN where it is empty."""
    table = reliability(*columns(verdicts), bins)
    assert table.count.sum() == len(verdicts)
    for i in range(bins):
        inside = members(verdicts, table.edges[i], table.edges[i + 1])
        assert table.count[i] == len(inside)
        means = np.mean(inside, axis=0) if inside else [np.nan, np.nan]
        np.testing.assert_allclose([table.confidence[i], table.accuracy[i]], means, rtol=1e-12)


@given(VERDICTS)
def test_the_error_is_the_mean_gap_of_the_bins(verdicts: Verdicts) -> None:
    """The sum over 15 bins of share times |mean confidence - accuracy|."""
    edges = np.linspace(0.0, 1.0, 16)
    bins = [members(verdicts, low, high) for low, high in pairwise(edges)]
    gaps = [abs(sum(confidence - correct for confidence, correct in inside)) for inside in bins]
    assert expected_calibration_error(*columns(verdicts)) == pytest.approx(sum(gaps) / len(verdicts), abs=1e-12)


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
