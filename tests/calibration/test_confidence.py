"""Confidence of sampled answers, and the bins that relate confidence to a verifier's scores."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgecascade.calibration import (
    CalibrationError,
    ConfidenceFunction,
    Verifier,
    fit_platt,
    mean_log_probability,
    relate,
    reliability,
)

CONFIDENCE: ConfidenceFunction[Sequence[NDArray[np.floating]]] = mean_log_probability


def shared_words(answers: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Return the share of the reference's words that each answer contains."""
    return np.array(
        [
            np.mean([word in answer.split() for word in reference.split()])
            for answer, reference in zip(answers, references, strict=True)
        ]
    )


VERIFIER: Verifier[Sequence[str]] = shared_words


def test_the_score_is_the_mean_over_tokens() -> None:
    """The score does not depend on the number of tokens."""
    np.testing.assert_allclose(CONFIDENCE([np.log([0.5, 0.25, 0.125]), np.log([1.0])]), [np.log(0.25), 0.0])


def test_a_verifier_may_give_partial_scores() -> None:
    """Partial scores are related to confidence as correctness is."""
    verified = np.asarray(VERIFIER(["the white cat", "a dog"], ["the black cat", "dog"]))
    np.testing.assert_allclose(relate(np.array([0.4, 0.9]), verified, bins=2).accuracy, [2 / 3, 1.0])


def test_platt_scaling_calibrates_the_score() -> None:
    """Mean log-probabilities become confidences that agree with a verifier."""
    rng = np.random.default_rng(0)
    mean = -rng.exponential(size=2000)
    right = rng.random(2000) < 1 / (1 + np.exp(-3 * mean - 2))
    score = mean_log_probability([np.full(3, one) for one in mean])
    bins = relate(fit_platt(score, right)(score), right, bins=5)
    np.testing.assert_allclose(bins.confidence, bins.accuracy, atol=0.06)


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(*(arrays(np.float64, n, elements=st.floats(0, 1)),) * 2)))
def test_the_bins_average_the_scores_of_the_verifier(columns: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    """They are averaged as `reliability` averages correctness."""
    confidence, verified = columns
    found = relate(confidence, verified)
    assert found.count.sum() == len(verified)
    assert np.nansum(found.count * found.accuracy) == pytest.approx(verified.sum())
    right = verified > 0.5
    np.testing.assert_array_equal(relate(confidence, right).accuracy, reliability(confidence, right).accuracy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: mean_log_probability([np.array([])]), "^log_prob.* in answer 0", id="no tokens"),
        pytest.param(lambda: mean_log_probability([np.array([0.9])]), "^log_prob.*0.9", id="probabilities"),
        pytest.param(lambda: relate(np.array([-0.5]), np.array([1.0])), r"^confidence: .*\[0, 1\]", id="raw scores"),
        pytest.param(lambda: relate(np.array([0.5]), np.array([2.0])), "^verified: .*2.0 in row 0", id="above 1"),
        pytest.param(lambda: relate(np.array([0.5]), np.array([np.nan])), "^verified: .*nan in row 0", id="NaN"),
        pytest.param(
            lambda: relate(np.array([0.5]), np.array([[1.0]])), r"^confidence, correct: .*\[1, 1\]", id="not rows"
        ),
    ],
)
def test_invalid_scores_are_refused(call: Callable[[], Any], message: str) -> None:
    """The error names the argument and the value."""
    with pytest.raises(CalibrationError, match=message):
        call()
