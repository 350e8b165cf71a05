"""Checks of the arrays that fits and metrics start from, so that each is refused in the same words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import are_probabilities

__all__ = ["check_labelled_logits", "check_labelled_probabilities", "check_scored_answers", "check_seed"]


def check_labelled_logits(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    """Refuse logits [n, classes] and labels [n] of other shapes, types or ranges.

    Raises:
        CalibrationError: names the argument, what was expected and what came.
    """
    if logits.ndim != 2 or logits.shape[1] < 2 or not np.issubdtype(logits.dtype, np.floating):
        raise CalibrationError(
            f"logits: expected floating [n, classes] with at least 2 classes, got {logits.dtype} {list(logits.shape)}"
        )
    if len(logits) == len(labels) == 0:
        raise CalibrationError("labels: expected at least one labelled row, got none")
    _check_labels(labels, logits)


def check_labelled_probabilities(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    """Refuse probabilities [n, classes] whose rows are no distributions, and labels [n] that do not match them.

    Raises:
        CalibrationError: names the argument, what was expected and what came.
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
    _check_labels(labels, probabilities)


def check_scored_answers(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> None:
    """Refuse scores [n] that are not finite, and correctness that is not bool [n].

    Raises:
        CalibrationError: names the argument, what was expected and what came.
    """
    if score.ndim != 1 or len(score) == 0 or not np.issubdtype(score.dtype, np.floating):
        raise CalibrationError(f"score: expected floating [n] with n > 0, got {score.dtype} {list(score.shape)}")
    if correct.shape != score.shape or correct.dtype != np.bool_:
        raise CalibrationError(
            f"correct: expected bool [{len(score)}], one per score, got {correct.dtype} {list(correct.shape)}"
        )
    if not np.isfinite(score).all():
        row = int(np.flatnonzero(~np.isfinite(score))[0])
        raise CalibrationError(f"score: expected finite numbers, got {score[row]} in row {row}")


def check_seed(seed: int) -> None:
    """Refuse a seed below 0.

    Raises:
        CalibrationError: names the argument, what was expected and what came.
    """
    if seed < 0:
        raise CalibrationError(f"seed: expected an integer of 0 or more, got {seed}")


def _check_labels(labels: NDArray[np.integer], table: NDArray[np.floating]) -> None:
    n, classes = table.shape
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise CalibrationError(f"labels: expected integers [{n}], one per row, got {labels.dtype} {list(labels.shape)}")
    if labels.min() < 0 or labels.max() >= classes:
        raise CalibrationError(
            f"labels: expected 0 to {classes - 1}, one per column, got {labels.min()} to {labels.max()}"
        )
