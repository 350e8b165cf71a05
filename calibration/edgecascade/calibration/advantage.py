"""The advantage table: how much better the local model is expected to do than the remote, given its score.

Hao et al., arXiv 2601.07965, section on cascades: equal-count bins of the small model's confidence. The paper writes
large minus small; here it is local minus remote, so that *low advantage is forwarded*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.intervals import paired_difference_interval
from edgecascade.types.errors import CalibrationError

__all__ = [
    "AdvantageTable",
    "Correct",
    "advantage_intervals",
    "advantage_table",
    "monotone_advantage_table",
    "shrunk_advantage_table",
]

Correct = NDArray[Any]
"""Whether each answer is right: bool, or floating in [0, 1] for answers that are partly right."""

_FEWEST_PER_BIN = 10
_TIE_BREAK = 1e-6  # advantage per bin, which orders equal bins by their score
_ROUNDING = 9  # decimals; less is not an advantage but the rounding error of a sum


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
    *,
    weight: NDArray[np.float64] | None = None,
    at: float | None = None,
) -> AdvantageTable:
    """Return the mean of local minus remote in equal-count bins of the score.

    With calibrated confidences this is the paper's estimate, which needs no labels; with correctness it is the
    labelled estimate.

    Args:
        score: float32 [n], as the cascade graph computes it.
        local: [n], the local model's calibrated confidence, or whether it was right.
        remote: [n], the same of the remote model.
        bins: number of bins; tied scores are never split, so ties can leave fewer.
        weight: float64 [n], how much each input counts.
        at: an offload rate, at which the nearest of the edges is put exactly.

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
    if bins < 1:
        raise CalibrationError(f"bins: expected 1 or more, got {bins}")
    if len(score) < bins * _FEWEST_PER_BIN:
        raise CalibrationError(
            f"bins: {bins} bins need at least {bins * _FEWEST_PER_BIN} calibration inputs "
            f"({_FEWEST_PER_BIN} each), got {len(score)}; use fewer bins or more inputs"
        )
    difference = local.astype(np.float64) - remote.astype(np.float64)
    if np.isnan(score).any() or np.isnan(difference).any():
        raise CalibrationError("score, local, remote: expected numbers, got NaN")
    edges = _equal_count_edges(np.asarray(score, np.float32), bins, weight, at)
    index = np.searchsorted(edges, score, side="right")
    counts = np.bincount(index, minlength=len(edges) + 1)
    values = _sums(index, difference, weight) / _sums(index, np.ones_like(difference), weight)
    return AdvantageTable(edges, values.round(_ROUNDING).astype(np.float32) + np.float32(0.0), counts)


def monotone_advantage_table(
    score: NDArray[np.float32],
    local_correct: Correct,
    remote_correct: Correct,
    bins: int = 50,
    *,
    weight: NDArray[np.float64] | None = None,
    at: float | None = None,
) -> AdvantageTable:
    """Return the labelled estimate that rises with the score: its least-squares isotonic fit.

    Inputs are forwarded in the plain order of the score, the lowest first, up to where forwarding stops gaining. The
    arguments and errors are those of `shrunk_advantage_table`.

    >>> score = np.linspace(0, 1, 40, dtype=np.float32)
    >>> monotone_advantage_table(score, score > 0.5, score < 2, bins=4).values.round(2)
    array([-1., -1.,  0.,  0.], dtype=float32)
    """
    from scipy.optimize import isotonic_regression

    table = advantage_table(score, local_correct, remote_correct, bins, weight=weight, at=at)
    index = np.searchsorted(table.edges, score, side="right")
    mean = table.values.astype(np.float64)
    rising = isotonic_regression(mean, weights=_sums(index, np.ones(len(score)), weight)).x
    return replace(table, values=_without_ties(rising))


def shrunk_advantage_table(
    score: NDArray[np.float32],
    local_correct: Correct,
    remote_correct: Correct,
    bins: int = 50,
    *,
    weight: NDArray[np.float64] | None = None,
    at: float | None = None,
) -> AdvantageTable:
    """Return the labelled estimate in many small bins, each shrunk toward an isotonic fit.

    Empirical Bayes with one variance between bins (DerSimonian and Laird, Controlled Clinical Trials 7, 1986): the
    more the bins scatter round the fit beyond chance, the more weight the bin's own mean has.

    Args:
        score: float32 [n]; higher is surer.
        local_correct: bool [n], whether the local answer is right, or floating in [0, 1].
        remote_correct: bool [n], whether the answer after forwarding is right, or floating in [0, 1].
        bins: number of bins; ties can leave fewer.
        weight: float64 [n], how much each input counts.
        at: an offload rate, at which the nearest of the edges is put exactly.

    Raises:
        CalibrationError: as `advantage_table`.
    """
    from scipy.optimize import isotonic_regression

    table = advantage_table(score, local_correct, remote_correct, bins, weight=weight, at=at)
    index = np.searchsorted(table.edges, score, side="right")
    difference = local_correct.astype(np.float64) - remote_correct
    size = _sums(index, np.ones_like(difference), weight)
    if weight is not None:
        size = size**2 / _sums(index, weight, weight)
    square = _sums(index, difference**2, weight) / _sums(index, np.ones_like(difference), weight)
    mean = table.values.astype(np.float64)
    variance = ((square * size + 1) / (size + 2) - mean**2).clip(1e-3) / size
    rising = isotonic_regression(mean, weights=1 / variance).x
    excess = np.sum((mean - rising) ** 2 / variance) - (len(rising) - len(np.unique(rising)))
    between = max(0.0, excess / np.sum(1 / variance))
    own = between / (between + variance)
    return replace(table, values=_without_ties(own * mean + (1 - own) * rising))


def advantage_intervals(
    table: AdvantageTable,
    score: NDArray[np.float32],
    local_correct: Correct,
    remote_correct: Correct,
    weight: NDArray[np.float64] | None = None,
    unseen: float = 1.0,
) -> tuple[tuple[float, float], ...]:
    """Return the 95 % interval of local minus remote accuracy in each bin of a table; arguments as there.

    `unseen` is how large a difference is that a bin may not show, as in `paired_difference_interval`.
    """
    index = np.searchsorted(table.edges, score, side="right")
    bins = [np.flatnonzero(index == one) for one in range(len(table.values))]
    if weight is not None:
        return tuple(
            paired_difference_interval(local_correct[rows], remote_correct[rows], weight[rows], unseen=unseen)
            for rows in bins
        )
    found = np.empty((len(bins), 2))
    sizes = np.array([len(rows) for rows in bins])
    for size in np.unique(sizes):  # bins of one size are the columns of one call
        alike = np.flatnonzero(sizes == size)
        rows = np.stack([bins[one] for one in alike], axis=1)
        pair = local_correct[rows], remote_correct[rows]
        found[alike] = np.transpose(paired_difference_interval(*pair, unseen=unseen))
    return tuple((low, high) for low, high in found.tolist())


def _sums(
    index: NDArray[np.intp], values: NDArray[np.floating], weight: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the weighted sum of the values in each bin."""
    sums = np.bincount(index, values if weight is None else values * weight)
    return np.asarray(sums, np.float64)


def _without_ties(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Order equal values by their bins: negative ones stay negative, and none becomes so."""
    place = np.arange(len(values))
    room = len(values) * _TIE_BREAK
    values = values.round(_ROUNDING).clip(-1 + room, 1 - room)
    ordered = values + _TIE_BREAK * np.where(values < 0, place - len(values), place)
    return np.asarray(ordered, np.float32)


def _equal_count_edges(
    score: NDArray[np.float32], bins: int, weight: NDArray[np.float64] | None, at: float | None
) -> NDArray[np.float32]:
    """Return edges halfway between neighbouring scores, so that rounding on another device moves no input."""
    distinct, index = np.unique(score, return_inverse=True)
    sizes = np.bincount(index, np.ones(len(score)) if weight is None else weight)
    total = float(sizes.sum())
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])  # where each distinct score begins, in sorted order
    cuts = np.arange(1, bins) * total / bins
    cuts = np.round(cuts) if weight is None else cuts + 10**-_ROUNDING * total  # sums of weights are rounded
    if at is not None and bins > 1 and at < 1:
        exact = at * total + 10**-_ROUNDING
        cuts[np.abs(cuts - exact).argmin()] = exact  # a cut within an input moves down to its start
    above = np.unique(np.searchsorted(starts, cuts, side="right") - 1)  # a cut within a tie moves down to its start
    above = above[above > 0]
    below, upper = distinct[above - 1], distinct[above]
    middle = ((below.astype(np.float64) + upper) / 2).astype(np.float32)
    edges: NDArray[np.float32] = np.where(middle > below, middle, upper)
    return edges
