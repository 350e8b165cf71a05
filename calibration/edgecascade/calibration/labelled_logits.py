"""One check for the pair that every fit starts from: logits and the labels they should have had."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import CalibrationError

__all__ = ["check_labelled_logits"]


def check_labelled_logits(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    """Refuse shapes, types and labels that no calibration can use.

    Args:
        logits: [n, classes], floating.
        labels: [n], integer, in 0..classes - 1.

    Raises:
        CalibrationError: naming the argument, what came and what was expected.
    """
    if logits.ndim != 2 or logits.shape[1] < 2 or not np.issubdtype(logits.dtype, np.floating):
        raise CalibrationError(
            f"logits: expected floating [n, classes] with at least 2 classes, got {logits.dtype} {list(logits.shape)}"
        )
    if labels.shape != logits.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise CalibrationError(
            f"labels: expected integers [{len(logits)}], one per row of the logits, "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    if len(labels) == 0:
        raise CalibrationError("labels: expected at least one labelled row, got none")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise CalibrationError(
            f"labels: expected 0 to {logits.shape[1] - 1}, one per column of the logits, "
            f"got {labels.min()} to {labels.max()}"
        )
