"""All metrics of one model's probabilities at once, each with its 95 % interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_labelled_probabilities, check_scored_answers, labelled
from edgecascade.calibration.intervals import accuracy_interval, loss_interval
from edgecascade.calibration.metrics.ranking import auroc, auroc_interval, risk_coverage_area
from edgecascade.calibration.metrics.reliability import (
    calibration_error,
    calibration_error_interval,
    expected_calibration_error,
    reliability,
)
from edgecascade.calibration.weights import normalised, weighted_mean
from edgecascade.types.arrays import as_array
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate

__all__ = ["brier_score", "evaluate", "evaluate_scores", "squared_distances"]

_TINY = float(np.finfo(np.float32).tiny)  # its logarithm is finite


def evaluate(probabilities: ArrayLike, labels: ArrayLike, weight: ArrayLike | None = None) -> dict[str, Estimate]:
    """Return proper scores, calibration errors and ranking metrics of probabilities.

    The keys: those of `evaluate_scores` for the confidence; `nll`, the mean negative log-likelihood in nats; and
    `brier`, as `brier_score`. The latter two have the interval of `loss_interval`, in which a loss that the inputs may
    not show is that of the second most likely class.

    Args:
        probabilities: floating [n, classes], every row a distribution, as `softmax` gives them; of numpy, torch, pandas
            or polars, as the labels.
        labels: integer [n], in 0..classes - 1.
        weight: numbers [n] above 0; None for equal weights.

    Raises:
        CalibrationError: other shapes, types or numbers, or a single row.

    >>> rng = np.random.default_rng(0)
    >>> probabilities = rng.dirichlet([1.0, 1.0, 1.0], 1000)
    >>> labels = (probabilities.cumsum(axis=1) > rng.random((1000, 1))).argmax(axis=1)    # drawn from them
    >>> found = evaluate(probabilities, labels)
    >>> found["accuracy"].percent()
    '62.2 % (59.2 to 65.2)'
    >>> found["ece"].low, round(found["ece"].value, 3), round(found["ece_corrected"].value, 3)
    (0.0, 0.031, 0.016)
    """
    given, labels = labelled(probabilities, labels, "probabilities")
    check_labelled_probabilities(given, labels)
    n = len(labels)
    if n < 2:
        raise CalibrationError("labels: expected at least 2, for an interval, got 1")
    share = normalised(weight, n)
    wide = np.clip(given, 0.0, 1.0).astype(np.float64)  # a softmax may round to just above 1
    second = np.argpartition(wide, -2, axis=1)[:, -2]
    with np.errstate(divide="ignore"):
        surprise = -np.log(wide[np.arange(n), labels])
    unlikely = -np.log(np.maximum(wide[np.arange(n), second], _TINY))
    found = evaluate_scores(wide.max(axis=1), wide.argmax(axis=1) == labels, share)
    distance, other = (squared_distances(wide, some) for some in (labels, second))
    return {
        "accuracy": found.pop("accuracy"),
        "nll": _mean_loss(surprise, unlikely, share, np.inf),
        "brier": _mean_loss(distance, other, share, 2.0),
        **found,
    }


def evaluate_scores(score: ArrayLike, correct: ArrayLike, weight: ArrayLike | None = None) -> dict[str, Estimate]:
    """Return the metrics of scores and the correctness of the answers that they belong to.

    The keys: `accuracy`, with its exact interval; `ece` over 15 bins of equal width, `ece_corrected`, the same less
    its bias as in `calibration_error` and in cascade files, and `ece_equal_mass`, only where every score is in [0, 1];
    `auroc`, NaN where all answers are right or all wrong; `aurc`.

    Args:
        score: floating [n], finite; higher is surer, on any scale.
        correct: bool [n], whether the answer was right.
        weight: numbers [n] above 0; None for equal weights.

    Raises:
        CalibrationError: other shapes, types or numbers, or a single row.
    """
    score, correct = as_array(score, "score"), as_array(correct, "correct")
    check_scored_answers(score, correct)
    n = len(score)
    if n < 2:
        raise CalibrationError("score: expected at least 2, for an interval, got 1")
    share = normalised(weight, n)
    found = {"accuracy": Estimate(weighted_mean(correct, share), *accuracy_interval(correct, share), n)}
    if ((score >= 0) & (score <= 1)).all():
        for name, spacing in (("ece", "width"), ("ece_equal_mass", "mass")):
            interval = calibration_error_interval(reliability(score, correct, spacing=spacing, weight=share))
            value = expected_calibration_error(score, correct, spacing=spacing, weight=share)
            found[name] = Estimate(value, *interval, n)
        found["ece_corrected"] = calibration_error(score, correct, weight=share)
    one_kind = bool(correct.all() or not correct.any())
    found["auroc"] = (
        Estimate(float("nan"), 0.0, 1.0, n)
        if one_kind
        else Estimate(auroc(score, correct, share), *auroc_interval(score, correct, share), n)
    )
    found["aurc"] = risk_coverage_area(score, correct, share)
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


def _mean_loss(
    losses: NDArray[np.float64], unseen: NDArray[np.float64], weight: NDArray[np.float64] | None, most: float
) -> Estimate:
    interval = loss_interval(losses, weighted_mean(unseen, weight), weight, most=most)
    return Estimate(weighted_mean(losses, weight), *interval, len(losses))
