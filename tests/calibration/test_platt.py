"""Platt scaling fits the maximum-likelihood logistic function of a score, or raises an error with the reason."""

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
    """Draw scores of unit variance, and correctness with those log-odds."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    return score, rng.random(n) < expit(slope * score + intercept)


@st.composite
def judged(draw: st.DrawFn) -> Judged:
    """Draw scores with ties and at least two distinct values, and correctness."""
    n = draw(st.integers(2, 30))
    numbers = st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6)
    score = draw(arrays(np.float64, n, elements=numbers))
    assume(score.min() < score.max())
    return score, draw(arrays(np.bool_, n, elements=st.booleans()))


def targets(correct: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return Platt's target for each row."""
    if_wrong, if_right = prior_corrected_targets(correct)
    return np.where(correct, if_right, if_wrong)


def loss(parameters: NDArray[np.float64], score: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Return the cross-entropy of the logistic function from the targets, as in Platt's paper."""
    log_odds = parameters[0] * score + parameters[1]
    return float(np.sum(np.logaddexp(0, log_odds) - target * log_odds))


@given(arrays(np.bool_, st.integers(1, 50), elements=st.booleans()))
def test_the_targets_are_platts(correct: NDArray[np.bool_]) -> None:
    """They are (n+ + 1) / (n+ + 2) for right answers and 1 / (n- + 2) for wrong ones."""
    right, wrong = int(correct.sum()), int((~correct).sum())
    assert prior_corrected_targets(correct) == (1 / (wrong + 2), (right + 1) / (right + 2))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["drawn", "separated", "reversed", "tied", "one kind"])
def test_the_fit_equals_that_of_scikit_learn(seed: int, kind: str) -> None:
    """Both give the same probabilities."""
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
def test_the_fit_equals_that_of_scipy(seed: int) -> None:
    """A general-purpose minimiser, run to convergence, finds the same slope and intercept."""
    score, correct = drawn(seed)
    target = targets(correct)
    options: Any = {"xatol": 1e-10, "fatol": 1e-14}
    oracle = minimize(loss, [0.0, 0.0], (score, target), method="Nelder-Mead", options=options)
    found = fit_platt(score, correct)
    assert (found.slope, found.intercept) == pytest.approx(tuple(oracle.x), abs=1e-6)


@given(judged())
def test_the_gradient_is_zero_at_the_optimum(judged: Judged) -> None:
    """The probabilities have the mean of the targets and the targets' covariance with the score."""
    score, correct = judged
    left = fit_platt(score, correct)(score) - targets(correct)
    assert left.sum() == pytest.approx(0.0, abs=1e-7)
    assert left @ (score / np.abs(score).max()) == pytest.approx(0.0, abs=1e-7)


@given(judged())
def test_probabilities_are_monotone_and_never_0_or_1(judged: Judged) -> None:
    """The sign of the slope gives the direction; the bounds hold on the scores of the fit."""
    found = fit_platt(*judged)
    probability = found(np.sort(judged[0]))
    assert (np.diff(probability) * np.sign(found.slope) >= 0).all()
    assert ((probability > 0) & (probability < 1)).all()


@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.sampled_from([-1.0, 1.0]), st.floats(-100.0, 100.0))
def test_an_affine_map_of_the_scores_changes_no_probability(
    seed: int, scale: float, sign: float, offset: float
) -> None:
    """Scores c s + d get the probabilities of s, also for negative c."""
    score, correct = drawn(seed, n=40)
    mapped = sign * scale * (score + offset)
    np.testing.assert_allclose(fit_platt(mapped, correct)(mapped), fit_platt(score, correct)(score), atol=1e-8)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e307])
def test_the_scale_of_the_scores_does_not_matter(scale: float) -> None:
    """Neither tiny nor huge scores lose precision."""
    score, correct = drawn(0)
    found, plain = fit_platt(scale * score, correct), fit_platt(score, correct)
    assert found.slope * scale == pytest.approx(plain.slope, rel=1e-9)
    assert found.intercept == pytest.approx(plain.intercept, rel=1e-9)


def test_an_outlier_does_not_prevent_convergence() -> None:
    """With scores of very different size, no neighbour of the fit has a lower loss."""
    score, correct = drawn(0)
    score[0], correct[0] = -1e9, False
    target, found = targets(correct), fit_platt(score, correct)
    best = loss(np.array([found.slope, found.intercept]), score, target)
    for slope in (0.99, 1.0, 1.01):
        for intercept in (0.99, 1.0, 1.01):
            assert best <= loss(np.array([slope * found.slope, intercept * found.intercept]), score, target)


def test_nearly_perfect_answers_have_a_fit() -> None:
    """Where all but a few of a thousand sure answers are right, rounding errors of the loss do not stop the search."""
    for seed in range(120, 160):
        rng = np.random.default_rng(seed)
        score = rng.normal(25.0, 10.0, 800).clip(-0.42, 17.32867948419631)
        correct = rng.random(800) < 1 / (1 + np.exp(-0.45 * score))
        left = fit_platt(score, correct)(score) - targets(correct)
        assert abs(left.mean()) < 1e-8
        assert abs((left * score).mean()) < 1e-8


@pytest.mark.parametrize(("right", "expected"), [(True, 11 / 12), (False, 1 / 12)])
def test_answers_all_right_or_all_wrong_follow_the_rule_of_succession(right: bool, expected: float) -> None:
    """Ten right answers give 11 / 12 for any score; ten wrong ones give 1 / 12."""
    found = fit_platt(np.arange(10.0), np.full(10, right))
    assert found.slope == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(found(np.array([-5.0, 50.0])), expected, rtol=1e-9)


def test_narrow_scores_are_summed_in_float64() -> None:
    """float16 scores are fitted without further rounding."""
    score, correct = drawn(0)
    narrow = score.astype(np.float16)
    assert fit_platt(narrow, correct) == fit_platt(narrow.astype(np.float64), correct)


def test_infinite_scores_have_probabilities_and_nan_has_none() -> None:
    """Infinity gives 0 or 1, NaN gives NaN, and there is no warning."""
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
def test_invalid_arguments_are_refused(score: NDArray[np.floating], correct: NDArray[np.bool_], message: str) -> None:
    """The error names the argument, and no result is returned."""
    with pytest.raises(CalibrationError, match=message):
        fit_platt(score, correct)
