"""What the answer is once the remote has replied, for whole arrays: the rule to plan with.

The device applies the same rules one answer at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.errors import CalibrationError

__all__ = ["MERGES", "merged_labels"]

MERGES = ("replace", "confident", "average")


def merged_labels(rule: str, local: NDArray[np.floating], remote: NDArray[np.floating]) -> NDArray[np.int64]:
    """Labels int64 [n] of the joint verdicts, from calibrated probabilities [n, classes] of both models.

    Args:
        rule: `replace`, the remote's label; `confident`, that of the higher confidence, of equal ones the
            remote's; `average`, that of the mean probabilities.
        local: probabilities of the local model; a row of NaN is always replaced.
        remote: probabilities of the remote.
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
        surer = local.max(axis=1) > remote.max(axis=1)
        merged = np.where(surer, local.argmax(axis=1), theirs)
        return merged
    if rule == "average":
        mean = (local + remote) * np.float32(0.5)
        merged = np.where(np.isnan(local).any(axis=1), theirs, mean.argmax(axis=1))
        return merged
    raise CalibrationError(f"merge: expected one of {', '.join(MERGES)}, got {rule!r}")
