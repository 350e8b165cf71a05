"""All metrics of one model's probabilities at once, each with its 95 % interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_labelled_probabilities, check_scored_answers
from edgecascade.calibration.intervals import bootstrap, proportion
from edgecascade.calibration.metrics.ranking import auroc, auroc_interval, risk_coverage
from edgecascade.calibration.metrics.reliability import (
    calibration_error,
    calibration_error_interval,
    expected_calibration_error,
    reliability,
)
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate

__all__ = ["brier_score", "evaluate", "evaluate_scores", "squared_distances"]

_SMALLEST = 1e-200  # a number whose logarithm is finite


def evaluate(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, resamples: int = 500, seed: int = 0
) -> dict[str, Estimate]:
    """Return proper scores, calibration errors and ranking metrics of probabilities.

    The keys: those of `evaluate_scores` for the confidence; `nll`, the mean negative log-likelihood in nats; and
    `brier`, as `brier_score`. The intervals of the latter two are by bootstrap.

    Args:
        probabilities: floating [n, classes], every row a distribution, as `softmax` gives them.
        labels: integer [n], in 0..classes - 1.
        resamples: number of resamples of the bootstrap.
        seed: of the resampling.

    Raises:
        CalibrationError: other shapes, types or numbers, or a single row.

    >>> rng = np.random.default_rng(0)
    >>> probabilities = rng.dirichlet([1.0, 1.0, 1.0], 1000)
    >>> labels = (probabilities.cumsum(axis=1) > rng.random((1000, 1))).argmax(axis=1)    # drawn from them
    >>> found = evaluate(probabilities, labels)
    >>> found["accuracy"].percent()
    '62.2 % (59.2 to 65.2)'
    >>> found["ece"].low, round(found["ece"].value, 3), round(found["ece_corrected"].value, 3)
    (0.0, 0.031, 0.017)
    """
    check_labelled_probabilities(probabilities, labels)
    n = len(labels)
    if n < 2:
        raise CalibrationError("labels: expected at least 2, for resampling, got 1")
    probabilities = np.clip(probabilities, 0.0, 1.0).astype(np.float64)  # a softmax may round to just above 1
    with np.errstate(divide="ignore"):
        surprise = -np.log(probabilities[np.arange(n), labels])
    distance = squared_distances(probabilities, labels)
    found = evaluate_scores(
        probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, resamples=resamples, seed=seed
    )
    return {
        "accuracy": found.pop("accuracy"),
        "nll": _on_log_scale(lambda rows: surprise[rows].mean(), np.inf, n, resamples, seed),
        "brier": _on_log_scale(lambda rows: distance[rows].mean(), 2.0, n, resamples, seed),
        **found,
    }


def evaluate_scores(
    score: NDArray[np.floating], correct: NDArray[np.bool_], *, resamples: int = 500, seed: int = 0
) -> dict[str, Estimate]:
    """Return the metrics of scores and the correctness of the answers that they belong to.

    The keys: `accuracy`, with its exact interval; `ece` over 15 bins of equal width, `ece_corrected`, the same less
    its bias as in `calibration_error` and in cascade files, and `ece_equal_mass`, only where every score is in [0, 1];
    `auroc`, NaN where all answers are right or all wrong; `aurc`, by bootstrap.

    Args:
        score: floating [n], finite; higher is surer, on any scale.
        correct: bool [n], whether the answer was right.
        resamples: number of resamples of the bootstrap.
        seed: of the resampling.

    Raises:
        CalibrationError: other shapes, types or numbers, or a single row.
    """
    check_scored_answers(score, correct)
    n = len(score)
    if n < 2:
        raise CalibrationError("score: expected at least 2, for resampling, got 1")
    found = {"accuracy": proportion(float(correct.mean()), n)}
    if ((score >= 0) & (score <= 1)).all():
        interval = calibration_error_interval(reliability(score, correct))
        mass = calibration_error_interval(reliability(score, correct, spacing="mass"))
        found |= {
            "ece": Estimate(expected_calibration_error(score, correct), *interval, n),
            "ece_corrected": calibration_error(score, correct),
            "ece_equal_mass": Estimate(expected_calibration_error(score, correct, spacing="mass"), *mass, n),
        }
    one_kind = bool(correct.all() or not correct.any())
    found["auroc"] = (
        Estimate(float("nan"), 0.0, 1.0, n)
        if one_kind
        else Estimate(auroc(score, correct), *auroc_interval(score, correct), n)
    )
    found["aurc"] = _on_log_scale(lambda rows: risk_coverage(score[rows], correct[rows]).area, 1.0, n, resamples, seed)
    return found


def brier_score(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the mean squared distance of the probabilities from the observed class; in [0, 2].

    Brier, "Verification of Forecasts Expressed in Terms of Probability" (Monthly Weather Review 78, 1950): the sum
    over all classes, so for two classes twice what is often called by this name.

    Args:
        probabilities: floating [n, classes], every row a distribution.
        labels: integer [n], in 0..classes - 1.

    Raises:
        CalibrationError: other shapes, types or numbers.

    >>> brier_score(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1]))
    0.25
    """
    return float(squared_distances(probabilities, labels).mean())


def squared_distances(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return what each input adds to the Brier score, float64 [n]; arguments and errors as `brier_score`."""
    check_labelled_probabilities(probabilities, labels)
    distance = probabilities.astype(np.float64)
    distance[np.arange(len(labels)), labels] -= 1
    return np.asarray(np.einsum("ij,ij->i", distance, distance))


def _on_log_scale(
    statistic: Callable[[NDArray[np.intp]], float], most: float, n: int, resamples: int, seed: int
) -> Estimate:
    """Return a skewed statistic of row numbers, in [0, most], with the basic bootstrap interval of its logarithm."""
    rows = np.arange(n)
    value = float(statistic(rows))
    if value < np.inf:
        found = bootstrap(lambda some: np.log(max(statistic(some), _SMALLEST)), rows, resamples=resamples, seed=seed)
        if found.high - found.low > 1e-9:  # equal resamples are no evidence
            low, high = np.exp([found.low, found.high])
            return Estimate(value, min(value, float(low)), max(value, min(float(high), most)), n)
    return Estimate(value, 0.0, most, n)
