"""How well a score orders labels by whether they are wrong, with intervals by a bootstrap over rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.estimate import Estimate

__all__ = ["REPLICATES", "Statistic", "average_precision", "precision", "precision_at_recall", "recall", "summed_up"]

REPLICATES = 100
_BLOCK = 20  # replicates at a time: 20 x 10,000 float64 are 1.6 MB
_SEED = 2601

Counts = NDArray[np.float64]
Statistic = Callable[[Counts], NDArray[np.float64]]
"""From how often each row counts, [B, n], to a figure for each of the B."""


def average_precision(wrong: NDArray[np.bool_], score: NDArray[np.float64]) -> Statistic:
    """Return the mean, over wrong labels, of the precision among those scored at least as high; ties count together.

    >>> average_precision(np.array([True, False, True]), np.array([3.0, 2.0, 1.0]))(np.ones((1, 3)))
    array([0.83333333])
    """
    order = np.argsort(-score, kind="stable")
    ordered, hit = score[order], wrong[order]
    last = np.searchsorted(-ordered, -ordered, side="right") - 1  # of the rows of equal score

    def figure(counts: Counts) -> NDArray[np.float64]:
        counts = counts[:, order]
        hits = counts * hit
        precision = np.cumsum(hits, axis=1)[:, last] / np.cumsum(counts, axis=1)[:, last].clip(1)
        return np.asarray((hits * precision).sum(axis=1) / hits.sum(axis=1).clip(1))

    return figure


def precision_at_recall(wrong: NDArray[np.bool_], score: NDArray[np.float64], flagged: NDArray[np.bool_]) -> Statistic:
    """Return the precision of the fewest rows of highest score with as many wrong labels as a mask has.

    >>> wrong, score = np.array([True, False, True, False]), np.array([4.0, 3.0, 2.0, 1.0])
    >>> precision_at_recall(wrong, score, np.array([False, False, True, True]))(np.ones((1, 4)))
    array([1.])
    """
    order = np.argsort(-score, kind="stable")
    hit = wrong[order]

    def figure(counts: Counts) -> NDArray[np.float64]:
        wanted = (counts * (wrong & flagged)).sum(axis=1)
        counts = counts[:, order]
        hits = np.cumsum(counts * hit, axis=1)
        end = np.argmax(hits >= wanted[:, None] - 1e-9, axis=1)[:, None]
        rows = np.take_along_axis(np.cumsum(counts, axis=1), end, 1)
        return np.asarray((np.take_along_axis(hits, end, 1) / rows.clip(1))[:, 0])

    return figure


def precision(wrong: NDArray[np.bool_], flagged: NDArray[np.bool_]) -> Statistic:
    """Return the share of the flagged rows whose labels are wrong; 0 where none is flagged."""
    return lambda counts: np.asarray((counts @ (wrong & flagged)) / (counts @ flagged).clip(1))


def recall(wrong: NDArray[np.bool_], flagged: NDArray[np.bool_]) -> Statistic:
    """Return the share of the wrong labels that are flagged."""
    return lambda counts: np.asarray((counts @ (wrong & flagged)) / (counts @ wrong).clip(1))


def summed_up(runs: Sequence[Statistic], n: int, less: Sequence[Statistic] = (), *, ratio: bool = False) -> Estimate:
    """Return the mean of a figure over runs of n rows each, with its 95 % bootstrap interval over rows.

    Args:
        runs: The figure in each run.
        n: The number of rows of each run.
        less: Another figure of the same rows, which is subtracted.
        ratio: Whether to divide by the other figure instead.
    """
    once, again = np.ones((1, n)), [list(_samples(n, run)) for run in range(len(runs))]

    def mean(figures: Sequence[Statistic], samples: Sequence[Sequence[Counts]]) -> NDArray[np.float64]:
        by_run = [
            np.concatenate([figure(counts) for counts in drawn]) for figure, drawn in zip(figures, samples, strict=True)
        ]
        return np.asarray(np.mean(by_run, axis=0))

    def whole(samples: Sequence[Sequence[Counts]]) -> NDArray[np.float64]:
        ours = mean(runs, samples)
        if not less:
            return ours
        theirs = mean(less, samples)
        return ours / theirs.clip(1e-9) if ratio else ours - theirs

    value = float(whole([[once]] * len(runs))[0])
    low, high = np.quantile(whole(again), [0.025, 0.975])
    return Estimate(value, min(value, float(low)), max(value, float(high)), n * len(runs))


def _samples(n: int, run: int) -> Iterator[Counts]:
    """Yield blocks [B, n] of how often each row is in a bootstrap sample; always the same for a run."""
    rng = np.random.default_rng([_SEED, run])
    for _ in range(REPLICATES // _BLOCK):
        yield np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(_BLOCK)]).astype(np.float64)
