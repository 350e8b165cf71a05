"""T and the share of wrong labels maximise the likelihood, their intervals cover, and T is that of the right labels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from edgecascade.calibration import (
    CalibrationError,
    LabelNoise,
    MostAccuracy,
    calibrate_confidence,
    calibrate_temperature,
    expected_calibration_error,
    fit_temperature,
    fit_temperature_and_noise,
    plan_cascade,
    softmax,
)
from edgecascade.calibration.commands.evaluate import evaluate_held_out
from edgecascade.calibration.commands.outputs import SavedOutputs, SavedScores
from edgecascade.cli import main
from edgecascade.types.softmax import Recognised

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def draw(n: int, classes: int, scale: float, rho: float, seed: int) -> tuple[Floats, Labels, Labels]:
    """Draw logits that T = 1.5 calibrates, true labels, and labels of which a share rho is drawn anew at random."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0.0, scale, (n, classes))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    anew = rng.random(n) < rho
    return 1.5 * honest, labels, np.where(anew, rng.integers(0, classes, n), labels)


def wrong(labels: Labels, classes: int, count: int, seed: int = 0) -> Labels:
    """Give so many labels another class at random."""
    rng = np.random.default_rng(seed)
    rows, found = rng.permutation(len(labels))[:count], labels.copy()
    found[rows] = (found[rows] + rng.integers(1, classes, count)) % classes
    return found


def loss(logits: Floats, labels: Labels, temperature: float, rho: float, weight: Floats | None = None) -> float:
    """Return the mean negative log-likelihood by scipy's log-softmax."""
    p = np.exp(log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels])
    even = 1 / np.isfinite(logits).sum(axis=1)
    return float(np.average(-np.log((1 - rho) * p + rho * even), weights=weight))


def oracle(logits: Floats, labels: Labels, weight: Floats | None = None) -> tuple[float, float]:
    """Return T and rho found by a general-purpose minimiser from several starts."""
    found: Any = min(
        (
            minimize(
                lambda at: loss(logits, labels, float(np.exp(at[0])), at[1], weight),
                (start, rho),
                method="L-BFGS-B",
                bounds=((-4, 4), (1e-9, 0.99)),
                options={"ftol": 1e-15, "gtol": 1e-10},
            )
            for start in (-1.0, 0.4, 1.0)
            for rho in (0.01, 0.2)
        ),
        key=lambda one: float(one.fun),
    )
    return float(np.exp(found.x[0])), float(found.x[1])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("classes", "scale"), [(2, 4.0), (3, 2.0), (30, 5.0)])
def test_the_fit_equals_that_of_scipy(classes: int, scale: float, weighted: bool) -> None:
    """A general-purpose minimiser finds the same T and rho."""
    logits, _, labels = draw(600, classes, scale, 0.15, seed=classes)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, 600) if weighted else None
    found = fit_temperature_and_noise(logits, labels, weight)
    temperature, rho = oracle(logits, labels, weight)
    assert found.temperature == pytest.approx(temperature, rel=1e-3)
    assert found.rho.value == pytest.approx(rho, rel=1e-3)
    assert loss(logits, labels, found.temperature, found.rho.value, weight) <= loss(
        logits, labels, temperature, rho, weight
    ) * (1 + 1e-9)
    assert found.wrong.value == pytest.approx(rho * (1 - 1 / classes), rel=1e-3)
    assert found.without == fit_temperature(logits, labels, weight)


def test_the_interval_is_that_of_the_likelihood_ratio() -> None:
    """At its lower end, the best T is worse by half the quantile of chi squared; the upper end is a little further."""
    logits, _, labels = draw(500, 4, 3.0, 0.1, seed=1)
    found = fit_temperature_and_noise(logits, labels)

    def best(rho: float) -> float:
        return 500 * min(loss(logits, labels, float(np.exp(at)), rho) for at in np.linspace(-0.5, 1.5, 2001))

    lowest = best(found.rho.value)
    assert best(found.rho.low) - lowest == pytest.approx(1.92, abs=0.03)
    assert 1.92 < best(found.rho.high) - lowest < 2.5


@pytest.mark.parametrize(
    ("n", "classes", "scale", "rho"),
    [
        (300, 10, 4.0, 0.0),
        (300, 10, 4.0, 0.01),
        (1000, 10, 6.0, 0.002),
        (300, 10, 4.0, 0.1),
        (500, 2, 4.0, 0.0),
        (500, 2, 4.0, 0.1),
    ],
)
def test_the_intervals_cover(n: int, classes: int, scale: float, rho: float) -> None:
    """They have the truth in 93.5 % of the draws or more; where all labels are right, few intervals exclude 0."""
    found = []
    for seed in range(200):
        logits, _, labels = draw(n, classes, scale, rho, seed)
        found.append(fit_temperature_and_noise(logits.astype(np.float32), labels))
    assert sum(one.rho.low <= rho <= one.rho.high for one in found) >= 0.935 * 200
    assert all(one.rho.low <= one.rho.value <= one.rho.high for one in found)
    if rho == 0:
        assert sum(one.shown for one in found) <= 0.05 * 200
    if rho == 0.1:
        ends = [one.temperature_interval for one in found if one.shown]
        assert len(ends) > 150
        assert sum(low <= 1.5 <= high for low, high in ends) >= 0.935 * len(ends)


@pytest.mark.parametrize("seed", range(5))
def test_five_percent_of_wrong_labels_cost_no_calibration(seed: int) -> None:
    """On true labels, the ECE is within .005 of that of clean calibration data; without rho it is far from it."""
    logits, truth, _ = draw(22_000, 10, 3.0, 0.0, seed)
    fit, test = slice(2000), slice(2000, None)
    dirty = wrong(truth[fit], 10, 100, seed)
    found = fit_temperature_and_noise(logits[fit], dirty)

    def ece(temperature: float) -> float:
        p = softmax(logits[test], temperature)
        return expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == truth[test])

    assert found.shown
    assert found.wrong.low < 0.05 < found.wrong.high
    clean = ece(fit_temperature(logits[fit], truth[fit]))
    assert abs(ece(found.temperature) - clean) < 0.005
    assert ece(found.without) - clean > 0.03


def test_without_wrong_labels_the_temperature_is_unchanged() -> None:
    """Rho is 0 or not told from 0, and the calibration is the plain one, bit for bit."""
    changed = 0
    for seed in range(40):
        logits, truth, _ = draw(1000, 10, 3.0, 0.0, seed)
        found = calibrate_confidence(logits, truth, calibrator="temperature", label_noise=True)
        changed += found.temperature != fit_temperature(logits, truth)
    assert changed <= 4


def test_confused_pairs_of_classes_are_allowed_for_in_part() -> None:
    """Where wrong labels are those of a similar class, fewer look wrong than are, and T is between the two."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0.0, 2.0, (6000, 10)) + np.repeat(rng.normal(0.0, 3.0, (6000, 5)), 2, axis=1)
    truth = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    flipped = rng.random(6000) < 0.05
    found = fit_temperature_and_noise(honest, np.where(flipped, truth ^ 1, truth))
    assert 0 < found.wrong.high < 0.05
    assert fit_temperature(honest, truth) < found.temperature < found.without


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30, 1e149])
def test_the_scale_of_the_logits_does_not_matter(scale: float) -> None:
    """Neither tiny nor huge logits lose precision."""
    logits, _, labels = draw(300, 4, 3.0, 0.1, seed=0)
    wide, found = fit_temperature_and_noise(logits, labels), fit_temperature_and_noise(scale * logits, labels)
    assert found.temperature == pytest.approx(scale * wide.temperature, rel=1e-6)
    assert (found.rho.value, found.rho.low, found.rho.high) == pytest.approx(
        (wide.rho.value, wide.rho.low, wide.rho.high), rel=1e-4
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_and_mapped_logits_give_the_same(dtype: type[np.floating[Any]], tmp_path: Path) -> None:
    """float16, float32 and memory-mapped logits are fitted as float64 ones are."""
    logits, _, labels = draw(5000, 40, 3.0, 0.1, seed=0)
    np.save(tmp_path / "logits.npy", logits.astype(dtype))
    narrow = np.load(tmp_path / "logits.npy", mmap_mode="r")
    wide = fit_temperature_and_noise(narrow.astype(np.float64), labels)
    found = fit_temperature_and_noise(narrow, labels.astype(np.uint8))
    assert found.temperature == pytest.approx(wide.temperature, rel=1e-5)
    assert found.rho.value == pytest.approx(wide.rho.value, rel=1e-5)


def test_a_fit_of_many_rows_starts_from_some_of_them() -> None:
    """The start from one row in four or more does not show in the result."""
    logits, _, labels = draw(40_000, 5, 3.0, 0.1, seed=0)
    found = fit_temperature_and_noise(logits.astype(np.float32), labels)
    few = loss(logits, labels, found.temperature, found.rho.value)
    for temperature, rho in ((1.001, 1.0), (0.999, 1.0), (1.0, 1.01), (1.0, 0.99)):
        assert few < loss(logits, labels, temperature * found.temperature, rho * found.rho.value)


def test_masked_classes_are_not_among_those_drawn_at_random() -> None:
    """A class that is -inf in a row has no share of that row's wrong labels."""
    logits, _, labels = draw(500, 4, 3.0, 0.1, seed=0)
    plain = fit_temperature_and_noise(logits, labels)
    masked = fit_temperature_and_noise(np.column_stack([logits, np.full(500, -np.inf)]), labels)
    assert masked.temperature == pytest.approx(plain.temperature, rel=1e-9)
    assert masked.wrong.value == pytest.approx(plain.wrong.value, rel=1e-9)
    other = np.where(np.arange(4) == (labels[:, None] + 1) % 4, -np.inf, logits)
    other[::2] = logits[::2]
    found = fit_temperature_and_noise(other, labels)
    temperature, rho = oracle(other, labels)
    assert found.temperature == pytest.approx(temperature, rel=1e-3)
    assert found.wrong.value == pytest.approx(rho * (0.75 + 2 / 3) / 2, rel=1e-3)


def test_weights_count_as_repetitions_in_the_fit() -> None:
    """A row of weight 3 moves T and rho as three rows do; the interval is wider than that of as many rows."""
    logits, _, labels = draw(400, 4, 3.0, 0.3, seed=0)
    times = np.random.default_rng(0).integers(1, 4, 400)
    rows = np.repeat(np.arange(400), times)
    weighted = fit_temperature_and_noise(logits, labels, times)
    repeated = fit_temperature_and_noise(logits[rows], labels[rows])
    assert weighted.temperature == pytest.approx(repeated.temperature, rel=1e-5)
    assert weighted.rho.value == pytest.approx(repeated.rho.value, rel=1e-5)
    assert weighted.rho.low < repeated.rho.low < repeated.rho.high < weighted.rho.high


def test_a_model_that_only_wrong_labels_contradict_has_a_bounded_temperature() -> None:
    """Every smaller T is likelier, as without noise; T is then about that of the right labels alone."""
    logits = np.random.default_rng(0).normal(0.0, 3.0, (1000, 5))
    truth = logits.argmax(axis=1)
    found = fit_temperature_and_noise(logits, wrong(truth, 5, 50))
    assert found.bound is not None
    assert found.temperature == pytest.approx(fit_temperature(logits, truth), rel=0.1)
    assert found.temperature_interval[0] == 0.0 < found.temperature_interval[1] < 0.1
    assert found.wrong.low < 0.05 < found.wrong.high
    used = calibrate_confidence(logits, wrong(truth, 5, 50), label_noise=True)
    assert used.bound == found.bound


@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.integers(2, 5),
    st.sampled_from([0.1, 1.0, 5.0, 50.0]),
    st.floats(0, 1),
)
@settings(max_examples=60)
def test_any_data_that_have_a_temperature_have_an_estimate(
    seed: int, n: int, classes: int, scale: float, rho: float
) -> None:
    """Few, tied or hopeless rows give finite numbers in order, or the error of `fit_temperature`."""
    logits, _, labels = draw(n, classes, scale, rho, seed)
    logits = np.round(logits, seed % 3)
    try:
        without = fit_temperature(logits, labels)
    except CalibrationError:
        reject()
    found = fit_temperature_and_noise(logits, labels)
    assert found.without == without
    assert 0 <= found.rho.low <= found.rho.value <= found.rho.high <= 1
    assert 0 < found.temperature < np.inf
    assert found.temperature_interval[0] <= found.temperature <= found.temperature_interval[1] < np.inf


def test_the_calibration_uses_the_temperature_when_asked() -> None:
    """Figures are those on the labels as given, no map is fitted, and what was found is recorded either way."""
    logits, truth, labels = draw(4000, 10, 3.0, 0.1, seed=0)
    plain = calibrate_confidence(logits, labels, calibrator="temperature")
    found = calibrate_confidence(logits, labels, label_noise=True)
    assert plain.label_noise is not None
    assert found.label_noise is not None
    assert (plain.temperature, plain.label_noise.used) == (plain.label_noise.without, False)
    assert (found.temperature, found.label_noise.used) == (plain.label_noise.temperature, True)
    assert found.temperature_interval == plain.label_noise.temperature_interval
    assert found.confidence_map is None
    assert found.accuracy == plain.accuracy
    assert found.nll_after.value > plain.nll_after.value
    understated = float(np.mean(logits.argmax(axis=1) == truth)) - found.accuracy.value
    assert found.ece_after.value == pytest.approx(understated, abs=0.02)
    assert 0.05 < understated < found.label_noise.rho.value
    with pytest.raises(CalibrationError, match=r"^calibrator: expected auto or temperature with label noise, got map"):
        calibrate_confidence(logits, labels, calibrator="map", label_noise=True)
    assert calibrate_temperature(logits, labels).label_noise is None


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Return saved outputs of two models of which 8 % of the labels are wrong."""
    remote, labels, _ = draw(1500, 5, 3.0, 0.0, seed=0)
    local = remote + np.random.default_rng(1).normal(0.0, 3.0, remote.shape)
    np.savez(tmp_path / "outputs.npz", local=local, remote=remote, labels=wrong(labels, 5, 120))
    return tmp_path / "outputs.npz"


def test_a_plan_says_so_and_uses_it_when_asked(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is one line under each model that finds wrong labels, and none where there are none."""
    assert main(["plan", str(outputs), "--offload-rate", "0.2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[:3]] == ["local", "about", "remote"]
    with np.load(outputs) as arrays:
        plan = plan_cascade(arrays["local"], arrays["remote"], arrays["labels"], MostAccuracy(0.2))
    noise = plan.remote.label_noise
    assert noise is not None
    assert shown[3].strip() == str(noise)
    assert noise.wrong.low < 0.08 < noise.wrong.high
    assert main(["plan", str(outputs), "--offload-rate", "0.2", "--label-noise", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["remote"]["temperature"] == found["remote"]["label_noise"]["temperature"] == noise.temperature
    assert found["remote"]["label_noise"]["used"] is True
    assert found["remote"]["accuracy"]["value"] == plan.remote.accuracy.value
    logits, labels, _ = draw(1500, 5, 3.0, 0.0, seed=0)
    assert "look wrong" not in str(plan_cascade(logits, logits, labels, MostAccuracy(0.2)))


def test_an_evaluation_says_so_and_uses_it_when_asked(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The share is that of the inputs of the fit; scores have no classes that it could be fitted to."""
    assert main(["evaluate", str(outputs), "--array", "remote", "--label-noise"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    with np.load(outputs) as arrays:
        saved = SavedOutputs(arrays["remote"], arrays["labels"], Recognised("logits"))
    found = evaluate_held_out(saved, label_noise=True)
    assert isinstance(found.label_noise, LabelNoise)
    assert found.label_noise.used
    assert first == f"temperature: temperature {found.label_noise.temperature:.4g}; fitted on 750 inputs"
    assert second == str(found.label_noise)
    assert found.to_dict()["label_noise"]["wrong"]["n"] == 750
    score = np.random.default_rng(0).normal(size=100)
    with pytest.raises(CalibrationError, match=r"^label_noise: expected outputs of classes with it, got scores$"):
        evaluate_held_out(SavedScores(score, score > 0), label_noise=True)
