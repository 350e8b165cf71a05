"""95 % intervals of what only an order decides: how well a score tells right from wrong, how steadily it rises."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.discrimination import auroc, monotonicity
from edgecascade.calibration.reliability import reliability

__all__ = ["auroc_interval", "monotonicity_interval"]

_Z = 1.959963984540054  # two-sided 95 % of a normal


def auroc_interval(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> tuple[float, float]:
    """Interval of the AUROC of correctness; it has a width even where right and wrong are told apart perfectly.

    Every area that is within 1.96 of its own standard errors of what was seen: method 5 of Newcombe (Statistics in
    Medicine 25, 2006, 559), with the variance of Hanley and McNeil.

    Args:
        score: floating [n], finite, the higher the surer, on any scale.
        correct: bool [n], whether the answer was right.

    Raises:
        CalibrationError: as `auroc`.

    >>> low, high = auroc_interval(np.arange(20.0), np.arange(20) >= 10)
    >>> round(low, 2), high
    (0.8, 1.0)
    """
    from scipy.optimize import brentq

    seen = auroc(score, correct)
    right = int(np.count_nonzero(correct))
    wrong = len(correct) - right

    def beyond(area: float) -> float:
        dependence = (len(correct) / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        variance = area * (1 - area) * (1 + dependence) / (right * wrong)
        return float((area - seen) ** 2 - _Z**2 * variance)

    inside = min(max(seen, 1e-12), 1 - 1e-12)  # at 0 and 1 themselves there is a second root
    low = 0.0 if seen == 0 else float(brentq(beyond, 0.0, inside))
    high = 1.0 if seen == 1 else float(brentq(beyond, inside, 1.0))
    return low, high


def monotonicity_interval(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15, resamples: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Interval of the monotonicity that infinite data would give, in these bins.

    Chance only ever disorders bins that are in order, so resampling alone says that nothing is ever in order. The
    interval is the percentile and the basic bootstrap's together, and reaches to 1 where accuracies that rise
    throughout would often enough look like these (Spearman's correlation is then drawn from their isotonic fit),
    and likewise to -1.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right.
        bins: how many of equal mass.
        resamples: of the accuracies, binomial in each bin.
        seed: of the resampling.

    Raises:
        CalibrationError: as `monotonicity`.

    >>> confidence = np.linspace(0.0, 1.0, 3000)
    >>> correct = np.random.default_rng(0).random(3000) < confidence
    >>> low, high = monotonicity_interval(confidence, correct)
    >>> low > 0.9, high
    (True, 1.0)
    """
    from scipy.optimize import isotonic_regression

    seen = monotonicity(confidence, correct, bins)
    table = reliability(confidence, correct, bins, spacing="mass")
    count, rng = table.count, np.random.default_rng(seed)
    likely = (table.accuracy * count + 0.5) / (count + 1)  # certainties would leave no chance to resample

    def tails(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = _rank_correlations(rng.binomial(count, accuracy, (resamples, len(count))) / count)
        return np.asarray(np.quantile(drawn, [0.025, 0.975]))

    least, most = tails(likely)
    rising = tails(isotonic_regression(likely, weights=count).x)
    falling = tails(isotonic_regression(likely, weights=count, increasing=False).x)
    low = -1.0 if seen <= falling[1] else min(least, 2 * seen - most)
    high = 1.0 if seen >= rising[0] else max(most, 2 * seen - least)
    return max(-1.0, float(low)), min(1.0, float(high))


def _rank_correlations(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's correlation of each row [bins] with its order, 0 where all of it is the same."""
    from scipy.stats import rankdata

    order = np.arange(accuracy.shape[1]) - (accuracy.shape[1] - 1) / 2
    ranks = rankdata(accuracy, axis=1) - (accuracy.shape[1] + 1) / 2
    length = np.sqrt(np.sum(ranks**2, axis=1) * np.sum(order**2))
    return np.asarray(np.divide(ranks @ order, length, out=np.zeros(len(ranks)), where=length > 0))
