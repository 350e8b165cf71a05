"""Platt scaling: the most likely logistic function of any score, or a refusal with the reason."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from edgecascade.calibration import CalibrationError, Platt, fit_platt
from edgecascade.calibration.scaling.platt import prior_corrected_targets

Judged = tuple[NDArray[np.float64], NDArray[np.bool_]]


def drawn(seed: int, n: int = 200, slope: float = 1.5, intercept: float = -0.5) -> Judged:
    """Scores of unit spread, and rights drawn with those log-odds."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    return score, rng.random(n) < expit(slope * score + intercept)


@st.composite
def judged(draw: st.DrawFn) -> Judged:
    """Scores of any kind, ties among them, of which at least two are distinct; any of them right."""
    n = draw(st.integers(2, 30))
    numbers = st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6)
    score = draw(arrays(np.float64, n, elements=numbers))
    assume(score.min() < score.max())
    return score, draw(arrays(np.bool_, n, elements=st.booleans()))


def targets(correct: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Platt's, row by row."""
    if_wrong, if_right = prior_corrected_targets(correct)
    return np.where(correct, if_right, if_wrong)


def loss(parameters: NDArray[np.float64], score: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Cross-entropy of the logistic function from the targets, as Platt writes it."""
    log_odds = parameters[0] * score + parameters[1]
    return float(np.sum(np.logaddexp(0, log_odds) - target * log_odds))


@given(arrays(np.bool_, st.integers(1, 50), elements=st.booleans()))
def test_the_targets_are_platts(correct: NDArray[np.bool_]) -> None:
    """(n+ + 1) / (n+ + 2) for the right and 1 / (n- + 2) for the wrong."""
    right, wrong = int(correct.sum()), int((~correct).sum())
    assert prior_corrected_targets(correct) == (1 / (wrong + 2), (right + 1) / (right + 2))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["drawn", "separated", "reversed", "tied", "one kind"])
def test_it_is_where_scikit_learn_finds_the_optimum(seed: int, kind: str) -> None:
    """The reference implementation gives the same probabilities."""
    pytest.importorskip("sklearn")
    from sklearn.calibration import _SigmoidCalibration

    score, correct = drawn(seed)
    if kind == "tied":
        score = np.round(score)
    correct = {"separated": score > 0.3, "reversed": score < 0.3, "one kind": score < 100}.get(kind, correct)
    theirs = _SigmoidCalibration().fit(score, correct.astype(np.float64))
    found = fit_platt(score, correct)
    np.testing.assert_allclose(found(score), theirs.predict(score), atol=1e-6)
    assert (found.slope, found.intercept) == pytest.approx((-theirs.a_, -theirs.b_), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_where_scipy_finds_the_optimum(seed: int) -> None:
    """A general-purpose minimiser, polished to convergence, ends at the same slope and intercept."""
    score, correct = drawn(seed)
    target = targets(correct)
    options: Any = {"xatol": 1e-10, "fatol": 1e-14}
    oracle = minimize(loss, [0.0, 0.0], (score, target), method="Nelder-Mead", options=options)
    found = fit_platt(score, correct)
    assert (found.slope, found.intercept) == pytest.approx(tuple(oracle.x), abs=1e-6)


@given(judged())
def test_it_leaves_no_slope_at_the_optimum(judged: Judged) -> None:
    """The mean probability is the mean target, and the probabilities have the targets' covariance with the score."""
    score, correct = judged
    left = fit_platt(score, correct)(score) - targets(correct)
    assert left.sum() == pytest.approx(0.0, abs=1e-7)
    assert left @ (score / np.abs(score).max()) == pytest.approx(0.0, abs=1e-7)


@given(judged())
def test_probabilities_are_monotone_in_the_score_and_never_certain(judged: Judged) -> None:
    """All rise, or all fall, as the slope says; on the scores it was fitted to none is 0 or 1."""
    found = fit_platt(*judged)
    probability = found(np.sort(judged[0]))
    assert (np.diff(probability) * np.sign(found.slope) >= 0).all()
    assert ((probability > 0) & (probability < 1)).all()


@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.sampled_from([-1.0, 1.0]), st.floats(-100.0, 100.0))
def test_an_affine_map_of_the_scores_changes_no_probability(
    seed: int, scale: float, sign: float, offset: float
) -> None:
    """Scores c s + d get the probabilities of s, also with the sign turned."""
    score, correct = drawn(seed, n=40)
    mapped = sign * scale * (score + offset)
    np.testing.assert_allclose(fit_platt(mapped, correct)(mapped), fit_platt(score, correct)(score), atol=1e-8)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e307])
def test_it_works_at_any_size_of_the_scores(scale: float) -> None:
    """Neither vanishing nor enormous scores lose precision."""
    score, correct = drawn(0)
    found, plain = fit_platt(scale * score, correct), fit_platt(score, correct)
    assert found.slope * scale == pytest.approx(plain.slope, rel=1e-9)
    assert found.intercept == pytest.approx(plain.intercept, rel=1e-9)


def test_an_outlier_leaves_an_optimum_to_find() -> None:
    """Scores of very different size still have the one that no neighbour beats."""
    score, correct = drawn(0)
    score[0], correct[0] = -1e9, False
    target, found = targets(correct), fit_platt(score, correct)
    best = loss(np.array([found.slope, found.intercept]), score, target)
    for slope in (0.99, 1.0, 1.01):
        for intercept in (0.99, 1.0, 1.01):
            assert best <= loss(np.array([slope * found.slope, intercept * found.intercept]), score, target)


@pytest.mark.parametrize(("right", "expected"), [(True, 11 / 12), (False, 1 / 12)])
def test_one_kind_of_answer_has_the_probability_of_succession(right: bool, expected: float) -> None:
    """All ten right: 11 / 12 whatever the score; all wrong: 1 / 12."""
    found = fit_platt(np.arange(10.0), np.full(10, right))
    assert found.slope == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(found(np.array([-5.0, 50.0])), expected, rtol=1e-9)


def test_narrow_scores_are_summed_in_float64() -> None:
    """float16 scores are fitted as the numbers they are."""
    score, correct = drawn(0)
    narrow = score.astype(np.float16)
    assert fit_platt(narrow, correct) == fit_platt(narrow.astype(np.float64), correct)


def test_scores_without_end_have_probabilities_and_nan_has_none() -> None:
    """Infinity is 0 or 1, NaN is NaN, and nothing warns."""
    found = Platt(2.0, 0.0)(np.array([-np.inf, -1e308, 1e308, np.inf, np.nan], np.float64))
    np.testing.assert_array_equal(found, [0.0, 0.0, 1.0, 1.0, np.nan])


SCORE, CORRECT = np.array([0.1, 0.5, 0.9]), np.array([False, True, True])
INFINITE, NAN = (np.where(SCORE == 0.5, bad, SCORE) for bad in (-np.inf, np.nan))


@pytest.mark.parametrize(
    ("score", "correct", "message"),
    [
        pytest.param(SCORE[:0], CORRECT[:0], r"^score: .*n > 0, got float64 \[0\]", id="nothing"),
        pytest.param(SCORE[:, None], CORRECT, r"^score: .*\[3, 1\]", id="a column"),
        pytest.param(SCORE.astype(int), CORRECT, "^score: .*int64", id="integers"),
        pytest.param(NAN, CORRECT, "^score: .*nan in row 1", id="NaN"),
        pytest.param(INFINITE, CORRECT, "^score: .*-inf in row 1", id="a token of probability 0"),
        pytest.param(np.ones(3), CORRECT, "^score: .*distinct values, got 1.0 in all 3", id="constant"),
        pytest.param(np.array([0.0, 0.0, 5e-324]), CORRECT, "^score: .*differ by more", id="no float is so steep"),
        pytest.param(SCORE, CORRECT[1:], r"^correct: .*\[3\].*\[2\]", id="unequal lengths"),
        pytest.param(SCORE, CORRECT.astype(int), "^correct: .*int64", id="labels in place of right and wrong"),
    ],
)
def test_what_has_no_logistic_function_is_refused(
    score: NDArray[np.floating], correct: NDArray[np.bool_], message: str
) -> None:
    """One sentence that names the argument, and no number."""
    with pytest.raises(CalibrationError, match=message):
        fit_platt(score, correct)
