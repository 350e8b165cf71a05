"""Refuse experts that cannot judge these labels: they saw them, or their columns are in another order.

An expert that was trained on the labels it judges agrees with them, wrong ones included. It then agrees with the judged
labels more often, and more surely, than with those of held-out rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from edgecascade.calibration.class_order import order_sentence
from edgecascade.calibration.cleaning.experts import Experts, check_labels
from edgecascade.calibration.intervals import proportion_interval
from edgecascade.types.errors import CalibrationError

__all__ = ["check_columns", "check_held_out"]

_RISK = 5e-4  # of refusing an honest set, for all experts together
_ENOUGH = 20_000  # rows: of more, some are tested
_LEAST_EXCESS = 0.005  # of the share of labels that an expert disputes, held-out over judged
_TAILS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # shares of rows with the least confidence in the label
_MOST_SHARED = 0.01  # share of held-out rows that may be judged too, beyond what repeated rows explain


def check_held_out(
    judged: Experts,
    judged_labels: NDArray[np.integer],
    held_out: Experts,
    held_out_labels: NDArray[np.integer],
    *,
    names: Sequence[str] = (),
) -> None:
    """Refuse experts that saw the labels they judge, or whose columns are in another order, and rows that are in both.

    Whether an expert saw the labels is told from how often it disputes them, on the judged and on the held-out rows:
    exact two-proportion tests of answers other than the label, and of small confidences in the label at several cuts.
    An expert that saw the labels but hardly learned from single rows, such as a linear model with few parameters,
    usually passes. The check finds what it can tell from chance, and does not prove that the labels were not seen.

    Args:
        judged: experts on the rows whose labels are judged.
        judged_labels: integers, one per judged row.
        held_out: the same experts on the held-out rows.
        held_out_labels: integers, one per held-out row.
        names: of the classes, for messages.

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
    (judged, judged_labels), (held_out, held_out_labels) = (
        _some(*both) for both in ((judged, judged_labels), (held_out, held_out_labels))
    )
    seen, unseen = _Agreement(judged, judged_labels), _Agreement(held_out, held_out_labels)
    for k, name in enumerate(judged.names):
        _check_order(name, unseen.answers[k], held_out_labels, judged.classes, names)
        _check_unseen(name, seen, unseen, k)


def check_columns(experts: Experts, labels: NDArray[np.integer], *, names: Sequence[str] = ()) -> None:
    """Refuse experts whose columns are in another order than the labels, or whose answers are worse than chance.

    `check_held_out` includes this check; out-of-fold outputs have no held-out rows, and need it alone.

    Args:
        experts: on n labelled rows.
        labels: integers [n].
        names: of the classes, for messages.

    Raises:
        CalibrationError: says which expert, why, and what to do.
    """
    labels = check_labels(labels, experts)
    experts, labels = _some(experts, labels)
    answers = _Agreement(experts, labels).answers
    for name, some in zip(experts.names, answers, strict=True):
        _check_order(name, some, labels, experts.classes, names)


def _some(experts: Experts, labels: NDArray[np.int64]) -> tuple[Experts, NDArray[np.int64]]:
    """Return as many rows as the tests need, spread over all."""
    if experts.n <= _ENOUGH:
        return experts, labels
    rows = np.linspace(0, experts.n - 1, _ENOUGH).astype(np.int64)
    return experts.select(rows), labels[rows]


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


def _check_order(
    name: str, answers: NDArray[np.int64], labels: NDArray[np.int64], classes: int, names: Sequence[str]
) -> None:
    sentence = order_sentence(answers, labels, classes, names)
    if sentence is not None:
        raise CalibrationError(f"{name}: {sentence}; reorder its columns{', or correct `names`' if len(names) else ''}")
    right = int((answers == labels).sum())
    counts = [np.bincount(some, minlength=classes) / len(labels) for some in (answers, labels)]
    chance = float(counts[0] @ counts[1])
    if proportion_interval(right, len(labels), 1 - _RISK)[1] < chance:
        raise CalibrationError(
            f"{name}: expected answers better than chance, got {right / len(labels):.1%} right on held-out rows where "
            f"chance gives {chance:.1%}; check the order of its columns"
        )


def _check_unseen(name: str, seen: _Agreement, unseen: _Agreement, k: int) -> None:
    """Refuse an expert that agrees more with the judged labels, or is less often sure that they are wrong."""
    cuts = np.quantile(np.concatenate([seen.confidences[k], unseen.confidences[k]]), _TAILS, method="lower")
    tests = [
        (~seen.agrees[k], ~unseen.agrees[k]),
        *((seen.confidences[k] <= c, unseen.confidences[k] <= c) for c in cuts),
    ]
    level = _RISK / (len(tests) * len(seen.agrees))
    if any(_rarer(ours, theirs, level) for ours, theirs in tests):
        ours, theirs = seen.agrees[k], unseen.agrees[k]
        sure = [float(np.exp(some.confidences[k].mean(dtype=np.float64))) for some in (seen, unseen)]
        raise CalibrationError(
            f"{name}: expected an expert that did not see the labels it judges, got one that agrees with "
            f"{ours.mean():.1%} of {len(ours)} judged labels but {theirs.mean():.1%} of {len(theirs)} held-out ones "
            f"(mean confidence in the label {sure[0]:.3f} and {sure[1]:.3f}); give out-of-fold outputs with --folds, "
            "or if the held-out rows are harder, others of the same kind as the judged ones"
        )


def _rarer(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], risk: float) -> bool:
    """Return whether something is rarer among ours than among theirs beyond chance, by Fisher's exact test."""
    from scipy.stats import hypergeom

    few, many, n, m = int(ours.sum()), int(theirs.sum()), len(ours), len(theirs)
    if many / m - few / n < _LEAST_EXCESS:
        return False
    return bool(hypergeom.sf(many - 1, n + m, few + many, m) < risk)


def _exceeds(one: float, n: int, other: float, m: int) -> bool:
    """Return whether a share of n is larger than another of m beyond chance, by the pooled two-proportion test."""
    pooled = (one * n + other * m + 1) / (n + m + 2)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return bool((one - other) / error > -ndtri(_RISK))
