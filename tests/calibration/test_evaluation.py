"""All metrics of an evaluation, and the Brier score."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from edgecascade.calibration import (
    CalibrationError,
    calibration_error,
    evaluate,
    expected_calibration_error,
    negative_log_likelihood,
    proportion_interval,
    softmax,
)
from edgecascade.calibration.metrics import auroc, brier_score, risk_coverage
from edgecascade.calibration.metrics.evaluation import squared_distances

RANGES = {"brier": (0.0, 2.0), "nll": (0.0, np.inf)}  # the other metrics lie between 0 and 1
Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]


def test_each_metric_equals_that_of_its_own_function(sampled: Sampled) -> None:
    """All eight metrics are compared, each with its n."""
    logits, labels = sampled(n=400, temperature=2.0)
    probabilities = softmax(logits).astype(np.float64)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    found = evaluate(probabilities, labels)
    wanted = {
        "accuracy": correct.mean(),
        "nll": negative_log_likelihood(logits, labels),
        "brier": brier_score(probabilities, labels),
        "ece": expected_calibration_error(confidence, correct),
        "ece_equal_mass": expected_calibration_error(confidence, correct, spacing="mass"),
        "ece_corrected": calibration_error(confidence, correct).value,
        "aurc": risk_coverage(confidence, correct).area,
        "auroc": auroc(confidence, correct),
    }
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(wanted, rel=1e-5)
    assert all(estimate.n == 400 for estimate in found.values())
    assert (found["accuracy"].low, found["accuracy"].high) == proportion_interval(int(correct.sum()), 400)


def test_the_log_loss_equals_that_of_scikit_learn(sampled: Sampled) -> None:
    """The unit is nats."""
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = sampled(n=300)
    probabilities = softmax(logits).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = evaluate(probabilities, labels)["nll"].value
    assert found == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(4)))


@given(st.integers(2, 40), st.integers(2, 4), st.sampled_from([0.01, 1.0]), st.integers(0, 1000))
@settings(max_examples=25)
def test_every_metric_is_in_its_interval_and_range(n: int, classes: int, spread: float, seed: int) -> None:
    """Cases include few rows, certain predictions and classes that never occur; an undefined metric is NaN.

    Only the plain ECE may lie above its interval, because that of few rows is too large.
    """
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, spread), n).astype(np.float32)
    for name, estimate in evaluate(probabilities, rng.integers(classes, size=n)).items():
        least, most = RANGES.get(name, (0.0, 1.0))
        assert least <= estimate.low <= estimate.high <= most
        if np.isnan(estimate.value):
            assert (name == "auroc", estimate.low, estimate.high) == (True, least, most)
        else:
            assert estimate.low - 1e-12 <= estimate.value
            assert estimate.value <= estimate.high + 1e-12 or name in ("ece", "ece_equal_mass")


def test_identical_answers_leave_the_metrics_uncertain() -> None:
    """Twenty identical right answers have no AUROC, and every interval has a positive width."""
    found = evaluate(np.tile([0.9, 0.1], (20, 1)), np.zeros(20, int))
    assert np.isnan(found["auroc"].value)
    assert found["aurc"].value == found["aurc"].low == 0.0 < 0.1 < found["aurc"].high
    assert found["nll"].value < 0.11 < 0.3 < found["nll"].high
    assert found["accuracy"].low < 0.9


def test_an_outcome_of_probability_zero_has_infinite_log_loss() -> None:
    """The other metrics are not affected."""
    probabilities = np.tile([0.9, 0.1, 0.0], (20, 1))
    found = evaluate(probabilities, np.array([0] * 17 + [1, 1, 2]))
    assert (found["nll"].value, found["nll"].high) == (np.inf, np.inf)
    assert found["brier"].high < 1.0


def truths(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """Return the metrics of a sample so large that chance is negligible."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    return {
        "accuracy": float(correct.mean()),
        "nll": float(-np.log(probabilities[np.arange(len(labels)), labels]).mean()),
        "brier": brier_score(probabilities, labels),
        "ece": expected_calibration_error(confidence, correct),
        "ece_equal_mass": expected_calibration_error(confidence, correct, spacing="mass"),
        "ece_corrected": expected_calibration_error(confidence, correct),
        "aurc": risk_coverage(confidence, correct).area,
        "auroc": auroc(confidence, correct),
    }


@pytest.mark.parametrize("scale", [1.0, 3.0, 12.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_intervals_cover_the_truth_at_95_percent(scale: float, weighted: bool) -> None:
    """Each metric is checked on overconfident samples of 300, from models that are wrong on 30 to 3 % of them.

    A coverage of 94 % fails once in a thousand times. The weights undo a selection of inputs by their confidence.
    """

    def draw(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rng = np.random.default_rng(seed)
        logits = rng.normal(0.0, 2.0 * scale, (n, 4))
        return softmax(1.5 * logits), (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)

    truth, repeats = truths(*draw(500_000, 1000)), 200
    held = dict.fromkeys(truth, 0)
    for seed in range(repeats):
        probabilities, labels = draw(360, seed)
        weight = None
        if weighted:  # inputs of low confidence are kept less often, and weigh more
            rng, chance = np.random.default_rng(seed), 0.5 + probabilities.max(axis=1) / 2
            kept = rng.random(360) < chance
            probabilities, labels, weight = probabilities[kept], labels[kept], 1 / chance[kept]
        found = evaluate(probabilities, labels, weight)
        for name, value in truth.items():
            if not np.isnan(found[name].value):
                held[name] += found[name].low - 1e-9 <= value <= found[name].high + 1e-9
            else:
                held[name] += 1
    failed = {name: count for name, count in held.items() if binom.cdf(count, repeats, 0.94) < 0.001}
    assert not failed


def test_logits_and_single_rows_are_refused(sampled: Sampled) -> None:
    """The error names the argument."""
    logits, labels = sampled(n=10)
    with pytest.raises(CalibrationError, match=r"^probabilities: .*logits"):
        evaluate(logits, labels)
    with pytest.raises(CalibrationError, match=r"^labels: expected at least 2.*got 1"):
        evaluate(softmax(logits[:1]), labels[:1])


Labelled = tuple[NDArray[np.floating], NDArray[np.int64]]


@st.composite
def labelled(draw: st.DrawFn) -> Labelled:
    """Draw distributions over some classes, certain ones among them, with any labels."""
    n, classes = draw(st.integers(1, 20)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    probabilities = rng.dirichlet(np.full(classes, draw(st.sampled_from([0.01, 1.0]))), n)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return probabilities.astype(dtype), rng.integers(classes, size=n)


@given(labelled())
def test_the_brier_score_is_the_squared_distance_from_the_label(labelled: Labelled) -> None:
    """It is summed over classes and averaged over rows."""
    probabilities, labels = labelled
    happened = np.eye(probabilities.shape[1])[labels]
    wanted = [sum((p - h) ** 2 for p, h in zip(*row, strict=True)) for row in zip(probabilities, happened, strict=True)]
    np.testing.assert_allclose(squared_distances(*labelled), wanted, rtol=1e-6, atol=1e-12)
    assert brier_score(*labelled) == pytest.approx(np.mean(wanted), rel=1e-6, abs=1e-12)


@given(labelled())
def test_the_brier_score_equals_that_of_scikit_learn(labelled: Labelled) -> None:
    """scikit-learn halves it by default."""
    pytest.importorskip("sklearn", minversion="1.7")
    from sklearn.metrics import brier_score_loss

    probabilities, labels = labelled[0].astype(np.float64), labelled[1]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    classes = np.arange(probabilities.shape[1])
    theirs = brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
    assert brier_score(probabilities, labels) == pytest.approx(theirs, abs=1e-12)


@given(labelled())
def test_the_brier_score_ranges_from_0_to_2(labelled: Labelled) -> None:
    """Both ends are reached: certainly right and certainly wrong."""
    probabilities, labels = labelled
    assert 0.0 <= brier_score(probabilities, labels) <= 2.0 + 1e-6
    assert brier_score(np.eye(3), np.arange(3)) == 0.0
    assert brier_score(np.eye(3), np.array([1, 2, 0])) == 2.0


def test_the_brier_score_is_proper() -> None:
    """For labels drawn with p, no other distribution has a lower expected score than p."""
    honest = np.array([0.6, 0.3, 0.1])
    others = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], 200)

    def expected(claimed: NDArray[np.float64]) -> float:
        return float(honest @ [brier_score(claimed[None], np.array([label])) for label in range(3)])

    assert all(expected(honest) <= expected(other) for other in others)


ROWS = np.array([[0.5, 0.5], [0.2, 0.8]])


LABELS = np.array([0, 1])


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        pytest.param(ROWS[0], LABELS, r"^probabilities: .*float64 \[2\]", id="not rows"),
        pytest.param(ROWS[:, :1], LABELS, r"^probabilities: .*\[2, 1\]", id="one class"),
        pytest.param(ROWS[:0], LABELS[:0], r"^probabilities: .*\[0, 2\]", id="nothing"),
        pytest.param(np.eye(2, dtype=int), LABELS, "^probabilities: .*int64", id="integers"),
        pytest.param(ROWS * 3 - 1, LABELS, "^probabilities: .*logits", id="logits"),
        pytest.param(ROWS / 2, LABELS, "^probabilities: .*sum to 1", id="halves"),
        pytest.param(ROWS * np.nan, LABELS, "^probabilities: .*NaN", id="NaN"),
        pytest.param(ROWS, LABELS[:1], r"^labels: .*\[2\].*\[1\]", id="too few labels"),
        pytest.param(ROWS, LABELS.astype(float), "^labels: .*float64", id="labels that are not integers"),
        pytest.param(ROWS, LABELS + 1, "^labels: expected 0 to 1.*1 to 2", id="a label too large"),
        pytest.param(ROWS, LABELS - 1, "^labels: expected 0 to 1.*-1 to 0", id="a negative label"),
    ],
)
def test_invalid_distributions_and_labels_are_refused(
    probabilities: NDArray[Any], labels: NDArray[Any], message: str
) -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=message):
        brier_score(probabilities, labels)
