"""Merge the predictions of both models once the remote has replied, for one input and for arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgecascade.types.answer import Prediction, Source
from edgecascade.types.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MERGES", "merge", "merged_labels"]

MERGES = ("replace", "confident", "average")


def merge(rule: str, local: Prediction, remote: Prediction) -> tuple[Prediction, Source]:
    """Return the merged prediction of two calibrated ones, and its source.

    Args:
        rule: `replace`, the remote's; `confident`, the one of higher confidence, the remote's if they are equal;
            `average`, the mean of their probabilities.
        local: the local model's prediction; if its confidence is NaN, every rule returns the remote's.
        remote: the remote's prediction.
    """
    if rule == "replace" or math.isnan(local.confidence):
        return remote, Source.REMOTE
    if rule == "confident":
        return (local, Source.LOCAL) if local.confidence > remote.confidence else (remote, Source.REMOTE)
    mean = (local.probabilities + remote.probabilities) * np.float32(0.5)
    label = int(mean.argmax())
    return Prediction(label, float(mean[label]), mean), Source.MERGED


def merged_labels(
    rule: str,
    local: NDArray[np.floating],
    remote: NDArray[np.floating],
    *,
    local_confidence: NDArray[np.floating] | None = None,
    remote_confidence: NDArray[np.floating] | None = None,
) -> NDArray[np.int64]:
    """Return the labels int64 [n] that `merge` gives, from calibrated probabilities [n, classes] of both models.

    Args:
        rule: as `merge`.
        local: the local model's probabilities; every rule replaces a row of NaN.
        remote: the remote's probabilities.
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
    theirs: NDArray[np.int64] = remote.argmax(axis=1)
    if rule == "replace":
        return theirs
    if rule == "confident":
        ours = local.max(axis=1) if local_confidence is None else local_confidence
        surer = ours > (remote.max(axis=1) if remote_confidence is None else remote_confidence)
        merged = np.where(surer, local.argmax(axis=1), theirs)
        return merged
    if rule == "average":
        mean = (local + remote) * np.float32(0.5)
        merged = np.where(np.isnan(local).any(axis=1), theirs, mean.argmax(axis=1))
        return merged
    raise CalibrationError(f"merge: expected one of {', '.join(MERGES)}, got {rule!r}")
