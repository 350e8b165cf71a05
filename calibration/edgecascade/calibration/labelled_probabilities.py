"""One check for the pair that every metric of whole distributions starts from: probabilities and labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import are_probabilities

__all__ = ["check_labelled_probabilities"]


def check_labelled_probabilities(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    """Refuse shapes, types and numbers that no metric can use.

    Args:
        probabilities: floating [n, classes], every row a distribution.
        labels: integer [n], in 0..classes - 1.

    Raises:
        CalibrationError: naming the argument, what came and what was expected.
    """
    shape = list(probabilities.shape)
    if len(shape) != 2 or shape[0] < 1 or shape[1] < 2 or not np.issubdtype(probabilities.dtype, np.floating):
        raise CalibrationError(
            "probabilities: expected floating [n, classes] with at least one row and 2 classes, "
            f"got {probabilities.dtype} {shape}"
        )
    if not are_probabilities(probabilities):
        raise CalibrationError(
            "probabilities: expected rows of numbers in [0, 1] that sum to 1, got others; are they logits, or NaN?"
        )
    if labels.shape != probabilities.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise CalibrationError(
            f"labels: expected integers [{len(probabilities)}], one per row of probabilities, "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() >= shape[1]:
        raise CalibrationError(
            f"labels: expected 0 to {shape[1] - 1}, one per column of probabilities, "
            f"got {labels.min()} to {labels.max()}"
        )
