"""A map is chosen where no temperature can make the confidence right, and hardly ever where one can."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.calibration import (
    AdvantageTable,
    CalibrationError,
    ConfidenceMap,
    DecisionRule,
    MostAccuracy,
    calibrate_confidence,
    calibrate_temperature,
    calibration_error,
    choose_calibrator,
    decide,
    fit_isotonic,
    fit_platt,
    negative_log_likelihood,
    plan_cascade,
    reliability,
    softmax,
)
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.errors import ArgumentError

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]


def honest(n: int, classes: int, scale: float, seed: int) -> Labelled:
    """Draw logits that a temperature of 2 calibrates perfectly."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (n, classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return (2 * logits).astype(np.float32), labels


def bent(n: int, seed: int) -> Labelled:
    """Draw logits of 100 classes whose largest probability p is right with probability .2 + .7 p^1.2."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 7, (n, 100)).astype(np.float32)
    top, p = logits.argmax(axis=1), softmax(logits).max(axis=1)
    others = np.where(np.arange(100) == top[:, None], -np.inf, logits)
    other = (others + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits, np.where(rng.random(n) < 0.2 + 0.7 * p**1.2, top, other)


def right(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return whether the largest logit is that of the label."""
    return np.asarray(logits.argmax(axis=1) == labels)


def error(confidence: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Return the ECE from the true probabilities of being right, which has no sampling error of answers."""
    table = reliability(confidence, truth)
    return float(np.nansum(table.count * np.abs(table.confidence - table.accuracy)) / table.count.sum())


@pytest.mark.parametrize("seed", range(3))
def test_a_map_mends_what_no_temperature_can(seed: int) -> None:
    """On new inputs the ECE falls from above .045, at the best temperature, to below .02."""
    found, logits = calibrate_confidence(*bent(5000, seed)), bent(10_000, 1000 + seed)[0]
    truth = 0.2 + 0.7 * softmax(logits).max(axis=1) ** 1.2
    assert found.method == "temperature + map"
    assert found.confidence_map is not None
    assert len(found.confidence_map.knots) <= 16
    best = min(error(softmax(logits, t).max(axis=1), truth) for t in np.geomspace(0.8, 2.0, 9))
    assert best > 0.045
    assert error(found.confidence_map(softmax(logits, found.temperature).max(axis=1)), truth) < 0.02
    assert found.ece_after.value < 0.02 < found.ece_before.value


def test_the_temperature_stays_where_it_is_right() -> None:
    """With truly calibrated models a map is chosen in few draws, and costs next to nothing there."""
    maps, costs = [], []
    for classes, scale in ((10, 2.0), (3, 6.0), (10, 8.0), (2, 1.0)):
        for seed in range(12):
            logits, labels = honest(600, classes, scale, seed)
            temperature = 2.0 if seed % 2 else calibrate_temperature(logits, labels).temperature
            probability = softmax(logits, temperature).max(axis=1)
            chosen = choose_calibrator(probability, right(logits, labels), probabilities=True, seed=seed)
            maps.append(chosen.method != "unchanged")
            if maps[-1]:
                fresh, truth = honest(20_000, classes, scale, 1000 + seed)
                plain, correct = softmax(fresh, temperature).max(axis=1).astype(float), right(fresh, truth)
                assert isinstance(chosen.calibrator, ConfidenceMap)
                losses = [-np.log(np.where(correct, q, 1 - q)).mean() for q in (chosen.calibrator(plain), plain)]
                costs.append(losses[0] - losses[1])
    assert np.mean(maps) <= 0.1
    assert np.sum(costs) / len(maps) < 0.001


def test_the_figures_with_a_map_are_out_of_fold() -> None:
    """NLL and ECE after calibration are those of maps that have not seen the input."""
    logits, labels = bent(1500, 0)
    found, plain = calibrate_confidence(logits, labels, seed=3), calibrate_temperature(logits, labels)
    assert found.temperature == plain.temperature
    assert (found.accuracy, found.nll_before, found.ece_before) == (plain.accuracy, plain.nll_before, plain.ece_before)
    probability, correct = softmax(logits, plain.temperature).max(axis=1), right(logits, labels)
    chosen = choose_calibrator(probability, correct, probabilities=True, seed=3)
    assert found.confidence_map == chosen.calibrator
    assert found.ece_after == calibration_error(chosen.held_out, correct)
    gain = [np.log(np.where(correct, q, 1 - q)).mean() for q in (chosen.held_out, probability.astype(float))]
    nll = negative_log_likelihood(logits, labels, plain.temperature) + gain[1] - gain[0]
    assert found.nll_after.value == pytest.approx(nll, abs=1e-6)
    assert found.nll_after.value < plain.nll_after.value


def test_a_temperature_alone_can_be_asked_for() -> None:
    """It equals `calibrate_temperature`, and so does the automatic choice where the temperature is right."""
    for data, calibrator in ((bent(1000, 0), "temperature"), (honest(1000, 10, 2.0, 0), "auto")):
        found = calibrate_confidence(*data, calibrator=calibrator)
        assert replace(found, label_noise=None) == calibrate_temperature(*data)


def test_a_map_can_be_asked_for_and_needs_answers_of_both_kinds() -> None:
    """Few wrong answers cannot show a map: the automatic choice is then the temperature."""
    logits, labels = honest(1000, 10, 2.0, 0)
    assert calibrate_confidence(logits, labels, calibrator="map").confidence_map is not None
    wrong = np.flatnonzero(~right(logits, labels))[9:]
    few, said = np.delete(logits, wrong, axis=0), np.delete(labels, wrong)
    assert calibrate_confidence(few, said).confidence_map is None
    with pytest.raises(CalibrationError, match=r"^calibrator: expected 10 right and 10 wrong answers, got 9$"):
        calibrate_confidence(few, said, calibrator="map")
    with pytest.raises(CalibrationError, match=r"^calibrator: expected one of auto, temperature, map, got 'isotonic'$"):
        calibrate_confidence(logits, labels, calibrator="isotonic")


def test_with_costs_the_map_is_that_of_the_answers_given() -> None:
    """The label of least expected cost is seldom the most probable one, and its probability is what is mapped."""
    logits, labels = bent(3000, 0)
    costs = ErrorCosts(np.where(np.arange(100) < 50, 5.0, 1.0).tolist())
    found = calibrate_confidence(logits, labels, costs=costs, calibrator="map")
    probabilities = softmax(logits, found.temperature)
    answers = costs.labels(probabilities)
    assert found.confidence_map is not None
    mapped = found.confidence_map(np.take_along_axis(probabilities, answers[:, None], axis=1)[:, 0])
    assert abs(mapped.mean() - np.mean(answers == labels)) < 0.005


@given(st.integers(0, 300), st.integers(20, 200), st.floats(0.1, 8.0))
def test_every_map_rises_within_bounds_and_gently(seed: int, n: int, sharpness: float) -> None:
    """Maps of any confidences, with ties, have at most 16 knots, values inside (0, 1), and no slope above 64."""
    rng = np.random.default_rng(seed)
    probability = np.round(1 - rng.random(n) ** sharpness * 0.9, rng.integers(1, 8)).astype(np.float32)
    correct = rng.random(n) < rng.random()
    for method in ("platt", "isotonic"):
        chosen = choose_calibrator(probability, correct, probabilities=True, methods=(method,), folds=2)
        found = chosen.calibrator
        assert isinstance(found, ConfidenceMap)
        assert 1 <= len(found.knots) <= 16
        assert 0 < found.values[0] <= found.values[-1] < 1
        assert np.max(np.diff(found.values) / np.diff(found.knots), initial=0.0) <= 64.001
        here = np.sort(np.concatenate([probability, np.nextafter(probability, np.float32(0))]))
        assert (np.diff(found(here).astype(np.float32)) >= 0).all()


def test_weights_stand_for_other_frequencies() -> None:
    """Where most wrong answers were left out, weights restore the probabilities; the scale of weights is irrelevant."""
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.3, 1.0, 20_000)
    correct = rng.random(20_000) < probability
    kept = correct | (rng.random(20_000) < 0.25)
    weight = np.where(correct, 1.0, 4.0)[kept]
    at = np.linspace(0.35, 0.95, 13)
    for fit in (lambda *data: fit_platt(np.log(data[0] / (1 - data[0])), *data[1:]), fit_isotonic):
        where = at if fit is fit_isotonic else np.log(at / (1 - at))
        weighted = fit(probability[kept], correct[kept], weight)
        assert np.abs(weighted(where) - at).max() < 0.08
        assert np.abs(fit(probability[kept], correct[kept])(where) - at).max() > 0.2
        np.testing.assert_allclose(fit(probability[kept], correct[kept], 7 * weight)(where), weighted(where), atol=1e-9)
    chosen = choose_calibrator(probability[kept], correct[kept], weight, probabilities=True)
    assert chosen.method == "unchanged"
    assert choose_calibrator(probability[kept], correct[kept], probabilities=True).method != "unchanged"


def test_a_plan_decides_alike_with_and_without_maps() -> None:
    """Only the merge rule `confident` compares confidences; scores, tables and thresholds of the others are equal."""
    local, labels = bent(3000, 0)
    remote = local + 3 * (np.arange(100) == labels[:, None]).astype(np.float32)
    for merge in ("replace", "average"):
        mapped, plain = (
            plan_cascade(local, remote, labels, MostAccuracy(0.2), merges=(merge,), calibrator=calibrator)
            for calibrator in ("map", "temperature")
        )
        assert mapped.local.confidence_map is not None
        assert mapped.remote.confidence_map is not None
        assert mapped.rule.confidence_map == mapped.local.confidence_map
        assert asdict(mapped.record) == asdict(plain.record)
        assert str(mapped.local).count("and a map of") == 1


@pytest.mark.parametrize(
    ("knots", "values", "message"),
    [
        ((), (), "^values: expected one per knot, and at least one, got 0 and 0 knots"),
        ((0.1, 0.2), (0.5,), "^values: .* got 1 and 2 knots"),
        ((0.2, 0.2), (0.5, 0.6), "^knots: expected ascending"),
        ((0.2, np.nan), (0.5, 0.6), "^knots: expected ascending"),
        ((0.2, 0.3), (0.6, 0.5), "^values: expected numbers in"),
        ((0.2, 0.3), (0.0, 0.5), "^values: expected numbers in"),
        ((0.2, 0.3), (0.1, 1.5), "^values: expected numbers in"),
        ((0.2, 0.3), (0.1, np.nan), "^values: expected numbers in"),
    ],
)
def test_an_invalid_map_is_refused(knots: tuple[float, ...], values: tuple[float, ...], message: str) -> None:
    """The error names the argument."""
    with pytest.raises(ArgumentError, match=message):
        ConfidenceMap(knots, values)
    with pytest.raises(ArgumentError, match=message):
        replace(ConfidenceMap((0.5,), (0.5,)), knots=knots, values=values)


@pytest.mark.parametrize("found", [ConfidenceMap((0.5,), (0.7,)), ConfidenceMap((0.2, 0.9), (0.3, 0.7))])
def test_nan_stays_nan_and_is_forwarded(found: ConfidenceMap) -> None:
    """A map of a single knot, which is fitted where scores say nothing, does not hide a NaN either."""
    np.testing.assert_array_equal(found(np.array([np.nan, 0.1, 1.0])), [np.nan, found.values[0], found.values[-1]])
    table = AdvantageTable(np.array([0.5], np.float32), np.array([0.1, 0.2], np.float32), np.array([10, 10]))
    decision = decide(np.array([[np.nan, 0.0], [3.0, 0.0]]), DecisionRule(1.0, table, 0.0, confidence_map=found))
    assert decision.forward.tolist() == [True, False]
