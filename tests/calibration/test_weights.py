"""Weights count inputs as often as they say, equal ones change nothing, and a prior moves figures to its population."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    CalibrationError,
    CertifiedLoss,
    LeastOffload,
    MostAccuracy,
    Objective,
    advantage_table,
    class_weights,
    decide,
    effective_size,
    evaluate,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    merged_labels,
    operating_points,
    plan_cascade,
    softmax,
)
from edgecascade.calibration import negative_log_likelihood as nll
from edgecascade.calibration.certificate import betting_p_value
from edgecascade.calibration.weights import normalised, scaled_losses

Draw = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]


def whole(n: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw weights from 1 to 4."""
    return np.random.default_rng(seed).integers(1, 5, n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_weights_equal_repeated_rows(sampled: Draw, dtype: type) -> None:
    """Temperature and likelihood are those of each row written as often as its weight says."""
    logits, labels = sampled(n=9000, temperature=2.0)
    logits, weight = logits.astype(dtype), whole(9000)
    rows = np.repeat(np.arange(9000), weight)
    weighted = fit_temperature(logits, labels, weight)
    assert weighted == pytest.approx(fit_temperature(logits[rows], labels[rows]), rel=1e-6)
    assert weighted != pytest.approx(fit_temperature(logits, labels), rel=1e-4)
    assert nll(logits, labels, 2.0, weight) == pytest.approx(nll(logits[rows], labels[rows], 2.0), rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.3, 1e300])
def test_equal_weights_change_nothing(sampled: Draw, scale: float) -> None:
    """Equal weights on any scale give the same bits as none."""
    logits, labels = sampled(temperature=2.0)
    weight = np.full(len(labels), scale)
    assert normalised(weight, len(labels)) is None
    assert fit_temperature(logits, labels, weight) == fit_temperature(logits, labels)
    assert nll(logits, labels, 2.0, weight) == nll(logits, labels, 2.0)


def test_weights_have_a_mean_of_one_on_any_scale() -> None:
    """Neither huge nor tiny weights overflow."""
    for scale in (1e-300, 1.0, 1e300):
        found = normalised(np.array([1.0, 3.0, 5.0]) * scale, 3)
        assert found is not None
        np.testing.assert_allclose(found, [1 / 3, 1.0, 5 / 3], rtol=1e-12)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, 2.0], r"^weight: expected numbers \[3\], one per input, got float64 \[2\]"),
        (["a", "b", "c"], r"^weight: expected numbers \[3\], one per input, got text \[3\]"),
        ([1.0, 0.0, 2.0], r"^weight: expected finite numbers above 0, got 0.0 in row 1"),
        ([1.0, 1.0, -2.0], r"^weight: expected finite numbers above 0, got -2.0 in row 2"),
        ([1.0, np.nan, 2.0], r"^weight: expected finite numbers above 0, got nan in row 1"),
        ([np.inf, 1.0, 2.0], r"^weight: expected finite numbers above 0, got inf in row 0"),
    ],
)
def test_other_weights_are_refused(weight: object, message: str) -> None:
    """The error names the row."""
    with pytest.raises(CalibrationError, match=message):
        normalised(weight, 3)  # type: ignore[arg-type]


def test_the_effective_size_predicts_the_variance_of_a_weighted_mean() -> None:
    """With weights that are independent of the values, the variance is that of so many equal inputs."""
    rng = np.random.default_rng(0)
    weight = normalised(rng.gamma(1.0, 1.0, 400) + 0.1, 400)
    assert weight is not None
    means = rng.normal(size=(4000, 400)) @ weight / 400
    assert 1 / means.var() == pytest.approx(effective_size(weight, 400), rel=0.1)
    assert effective_size(None, 400) == 400


def test_a_prior_moves_figures_to_its_population() -> None:
    """Balanced data, weighted for a class of 3 %, gives the temperature and likelihood of such a population."""
    rng = np.random.default_rng(0)

    def draw(n: int, rare: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        labels = (rng.random(n) < rare).astype(np.int64)
        right = np.where(labels == 1, 0.5, 3.0)  # the rare class is hard
        margin = rng.normal(right, 1.0) * np.where(labels == 1, 1, -1)
        return np.column_stack([-margin, margin]), labels

    logits, labels = draw(100_000, 0.5)
    weight = class_weights(labels, [0.97, 0.03])
    assert weight is not None
    assert np.average(labels, weights=weight) == pytest.approx(0.03)
    field = draw(100_000, 0.03)
    assert fit_temperature(logits, labels, weight) == pytest.approx(fit_temperature(*field), rel=0.03)
    assert nll(logits, labels, 1.0, weight) == pytest.approx(nll(*field), rel=0.03)
    assert abs(fit_temperature(logits, labels) / fit_temperature(*field) - 1) > 0.15


def test_a_prior_multiplies_the_weights_that_there_are() -> None:
    """The class shares are those of the prior under both weights together."""
    labels = np.array([0, 0, 1, 1, 1, 2])
    weight = class_weights(labels, [2, 1, 1], [1.0, 3.0, 2.0, 2.0, 4.0, 1.0])
    assert weight is not None
    np.testing.assert_allclose(np.bincount(labels, weight) / 6, [0.5, 0.25, 0.25])
    assert weight[1] / weight[0] == pytest.approx(3.0)
    assert class_weights(labels, [2, 3, 1]) is None


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([0.5], r"^prior: expected one frequency per class, and the labels reach 1, got 1"),
        ([0.5, -0.5], r"^prior: expected one frequency of 0 or more per class"),
        ([0.0, 0.0], r"^prior: expected one frequency of 0 or more per class"),
        ([0.5, np.nan], r"^prior: expected one frequency of 0 or more per class"),
        ([0.5, 0.4, 0.1], r"^prior: expected labelled inputs of class wolf, whose frequency is 0.1, got none"),
        ([1.0, 0.0], r"^prior: expected a frequency above 0 for class dog, which has labelled inputs, got 0"),
    ],
)
def test_other_priors_are_refused(prior: list[float], message: str) -> None:
    """The error names the class."""
    with pytest.raises(CalibrationError, match=message):
        class_weights(np.array([0, 1]), prior, names=("cat", "dog", "wolf"))


def test_scaled_losses_ask_for_the_weighted_mean() -> None:
    """Their plain mean is at the bound exactly where the weighted mean of the losses is, and they stay in range."""
    rng = np.random.default_rng(0)
    losses, weight = rng.uniform(-1, 1, 500), rng.gamma(1.0, 1.0, 500)
    mean = float(np.average(losses, weights=weight))
    assert scaled_losses(losses, mean, weight).mean() == pytest.approx(mean)
    assert scaled_losses(losses, mean - 0.05, weight).mean() > mean - 0.05
    assert np.abs(scaled_losses(losses, mean, weight)).max() <= 1
    assert scaled_losses(losses, mean, None) is losses


def test_a_test_of_weighted_losses_keeps_its_level() -> None:
    """At a weighted loss of exactly the bound, the betting test passes in at most 5 % of 1,000 draws.

    The weights come from a prior, so they depend on the class counts of the draw itself.
    """
    rng, passed, bound = np.random.default_rng(0), 0, 0.05
    for _ in range(1000):
        labels = (rng.random(500) < 0.5).astype(int)
        weight = class_weights(labels, [0.9, 0.1])
        losses = (rng.random(500) < np.where(labels == 1, 0.5, 0.0)).astype(float)  # 0.1 * 0.5 under the prior
        passed += betting_p_value(scaled_losses(losses, bound, weight), bound) <= 0.05
    assert passed <= 65  # 50 and two standard errors


def pair_of_models(n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Draw logits of a local model and a remote, and labels, of three classes."""
    rng = np.random.default_rng(seed)
    remote = rng.normal(0.0, 3.0, (n, 3))
    labels = (remote + rng.gumbel(size=remote.shape)).argmax(axis=1)
    return remote + rng.normal(0.0, 2.0, remote.shape), remote, labels


@pytest.mark.parametrize("objective", [MostAccuracy(0.2), LeastOffload(loss=0.05), CertifiedLoss(0.2)], ids=str)
def test_a_plan_with_equal_weights_is_the_plan_without(objective: Objective) -> None:
    """Every number in it is the same, bit for bit."""
    arrays = pair_of_models(900)
    plain, weighted = (plan_cascade(*arrays, objective, weight=weight) for weight in (None, np.full(900, 7.0)))
    assert weighted.to_dict() == plain.to_dict()


def test_whole_weights_equal_repeated_rows_in_tables_and_curves() -> None:
    """Edges, means, offload rates and accuracies are those of each input written as often as its weight says."""
    rng = np.random.default_rng(0)
    weight = whole(1200)
    weight[-1] += -weight.sum() % 10  # ten bins of equal weight
    rows = np.repeat(np.arange(1200), weight)
    score = rng.permutation(1200).astype(np.float32)
    local, remote = rng.random(1200) < score / 1200, rng.random(1200) < 0.8
    weighted = advantage_table(score, local, remote, 10, weight=normalised(weight, 1200))
    repeated = advantage_table(score[rows], local[rows], remote[rows], 10)
    np.testing.assert_array_equal(weighted.edges, repeated.edges)
    np.testing.assert_allclose(weighted.values, repeated.values, atol=1e-6)
    assert (weighted.values != advantage_table(score, local, remote, 10).values).any()
    advantage = repeated(score)
    ours = operating_points(advantage, local, remote, normalised(weight, 1200))
    theirs = operating_points(advantage[rows], local[rows], remote[rows])
    for one, other in zip(ours, theirs, strict=True):
        assert one.threshold == other.threshold
        assert one.offload_rate == pytest.approx(other.offload_rate)
        assert one.accuracy == pytest.approx(other.accuracy)


def test_whole_weights_equal_repeated_rows_in_metrics() -> None:
    """ECE, AUROC, NLL, Brier score and accuracy are those of repeated rows; the intervals know that they are not.

    The AURC, a sum over coverages, has more of them with repeated rows.
    """
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1.0, 1.0, 1.0], 600)
    labels = (probabilities.cumsum(axis=1) > rng.random((600, 1))).argmax(axis=1)
    weight = whole(600)
    rows = np.repeat(np.arange(600), weight)
    weighted, repeated = evaluate(probabilities, labels, weight), evaluate(probabilities[rows], labels[rows])
    for name in ("accuracy", "nll", "brier", "ece", "auroc", "aurc"):
        assert weighted[name].value == pytest.approx(repeated[name].value, abs=1e-3 if name == "aurc" else 1e-9)
        assert weighted[name].high - weighted[name].low > repeated[name].high - repeated[name].low, name


def test_whole_weights_equal_repeated_rows_in_calibrators() -> None:
    """Platt scaling and isotonic regression differ by the size of the sample in their targets alone."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=2000)
    correct, weight = rng.random(2000) < 1 / (1 + np.exp(-2 * score)), whole(2000)
    rows, at = np.repeat(np.arange(2000), weight), np.linspace(-2, 2, 9)
    for fit in (fit_platt, fit_isotonic):
        np.testing.assert_allclose(fit(score, correct, weight)(at), fit(score[rows], correct[rows])(at), atol=2e-3)


def test_a_weighted_plan_is_about_the_weighted_population() -> None:
    """From data with a quarter of hard inputs, weights for 3 % give the figures of such a population.

    The chosen offload rate and accuracy of the population are within the plan's intervals.
    """
    rng = np.random.default_rng(1)

    def with_hard(n: int, share: float, seed: int) -> tuple[NDArray[Any], ...]:
        local, remote, labels = pair_of_models(n, seed)
        hard = rng.random(n) < share
        local[hard] = rng.normal(0.0, 3.0, (int(hard.sum()), 3))
        return local, remote, labels, hard

    local, remote, labels, hard = with_hard(4000, 0.25, 2)
    found = plan_cascade(local, remote, labels, MostAccuracy(0.2), weight=np.where(hard, 0.03 / 0.25, 0.97 / 0.75))
    local, remote, labels, _ = with_hard(100_000, 0.03, 3)
    decision = decide(local, found.rule)
    merged = merged_labels(found.merge, decision.probabilities, softmax(remote, found.remote.temperature))
    accuracy = np.mean(np.where(decision.forward, merged, decision.label) == labels)
    chosen = found.policy.chosen
    assert chosen.accuracy_band[0] <= accuracy <= chosen.accuracy_band[1]
    assert chosen.offload_interval[0] <= decision.forward.mean() <= chosen.offload_interval[1]
    assert found.local.accuracy.low <= np.mean(decision.label == labels) <= found.local.accuracy.high
    assert found.effective_n is not None
    assert found.effective_n < 4000


def test_a_weight_whose_square_vanishes_is_refused() -> None:
    """Figures would be NaN; the error names the row."""
    with pytest.raises(CalibrationError, match=r"^weight: .* got 1e-170 in row 1"):
        normalised([1.0, 1e-170, 1.0], 3)
    assert normalised([1.0, 1e-90, 1.0], 3) is not None
