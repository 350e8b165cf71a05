"""Isotonic regression equals scikit-learn's on Platt's targets, so no probability is 0 or 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, ConfidenceMap, fit_isotonic
from edgecascade.calibration.scaling.platt import prior_corrected_targets

Judged = tuple[NDArray[np.float64], NDArray[np.bool_]]


@st.composite
def judged(draw: st.DrawFn) -> Judged:
    """Draw scores, with ties, and correctness."""
    n = draw(st.integers(1, 40))
    score = draw(arrays(np.float64, n, elements=st.integers(-5, 5).map(float) | st.floats(-5, 5)))
    return score, draw(arrays(np.bool_, n, elements=st.booleans()))


def targets(correct: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return Platt's target for each row."""
    if_wrong, if_right = prior_corrected_targets(correct)
    return np.where(correct, if_right, if_wrong)


@given(judged(), arrays(np.float64, 20, elements=st.floats(-6, 6)))
def test_the_function_equals_that_of_scikit_learn(judged: Judged, anywhere: NDArray[np.float64]) -> None:
    """They agree at the scores, between them and beyond them."""
    pytest.importorskip("sklearn")
    from sklearn.isotonic import IsotonicRegression

    score, correct = judged
    score, anywhere = np.round(score, 3), np.round(anywhere, 3)  # scikit-learn merges nearly equal scores
    theirs = IsotonicRegression(out_of_bounds="clip").fit(score, targets(correct))
    found = fit_isotonic(score, correct)
    np.testing.assert_allclose(found(score), theirs.predict(score), atol=1e-12)
    np.testing.assert_allclose(found(anywhere), theirs.predict(anywhere), atol=1e-9)


@given(judged())
def test_probabilities_rise_and_are_never_0_or_1(judged: Judged) -> None:
    """Higher scores never have lower probabilities."""
    score, correct = judged
    probability = fit_isotonic(score, correct)(np.linspace(-6, 6, 50))
    target = targets(correct)
    assert (np.diff(probability) >= -1e-15).all()
    assert (target.min() <= probability + 1e-12).all()
    assert (probability <= target.max() + 1e-12).all()


@given(judged())
def test_a_rising_map_of_the_scores_changes_no_probability(judged: Judged) -> None:
    """Only the order of the scores matters."""
    score, correct = np.round(judged[0], 3), judged[1]
    mapped = np.exp(score)
    np.testing.assert_allclose(fit_isotonic(mapped, correct)(mapped), fit_isotonic(score, correct)(score), atol=1e-12)


@given(judged())
def test_the_mean_probability_is_the_mean_target(judged: Judged) -> None:
    """The fit is unbiased on its own data."""
    score, correct = judged
    assert fit_isotonic(score, correct)(score).mean() == pytest.approx(targets(correct).mean())


def test_only_the_vertices_are_stored() -> None:
    """A thousand rows in two levels are stored as four points."""
    score = np.linspace(0, 1, 1000)
    found = fit_isotonic(score, score > 0.5)
    np.testing.assert_allclose(np.array(found.knots), score[[0, 499, 500, 999]])
    np.testing.assert_allclose(np.array(found.values), [1 / 502, 1 / 502, 501 / 502, 501 / 502])


def test_nan_stays_nan() -> None:
    """A NaN score has a NaN probability."""
    found = ConfidenceMap((0.0, 1.0), (0.2, 0.8))(np.array([np.nan, -np.inf, 0.5, np.inf]))
    np.testing.assert_allclose(found, [np.nan, 0.2, 0.5, 0.8])


@pytest.mark.parametrize(
    ("score", "correct", "message"),
    [
        pytest.param([], [], "^score: .*n > 0", id="nothing"),
        pytest.param([0.1, np.nan], [True, False], "^score: .*nan in row 1", id="NaN"),
        pytest.param([0.1, np.inf], [True, False], "^score: .*inf in row 1", id="infinity"),
        pytest.param([0.1, 0.2], [True], r"^correct: .*\[1\]", id="unequal lengths"),
    ],
)
def test_invalid_arguments_are_refused(score: list[float], correct: list[bool], message: str) -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=message):
        fit_isotonic(np.array(score, float), np.array(correct, bool))
