"""AUROC of correctness and the risk-coverage curve agree with scikit-learn and brute force."""

from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.metrics import auroc, auroc_interval, risk_coverage, risk_coverage_area

Columns = tuple[NDArray[np.float64], NDArray[np.bool_]]


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    """Draw scores with ties, some right and some wrong."""
    rows = draw(st.lists(st.tuples(st.integers(0, 10), st.booleans()), max_size=40))
    score, correct = zip(*rows, (draw(st.integers(0, 10)), True), (draw(st.integers(0, 10)), False), strict=True)
    return np.array(score) / 10, np.array(correct)


@given(columns())
def test_auroc_is_the_share_of_ordered_pairs(columns: Columns) -> None:
    """In a pair of a right and a wrong answer, the right one scores higher; a tie counts half."""
    score, correct = columns
    pairs = [(right > wrong) + (right == wrong) / 2 for right, wrong in product(score[correct], score[~correct])]
    assert auroc(score, correct) == pytest.approx(np.mean(pairs))


@given(columns())
def test_auroc_equals_that_of_scikit_learn(columns: Columns) -> None:
    """It is the area under the ROC curve."""
    metrics = pytest.importorskip("sklearn.metrics")
    assert auroc(*columns) == pytest.approx(metrics.roc_auc_score(columns[1], columns[0]))


@given(columns())
def test_the_opposite_score_has_the_complementary_area(columns: Columns) -> None:
    """A rising map of the score has the same area."""
    score, correct = columns
    assert auroc(-score, correct) == pytest.approx(1 - auroc(score, correct))
    assert auroc(np.exp(score), correct) == auroc(score, correct)


def test_many_inputs_do_not_overflow() -> None:
    """A hundred thousand inputs of each kind make ten thousand million pairs."""
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
def test_invalid_arguments_of_auroc_are_refused(score: NDArray[np.float64], correct: list[bool], message: str) -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=message):
        auroc(score, np.array(correct))


Draw = tuple[NDArray[np.float64], NDArray[np.float64]]


def honest(n: int, rng: np.random.Generator) -> Draw:
    """Draw calibrated confidences with their probability of being right."""
    confidence = rng.uniform(0.5, 1.0, n)
    return confidence, confidence


def rarely_wrong(n: int, rng: np.random.Generator) -> Draw:
    """Draw confidences with one wrong answer in twenty."""
    confidence = rng.beta(20.0, 1.0, n)
    return confidence, confidence


def blind(n: int, rng: np.random.Generator) -> Draw:
    """Draw confidences that do not depend on correctness."""
    return rng.uniform(0.5, 1.0, n), np.full(n, 0.8)


def sharp(n: int, rng: np.random.Generator) -> Draw:
    """Draw answers that are right above 0.3 and wrong below it, with few exceptions."""
    confidence = rng.random(n)
    return confidence, 1 / (1 + np.exp(-12 * (confidence - 0.3)))


@pytest.mark.parametrize("draw", [honest, rarely_wrong, blind, sharp])
@pytest.mark.parametrize("n", [100, 500])
def test_the_area_is_covered_at_95_percent(draw: Callable[..., Draw], n: int) -> None:
    """Coverage holds over repeated draws, including few errors."""
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
    assert binom.cdf(sum(held), len(held), 0.95) > 0.001


@pytest.mark.parametrize("draw", [honest, rarely_wrong, blind, sharp])
@pytest.mark.parametrize("n", [200, 1000])
def test_the_area_under_the_curve_is_covered_at_95_percent(draw: Callable[..., Draw], n: int) -> None:
    """The interval of AURC holds the area of a large sample, including few errors."""
    rng = np.random.default_rng(1000)
    confidence, chance = draw(400_000, rng)
    truth = risk_coverage(confidence, rng.random(400_000) < chance).area
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        confidence, chance = draw(n, rng)
        found = risk_coverage_area(confidence, rng.random(n) < chance)
        held += found.low <= truth <= found.high
    assert binom.cdf(held, 300, 0.95) > 0.001


@given(columns(), st.integers(1, 4))
def test_an_integer_weight_is_so_many_equal_inputs(columns: Columns, times: int) -> None:
    """The areas are those of the inputs repeated."""
    score, correct = columns
    weight = np.arange(len(score)) % times + 1
    again = np.repeat(score, weight), np.repeat(correct, weight)
    assert auroc(score, correct, weight) == pytest.approx(auroc(*again))
    assert risk_coverage(score, correct, weight).risk[-1] == pytest.approx(risk_coverage(*again).risk[-1])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
def test_the_area_is_in_its_interval(rows: list[tuple[int, bool]]) -> None:
    """The interval lies in [0, 1], has a positive width, and is mirrored for the opposite score."""
    score, correct = (np.array(column) for column in zip(*rows, (2, True), (2, False), strict=True))
    low, high = auroc_interval(score / 5, correct)
    assert 0.0 <= low <= auroc(score / 5, correct) <= high <= 1.0
    assert high - low > 0.01
    if abs(auroc(score / 5, correct) - 0.5) > 1e-9:  # at one half, either side may be meant
        assert auroc_interval(-score / 5, correct) == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_a_perfect_area_of_twenty_inputs_is_uncertain() -> None:
    """Ten right and ten wrong answers separated perfectly still give an interval of positive width."""
    low, high = auroc_interval(np.arange(20.0), np.arange(20) >= 10)
    assert 0.7 < low < 0.9
    assert high == 1.0


def test_an_undefined_area_has_no_interval() -> None:
    """If all answers are right, the error names the argument."""
    with pytest.raises(CalibrationError, match=r"^correct: "):
        auroc_interval(np.array([0.2, 0.7]), np.array([True, True]))


@st.composite
def any_columns(draw: st.DrawFn, most: int = 40) -> Columns:
    """Draw scores on any scale, with ties, and correctness."""
    rows = draw(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=most))
    score, correct = zip(*rows, strict=True)
    return np.array(score) / 2, np.array(correct)


@given(any_columns(most=6))
def test_the_curve_is_the_mean_over_orders_of_tied_inputs(any_columns: Columns) -> None:
    """For each order by falling score, the errors among the first k are counted."""
    score, correct = any_columns
    orders = [list(order) for order in permutations(range(len(score)))]
    curves = [np.cumsum(~correct[o]) / np.arange(1, len(o) + 1) for o in orders if (np.diff(score[o]) <= 0).all()]
    curve = risk_coverage(score, correct)
    np.testing.assert_allclose(curve.risk, np.mean(curves, axis=0), atol=1e-12)
    np.testing.assert_allclose(curve.coverage, np.arange(1, len(score) + 1) / len(score))
    assert curve.area == pytest.approx(np.mean(curves))


@given(any_columns(), st.integers(0, 1000))
def test_the_order_of_the_rows_changes_nothing(any_columns: Columns, seed: int) -> None:
    """The arrangement of tied inputs does not matter."""
    rows = np.random.default_rng(seed).permutation(len(any_columns[0]))
    score, correct = any_columns
    moved = risk_coverage(score[rows], correct[rows])
    np.testing.assert_allclose(moved.risk, risk_coverage(score, correct).risk, atol=1e-12)


@given(any_columns())
def test_a_rising_map_of_the_scores_does_not_change_the_curve(any_columns: Columns) -> None:
    """Only the order of the scores matters."""
    score, correct = any_columns
    mapped = risk_coverage(np.exp(score).astype(np.float32), correct)
    np.testing.assert_array_equal(mapped.risk, risk_coverage(score, correct).risk)


@given(any_columns())
def test_full_coverage_has_the_error_rate(any_columns: Columns) -> None:
    """It is the last point of the curve."""
    curve = risk_coverage(*any_columns)
    assert curve.coverage[-1] == 1.0
    assert curve.risk[-1] == pytest.approx(np.mean(~any_columns[1]))


def test_an_uninformative_score_has_the_error_rate_at_any_coverage() -> None:
    """All inputs are tied, and the area is the error rate."""
    curve = risk_coverage(np.zeros(10), np.arange(10) < 7)
    np.testing.assert_allclose(curve.risk, 0.3)
    assert curve.area == pytest.approx(0.3)


def test_the_area_of_the_oracle_converges_to_its_limit() -> None:
    """For many inputs, an error rate r has the least area r + (1 - r) log(1 - r)."""
    correct = np.arange(100_000) >= 20_000
    area = risk_coverage(correct.astype(float), correct).area
    assert area == pytest.approx(0.2 + 0.8 * np.log(0.8), abs=1e-5)


@pytest.mark.parametrize(
    ("score", "correct", "message"),
    [
        pytest.param(np.ones(0), np.ones(0, bool), r"^score: .*\[0\]", id="nothing"),
        pytest.param(np.ones(2), np.ones(3, bool), r"^correct: .*\[2\].*\[3\]", id="unequal lengths"),
        pytest.param(np.ones(2), np.ones(2), "^correct: .*float64", id="correctness that is not bool"),
        pytest.param(np.array([0.5, np.nan]), np.ones(2, bool), "^score: .*nan in row 1", id="NaN"),
    ],
)
def test_invalid_arguments_of_the_curve_are_refused(
    score: NDArray[np.float64], correct: NDArray[np.bool_], message: str
) -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=message):
        risk_coverage(score, correct)


def test_the_interval_of_the_area_covers_where_scores_are_tied() -> None:
    """Within a tie some answers are right and some wrong, which the mean of the tie does not show."""
    rng = np.random.default_rng(0)
    chance = np.array([0.5, 0.7, 0.9, 0.98])  # of being right, for each of four scores
    level = np.repeat(np.arange(4), 100_000)
    truth = risk_coverage(level.astype(float), np.arange(400_000) % 100_000 < 100_000 * chance[level]).area
    held = 0
    for _ in range(400):
        drawn = rng.integers(0, 4, 300)
        found = risk_coverage_area(drawn.astype(float), rng.random(300) < chance[drawn])
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 400 <= 0.99
