"""How labels go wrong: the confusion N(given | true), and from it how probable it is that a given label is wrong.

The pool says how probable each class is for a row. Which wrong labels are common in this data set is learned from the
labels that it disputes: by expectation maximisation (Dawid and Skene, Applied Statistics 28, 1979), on the few best
classes of each row. Classes with few disputed labels are drawn towards the rate of wrong labels of the whole set, and
towards wrong labels that are spread over all classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.cleaning.experts import Experts
from edgecascade.calibration.cleaning.pool import Pool

__all__ = ["Candidates", "candidates", "confusion_log_odds"]

_BEST = 16  # classes of a row that are looked at
_LEAST = np.float32(-16.0)  # log-probability of a class, relative to the best, below which it is not looked at
_RATE_PRIOR = 20.0  # rows of a class, of which as many are wrong as in the whole set
_SPREAD_PRIOR = 5.0  # wrong labels of a class, spread evenly
_FIRST_RATE = 0.02
_LEAST_RATE = 1e-6
_STEPS = 60
_SETTLED = 1e-4  # change of the rate of wrong labels, relative, after which the fit ends


@dataclass(frozen=True)
class Candidates:
    """The classes that may be true of each row: its best, and the given one, one entry per row and class.

    Attributes:
        first: int64 [n + 1], where the entries of each row begin.
        classes: int32 [entries].
        log_probability: float32 [entries], the pool's.
        at_given: int64 [n], the entry of the given class of each row.
    """

    first: NDArray[np.int64]
    classes: NDArray[np.int32]
    log_probability: NDArray[np.float32]
    at_given: NDArray[np.int64]

    def best_other(self, value: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the entry of each row with the largest value [entries] among those that are not the given class."""
        others = value.astype(np.float64)
        others[self.at_given] = -np.inf
        largest = np.repeat(np.maximum.reduceat(others, self.first[:-1]), np.diff(self.first))
        places = np.where(others == largest, np.arange(len(others)), len(others))
        found: NDArray[np.int64] = np.minimum.reduceat(places, self.first[:-1])
        return found


def candidates(experts: Experts, labels: NDArray[np.int64], pool: Pool) -> Candidates:
    """Return the classes of each row that are worth looking at, with the pool's log-probabilities."""
    counts, classes, values, at_given = [], [], [], []
    done = 0
    for part, block in experts.chunks():
        scores = pool.scores(block)
        given = labels[part]
        rows = np.arange(len(given))
        kept = _kept(scores)
        kept[rows, given] = True
        kept[rows, _second(scores)] = True
        of_row, of_class = np.nonzero(kept)
        counts.append(np.bincount(of_row, minlength=len(given)))
        classes.append(of_class.astype(np.int32))
        values.append(scores[of_row, of_class])
        at_given.append(done + np.flatnonzero(of_class == given[of_row]))
        done += len(of_class)
    first = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return Candidates(first, np.concatenate(classes), np.concatenate(values), np.concatenate(at_given))


def confusion_log_odds(found: Candidates, labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return, for each entry, the log-probability that its class is true, given the label and the confusion.

    The result [entries] sums to 1 over each row, after exp. It is a model's opinion, and as such often too sure.
    """
    lengths = np.diff(found.first)
    given = np.repeat(labels, lengths)
    right = np.zeros(len(given), bool)
    right[found.at_given] = True
    pair = found.classes.astype(np.int64) * classes + given
    _, pair = np.unique(pair, return_inverse=True)
    pairs = int(pair.max()) + 1
    rate = _FIRST_RATE
    wrong_of, count_of, of_pair = (np.zeros(size, np.float64) for size in (classes, classes, pairs))
    result = found.log_probability.astype(np.float64)
    for _ in range(_STEPS):
        rate_of = (wrong_of + _RATE_PRIOR * rate) / (count_of + _RATE_PRIOR)
        spread = (of_pair[pair] + _SPREAD_PRIOR / (classes - 1)) / (wrong_of[found.classes] + _SPREAD_PRIOR)
        confusion = np.where(right, 1 - rate_of[found.classes], rate_of[found.classes] * spread)
        result = _normalised(found.log_probability + np.log(confusion), found.first, lengths)
        chance = np.exp(result)
        wrong = np.where(right, 0.0, chance)
        of_pair = _sums(pair, wrong, pairs)
        wrong_of = _sums(found.classes, wrong, classes)
        count_of = _sums(found.classes, chance, classes)
        before, rate = rate, max(_LEAST_RATE, float(wrong_of.sum() / len(labels)))
        if abs(rate - before) <= _SETTLED * rate:
            break
    return result


def _kept(scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which classes [m, classes] are among the best of their row."""
    kept: NDArray[np.bool_] = scores >= scores.max(axis=1, keepdims=True) + _LEAST
    many = np.flatnonzero(np.count_nonzero(kept, axis=1) > _BEST)
    if len(many):
        some = scores[many]
        least = np.partition(some, -_BEST, axis=1)[:, -_BEST, None]
        kept[many] &= some >= least
    return kept


def _second(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the second best class of each row, so that every row has a class beside the given one."""
    found: NDArray[np.intp] = np.argpartition(scores, -2, axis=1)[:, -2]
    return found


def _sums(place: NDArray[np.integer], value: NDArray[np.floating], length: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(place, value, length), np.float64)


def _normalised(value: NDArray[np.floating], first: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.float64]:
    value = value - np.repeat(np.maximum.reduceat(value, first[:-1]), size)
    total = np.add.reduceat(np.exp(value), first[:-1])
    return np.asarray(value - np.repeat(np.log(total), size))
