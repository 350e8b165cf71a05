"""The three routing scores rise with the confidence of the model."""

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
    """This is the score that the paper uses for its bins."""
    expected = softmax(logits, temperature).max(axis=1)
    np.testing.assert_array_equal(routing_score("confidence", logits, temperature), expected)


@given(LOGITS, st.floats(0.1, 10))
def test_margin_is_the_log_odds_of_the_two_likeliest_classes(logits: NDArray[np.float64], temperature: float) -> None:
    """It is log p_1 - log p_2, computed from the logits."""
    first, second = -np.sort(-logits, axis=1)[:, :2].T
    wanted = (first - second) / temperature
    np.testing.assert_allclose(routing_score("margin", logits, temperature), wanted, rtol=1e-5, atol=1e-4)


@given(LOGITS, st.floats(0.1, 10))
def test_entropy_is_the_negative_of_scipys(logits: NDArray[np.float64], temperature: float) -> None:
    """The unit is nats, and the negative sign makes it rise with confidence."""
    wanted = -entropy(softmax(logits, temperature).astype(np.float64), axis=1)
    np.testing.assert_allclose(routing_score("entropy", logits, temperature), wanted, atol=1e-5)


@pytest.mark.parametrize("name", SCORES)
def test_a_more_certain_row_scores_higher(name: str) -> None:
    """Every score rises from a tie to near certainty."""
    logits = np.outer([0.0, 0.5, 1.0, 4.0, 20.0], [1.0, 0.0, -1.0])
    assert (np.diff(routing_score(name, logits)) > 0).all()


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("row", [[np.nan, 0.0, 1.0], [np.inf, 0.0, 1.0], [-np.inf] * 3])
def test_a_row_without_probabilities_scores_nan(name: str, row: list[float]) -> None:
    """A NaN score causes the row to be forwarded."""
    assert np.isnan(routing_score(name, np.array([row]))).all()


@pytest.mark.parametrize(("name", "score"), [("confidence", 1.0), ("margin", np.inf), ("entropy", 0.0)])
def test_a_row_with_one_unmasked_class_is_certain(name: str, score: float) -> None:
    """All other classes are masked by -inf."""
    assert routing_score(name, np.array([[-np.inf, 3.0, -np.inf]])).tolist() == [score]


def test_an_unknown_score_is_refused() -> None:
    """The error lists all scores."""
    said = r"^score: expected one of confidence, margin, entropy, learned, cost, got 'energy'"
    with pytest.raises(CalibrationError, match=said):
        routing_score("energy", np.zeros((1, 2)))
