"""Refuse experts that cannot judge these labels: they saw them, or their columns are in another order.

An expert that was trained on the labels it judges agrees with them, wrong ones included. It then agrees with the judged
labels more often, and more surely, than with those of held-out rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from edgecascade.calibration.class_order import order_sentence
from edgecascade.calibration.cleaning.experts import Experts, check_labels
from edgecascade.calibration.intervals import proportion_interval
from edgecascade.types.errors import CalibrationError

__all__ = ["check_held_out"]

_RISK = 1e-4  # of refusing an honest set, for all experts together
_LEAST_EXCESS = 0.005  # of the agreement with judged labels over that with held-out ones
_MOST_SHARED = 0.01  # share of held-out rows that may be judged too, beyond what repeated rows explain


def check_held_out(
    judged: Experts, judged_labels: NDArray[np.integer], held_out: Experts, held_out_labels: NDArray[np.integer]
) -> None:
    """Refuse experts that saw the labels they judge, or whose columns are in another order, and rows that are in both.

    Whether an expert saw the labels is told from how often its answer is the given label, on the judged and on the
    held-out rows: a two-proportion test, and a rank test of its confidence in the given label.

    Args:
        judged: experts on the rows whose labels are judged.
        judged_labels: integers, one per judged row.
        held_out: the same experts on the held-out rows.
        held_out_labels: integers, one per held-out row.

    Raises:
        CalibrationError: says which expert, why, and what to do.
    """
    judged_labels = check_labels(judged_labels, judged)
    held_out_labels = check_labels(held_out_labels, held_out, "held-out labels")
    if judged.names != held_out.names or judged.classes != held_out.classes:
        raise CalibrationError(
            f"held-out rows: expected the experts {', '.join(judged.names)} with {judged.classes} classes, got "
            f"{', '.join(held_out.names)} with {held_out.classes}"
        )
    _check_apart(judged, held_out)
    seen, unseen = _Agreement(judged, judged_labels), _Agreement(held_out, held_out_labels)
    for k, name in enumerate(judged.names):
        _check_columns(name, unseen.answers[k], held_out_labels, judged.classes)
        _check_unseen(name, seen, unseen, k)


class _Agreement:
    """The experts' answers int64 [K, n] and confidences in the given labels float32 [K, n]."""

    def __init__(self, experts: Experts, labels: NDArray[np.int64]) -> None:
        self.answers = np.empty((len(experts), experts.n), np.int64)
        self.confidences = np.empty((len(experts), experts.n), np.float32)
        for part, block in experts.chunks():
            self.answers[:, part] = block.argmax(axis=2)
            at_label = block[:, np.arange(len(labels[part])), labels[part]]
            self.confidences[:, part] = at_label - np.log(np.exp(block).sum(axis=2))
        self.agrees = self.answers == labels


def _check_apart(judged: Experts, held_out: Experts) -> None:
    """Refuse held-out rows that are judged too.

    Equal outputs may also be those of repeated inputs, or of few distinct values. A held-out row then has an equal one
    among the judged rows about as often as another judged row has.
    """
    ours, theirs = judged.hashes(), held_out.hashes()
    shared = np.isin(theirs, ours)
    _, place, count = np.unique(ours, return_inverse=True, return_counts=True)
    repeated = float((count[place] > 1).mean())
    if shared.mean() > repeated + _MOST_SHARED and _exceeds(shared.mean(), len(theirs), repeated, len(ours)):
        raise CalibrationError(
            f"held-out rows: expected rows that are not judged, got {int(shared.sum())} of {len(theirs)} with exactly "
            "the outputs of a judged row; give other rows, or out-of-fold outputs with --folds"
        )


def _check_columns(name: str, answers: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> None:
    sentence = order_sentence(answers, labels, classes)
    if sentence is not None:
        raise CalibrationError(f"{name}: {sentence}; reorder its columns")
    right = int((answers == labels).sum())
    counts = [np.bincount(some, minlength=classes) / len(labels) for some in (answers, labels)]
    chance = float(counts[0] @ counts[1])
    if proportion_interval(right, len(labels), 1 - _RISK)[1] < chance:
        raise CalibrationError(
            f"{name}: expected answers better than chance, got {right / len(labels):.1%} right on held-out rows where "
            f"chance gives {chance:.1%}; check the order of its columns"
        )


def _check_unseen(name: str, seen: _Agreement, unseen: _Agreement, k: int) -> None:
    ours, theirs = seen.agrees[k], unseen.agrees[k]
    level = _RISK / (2 * len(seen.agrees))
    more = ours.mean() - theirs.mean()
    if more < _LEAST_EXCESS:
        return
    surer = _rank_chance(seen.confidences[k], unseen.confidences[k]) < level
    if surer or _exceeds(ours.mean(), len(ours), theirs.mean(), len(theirs), level):
        raise CalibrationError(
            f"{name}: expected an expert that did not see the labels it judges, got one that agrees with "
            f"{ours.mean():.1%} of {len(ours)} judged labels but {theirs.mean():.1%} of {len(theirs)} held-out ones; "
            "give out-of-fold outputs with --folds"
        )


def _exceeds(one: float, n: int, other: float, m: int, risk: float = _RISK) -> bool:
    """Return whether a share of n is larger than another of m beyond chance, by the pooled two-proportion test."""
    pooled = (one * n + other * m + 1) / (n + m + 2)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return bool((one - other) / error > -ndtri(risk))


def _rank_chance(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Return the chance of ranks as high as ours if both came from one distribution (Mann and Whitney, 1947)."""
    from scipy.stats import rankdata

    n, m = len(ours), len(theirs)
    both = np.concatenate([ours, theirs])
    ranks = rankdata(both)
    _, ties = np.unique(both, return_counts=True)
    above = float(ranks[:n].sum()) - n * (n + 1) / 2 - n * m / 2
    spread = n * m / 12 * (n + m + 1 - float((ties.astype(np.float64) ** 3 - ties).sum()) / ((n + m) * (n + m - 1)))
    return float(ndtr(-above / np.sqrt(spread))) if spread > 0 else 1.0
