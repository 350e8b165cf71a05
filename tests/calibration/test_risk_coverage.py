"""Risk and coverage, against brute force over all orders that ties could have."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.risk_coverage import risk_coverage

Columns = tuple[NDArray[np.float64], NDArray[np.bool_]]


@st.composite
def columns(draw: st.DrawFn, most: int = 40) -> Columns:
    """Scores on any scale, ties among them, and who was right."""
    rows = draw(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=most))
    score, correct = zip(*rows, strict=True)
    return np.array(score) / 2, np.array(correct)


@given(columns(most=6))
def test_it_is_the_mean_over_all_orders_of_tied_inputs(columns: Columns) -> None:
    """For each order in which the score does not rise, errors are counted among the first k."""
    score, correct = columns
    orders = [list(order) for order in permutations(range(len(score)))]
    curves = [np.cumsum(~correct[o]) / np.arange(1, len(o) + 1) for o in orders if (np.diff(score[o]) <= 0).all()]
    curve = risk_coverage(score, correct)
    np.testing.assert_allclose(curve.risk, np.mean(curves, axis=0), atol=1e-12)
    np.testing.assert_allclose(curve.coverage, np.arange(1, len(score) + 1) / len(score))
    assert curve.area == pytest.approx(np.mean(curves))


@given(columns(), st.integers(0, 1000))
def test_the_order_of_the_rows_changes_nothing(columns: Columns, seed: int) -> None:
    """However ties are arranged."""
    rows = np.random.default_rng(seed).permutation(len(columns[0]))
    score, correct = columns
    moved = risk_coverage(score[rows], correct[rows])
    np.testing.assert_allclose(moved.risk, risk_coverage(score, correct).risk, atol=1e-12)


@given(columns())
def test_any_rising_map_of_the_scores_changes_nothing(columns: Columns) -> None:
    """Only their order counts."""
    score, correct = columns
    mapped = risk_coverage(np.exp(score).astype(np.float32), correct)
    np.testing.assert_array_equal(mapped.risk, risk_coverage(score, correct).risk)


@given(columns())
def test_answering_everything_risks_the_error_rate(columns: Columns) -> None:
    """The last point of the curve."""
    curve = risk_coverage(*columns)
    assert curve.coverage[-1] == 1.0
    assert curve.risk[-1] == pytest.approx(np.mean(~columns[1]))


@given(columns())
def test_the_excess_is_over_a_score_that_puts_errors_last(columns: Columns) -> None:
    """Which has none, and no score has less."""
    score, correct = columns
    oracle = risk_coverage(correct.astype(float), correct)
    curve = risk_coverage(score, correct)
    assert oracle.excess_area == pytest.approx(0.0, abs=1e-12)
    assert curve.excess_area == pytest.approx(curve.area - oracle.area, abs=1e-12)


def test_a_score_that_knows_nothing_risks_the_error_rate_at_any_coverage() -> None:
    """One tie of all inputs: the area is the error rate."""
    curve = risk_coverage(np.zeros(10), np.arange(10) < 7)
    np.testing.assert_allclose(curve.risk, 0.3)
    assert curve.area == pytest.approx(0.3)


def test_the_oracle_is_the_papers_for_many_inputs() -> None:
    """An error rate r has the least area r + (1 - r) log(1 - r)."""
    correct = np.arange(100_000) >= 20_000
    area = risk_coverage(correct.astype(float), correct).area
    assert area == pytest.approx(0.2 + 0.8 * np.log(0.8), abs=1e-5)


@pytest.mark.parametrize(
    ("score", "correct", "message"),
    [
        pytest.param(np.ones(0), np.ones(0, bool), r"^score: .*\[0\]", id="nothing"),
        pytest.param(np.ones(2), np.ones(3, bool), r"^correct: .*\[2\].*\[3\]", id="unequal lengths"),
        pytest.param(np.ones(2), np.ones(2), "^correct: .*float64", id="verdicts that are not bool"),
        pytest.param(np.array([0.5, np.nan]), np.ones(2, bool), "^score: .*nan in row 1", id="NaN"),
    ],
)
def test_what_has_no_curve_is_refused(score: NDArray[np.float64], correct: NDArray[np.bool_], message: str) -> None:
    """One sentence that names the argument."""
    with pytest.raises(CalibrationError, match=message):
        risk_coverage(score, correct)
