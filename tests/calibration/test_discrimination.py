"""How well a score tells right from wrong, against scikit-learn, scipy and all pairs."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.discrimination import auroc, monotonicity

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


@given(st.integers(0, 1000), st.integers(2, 8))
def test_monotonicity_is_spearmans_correlation_over_equal_bins(seed: int, bins: int) -> None:
    """Ten inputs in each bin, ranked by scipy."""
    rng = np.random.default_rng(seed)
    confidence = np.sort(rng.random(10 * bins))
    correct = rng.random(10 * bins) < np.repeat(rng.random(bins), 10)
    correct[:10] = ~correct[10:20]  # so that not all bins are the same
    correct[0] = ~correct[0]
    accuracy = correct.reshape(bins, 10).mean(axis=1)
    if np.ptp(accuracy) > 0:
        wanted = spearmanr(confidence.reshape(bins, 10).mean(axis=1), accuracy).statistic
        assert monotonicity(confidence, correct, bins) == pytest.approx(wanted)


@given(st.lists(st.integers(0, 20), min_size=15, max_size=15, unique=True))
def test_only_the_order_of_the_accuracies_counts(right: list[int]) -> None:
    """It is 1 exactly where they rise from bin to bin, -1 where they fall."""
    correct = np.concatenate([np.arange(20) < count for count in right])
    found = monotonicity(np.linspace(0.1, 0.9, 300), correct)
    assert (found == pytest.approx(1.0)) == (right == sorted(right))
    assert (found == pytest.approx(-1.0)) == (right == sorted(right, reverse=True))
    ordered = np.concatenate([np.arange(20) < count for count in sorted(right)])
    assert monotonicity(np.linspace(0.1, 0.9, 300), ordered) == pytest.approx(1.0)


def test_honest_confidences_are_monotone() -> None:
    """With enough inputs that every bin stands out; confidences without meaning are not."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 0.9, 50_000)
    correct = rng.random(50_000) < confidence
    assert monotonicity(confidence, correct) == pytest.approx(1.0)
    assert abs(monotonicity(rng.random(50_000), correct)) < 0.6


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


@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        pytest.param(TWO, [True, True], "^correct: .*got 1 in all 2", id="all right"),
        pytest.param(np.full(2, 0.5), [True, False], "^correct: .*got 0.5 in all 1", id="one bin"),
        pytest.param(TWO * 5, [True, False], r"^confidence: .*\[0, 1\]", id="no confidences"),
    ],
)
def test_what_neither_rises_nor_falls_is_refused(
    confidence: NDArray[np.float64], correct: list[bool], message: str
) -> None:
    """One sentence that names the argument."""
    with pytest.raises(CalibrationError, match=message):
        monotonicity(confidence, np.array(correct))
