"""Softmax in the arithmetic of the graph, and the distinction of probabilities from logits."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.special import softmax as scipy_softmax

from edgecascade.calibration import are_probabilities, calibration_error, fit_temperature, softmax
from edgecascade.types.softmax import SMALLEST, Recognised, log_probabilities, recognise

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


Rounding = Callable[[NDArray[np.float32]], NDArray[np.floating]]
ROUNDINGS: dict[str, tuple[Rounding, str]] = {
    "2 decimals": (lambda p: p.round(2), "2 decimals"),
    "3 decimals": (lambda p: p.round(3), "3 decimals"),
    "4 decimals": (lambda p: p.round(4), "4 decimals"),
    "6 decimals": (lambda p: p.round(6), "6 decimals"),
    "6 decimals, then float64": (lambda p: p.round(6).astype(np.float64), "6 decimals"),
    "8 decimals": (lambda p: p.astype(np.float64).round(8), "8 decimals"),
    "truncated": (lambda p: np.floor(p * 1000) / 1000, "3 decimals"),
    "uint8 / 255": (lambda p: np.rint(p * 255) / np.float32(255), "multiples of 1/255"),
    "uint8 / 256": (lambda p: np.minimum(np.rint(p * 256), 255) / np.float32(256), "multiples of 1/256"),
    "float16": (lambda p: p.astype(np.float16), "float16"),
    "float16, then float32": (lambda p: p.astype(np.float16).astype(np.float32), "float16"),
}


def overconfident(n: int, classes: int, temperature: float, seed: int = 0) -> tuple[NDArray[np.float32], Any]:
    """Draw logits [n, classes] that are too sharp by the temperature, with labels."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0.0, 3.0, (n, classes))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    return (temperature * honest).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_rounded_probabilities_are_recognised(rounding: str, classes: int) -> None:
    """They are never taken for logits, and the result says how they were rounded and counts their zeros."""
    change, words = ROUNDINGS[rounding]
    given = change(softmax(overconfident(500, classes, 1.5)[0]))
    found = recognise(given)
    assert (found.kind, found.rounding) == ("probabilities", words)
    assert found.zeros == np.count_nonzero(given == 0)
    if found.zeros:
        assert SMALLEST < found.floor < given[given > 0].min()
        assert f"rounded ({words})" in str(found)
        assert f"{found.zeros} zeros count as" in str(found)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize(
    ("rounding", "most"),
    [
        ("2 decimals", 0.25),
        ("uint8 / 255", 0.2),
        ("3 decimals", 0.15),
        ("4 decimals", 0.1),
        ("6 decimals", 0.05),
        ("float16", 0.05),
    ],
)
def test_rounded_probabilities_are_calibrated_as_if_they_were_not(
    rounding: str, most: float, classes: int, temperature: float
) -> None:
    """The known T is found nearly as well as without rounding, and the error on fresh data is nearly as small."""
    change, _ = ROUNDINGS[rounding]
    logits, labels = overconfident(6000, classes, temperature)
    fit, fresh = slice(0, 2000), slice(2000, None)
    rounded = change(softmax(logits))
    known = log_probabilities(rounded.astype(np.float32), recognise(rounded[fit]).floor)
    temperatures, errors = [], []
    for some in (logits, known):
        fitted = fit_temperature(some[fit], labels[fit])
        probabilities = softmax(some[fresh], fitted)
        temperatures.append(fitted)
        correct = probabilities.argmax(axis=1) == labels[fresh]
        errors.append(calibration_error(probabilities.max(axis=1), correct).value)
    assert temperatures[1] == pytest.approx(temperatures[0], rel=most)
    assert errors[1] < errors[0] + 0.02


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sharpness", [0.5, 5.0, 50.0, 500.0])
def test_the_logarithms_of_a_float32_softmax_stay_the_same(sharpness: float, dtype: type[np.floating]) -> None:
    """Nothing is bounded but the zeros that float32 cannot express, at its smallest normal number."""
    given = softmax(np.random.default_rng(0).normal(0.0, sharpness, (300, 10))).astype(dtype)
    found = recognise(given)
    assert found == Recognised("probabilities", zeros=int(np.count_nonzero(given == 0)))
    np.testing.assert_array_equal(log_probabilities(given, found.floor), np.log(np.maximum(given, SMALLEST)))


@pytest.mark.parametrize("votes", [7, 20, 300, 1000])
def test_shares_of_votes_are_recognised(votes: int) -> None:
    """A class without a vote has a share below one vote, not 0."""
    rng = np.random.default_rng(votes)
    shares = rng.multinomial(votes, rng.dirichlet([0.3] * 5, 400)) / votes
    found = recognise(shares)
    assert found.rounding == (f"multiples of 1/{votes}" if votes < 1000 else "3 decimals")
    assert 0 < found.floor <= 0.5 / votes


def test_a_gap_above_zero_is_rounding() -> None:
    """Rounded probabilities that were divided by their sum are on no grid; their smallest number shows the rounding."""
    rounded = softmax(overconfident(1000, 10, 1.5)[0]).round(4)
    found = recognise(rounded / rounded.sum(axis=1, keepdims=True))
    assert found.rounding.startswith("nothing between 0 and ")
    assert 1e-7 < found.floor < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda p: p, r"numbers in \[0, 1\] whose rows do not sum to 1 \(row \d+ sums to", id="sigmoids"),
        pytest.param(lambda p: p.round(2), "do not sum to 1", id="rounded sigmoids"),
        pytest.param(lambda p: np.rint(p * 255) / 255, "do not sum to 1", id="sigmoids in 8 bits"),
        pytest.param(lambda p: 100 * p / p.sum(axis=1, keepdims=True), "rows that sum to 100", id="percentages"),
        pytest.param(
            lambda p: np.rint(255 * p / p.sum(axis=1, keepdims=True)).astype(np.uint8), "sum to 255", id="uint8"
        ),
        pytest.param(lambda p: p[:, :1], "do not sum to 1", id="one column"),
    ],
)
@pytest.mark.parametrize("classes", [3, 20])
def test_numbers_that_may_be_either_are_not_taken_for_logits(
    change: Callable[[Any], Any], message: str, classes: int
) -> None:
    """The doubt says what is wrong with them as probabilities."""
    sigmoids = 1 / (1 + np.exp(-np.random.default_rng(0).normal(0.0, 2.0, (200, classes))))
    found = recognise(change(sigmoids))
    assert found.kind == "unclear"
    assert re.search(message, found.doubt)


@given(st.integers(1, 30), st.integers(1, 6), st.floats(0.1, 300.0), st.integers(0, 1000))
def test_the_softmax_of_any_logits_is_probabilities(n: int, classes: int, scale: float, seed: int) -> None:
    """Few rows and extreme logits are no exception, and the logits themselves are never taken for probabilities."""
    logits = np.random.default_rng(seed).normal(0.0, scale, (n, classes)).astype(np.float32)
    assert recognise(softmax(logits)).kind == "probabilities"
    if (logits < -0.01).any():
        assert recognise(logits).kind == "logits"
