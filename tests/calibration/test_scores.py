"""Routing scores: three ways to say how sure a model is, all rising with sureness."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import entropy

from edgecascade.calibration import SCORES, CalibrationError, routing_score, softmax

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(-20, 20))


@given(LOGITS, st.floats(0.1, 10))
def test_confidence_is_the_largest_probability(logits: NDArray[np.float64], temperature: float) -> None:
    """The score that the paper bins by."""
    expected = softmax(logits, temperature).max(axis=1)
    np.testing.assert_array_equal(routing_score("confidence", logits, temperature), expected)


@given(LOGITS, st.floats(0.1, 10))
def test_margin_is_the_log_odds_of_the_two_likeliest(logits: NDArray[np.float64], temperature: float) -> None:
    """Log p_1 - log p_2, straight from the logits."""
    first, second = -np.sort(-logits, axis=1)[:, :2].T
    wanted = (first - second) / temperature
    np.testing.assert_allclose(routing_score("margin", logits, temperature), wanted, rtol=1e-5, atol=1e-4)


@given(LOGITS, st.floats(0.1, 10))
def test_entropy_is_scipys_with_the_sign_that_rises_with_sureness(
    logits: NDArray[np.float64], temperature: float
) -> None:
    """In nats, negative."""
    wanted = -entropy(softmax(logits, temperature).astype(np.float64), axis=1)
    np.testing.assert_allclose(routing_score("entropy", logits, temperature), wanted, atol=1e-5)


@pytest.mark.parametrize("name", SCORES)
def test_a_surer_row_scores_higher(name: str) -> None:
    """From a tie to near certainty, every score rises."""
    logits = np.outer([0.0, 0.5, 1.0, 4.0, 20.0], [1.0, 0.0, -1.0])
    assert (np.diff(routing_score(name, logits)) > 0).all()


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("row", [[np.nan, 0.0, 1.0], [np.inf, 0.0, 1.0], [-np.inf] * 3])
def test_a_row_without_probabilities_scores_nan(name: str, row: list[float]) -> None:
    """So that it is forwarded."""
    assert np.isnan(routing_score(name, np.array([row]))).all()


@pytest.mark.parametrize(("name", "score"), [("confidence", 1.0), ("margin", np.inf), ("entropy", 0.0)])
def test_a_row_with_one_open_class_is_certain(name: str, score: float) -> None:
    """All others masked by -inf."""
    assert routing_score(name, np.array([[-np.inf, 3.0, -np.inf]])).tolist() == [score]


def test_another_score_is_refused() -> None:
    """One sentence with the three that there are."""
    with pytest.raises(CalibrationError, match=r"^score: expected one of confidence, margin, entropy, got 'energy'"):
        routing_score("energy", np.zeros((1, 2)))
