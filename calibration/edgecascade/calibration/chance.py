"""The chance that an accuracy, or a loss against the remote, meets an aim, given the answers to n inputs.

Each is the posterior probability under a neutral prior, a third of an observation of each kind (Kerman, Electronic
Journal of Statistics 5, 2011), whose median is the observed share.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import Correct
from edgecascade.types.estimate import Estimate

__all__ = ["chance_of_accuracy", "chance_of_estimate", "chance_of_loss", "chance_of_share"]

_PRIOR = 1 / 3
_NODES = 32  # of the integral over the rate of disagreement
_ROUNDING = 1e-9
_DEVIATIONS = 1.96  # of a 95 % interval


def chance_of_accuracy(right: Correct, aim: float, weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the probability, float64 [points], that the accuracy of each column is at least `aim`.

    Args:
        right: [n, points], whether each answer is right, or floating in [0, 1].
        aim: accuracy, in [0, 1].
        weight: float64 [n], how much each input counts; None if all count alike.

    >>> chance_of_accuracy(np.arange(100)[:, None] < np.array([90, 95]), 0.9).round(3)
    array([0.5  , 0.967])
    """
    mean, error = _mean_and_error(np.asarray(right, np.float64), weight)
    return _at_least(mean, _size(mean * (1 - mean), error, weight, len(right)), aim)


def chance_of_loss(
    loss: NDArray[np.floating], aim: float, weight: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the probability, float64 [points], that the mean of each column is at most `aim`.

    Args:
        loss: floating [n, points], in [-1, 1]: whether the remote's answer is right minus whether the cascade's is.
        aim: the largest loss, in [0, 1].
        weight: float64 [n], how much each input counts; None if all count alike.

    >>> loss = np.repeat([1.0, -1.0, 0.0], [12, 2, 986])[:, None]
    >>> [chance_of_loss(loss, aim).round(3).item() for aim in (0.01, 0.02)]
    [0.526, 0.992]
    """
    from scipy.special import betainc, betaincinv

    lost = np.asarray(loss, np.float64)
    mean, error = _mean_and_error(lost, weight)
    worse, better = (_mean_and_error(np.maximum(part, 0.0), weight)[0] for part in (lost, -lost))
    size = _size(worse + better - mean**2, error, weight, len(loss))
    more, fewer, same = (size * share + _PRIOR for share in (worse, better, 1 - worse - better))
    quantile = (np.arange(_NODES)[:, None] + 0.5) / _NODES
    disagree = betaincinv(more + fewer, same, quantile)
    chance = betainc(more, fewer, ((1 + aim / disagree) / 2).clip(0.0, 1.0)).mean(axis=0)
    return _either_side(chance, aim - mean)


def chance_of_share(value: float, n: float, aim: float) -> float:
    """Return the probability that a share that was measured on n inputs is truly at least `aim`."""
    return float(_at_least(np.array([value]), np.array([n]), aim)[0])


def chance_of_estimate(loss: Estimate, aim: float) -> float:
    """Return the probability that a loss with a 95 % interval is truly at most `aim`, by the normal approximation."""
    from scipy.stats import norm

    error = max((loss.high - loss.low) / (2 * _DEVIATIONS), 1e-12)
    chance = norm.cdf((aim - loss.value) / error)
    return float(_either_side(np.array([chance]), np.array([aim - loss.value]))[0])


def _at_least(mean: NDArray[np.float64], size: NDArray[np.float64], aim: float) -> NDArray[np.float64]:
    from scipy.stats import beta

    chance = beta.sf(aim, size * mean + _PRIOR, size * (1 - mean) + _PRIOR)
    return _either_side(chance, mean - aim)


def _mean_and_error(
    values: NDArray[np.float64], weight: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of each column, and the variance of that mean."""
    share = np.full(len(values), 1 / len(values)) if weight is None else weight / weight.sum()
    mean = share @ values
    return mean, share**2 @ (values - mean) ** 2


def _size(
    spread: NDArray[np.float64], error: NDArray[np.float64], weight: NDArray[np.float64] | None, n: int
) -> NDArray[np.float64]:
    """Return the number of inputs, of equal weight and right or wrong, that would show a mean as precisely."""
    alike = n if weight is None else weight.sum() ** 2 / (weight**2).sum()
    size: NDArray[np.float64] = np.divide(spread, error, out=np.full_like(error, alike), where=error > 0)
    return size


def _either_side(chance: NDArray[np.float64], above: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return chances of at least one half where the observed mean meets the aim, and of less elsewhere."""
    met = np.maximum(chance, 0.5)
    missed = np.minimum(chance, np.nextafter(0.5, 0.0))
    return np.where(above >= -_ROUNDING, met, missed)
