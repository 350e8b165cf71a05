"""Softmax in the arithmetic of the graph, and the distinction of probabilities from logits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.special import softmax as scipy_softmax

from edgecascade.calibration import are_probabilities, softmax

NAN, INF = np.nan, np.inf
TABLES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2), elements=st.floats(-100.0, 100.0, width=32))


@given(TABLES, st.floats(0.125, 8.0, width=32))
def test_softmax_equals_that_of_scipy_in_float32(logits: NDArray[np.float32], temperature: float) -> None:
    """The function is softmax(z / T), in float32."""
    found = softmax(logits, temperature)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, scipy_softmax(logits.astype(np.float64) / temperature, axis=1), atol=2e-5)


@given(TABLES)
def test_rows_are_distributions(logits: NDArray[np.float32]) -> None:
    """Every row of finite logits has probabilities that sum to 1."""
    assert are_probabilities(softmax(logits))
    np.testing.assert_allclose(softmax(logits).sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param([3e38, -3e38], [1.0, 0.0], id="logits whose difference overflows"),
        pytest.param([-INF, 1.0, 1.0], [0.0, 0.5, 0.5], id="a masked class has probability 0"),
        pytest.param([NAN, 1.0], [NAN, NAN], id="NaN leaves no probabilities"),
        pytest.param([INF, 1.0], [NAN, NAN], id="+inf leaves no probabilities"),
        pytest.param([-INF, -INF], [NAN, NAN], id="nothing but masked classes leaves no probabilities"),
    ],
)
def test_unusual_rows_have_defined_results(row: list[float], expected: list[float]) -> None:
    """Each is computed without a warning, and the row beside it is not affected."""
    table = np.array([row, np.zeros(len(row))])
    np.testing.assert_array_equal(softmax(table)[0], expected)
    np.testing.assert_allclose(softmax(table)[1], 1 / len(row), rtol=1e-6)


def test_an_empty_batch_is_accepted() -> None:
    """An empty batch gives an empty result."""
    assert softmax(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([[0.9, 0.1], [0.0, 1.0]], True, id="distributions"),
        pytest.param([[0.334, 0.333, 0.334]], True, id="rounded to three digits"),
        pytest.param([[0.9, 0.1], [2.0, -1.0]], False, id="logits that happen to sum to 1"),
        pytest.param([[0.9, 0.1], [0.9, 0.9]], False, id="independent sigmoids"),
        pytest.param([[0.9, 0.1], [NAN, NAN]], False, id="NaN"),
        pytest.param([[INF, 0.0]], False, id="infinity"),
    ],
)
def test_probabilities_are_distinguished_from_logits(scores: list[list[float]], expected: bool) -> None:
    """Scores are probabilities only if every row is a distribution."""
    assert are_probabilities(np.array(scores)) is expected
