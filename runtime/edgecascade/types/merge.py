"""Merge the predictions of both models once the remote has replied, for one input and for arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgecascade.types.answer import Prediction, Source
from edgecascade.types.costs import ErrorCosts, labels_of
from edgecascade.types.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MERGES", "PredictionRows", "merge", "merge_rows", "merged_labels"]

MERGES = ("replace", "confident", "average")


class PredictionRows(NamedTuple):
    """The calibrated predictions of one model for n inputs, one row each.

    Attributes:
        label: int64 [n].
        confidence: float32 [n].
        probabilities: float32 [n, classes].
    """

    label: NDArray[np.int64]
    confidence: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    def at(self, places: NDArray[Any]) -> PredictionRows:
        """Return some of the rows, by positions or a mask."""
        return PredictionRows(self.label[places], self.confidence[places], self.probabilities[places])


def merge(
    rule: str, local: Prediction, remote: Prediction, costs: ErrorCosts | None = None
) -> tuple[Prediction, Source]:
    """Return the merged prediction of two calibrated ones, and its source.

    Args:
        rule: `replace`, the remote's; `confident`, the one of higher confidence, or of lower expected cost if costs are
            given, and the remote's if they are equal; `average`, the mean of their probabilities.
        local: the local model's prediction; if its confidence is NaN, every rule returns the remote's.
        remote: the remote's prediction.
        costs: of the errors, by which both predictions chose their labels.
    """
    if rule == "replace" or math.isnan(local.confidence):
        return remote, Source.REMOTE
    if rule == "confident":
        if costs is None:
            surer = local.confidence > remote.confidence
        else:
            ours, theirs = costs.expected(np.stack([local.probabilities, remote.probabilities])).min(axis=1)
            surer = bool(ours < theirs)
        return (local, Source.LOCAL) if surer else (remote, Source.REMOTE)
    mean = (local.probabilities + remote.probabilities) * np.float32(0.5)
    label = int(labels_of(mean[None], costs)[0])
    return Prediction(label, float(mean[label]), mean), Source.MERGED


def merge_rows(
    rule: str, local: PredictionRows, remote: PredictionRows, costs: ErrorCosts | None = None
) -> tuple[PredictionRows, NDArray[np.uint8]]:
    """Return what `merge` does for n inputs, and the position of each one's source in `tuple(Source)`, uint8 [n].

    Arguments are as in `merge`.
    """
    theirs = np.full(len(local.label), tuple(Source).index(Source.REMOTE), np.uint8)
    if rule == "replace":
        return remote, theirs
    sure = ~np.isnan(local.confidence)
    if rule == "average":
        mean = (local.probabilities + remote.probabilities) * np.float32(0.5)
        label = labels_of(mean, costs)
        confidence = np.take_along_axis(mean, label[:, None], axis=1)[:, 0]
        other, source = PredictionRows(label, confidence, mean), Source.MERGED
    elif rule == "confident":
        if costs is None:
            sure &= local.confidence > remote.confidence
        else:
            cost, of_remote = (costs.expected(one.probabilities).min(axis=1) for one in (local, remote))
            sure &= cost < of_remote
        other, source = local, Source.LOCAL
    merged = PredictionRows(
        np.where(sure, other.label, remote.label),
        np.where(sure, other.confidence, remote.confidence),
        np.where(sure[:, None], other.probabilities, remote.probabilities),
    )
    return merged, np.where(sure, np.uint8(tuple(Source).index(source)), theirs)


def merged_labels(
    rule: str,
    local: NDArray[np.floating],
    remote: NDArray[np.floating],
    costs: ErrorCosts | None = None,
    *,
    local_confidence: NDArray[np.floating] | None = None,
    remote_confidence: NDArray[np.floating] | None = None,
) -> NDArray[np.int64]:
    """Return the labels int64 [n] that `merge` gives, from calibrated probabilities [n, classes] of both models.

    Args:
        rule: as `merge`.
        local: the local model's probabilities; every rule replaces a row of NaN.
        remote: the remote's probabilities.
        costs: of the errors.
        local_confidence: floating [n], by default the largest probability.
        remote_confidence: likewise, of the remote.

    Raises:
        CalibrationError: the shapes differ, or the rule is unknown.
    """
    if local.shape != remote.shape or local.ndim != 2:
        raise CalibrationError(
            f"local, remote: expected probabilities [n, classes] of one shape, got {list(local.shape)} "
            f"and {list(remote.shape)}"
        )
    merged: NDArray[np.int64]
    theirs: NDArray[np.int64] = labels_of(remote, costs)
    if rule == "replace":
        return theirs
    if rule == "confident":
        if costs is None:
            ours = local.max(axis=1) if local_confidence is None else local_confidence
            surer = ours > (remote.max(axis=1) if remote_confidence is None else remote_confidence)
        else:
            surer = costs.expected(local).min(axis=1) < costs.expected(remote).min(axis=1)
        merged = np.where(surer, labels_of(local, costs), theirs)
        return merged
    if rule == "average":
        mean = (local + remote) * np.float32(0.5)
        merged = np.where(np.isnan(local).any(axis=1), theirs, labels_of(mean, costs))
        return merged
    raise CalibrationError(f"merge: expected one of {', '.join(MERGES)}, got {rule!r}")
