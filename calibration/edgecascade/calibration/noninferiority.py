"""Is a loss at most e, from n paired observations? Two p-values that hold at any n.

The loss of one input is remote right minus cascade right: -1, 0 or 1. For such losses the exact test is
the sharpest; for any other bounded loss there is a betting test.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import CalibrationError

__all__ = ["betting_p_value", "exact_p_value", "sample_size"]

_NUISANCE_LEVEL = 1e-4  # the least p-value there is; spent on bounding how often the two disagree
_NUISANCE_GRID = 20
_BOLDEST_BET = 0.95  # of the bet that a single loss of 1 would ruin


def exact_p_value(worse: int, better: int, n: int, bound: float) -> float:
    """P-value of "the mean loss is above the bound", exact for losses of -1, 0 and 1.

    The unconditional test of non-inferiority for matched pairs (Hsueh, Liu and Chen, Biometrics 57, 2001),
    with the rate of disagreement held to a confidence interval (Berger and Boos, JASA 89, 1994).

    Args:
        worse: inputs with loss 1.
        better: inputs with loss -1.
        n: all inputs.
        bound: e, in (0, 1).

    >>> exact_p_value(0, 0, 400, 0.01) < 0.05 < exact_p_value(0, 0, 250, 0.01)
    True
    """
    from scipy.special import bdtr
    from scipy.stats import beta, binom

    if not (0 < bound < 1 and min(worse, better) >= 0 and worse + better <= n and n > 0):
        raise CalibrationError(
            f"worse, better, n, bound: expected counts within n > 0 and a bound in (0, 1), "
            f"got {worse}, {better}, {n} and {bound}"
        )
    disagree = worse + better
    low = float(beta.ppf(_NUISANCE_LEVEL / 2, disagree, n - disagree + 1)) if disagree else 0.0
    high = float(beta.ppf(1 - _NUISANCE_LEVEL / 2, disagree + 1, n - disagree)) if disagree < n else 1.0
    if high < bound:
        return _NUISANCE_LEVEL
    observed = _statistic(np.array(worse), np.array(better), n, bound)
    rates = np.linspace(max(low, bound), high, _NUISANCE_GRID)
    width = 6 * np.sqrt(n * rates * (1 - rates)) + 10
    first = np.maximum(0, n * rates - width).astype(int)
    last = np.minimum(n, n * rates + width).astype(int)
    m = np.arange(first.min(), last.max() + 1)
    most = _most_worse(float(observed), m, n, bound)
    largest = 0.0
    for rate, start, stop in zip(rates, first - m[0], last - m[0] + 1, strict=True):
        near, allowed = m[start:stop], most[start:stop]
        share = min(1.0, (rate + bound) / (2 * rate))
        at_most = np.where(allowed < 0, 0.0, bdtr(np.maximum(allowed, 0), near, share))
        largest = max(largest, float(np.sum(binom.pmf(near, n, rate) * at_most)))
    return min(1.0, largest + _NUISANCE_LEVEL)


def betting_p_value(losses: NDArray[np.floating], bound: float) -> float:
    """P-value of "the mean loss is above the bound", for losses in [-1, 1].

    The capital of a gambler who bets on small losses, with predictable bets aimed at this n
    (Waudby-Smith and Ramdas, JRSS-B 86, 2024, sections 3 and 4); its largest value is 1 / p by Ville's inequality.

    Args:
        losses: [n], in an order that has nothing to do with their values.
        bound: e, in (-1, 1).

    >>> betting_p_value(np.zeros(400), 0.01) < 0.05 < betting_p_value(np.zeros(250), 0.01)
    True
    """
    losses = np.asarray(losses, np.float64)
    if losses.ndim != 1 or len(losses) == 0 or not (np.abs(losses) <= 1).all():
        raise CalibrationError(f"losses: expected numbers in [-1, 1], one per input, got {list(losses.shape)}")
    if not -1 < bound < 1:
        raise CalibrationError(f"bound: expected a number in (-1, 1), got {bound}")
    seen = np.arange(1, len(losses) + 1)
    mean = np.concatenate([[0.0], np.cumsum(losses)[:-1]]) / seen
    square = (0.25 + np.concatenate([[0.0], np.cumsum(losses**2)[:-1]])) / seen
    variance = np.maximum(square - mean**2, 1e-9)
    bet = np.minimum(np.sqrt(2 * np.log(20.0) / (len(losses) * variance)), _BOLDEST_BET / (1 - bound))
    capital = np.cumsum(np.log1p(bet * (bound - losses)))
    return float(min(1.0, np.exp(-capital.max())))


def sample_size(bound: float, risk: float, disagreement: float = 0.0, loss: float = 0.0) -> int:
    """Inputs needed to show a loss of at most `bound` with error at most `risk`, four times in five.

    Args:
        bound: e, in (0, 1).
        risk: d, in (0, 1).
        disagreement: share of the inputs that stay local and on which local and remote differ in being right;
            with none, the answer is what a cascade that neither loses nor gains needs.
        loss: the true loss, below the bound.
    """
    from scipy.stats import norm

    least = np.log(max(risk - _NUISANCE_LEVEL, 1e-12)) / np.log1p(-bound)
    usual = (norm.ppf(1 - risk) + norm.ppf(0.8)) ** 2 * disagreement / (bound - loss) ** 2
    return int(np.ceil(max(least, usual)))


def _statistic(worse: NDArray[np.int64], better: NDArray[np.int64], n: int, bound: float) -> NDArray[np.float64]:
    """Tango's score statistic (Statistics in Medicine 17, 1998): the lower, the less is lost."""
    linear = (1 - bound) * (worse + better) - 2 * bound * (n - worse)
    rate = (linear + np.sqrt(linear**2 + 8 * n * better * bound * (1 - bound))) / (4 * n)
    deviation = np.sqrt(n * (2 * np.maximum(rate, 0.0) + bound - bound**2))
    statistic: NDArray[np.float64] = (worse - better - n * bound) / deviation
    return statistic


def _most_worse(observed: float, disagree: NDArray[np.int64], n: int, bound: float) -> NDArray[np.int64]:
    """For each number of disagreements, how many may be losses with a statistic no higher than the observed; or -1."""
    low, high = np.full(len(disagree), -1), disagree.copy()
    while (low < high).any():
        middle = (low + high + 1) // 2
        within = _statistic(middle, disagree - middle, n, bound) <= observed + 1e-9
        low, high = np.where(within, middle, low), np.where(within, high, middle - 1)
    return low
