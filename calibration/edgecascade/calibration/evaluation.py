"""All that can be said of probabilities once the labels are known, every number with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.brier import squared_distances
from edgecascade.calibration.classwise import classwise_calibration_error, classwise_reliability
from edgecascade.calibration.discrimination import auroc, monotonicity
from edgecascade.calibration.estimate import proportion
from edgecascade.calibration.gap_intervals import calibration_error_interval, maximum_error_interval
from edgecascade.calibration.intervals import bootstrap
from edgecascade.calibration.labelled_probabilities import check_labelled_probabilities
from edgecascade.calibration.rank_intervals import auroc_interval, monotonicity_interval
from edgecascade.calibration.reliability import expected_calibration_error, maximum_calibration_error, reliability
from edgecascade.calibration.risk_coverage import risk_coverage
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate

__all__ = ["evaluate"]

_SMALLEST = 1e-200  # has a logarithm


def evaluate(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, resamples: int = 500, seed: int = 0
) -> Mapping[str, Estimate]:
    """Accuracy, proper scores, calibration errors and how well confidence tells right from wrong.

    The keys: `accuracy`, with Wilson's interval; `nll` in nats, `brier` and `aurc`, by bootstrap; `ece_width`,
    `ece_mass`, `ece_debiased`, which is `ece_width` less its bias, `classwise_ece` and `mce`, as in
    `gap_intervals.py`; `auroc` and `monotonicity`, as in `rank_intervals.py`. Bins are 15. Where the inputs leave
    a number open, such as the AUROC of answers that are all right, it is NaN, and the interval all that it could be.

    Args:
        probabilities: floating [n, classes], every row a distribution, as `softmax` gives them.
        labels: integer [n], in 0..classes - 1.
        resamples: of the intervals that are resampled.
        seed: of the resampling.

    Raises:
        CalibrationError: other shapes, types or numbers, or a single row.

    >>> rng = np.random.default_rng(0)
    >>> probabilities = rng.dirichlet([1.0, 1.0, 1.0], 1000)
    >>> labels = (probabilities.cumsum(axis=1) > rng.random((1000, 1))).argmax(axis=1)    # drawn from them
    >>> found = evaluate(probabilities, labels)
    >>> found["accuracy"].percent()
    '62.2 % (59.2 to 65.2)'
    >>> found["ece_width"].low, round(found["ece_width"].value, 3), round(found["ece_debiased"].value, 3)
    (0.0, 0.031, 0.017)
    """
    check_labelled_probabilities(probabilities, labels)
    n = len(labels)
    if n < 2:
        raise CalibrationError("labels: expected at least 2, which can be resampled, got 1")
    probabilities = np.clip(probabilities, 0.0, 1.0).astype(np.float64)  # a softmax may round to just above 1
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    width, mass = reliability(confidence, correct), reliability(confidence, correct, spacing="mass")
    with np.errstate(divide="ignore"):
        surprise = -np.log(probabilities[np.arange(n), labels])
    distance = squared_distances(probabilities, labels)
    error = calibration_error_interval(width)
    by_class = calibration_error_interval(*classwise_reliability(probabilities, labels))

    def resampled(statistic: Callable[[NDArray[np.intp]], float], most: float) -> Estimate:
        return _on_log_scale(statistic, most, n, resamples, seed)

    def ordered(value: Callable[..., float], interval: Callable[..., tuple[float, float]], least: float) -> Estimate:
        try:
            return Estimate(value(confidence, correct), *interval(confidence, correct), n)
        except CalibrationError:
            return Estimate(float("nan"), least, 1.0, n)

    return {
        "accuracy": proportion(float(correct.mean()), n),
        "nll": resampled(lambda rows: surprise[rows].mean(), np.inf),
        "brier": resampled(lambda rows: distance[rows].mean(), 2.0),
        "ece_width": Estimate(expected_calibration_error(confidence, correct), *error, n),
        "ece_mass": Estimate(
            expected_calibration_error(confidence, correct, spacing="mass"), *calibration_error_interval(mass), n
        ),
        "ece_debiased": Estimate(expected_calibration_error(confidence, correct, debiased=True), *error, n),
        "classwise_ece": Estimate(classwise_calibration_error(probabilities, labels), *by_class, n),
        "mce": Estimate(maximum_calibration_error(confidence, correct), *maximum_error_interval(width), n),
        "aurc": resampled(lambda rows: risk_coverage(confidence[rows], correct[rows]).area, 1.0),
        "auroc": ordered(auroc, auroc_interval, 0.0),
        "monotonicity": ordered(monotonicity, monotonicity_interval, -1.0),
    }


def _on_log_scale(
    statistic: Callable[[NDArray[np.intp]], float], most: float, n: int, resamples: int, seed: int
) -> Estimate:
    """The basic bootstrap of the logarithm of what is skewed and in [0, most], a statistic of row numbers."""
    rows = np.arange(n)
    value = float(statistic(rows))
    if value < np.inf:
        found = bootstrap(lambda some: np.log(max(statistic(some), _SMALLEST)), rows, resamples=resamples, seed=seed)
        if found.high - found.low > 1e-9:  # or else every resample said the same, which is no evidence
            low, high = np.exp([found.low, found.high])
            return Estimate(value, min(value, float(low)), max(value, min(float(high), most)), n)
    return Estimate(value, 0.0, most, n)
