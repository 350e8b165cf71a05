"""The choice among calibrators: temperature scaling unless another is better by more than one standard error."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    CalibrationError,
    Isotonic,
    TemperatureScaling,
    TopLabelIsotonic,
    VectorScaling,
    choose_calibrator,
    fit_temperature,
    negative_log_likelihood,
)

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]


@pytest.mark.parametrize("seed", range(3))
def test_logits_that_a_temperature_explains_keep_it(sampled: Sampled, seed: int) -> None:
    """More freedom buys nothing there, and is not bought."""
    logits, labels = sampled(n=500, temperature=2.0, seed=seed)
    chosen = choose_calibrator(logits, labels)
    assert chosen.method == "temperature"
    assert chosen.calibrator == TemperatureScaling(fit_temperature(logits, labels))


@pytest.mark.parametrize("seed", range(3))
def test_classes_of_different_sharpness_get_vector_scaling(sampled: Sampled, seed: int) -> None:
    """And it pays on fresh rows too."""
    honest, every = sampled(n=2000, seed=seed)
    logits, labels = honest * [0.5, 1.0, 2.0, 4.0] + [0.0, 2.0, 0.0, -2.0], every
    chosen = choose_calibrator(logits[:500], labels[:500])
    assert chosen.method == "vector scaling"
    assert isinstance(chosen.calibrator, VectorScaling)
    fresh, truth = logits[500:], labels[500:]
    scaled = negative_log_likelihood(fresh, truth, fit_temperature(logits[:500], labels[:500]))
    assert negative_log_likelihood(chosen.calibrator(fresh), truth) < scaled - 0.1


@pytest.mark.parametrize("seed", range(3))
def test_a_confidence_that_no_formula_fits_gets_isotonic_regression(seed: int) -> None:
    """Where the answers that seem half sure are nearly always right, and all others right by half."""
    rng = np.random.default_rng(seed)
    margin, top = rng.uniform(0.5, 8.0, 2000), rng.integers(0, 3, 2000)
    logits = margin[:, None] * (np.arange(3) == top[:, None])
    right = rng.random(2000) < np.where(margin < 2.0, 0.4, 0.95)
    labels = np.where(right, top, (top + rng.integers(1, 3, 2000)) % 3)
    chosen = choose_calibrator(logits, labels)
    assert chosen.method == "isotonic"
    assert isinstance(chosen.calibrator, TopLabelIsotonic)
    assert isinstance(chosen.calibrator.isotonic, Isotonic)


def test_the_choice_follows_from_the_figures(sampled: Sampled) -> None:
    """The largest gain among those above their standard error; gains are differences of the likelihoods."""
    for seed in range(10):
        chosen = choose_calibrator(*sampled(n=60, temperature=1.5, seed=seed), seed=seed)
        temperature, *_ = chosen.candidates
        assert [c.method for c in chosen.candidates] == ["temperature", "vector scaling", "isotonic"]
        assert (temperature.gain, temperature.gain_error, chosen.n, chosen.folds) == (0.0, 0.0, 60, 5)
        for candidate in chosen.candidates:
            assert candidate.gain == pytest.approx(temperature.nll - candidate.nll)
            assert candidate.nll_error > 0
        pays = {c.gain: c.method for c in chosen.candidates if c.gain > c.gain_error}
        assert chosen.method == (pays[max(pays)] if pays else "temperature")


def test_every_row_is_judged_by_a_fit_that_has_not_seen_it(sampled: Sampled) -> None:
    """With as many folds as rows: the temperature's likelihood is the mean over fits that leave one row out."""
    logits, labels = sampled(n=30)
    rows = np.arange(30)
    losses = [
        negative_log_likelihood(
            logits[[i]], labels[[i]], fit_temperature(np.delete(logits, i, axis=0), np.delete(labels, i))
        )
        for i in rows
    ]
    found = choose_calibrator(logits, labels, folds=30).candidates[0]
    assert found.nll == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.nll_error == pytest.approx(np.std(losses, ddof=1) / np.sqrt(30), rel=1e-5)


def test_what_cannot_be_fitted_is_no_candidate(sampled: Sampled) -> None:
    """Vector scaling finds no optimum beside an outlier that leaves the temperature alone, which is then kept."""
    logits, labels = sampled(n=300)
    logits[0, labels[0]] = 1e20
    chosen = choose_calibrator(logits, labels)
    assert chosen.method == "temperature"
    assert [candidate.method for candidate in chosen.candidates] == ["temperature", "isotonic"]


def test_the_same_seed_gives_the_same_figures(sampled: Sampled) -> None:
    """A report can be made again."""
    problem = sampled(n=100)
    first, again, other = (choose_calibrator(*problem, seed=seed).candidates for seed in (1, 1, 2))
    assert first == again != other


RIGHT_BUT_ONE = np.array([[2.0, 0.0]] * 10)


@pytest.mark.parametrize(
    ("logits", "labels", "options", "message"),
    [
        pytest.param(RIGHT_BUT_ONE, [0] * 9 + [1], {}, "^folds: .*labels: ", id="one row wrong"),
        pytest.param(RIGHT_BUT_ONE, [0] * 9 + [1], {"folds": 1}, "^folds: expected 2 to 10.* got 1", id="one fold"),
        pytest.param(RIGHT_BUT_ONE, [0] * 9 + [1], {"folds": 11}, "^folds: .* got 11", id="more folds than rows"),
        pytest.param(RIGHT_BUT_ONE, [0] * 9, {}, r"^labels: .*\[9\]", id="unequal lengths"),
        pytest.param(RIGHT_BUT_ONE, [0] * 10, {}, "right on all", id="none wrong"),
    ],
)
def test_what_leaves_no_choice_is_refused(
    logits: NDArray[np.float64], labels: list[int], options: dict[str, Any], message: str
) -> None:
    """One sentence that names the argument."""
    with pytest.raises(CalibrationError, match=message):
        choose_calibrator(logits, np.array(labels), **options)
