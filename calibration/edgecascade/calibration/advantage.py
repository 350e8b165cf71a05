"""The advantage table: how much better the local model is expected to do than the remote, given its score.

Hao et al., arXiv 2601.07965, section on cascades: equal-count bins of the small model's confidence. The paper writes
large minus small; here it is local minus remote, so that *low advantage is forwarded*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.intervals import paired_difference_interval
from edgecascade.types.errors import CalibrationError

__all__ = ["AdvantageTable", "Correct", "advantage_intervals", "advantage_table", "shrunk_advantage_table"]

Correct = NDArray[Any]
"""Whether each answer is right: bool, or floating in [0, 1] for answers that are partly right."""

_FEWEST_PER_BIN = 10
_TIE_BREAK = 1e-6  # advantage per bin, which orders equal bins by their score


@dataclass(frozen=True)
class AdvantageTable:
    """A step function from score to advantage.

    Attributes:
        edges: float32 [bins - 1], ascending; a score equal to an edge belongs to the bin above it.
        values: float32 [bins], in [-1, 1].
        counts: int64 [bins], number of calibration inputs in each bin.
    """

    edges: NDArray[np.float32]
    values: NDArray[np.float32]
    counts: NDArray[np.int64]

    def __call__(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the advantage float32 [n] of scores float32 [n]; NaN stays NaN.

        >>> table = AdvantageTable(np.float32([0.6]), np.float32([-0.25, 0.25]), np.array([10, 10]))
        >>> table(np.float32([0.5, 0.6]))
        array([-0.25,  0.25], dtype=float32)
        """
        bins = np.searchsorted(self.edges, score, side="right")
        return np.where(np.isnan(score), np.float32(np.nan), self.values[bins])


def advantage_table(
    score: NDArray[np.float32],
    local: NDArray[np.floating] | NDArray[np.bool_],
    remote: NDArray[np.floating] | NDArray[np.bool_],
    bins: int = 15,
) -> AdvantageTable:
    """Return the mean of local minus remote in equal-count bins of the score.

    With calibrated confidences this is the paper's estimate, which needs no labels; with correctness it is the
    labelled estimate.

    Args:
        score: float32 [n], as the cascade graph computes it.
        local: [n], the local model's calibrated confidence, or whether it was right.
        remote: [n], the same of the remote model.
        bins: number of bins; tied scores are never split, so ties can leave fewer.

    Raises:
        CalibrationError: the shapes differ, a number is NaN, or there are fewer than ten inputs per bin.

    >>> score = np.linspace(0, 1, 40, dtype=np.float32)
    >>> advantage_table(score, score > 0.75, score > 0.25, bins=2).values
    array([-0.5, -0.5], dtype=float32)
    """
    if not score.shape == local.shape == remote.shape or score.ndim != 1:
        raise CalibrationError(
            f"score, local, remote: expected three arrays [n], got {list(score.shape)}, "
            f"{list(local.shape)} and {list(remote.shape)}"
        )
    if bins < 1 or len(score) < bins * _FEWEST_PER_BIN:
        raise CalibrationError(
            f"bins: {bins} bins need at least {max(bins, 1) * _FEWEST_PER_BIN} calibration inputs "
            f"({_FEWEST_PER_BIN} each), got {len(score)}; use fewer bins or more inputs"
        )
    difference = local.astype(np.float64) - remote.astype(np.float64)
    if np.isnan(score).any() or np.isnan(difference).any():
        raise CalibrationError("score, local, remote: expected numbers, got NaN")
    edges = _equal_count_edges(np.asarray(score, np.float32), bins)
    index = np.searchsorted(edges, score, side="right")
    counts = np.bincount(index, minlength=len(edges) + 1)
    values = np.bincount(index, difference, len(edges) + 1) / counts
    return AdvantageTable(edges, values.astype(np.float32), counts)


def shrunk_advantage_table(
    score: NDArray[np.float32],
    local_correct: NDArray[np.bool_],
    remote_correct: NDArray[np.bool_],
    bins: int = 50,
) -> AdvantageTable:
    """Return the labelled estimate in many small bins, each shrunk toward an isotonic fit.

    Empirical Bayes with one variance between bins (DerSimonian and Laird, Controlled Clinical Trials 7, 1986): the
    more the bins scatter round the fit beyond chance, the more weight the bin's own mean has.

    Args:
        score: float32 [n]; higher is surer.
        local_correct: bool [n], whether the local answer is right.
        remote_correct: bool [n], whether the answer after forwarding is right.
        bins: number of bins; ties can leave fewer.

    Raises:
        CalibrationError: as `advantage_table`.
    """
    from scipy.optimize import isotonic_regression

    table = advantage_table(score, local_correct, remote_correct, bins)
    index = np.searchsorted(table.edges, score, side="right")
    disagree = np.bincount(index, local_correct != remote_correct, len(table.counts))
    variance = ((disagree + 1) / (table.counts + 2) - table.values**2).clip(1e-3) / table.counts
    rising = isotonic_regression(table.values, weights=1 / variance).x
    excess = np.sum((table.values - rising) ** 2 / variance) - (len(rising) - len(np.unique(rising)))
    between = max(0.0, excess / np.sum(1 / variance))
    own = between / (between + variance)
    values = own * table.values + (1 - own) * rising + _TIE_BREAK * (np.arange(len(rising)) - len(rising) / 2)
    return AdvantageTable(table.edges, values.clip(-1, 1).astype(np.float32), table.counts)


def advantage_intervals(
    table: AdvantageTable,
    score: NDArray[np.float32],
    local_correct: NDArray[np.bool_],
    remote_correct: NDArray[np.bool_],
) -> tuple[tuple[float, float], ...]:
    """Return the 95 % interval of local minus remote accuracy in each bin of a table; arguments as there."""
    index = np.searchsorted(table.edges, score, side="right")
    return tuple(
        paired_difference_interval(local_correct[index == one], remote_correct[index == one])
        for one in range(len(table.values))
    )


def _equal_count_edges(score: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """Return edges halfway between neighbouring scores, so that rounding on another device moves no input."""
    distinct, counts = np.unique(score, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])  # where each distinct score begins, in sorted order
    cuts = np.round(np.arange(1, bins) * len(score) / bins)
    above = np.unique(np.searchsorted(starts, cuts, side="right") - 1)  # a cut within a tie moves down to its start
    above = above[above > 0]
    below, upper = distinct[above - 1], distinct[above]
    middle = ((below.astype(np.float64) + upper) / 2).astype(np.float32)
    edges: NDArray[np.float32] = np.where(middle > below, middle, upper)
    return edges
