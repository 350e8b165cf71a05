"""Vector scaling: a scale and a bias for each class, near temperature scaling where rows are few."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from edgecascade.calibration import (
    CalibrationError,
    VectorScaling,
    fit_temperature,
    fit_vector_scaling,
    negative_log_likelihood,
    softmax,
)

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]


def penalised(found: VectorScaling, logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """What is to be minimised, written out: the summed loss, and half the squared departures from temperature."""
    temperature = fit_temperature(logits, labels)
    departure = found.scale * temperature - 1
    shift = found.bias + departure * logits.mean(axis=0) / temperature
    loss = -log_softmax(found.scale * logits + found.bias, axis=1)[np.arange(len(labels)), labels].sum()
    return float(loss + 0.5 * (departure @ departure + shift @ shift))


@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_where_a_search_without_derivatives_ends(sampled: Sampled, classes: int) -> None:
    """A general-purpose minimiser of the penalised likelihood, given no derivatives, ends at the same numbers."""
    logits, labels = sampled(n=200, classes=classes, temperature=2.0)
    logits = logits * np.linspace(0.5, 2.0, classes) + np.arange(classes)

    def objective(parameters: NDArray[np.float64]) -> float:
        return penalised(VectorScaling(*np.split(parameters, 2)), logits, labels)

    options: Any = {"gtol": 1e-3}  # finite differences of a sum of hundreds resolve no less
    oracle = minimize(objective, np.concatenate([np.ones(classes), np.zeros(classes)]), options=options)
    found = fit_vector_scaling(logits, labels)
    np.testing.assert_allclose(np.concatenate([found.scale, found.bias]), oracle.x, atol=2e-4)
    assert penalised(found, logits, labels) <= oracle.fun + 1e-9


def test_it_recovers_what_a_temperature_cannot(sampled: Sampled) -> None:
    """Scales and biases of the classes are found to within a few percent on 20,000 rows."""
    honest, labels = sampled(n=20_000, classes=3)
    scale, bias = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, -1.0])
    found = fit_vector_scaling(scale * honest + bias, labels)
    np.testing.assert_allclose(found.scale * scale, 1.0, rtol=0.05)
    offset = found.bias + found.scale * bias
    np.testing.assert_allclose(offset - offset.mean(), 0.0, atol=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_it_explains_its_rows_at_least_as_well_as_the_temperature(sampled: Sampled, seed: int) -> None:
    """Temperature scaling is one of the choices it has."""
    logits, labels = sampled(n=100, temperature=3.0, seed=seed)
    found = fit_vector_scaling(logits, labels)
    scaled = negative_log_likelihood(logits, labels, fit_temperature(logits, labels))
    assert negative_log_likelihood(found(logits), labels) <= scaled


def test_a_class_without_rows_keeps_about_its_temperature(sampled: Sampled) -> None:
    """What was never seen is not driven to probability 0: its scale stays within reach of 1 / T."""
    logits, labels = sampled(n=300, temperature=2.0)
    seen = labels != 3
    found = fit_vector_scaling(logits[seen], labels[seen])
    probability = softmax(found(logits[seen]))
    assert np.isfinite([found.scale, found.bias]).all()
    assert 0.001 < probability[:, 3].mean() < 0.2


@given(st.integers(0, 1000), st.floats(0.01, 100.0), st.floats(-100.0, 100.0))
@settings(max_examples=15)
def test_it_follows_the_scale_and_ignores_a_common_offset(
    sampled: Sampled, seed: int, scale: float, offset: float
) -> None:
    """Logits c (z + d), with one d for all, get the probabilities of z."""
    logits, labels = sampled(n=100, seed=seed)
    mapped = scale * (logits + offset)
    plain, moved = fit_vector_scaling(logits, labels)(logits), fit_vector_scaling(mapped, labels)(mapped)
    np.testing.assert_allclose(softmax(moved), softmax(plain), atol=1e-4)


def test_a_masked_class_changes_nothing(sampled: Sampled) -> None:
    """A class that is -inf everywhere might as well be absent, and stays at -inf."""
    logits, labels = sampled(n=300)
    masked = np.column_stack([logits, np.full(len(labels), -np.inf)])
    plain, found = fit_vector_scaling(logits, labels), fit_vector_scaling(masked, labels)
    np.testing.assert_allclose(found.scale[:-1], plain.scale, rtol=1e-4)
    np.testing.assert_allclose(found.bias[:-1], plain.bias, atol=1e-4)
    assert np.isneginf(found(masked)[:, -1]).all()


def test_a_class_masked_here_and_there_is_fitted_where_it_is_not(sampled: Sampled) -> None:
    """Masks in some rows leave finite numbers, and rows of probabilities."""
    logits, labels = sampled(n=300)
    logits[(np.arange(300) % 3 == 0) & (labels != 1), 1] = -np.inf
    found = fit_vector_scaling(logits.astype(np.float32), labels)
    probability = softmax(found(logits))
    np.testing.assert_array_equal(probability == 0, np.isneginf(logits))
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("row", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_a_row_without_probabilities_gets_none(row: list[float]) -> None:
    """NaN and infinity are as visible after as before, whatever the signs of the scales."""
    found = VectorScaling(np.array([-1.0, 0.0]), np.array([1.0, 2.0]))
    assert np.isnan(softmax(found(np.array([row])))).all()


ROWS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        pytest.param(ROWS[:, 0], [0, 1, 0], r"^logits: .*\[3\]", id="no class axis"),
        pytest.param(ROWS, [0, 1], r"^labels: .*\[2\]", id="unequal lengths"),
        pytest.param(ROWS * np.nan, [0, 1, 0], "^logits: .*NaN", id="NaN"),
        pytest.param(ROWS, [0, 1, 0], "^labels: the model is right on all 3", id="no temperature"),
    ],
)
def test_what_has_no_temperature_is_refused(logits: NDArray[np.float64], labels: list[int], message: str) -> None:
    """One sentence that names the argument."""
    with pytest.raises(CalibrationError, match=message):
        fit_vector_scaling(logits, np.array(labels))


def test_an_optimum_that_was_not_reached_is_no_result(sampled: Sampled) -> None:
    """Beside a logit of 1e20 the search ends early, and says so."""
    logits, labels = sampled(n=300)
    logits[0, labels[0]] = 1e20
    with pytest.raises(CalibrationError, match=r"^logits: .* huge by mistake"):
        fit_vector_scaling(logits, labels)
