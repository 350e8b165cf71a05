"""The temperature maximises the likelihood, or is refused with the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binom

from edgecascade.calibration import (
    CalibrationError,
    calibrate_temperature,
    fit_temperature,
    negative_log_likelihood,
    softmax,
)
from edgecascade.calibration.scaling.temperature import temperature_interval

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]
Problem = tuple[NDArray[np.float64], NDArray[np.int64]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw logits of any kind, with masked classes, and labels drawn from softmax(z / T) for some T."""
    n, classes = draw(st.integers(1, 20)), draw(st.integers(2, 5))
    numbers = st.floats(-20.0, 20.0, width=32)
    logits = draw(arrays(np.float64, (n, classes), elements=numbers | st.just(-np.inf)))
    logits[:, 0] = draw(arrays(np.float64, n, elements=numbers))
    noise = np.random.default_rng(draw(st.integers(0, 1000))).gumbel(size=logits.shape)
    labels = (logits / draw(st.floats(1.0, 20.0)) + noise).argmax(axis=1)
    # Ten ordinary rows, nine of them right; without them most examples would have no finite T.
    plain = np.zeros((10, classes))
    plain[:, 0] = 4.0
    return np.concatenate([logits, plain]), np.concatenate([labels, [0] * 9 + [1]])


def fit_or_reject(problem: Problem) -> float:
    """Return T, or reject an example without a finite T."""
    try:
        return fit_temperature(*problem)
    except CalibrationError:
        reject()


def oracle(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return T found by scipy's scalar minimiser on scipy's log-softmax."""
    rows = np.arange(len(labels))
    found: Any = minimize_scalar(
        lambda log_t: -log_softmax(logits / np.exp(log_t), axis=1)[rows, labels].sum(),
        bounds=(-5.0, 5.0),
        method="bounded",
        options={"xatol": 1e-12},
    )
    return float(np.exp(found.x))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 3, 50])
def test_the_fit_equals_that_of_scipy(sampled: Sampled, classes: int, seed: int) -> None:
    """A general-purpose minimiser finds the same T."""
    logits, labels = sampled(n=300, classes=classes, temperature=0.5 + seed, seed=seed)
    assert fit_temperature(logits, labels) == pytest.approx(oracle(logits, labels), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_equals_that_of_scikit_learn(sampled: Sampled, seed: int) -> None:
    """The T of scikit-learn's temperature scaling, derived from its probabilities, is the same."""
    pytest.importorskip("sklearn", minversion="1.8")
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class LogitsAsGiven(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
        def fit(self, x: NDArray[Any], y: NDArray[Any]) -> "LogitsAsGiven":  # noqa: ARG002
            self.classes_ = np.unique(y)
            return self

        def decision_function(self, x: NDArray[Any]) -> NDArray[Any]:
            return x

        def predict(self, x: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(x.argmax(axis=1))

    logits, labels = sampled(temperature=0.5 + seed, seed=seed)
    model = FrozenEstimator(LogitsAsGiven().fit(logits, labels))
    theirs = CalibratedClassifierCV(model, method="temperature").fit(logits, labels).predict_proba(logits)
    gaps, log_odds = logits[:, 0] - logits[:, 1], np.log(theirs[:, 0] / theirs[:, 1])
    assert fit_temperature(logits, labels) == pytest.approx(gaps.std() / log_odds.std(), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_fit_recovers_the_temperature_of_the_draw(sampled: Sampled, temperature: float) -> None:
    """With 20,000 rows the estimate is within a few percent of the truth."""
    logits, labels = sampled(n=20_000, temperature=temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


@given(problems())
def test_no_other_temperature_is_better(problem: Problem) -> None:
    """The likelihood has one maximum, so T beats near and far neighbours, including T = 1."""
    best = fit_or_reject(problem)
    others = [1.0, *(best * factor for factor in (0.01, 0.5, 0.99, 1.01, 2.0, 100.0))]
    least = negative_log_likelihood(*problem, best)
    assert all(least <= negative_log_likelihood(*problem, other) * (1 + 1e-12) for other in others)


@given(st.integers(0, 1000), st.floats(0.01, 100.0), st.floats(-1e3, 1e3))
@settings(max_examples=25)
def test_temperature_is_equivariant_to_scale_and_invariant_to_offset(
    sampled: Sampled, seed: int, scale: float, offset: float
) -> None:
    """Logits c z + d, with a different d for every row, have the temperature c T."""
    logits, labels = sampled(n=100, seed=seed)
    offsets = offset * np.arange(len(labels))[:, None]
    assert fit_temperature(scale * logits + offsets, labels) == pytest.approx(
        scale * fit_temperature(logits, labels), rel=1e-6
    )


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e149])
def test_the_scale_of_the_logits_does_not_matter(sampled: Sampled, scale: float) -> None:
    """Neither tiny nor huge logits lose precision."""
    logits, labels = sampled(n=300)
    assert fit_temperature(scale * logits, labels) == pytest.approx(scale * fit_temperature(logits, labels), rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_logits_are_summed_in_float64(sampled: Sampled, dtype: type[np.floating[Any]]) -> None:
    """float16 and float32 logits give T to one part in a million."""
    logits, labels = sampled(n=300)
    narrow = logits.astype(dtype)
    wide = fit_temperature(narrow.astype(np.float64), labels)
    assert fit_temperature(narrow, labels.astype(np.uint8)) == pytest.approx(wide, rel=1e-6)


@pytest.mark.parametrize(
    "mask",
    [
        -np.inf,
        -1e9,
        float(np.finfo(np.float32).min),
        -1e100,
    ],
)
def test_a_masked_class_changes_nothing(sampled: Sampled, mask: float) -> None:
    """A class that is masked in every row, by -inf or by an equivalent number, has no effect."""
    logits, labels = sampled(n=300)
    masked = np.column_stack([logits, np.full(len(labels), mask)])
    assert fit_temperature(masked, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_float32_logits_of_any_size_are_fitted(sampled: Sampled, scale: float) -> None:
    """Their squares exceed the range of float32."""
    logits, labels = sampled(n=300)
    scaled = (scale * logits).astype(np.float32)
    assert fit_temperature(scaled, labels) == pytest.approx(scale * fit_temperature(logits, labels), rel=1e-5)


def test_outlying_rows_do_not_change_the_optimum(sampled: Sampled) -> None:
    """Rows that are right at any T leave the optimum to the other rows."""
    logits, labels = sampled(n=300, temperature=2.0)
    outliers = np.zeros((3, logits.shape[1]))
    outliers[:, 1] = [1e5, 1e10, 1e20]
    found = fit_temperature(np.concatenate([logits, outliers]), np.concatenate([labels, [1, 1, 1]]))
    assert found == pytest.approx(fit_temperature(logits, labels), rel=1e-6)


def test_memory_mapped_logits_give_the_same_number(sampled: Sampled, tmp_path: Path) -> None:
    """Logits in chunks, never all in memory, give the same T."""
    logits, labels = sampled(n=3000, classes=100)
    np.save(tmp_path / "logits.npy", logits)
    assert fit_temperature(np.load(tmp_path / "logits.npy", mmap_mode="r"), labels) == fit_temperature(logits, labels)


ROWS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
NAN, INFINITE, MASKED, HOPELESS = (ROWS.copy() for _ in range(4))
NAN[1, 1], INFINITE[1, 1], MASKED[1, 1], HOPELESS[1] = np.nan, np.inf, -np.inf, -np.inf


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        pytest.param(ROWS[0], np.array([0]), r"^logits: .*\[2\]", id="no batch axis"),
        pytest.param(ROWS[:, :1], np.array([0, 0, 0]), "^logits: .*at least 2 classes", id="one class"),
        pytest.param(ROWS.astype(int), np.array([0, 1, 0]), "^logits: .*int64", id="integer logits"),
        pytest.param(ROWS, np.array([0, 1]), r"^labels: .*\[3\].*\[2\]", id="too few labels"),
        pytest.param(ROWS, np.array([[0], [1], [0]]), r"^labels: .*\[3, 1\]", id="labels as a column"),
        pytest.param(ROWS, np.array([0.0, 1.0, 0.0]), "^labels: .*float64", id="labels that are not integers"),
        pytest.param(ROWS[:0], np.array([], int), "^labels: .*none", id="no rows"),
        pytest.param(ROWS, np.array([0, 1, 2]), "^labels: expected 0 to 1", id="a label too large"),
        pytest.param(ROWS, np.array([0, 1, -1]), "^labels: expected 0 to 1", id="a negative label"),
        pytest.param(NAN, np.array([0, 0, 0]), "^logits: .*NaN", id="NaN"),
        pytest.param(INFINITE, np.array([0, 0, 0]), r"^logits: .*\+inf", id="+inf"),
        pytest.param(HOPELESS, np.array([0, 0, 0]), "^logits: ", id="every class of a row masked"),
        pytest.param(MASKED, np.array([0, 1, 0]), "^logits: the true class", id="truth masked"),
        pytest.param(np.ones((3, 2)), np.array([0, 1, 0]), "^logits: every row is constant", id="constant"),
        pytest.param(ROWS, np.array([1, 0, 1]), "^labels: .*no more than chance", id="always wrong"),
        pytest.param(
            1e200 * ROWS,
            np.array([1, 1, 0]),
            "^logits: expected distances below 1e+150".replace("+", r"\+"),
            id="absurd",
        ),
        pytest.param(ROWS[[0, 0]], np.array([0, 1]), "^labels: .*no more than chance", id="at chance level"),
    ],
)
def test_invalid_arguments_are_refused(logits: NDArray[np.floating], labels: NDArray[np.integer], message: str) -> None:
    """The error names the argument, and no result is returned."""
    with pytest.raises(CalibrationError, match=message):
        fit_temperature(logits, labels)


@given(problems())
def test_the_likelihood_equals_that_of_scipy(problem: Problem) -> None:
    """It is the mean of -log softmax(z / T) at the label."""
    logits, labels = problem
    wanted = -log_softmax(logits / 2.5, axis=1)[np.arange(len(labels)), labels].mean()
    assert negative_log_likelihood(logits, labels, 2.5) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_the_record_shows_the_effect_of_the_temperature(sampled: Sampled) -> None:
    """Overconfident logits improve in both measures, and their accuracy does not change."""
    logits, labels = sampled(temperature=3.0)
    record = calibrate_temperature(logits, labels)
    assert (record.method, record.n) == ("temperature", len(labels))
    assert record.temperature == fit_temperature(logits, labels)
    assert record.accuracy.value == np.mean(logits.argmax(axis=1) == labels)
    assert record.nll_after.value == negative_log_likelihood(logits, labels, record.temperature)
    assert record.nll_after.high < record.nll_before.low
    assert record.ece_after.value < 0.03 < 0.05 < record.ece_before.low
    for estimate in (record.accuracy, record.nll_before, record.nll_after, record.ece_before, record.ece_after):
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.n == len(labels)


def confident(rng: np.random.Generator, n: int, classes: int, margin: float) -> Problem:
    """Draw calibrated logits [n, classes] in which one class is ahead by the margin, and labels from their softmax."""
    logits = rng.normal(0.0, 1.0, (n, classes))
    logits[np.arange(n), rng.integers(0, classes, n)] += margin
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e30])
@pytest.mark.parametrize("classes", [2, 10])
def test_a_model_right_on_all_rows_gets_the_temperature_of_jeffreys_prior(classes: int, scale: float) -> None:
    """A brute-force search over the penalised likelihood of Firth (1993) finds the same T."""
    logits = np.random.default_rng(classes).normal(0.0, 3.0, (100, classes))
    labels = logits.argmax(axis=1)

    def penalised(log_t: float) -> float:
        probabilities = np.exp(log_softmax(logits / np.exp(log_t), axis=1))
        mean = (probabilities * logits).sum(axis=1)
        variance = (probabilities * logits**2).sum(axis=1) - mean**2
        return -float(np.log(probabilities.max(axis=1)).sum() + 0.5 * np.log(variance.sum()))

    grid = np.linspace(-5, 3, 8001)
    wanted = np.exp(grid[np.argmin([penalised(log_t) for log_t in grid])])
    assert fit_temperature(logits * scale, labels) == pytest.approx(wanted * scale, rel=2e-3)


@pytest.mark.parametrize("margin", [0.5, 7.0, 200.0])
def test_the_prior_is_worth_half_an_error(margin: float) -> None:
    """Where all margins are equal, a model that is right on all rows expects to be wrong on half a row."""
    labels = np.random.default_rng(0).integers(0, 10, 500)
    logits = margin * np.eye(10)[labels]
    record = calibrate_temperature(logits, labels)
    assert (1.0 - softmax(logits, record.temperature).max(axis=1)).sum() == pytest.approx(0.5, rel=0.01)
    assert record.bound == "bounded by a prior worth half an error, as all 500 are right"
    assert f"T = {record.temperature:.4f} (0 to " in str(record)
    assert "; bounded by a prior" in str(record)
    wrong = calibrate_temperature(logits, np.append(labels[:-1], (labels[-1] + 1) % 10))
    assert wrong.bound is None
    assert "bounded" not in str(wrong)


def test_ties_and_outlying_rows_do_not_change_a_bounded_temperature(sampled: Sampled) -> None:
    """A row that is almost a tie says nothing about T, and neither does a row of huge logits."""
    logits, _ = sampled(n=300)
    labels = logits.argmax(axis=1)
    odd = np.zeros((5, logits.shape[1]))
    odd[1:, 0] = [1e-9, 1e5, 1e10, 1e20]
    found = fit_temperature(np.concatenate([logits, odd]), np.concatenate([labels, [0] * 5]))
    assert found == pytest.approx(fit_temperature(logits, labels), rel=1e-4)


@pytest.mark.parametrize("margin", [8.5, 10.0, 12.0])
@pytest.mark.parametrize("n", [200, 2000])
def test_good_models_are_calibrated_on_few_errors(n: int, margin: float) -> None:
    """None is refused, and on fresh data the loss is lower than at T = 1, over models from under- to overconfident."""
    rng = np.random.default_rng(n)
    fresh, truth = confident(rng, 20_000, 10, margin)
    best = negative_log_likelihood(fresh, truth)
    losses = []
    for sharpness in (0.3, 0.5, 1.0, 2.0, 3.0) * 4:
        logits, labels = confident(rng, n, 10, margin)
        temperature = fit_temperature(sharpness * logits, labels)
        losses.append([negative_log_likelihood(sharpness * fresh, truth, t) for t in (temperature, 1.0)])
    fitted, as_given = np.mean(losses, axis=0)
    assert fitted - best < 0.2 * (as_given - best)


def overconfident(n: int, rng: np.random.Generator) -> Problem:
    """Draw logits that are 1.5 times what they should be."""
    logits = rng.normal(0.0, 4.0, (n, 4))
    return 1.5 * logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def accurate(n: int, rng: np.random.Generator) -> Problem:
    """Draw a model that is wrong three times in a hundred."""
    logits = rng.normal(0.0, 20.0, (n, 3))
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def heavy_tailed(n: int, rng: np.random.Generator) -> Problem:
    """Draw errors that no temperature describes: they are rarer than a softmax says, and larger."""
    logits = rng.normal(0.0, 6.0, (n, 6))
    return logits, (logits + 1.5 * rng.standard_t(3, size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("draw", [overconfident, accurate, heavy_tailed])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_interval_of_a_temperature_covers_that_of_the_population(
    draw: Callable[[int, np.random.Generator], Problem], weighted: bool
) -> None:
    """It holds for models that no temperature makes right, and with weights that undo a selection."""
    logits, labels = draw(200_000, np.random.default_rng(1000))
    truth, held = fit_temperature(logits, labels), 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        logits, labels = draw(300, rng)
        weight = None
        if weighted:
            chance = np.where(logits.argmax(axis=1) == labels, 0.7, 0.9)
            kept = rng.random(300) < chance
            logits, labels, weight = logits[kept], labels[kept], 1 / chance[kept]
        low, high = temperature_interval(logits, labels, fit_temperature(logits, labels, weight), weight)
        held += low <= truth <= high
    assert binom.cdf(held, 150, 0.95) > 0.001


def mislabelled(n: int, rng: np.random.Generator) -> Problem:
    """Draw a right model whose labels are replaced by any class in two inputs of a hundred, which decide about T."""
    logits = rng.normal(0.0, 1.0, (n, 10)) * 6.0 * rng.lognormal(0.0, 0.4, (n, 1))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits, np.where(rng.random(n) < 0.02, rng.integers(0, 10, n), labels)


def test_the_interval_of_a_temperature_allows_for_few_wrong_labels() -> None:
    """Of 200 inputs about four are mislabelled; with one or two of these, T and its variance are both too small."""
    truth, held = fit_temperature(*mislabelled(200_000, np.random.default_rng(1000))), 0
    for seed in range(500):
        logits, labels = mislabelled(200, np.random.default_rng(seed))
        low, high = temperature_interval(logits, labels, fit_temperature(logits, labels))
        held += low <= truth <= high
    assert held >= 0.94 * 500


def test_a_model_that_was_never_wrong_may_have_any_lower_temperature() -> None:
    """The lower end is 0, and the upper one is above the bounded T and finite."""
    logits = np.random.default_rng(0).normal(0.0, 3.0, (100, 4))
    found = calibrate_temperature(logits, logits.argmax(axis=1))
    assert found.temperature_interval is not None
    low, high = found.temperature_interval
    assert low == 0.0 < found.temperature < high < np.inf
    assert f"({low:.4g} to {high:.4g}; bounded" in str(found)


def test_a_model_that_is_nearly_always_right_has_a_temperature_without_overflow() -> None:
    """One error in fifty thousand rows makes the first strides of the fit very long."""
    labels = np.random.default_rng(0).integers(0, 3, 50_000)
    logits = 30 * np.eye(3, dtype=np.float32)[labels]
    labels[0] = (labels[0] + 1) % 3
    assert 30 / fit_temperature(logits, labels) == pytest.approx(np.log(2 * 49_999), rel=1e-3)
