"""How labels go wrong: the confusion N(given | true), and from it how probable it is that a given label is wrong.

The pool says how probable each class is for a row. Which wrong labels are common in this data set is learned from rows
where the pool is sure of another class than the given one, by expectation maximisation (Dawid and Skene, Applied
Statistics 28, 1979). Where it is less sure, its own mistakes would be taken for those of the labels. All classes have
the same rate of wrong labels, and few disputed labels of a class are drawn towards wrong labels spread over all
classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from edgecascade.calibration.cleaning.experts import Experts
from edgecascade.calibration.cleaning.pool import Pool
from edgecascade.types.errors import CalibrationError

__all__ = ["Doubts", "doubts"]

_CANDIDATE = np.float32(0.01)  # chance of a class from which on it is looked at on its own
_SURE = 0.9  # chance of the best class, from which on a row tells which wrong labels are common
_SPREAD_PRIORS = np.geomspace(3.0, 300.0, 7)  # wrong labels of a class, spread evenly
_RATE_PRIOR = 50.0  # rows, of which the first rate is wrong
_FIRST_RATE = 0.02
_STEPS = 100
_SAFE = 75.0  # the largest number whose exponential float32 can sum up
_TINY = 1e-30
_LEAST_LOG = -300.0  # of the chance of a given label, whose inverse stays finite
_SETTLED = 1e-5  # change of the rate of wrong labels, after which the fit ends


@dataclass(frozen=True)
class Doubts:
    """How probable it is that each label is wrong, by the pool alone and allowing for the confusion of labels.

    Attributes:
        log_odds: float64 [n], that the label is wrong, allowing for which wrong labels are common.
        pool: float64 [n], log-odds of the best other class against the given one, by the pool alone.
        order: float64 [n], the same allowing for which wrong labels are common.
        best_other: int64 [n], the best class beside the given one by the pool alone.
        suggested: int64 [n], the same allowing for which wrong labels are common.
    """

    log_odds: NDArray[np.float64]
    pool: NDArray[np.float64]
    order: NDArray[np.float64]
    best_other: NDArray[np.int64]
    suggested: NDArray[np.int64]


def doubts(experts: Experts, labels: NDArray[np.int64], pool: Pool) -> Doubts:
    """Return how probable it is that each label [n] is wrong.

    Raises:
        CalibrationError: a label is an option that its row does not have.
    """
    seen = _survey(experts, labels, pool)
    rate, counts = _fit(seen, labels, experts.classes)
    others = experts.classes - 1
    of_class = _sums(counts.key // experts.classes, counts.wrong, experts.classes) + counts.prior
    even = counts.prior / others / of_class  # chance of each wrong label that was not seen, by true class
    given = labels[seen.row]
    spread = even[seen.true] + counts.of(seen.true, given) / of_class[seen.true]
    joint = np.exp(seen.log_chance) * spread
    known = np.bincount(seen.row, np.exp(seen.log_chance), experts.n)
    rest = np.maximum(-np.expm1(seen.log_given) - known, 0.0) / others
    total = np.bincount(seen.row, joint, experts.n) + rest
    log_odds = np.log(total + _TINY) + np.log(rate / (1 - rate)) - seen.log_given
    suggested = seen.best_other.copy()
    order = np.lexsort((joint, seen.row))
    last = np.flatnonzero(np.diff(seen.row[order], append=-1))
    suggested[seen.row[order][last]] = seen.true[order][last]
    wrong = np.log(-np.expm1(np.minimum(seen.log_given, -1e-12)))
    alone, against = wrong - seen.log_given, np.log(seen.best_chance + _TINY) - seen.log_given
    return Doubts(log_odds, against, against + log_odds - alone, seen.best_other, suggested)


@dataclass(frozen=True)
class _Survey:
    """What the pool says of each row [n], and of classes beside the given one that are worth a look [entries]."""

    log_given: NDArray[np.float64]
    best_other: NDArray[np.int64]
    best_chance: NDArray[np.float32]
    row: NDArray[np.int64]
    true: NDArray[np.int64]
    log_chance: NDArray[np.float64]


def _survey(experts: Experts, labels: NDArray[np.int64], pool: Pool) -> _Survey:
    log_given, best_other = np.empty(experts.n), np.empty(experts.n, np.int64)
    best_chance = np.empty(experts.n, np.float32)
    entries = []
    for part, scores in pool.logits(experts):
        given, rows = labels[part], np.arange(part.stop - part.start)
        at_given = scores[rows, given].astype(np.float64)
        scores[rows, given] = -np.inf
        best = scores.argmax(axis=1)
        at_best = scores[rows, best].astype(np.float64)
        top = np.maximum(at_given, at_best)
        if (absent := np.isneginf(at_given)).any():
            row = part.start + int(np.flatnonzero(absent)[0])
            raise CalibrationError(f"labels: expected options that the row has, got one that is -inf in row {row}")
        if np.abs(top).max() > _SAFE:
            scores -= top.astype(np.float32)[:, None]
            at_given, at_best = at_given - top, at_best - top
        np.exp(scores, out=scores)
        others = np.einsum("ij->i", scores).astype(np.float64)
        total = others + np.exp(at_given)
        log_given[part] = at_given - np.log(total)
        best_other[part], best_chance[part] = best, np.exp(at_best) / total
        looked_at = np.flatnonzero(others >= _CANDIDATE * total)
        least = (_CANDIDATE * total[looked_at]).astype(np.float32)
        place, true = np.divmod(np.flatnonzero(scores[looked_at] >= least[:, None]), experts.classes)
        row = looked_at[place]
        entries.append((part.start + row, true, np.log(scores[row, true] / total[row])))
    row, true, log_chance = (np.concatenate(some) for some in zip(*entries, strict=True))
    return _Survey(log_given, best_other, best_chance, row, true, log_chance)


@dataclass(frozen=True)
class _Counts:
    """How many labels of each true class are wrong in which way: pairs [p] that occur, in order of `key`."""

    key: NDArray[np.int64]  # true * classes + given
    wrong: NDArray[np.float64]
    classes: int
    prior: float

    def of(self, true: NDArray[np.int64], given: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the count of pairs of classes, 0 for those that do not occur."""
        if not len(self.key):
            return np.zeros(len(true))
        key = true * self.classes + given
        place = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return np.where(self.key[place] == key, self.wrong[place], 0.0)


def _fit(seen: _Survey, labels: NDArray[np.int64], classes: int) -> tuple[float, _Counts]:
    """Return the rate of wrong labels, and the counts of those that sure rows dispute."""
    disputed = np.flatnonzero(seen.best_chance >= _SURE)
    sure = len(disputed) + int(np.count_nonzero(seen.log_given >= np.log(_SURE)))
    true = seen.best_other[disputed]
    key, pair = np.unique(true * classes + labels[disputed], return_inverse=True)
    odds = seen.best_chance[disputed] / np.exp(np.maximum(seen.log_given[disputed], _LEAST_LOG))
    rate, wrong, prior = _FIRST_RATE, np.zeros(len(key)), float(_SPREAD_PRIORS[2])
    for _ in range(_STEPS):
        of_class = _sums(key // classes, wrong, classes)
        spread = (wrong[pair] + prior / (classes - 1)) / (of_class[true] + prior)
        now = odds * spread * rate / (1 - rate)
        chance = now / (1 + now)
        wrong = _sums(pair, chance, len(key))
        before, rate = rate, (float(chance.sum()) + _RATE_PRIOR * _FIRST_RATE) / (sure + _RATE_PRIOR)
        prior = _likeliest_prior(wrong, _sums(key // classes, wrong, classes), classes - 1)
        if abs(rate - before) <= _SETTLED:
            break
    return rate, _Counts(key, wrong, classes, prior)


def _sums(place: NDArray[np.int64], value: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(place, value, length), np.float64)


def _likeliest_prior(wrong: NDArray[np.float64], of_class: NDArray[np.float64], others: int) -> float:
    """Return how evenly wrong labels are spread: the prior that makes these counts likeliest.

    Counts of a class are multinomial, with chances from a Dirichlet distribution.
    """
    prior = _SPREAD_PRIORS[:, None]
    a = gammaln(wrong + prior / others) - gammaln(prior / others)
    b = gammaln(prior) - gammaln(of_class + prior)
    return float(_SPREAD_PRIORS[int(np.argmax(a.sum(axis=1) + b.sum(axis=1)))])
