"""AUROC of correctness and the risk-coverage curve, against scikit-learn and brute force."""

from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.metrics import auroc, auroc_interval, risk_coverage

Columns = tuple[NDArray[np.float64], NDArray[np.bool_]]


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    """Scores with ties, some of them right and some wrong."""
    rows = draw(st.lists(st.tuples(st.integers(0, 10), st.booleans()), max_size=40))
    score, correct = zip(*rows, (draw(st.integers(0, 10)), True), (draw(st.integers(0, 10)), False), strict=True)
    return np.array(score) / 10, np.array(correct)


@given(columns())
def test_it_is_the_share_of_pairs_in_order(columns: Columns) -> None:
    """Of a right and a wrong answer, the right one scores higher; a tie is half of that."""
    score, correct = columns
    pairs = [(right > wrong) + (right == wrong) / 2 for right, wrong in product(score[correct], score[~correct])]
    assert auroc(score, correct) == pytest.approx(np.mean(pairs))


@given(columns())
def test_it_is_scikit_learns(columns: Columns) -> None:
    """The area under the ROC curve."""
    metrics = pytest.importorskip("sklearn.metrics")
    assert auroc(*columns) == pytest.approx(metrics.roc_auc_score(columns[1], columns[0]))


@given(columns())
def test_the_opposite_score_has_the_rest_of_the_area(columns: Columns) -> None:
    """And a rising map of the score has the same."""
    score, correct = columns
    assert auroc(-score, correct) == pytest.approx(1 - auroc(score, correct))
    assert auroc(np.exp(score), correct) == auroc(score, correct)


def test_many_inputs_of_one_kind_do_not_overflow() -> None:
    """A hundred thousand of each are ten thousand million pairs."""
    score = np.arange(200_000, dtype=np.float32)
    assert auroc(score, score >= 100_000) == 1.0


TWO = np.array([0.2, 0.7])


@pytest.mark.parametrize(
    ("score", "correct", "message"),
    [
        pytest.param(TWO, [True, True], "^correct: .*2 right and 0 wrong", id="all right"),
        pytest.param(TWO, [False, False], "^correct: .*0 right and 2 wrong", id="all wrong"),
        pytest.param(TWO, [True], r"^correct: .*\[2\].*\[1\]", id="unequal lengths"),
        pytest.param(TWO * np.nan, [True, False], "^score: .*nan in row 0", id="NaN"),
    ],
)
def test_what_has_no_area_is_refused(score: NDArray[np.float64], correct: list[bool], message: str) -> None:
    """One sentence that names the argument."""
    with pytest.raises(CalibrationError, match=message):
        auroc(score, np.array(correct))


Draw = tuple[NDArray[np.float64], NDArray[np.float64]]


def honest(n: int, rng: np.random.Generator) -> Draw:
    """Calibrated confidences, and the chance of being right."""
    confidence = rng.uniform(0.5, 1.0, n)
    return confidence, confidence


def rarely_wrong(n: int, rng: np.random.Generator) -> Draw:
    """One in twenty is wrong."""
    confidence = rng.beta(20.0, 1.0, n)
    return confidence, confidence


def blind(n: int, rng: np.random.Generator) -> Draw:
    """Confidences that mean nothing."""
    return rng.uniform(0.5, 1.0, n), np.full(n, 0.8)


def sharp(n: int, rng: np.random.Generator) -> Draw:
    """Right above 0.3, wrong below, but for a few."""
    confidence = rng.random(n)
    return confidence, 1 / (1 + np.exp(-12 * (confidence - 0.3)))


@pytest.mark.parametrize("draw", [honest, rarely_wrong, blind, sharp])
@pytest.mark.parametrize("n", [100, 500])
def test_the_area_is_held_19_times_in_20(draw: Callable[..., Draw], n: int) -> None:
    """Over repeated draws, few errors among them."""
    rng = np.random.default_rng(1000)
    confidence, chance = draw(400_000, rng)
    truth = auroc(confidence, rng.random(400_000) < chance)
    held = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        confidence, chance = draw(n, rng)
        correct = rng.random(n) < chance
        if not correct.all():
            low, high = auroc_interval(confidence, correct)
            held.append(low <= truth <= high)
    assert np.mean(held) > 0.92


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
def test_the_area_is_in_its_interval(rows: list[tuple[int, bool]]) -> None:
    """Which is in [0, 1], has a width, and belongs to the opposite score upside down."""
    score, correct = (np.array(column) for column in zip(*rows, (2, True), (2, False), strict=True))
    low, high = auroc_interval(score / 5, correct)
    assert 0.0 <= low <= auroc(score / 5, correct) <= high <= 1.0
    assert high - low > 0.01
    assert auroc_interval(-score / 5, correct) == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_ten_told_from_ten_may_be_luck() -> None:
    """What was told apart perfectly once may not be the next time."""
    low, high = auroc_interval(np.arange(20.0), np.arange(20) >= 10)
    assert 0.7 < low < 0.9
    assert high == 1.0


def test_an_area_without_a_value_has_no_interval() -> None:
    """All answers are right: the error names the argument."""
    with pytest.raises(CalibrationError, match=r"^correct: "):
        auroc_interval(np.array([0.2, 0.7]), np.array([True, True]))


@st.composite
def any_columns(draw: st.DrawFn, most: int = 40) -> Columns:
    """Scores on any scale, ties among them, and who was right."""
    rows = draw(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=most))
    score, correct = zip(*rows, strict=True)
    return np.array(score) / 2, np.array(correct)


@given(any_columns(most=6))
def test_it_is_the_mean_over_all_orders_of_tied_inputs(any_columns: Columns) -> None:
    """For each order in which the score does not rise, errors are counted among the first k."""
    score, correct = any_columns
    orders = [list(order) for order in permutations(range(len(score)))]
    curves = [np.cumsum(~correct[o]) / np.arange(1, len(o) + 1) for o in orders if (np.diff(score[o]) <= 0).all()]
    curve = risk_coverage(score, correct)
    np.testing.assert_allclose(curve.risk, np.mean(curves, axis=0), atol=1e-12)
    np.testing.assert_allclose(curve.coverage, np.arange(1, len(score) + 1) / len(score))
    assert curve.area == pytest.approx(np.mean(curves))


@given(any_columns(), st.integers(0, 1000))
def test_the_order_of_the_rows_changes_nothing(any_columns: Columns, seed: int) -> None:
    """However ties are arranged."""
    rows = np.random.default_rng(seed).permutation(len(any_columns[0]))
    score, correct = any_columns
    moved = risk_coverage(score[rows], correct[rows])
    np.testing.assert_allclose(moved.risk, risk_coverage(score, correct).risk, atol=1e-12)


@given(any_columns())
def test_any_rising_map_of_the_scores_changes_nothing(any_columns: Columns) -> None:
    """Only their order counts."""
    score, correct = any_columns
    mapped = risk_coverage(np.exp(score).astype(np.float32), correct)
    np.testing.assert_array_equal(mapped.risk, risk_coverage(score, correct).risk)


@given(any_columns())
def test_answering_everything_risks_the_error_rate(any_columns: Columns) -> None:
    """The last point of the curve."""
    curve = risk_coverage(*any_columns)
    assert curve.coverage[-1] == 1.0
    assert curve.risk[-1] == pytest.approx(np.mean(~any_columns[1]))


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
