"""Find whether a model has its classes in another order than the labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["better_order", "order_sentence"]

_MOST_CLASSES = 2000  # that occur; with more, the search takes long
_RISK = 1e-3  # of taking chance for another order
_GAIN = 0.1  # of the mean accuracy over the classes that change places, from which another order fits far better
_PRIOR = 5  # inputs, by which classes of few inputs count less
_SHOWN = 20


def better_order(answers: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> NDArray[np.int64] | None:
    """Return the order of the classes that fits answers far better than the present one, or None.

    One half of the inputs, chosen at random, gives the order in which most answers are right. On the other half, the
    classes that change places, all of them or those of one cycle, must make more answers right (a sign test) and raise
    the mean accuracy over classes by a tenth. So a weak model is not taken for one of another order.

    Args:
        answers: integer [n], a model's labels.
        labels: integer [n].
        classes: number of classes.

    Returns:
        Integers [classes], the class that each output of the model stands for.

    >>> labels = np.arange(600) % 3
    >>> better_order((labels + 1) % 3, labels, 3).tolist()
    [2, 0, 1]
    >>> better_order(labels, labels, 3) is None
    True
    """
    answers, labels = answers.astype(np.int64), labels.astype(np.int64)
    if len(labels) < 2 or labels.min() < 0 or labels.max() >= classes:
        return None
    first = np.random.default_rng(0).permutation(len(labels)) < len(labels) // 2
    found = _best(answers[first], labels[first], classes)
    if found is None:
        return None
    moved, cycles = np.flatnonzero(found != np.arange(classes)), list(_cycles(found))
    tests = len(cycles) + 1
    if _fits_better(moved, found, answers[~first], labels[~first], tests):
        return _best(answers, labels, classes)
    kept = [cycle for cycle in cycles if _fits_better(cycle, found, answers[~first], labels[~first], tests)]
    if not kept:
        return None
    order, some = np.arange(classes), np.concatenate(kept)
    order[some] = found[some]
    return order


def order_sentence(
    answers: NDArray[np.integer], labels: NDArray[np.integer], classes: int, names: Sequence[str] = ()
) -> str | None:
    """Return a sentence that names a far better order of the classes, or None if there is none."""
    order = better_order(answers, labels, classes)
    if order is None:
        return None
    called = list(names) if len(names) == classes else [str(number) for number in range(classes)]
    now, then = (float((found == labels).mean()) for found in (answers, order[answers]))
    if classes <= _SHOWN:
        said = f"if its outputs stand for {', '.join(called[k] for k in order)} and not for {', '.join(called)}"
    else:
        moved = np.flatnonzero(order != np.arange(classes))
        some = ", ".join(f"output {k} for {called[order[k]]}" for k in moved[:_SHOWN])
        said = f"if {len(moved)} of its outputs stand for other classes: {some}{', ...' if len(moved) > _SHOWN else ''}"
    return f"another order of its classes fits far better, with {then:.1%} right answers instead of {now:.1%}, {said}"


def _best(answers: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> NDArray[np.int64] | None:
    """Return the order with the highest mean accuracy over classes, the present one where it makes no difference."""
    from scipy.optimize import linear_sum_assignment

    present = np.union1d(answers, labels)
    if len(present) > _MOST_CLASSES:
        return None
    counts = np.zeros((len(present), len(present)))
    np.add.at(counts, (np.searchsorted(present, answers), np.searchsorted(present, labels)), 1.0)
    cost = np.divide(counts, -(counts.sum(axis=0) + _PRIOR), out=counts)  # a copy would be large
    np.fill_diagonal(cost, cost.diagonal() - 1e-9)
    order = np.arange(classes)
    order[present] = present[linear_sum_assignment(cost)[1]]
    return order


def _cycles(order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the classes that change places with one another."""
    seen: set[int] = set()
    for start in np.flatnonzero(order != np.arange(len(order))).tolist():
        cycle = []
        while start not in seen:
            seen.add(start)
            cycle.append(start)
            start = int(order[start])
        if cycle:
            yield np.array(cycle)


def _fits_better(
    cycle: NDArray[np.int64],
    order: NDArray[np.int64],
    answers: NDArray[np.integer],
    labels: NDArray[np.integer],
    tests: int,
) -> bool:
    from scipy.stats import binom

    some = np.isin(answers, cycle) | np.isin(labels, cycle)
    answers, labels = answers[some], labels[some]
    now, then = answers == labels, order[answers] == labels
    gained, lost = int((then & ~now).sum()), int((now & ~then).sum())
    if gained == 0 or binom.sf(gained - 1, gained + lost, 0.5) * tests > _RISK:
        return False
    weight = 1 / (np.bincount(labels)[labels] + _PRIOR)
    return bool(np.average(then.astype(float) - now, weights=weight) >= _GAIN)
