"""Softmax with a temperature, in the float32 arithmetic that the cascade graph uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SMALLEST", "are_probabilities", "log_probabilities", "softmax"]

SMALLEST = float(np.finfo(np.float32).tiny)  # probabilities below it are raised to it before the logarithm


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float32]:
    """Return class probabilities of logits z [n, classes] at temperature T, softmax of z / T, computed in float32.

    A row that contains NaN or +inf, or only -inf, becomes NaN, as in ONNX Runtime. A single -inf is a masked class,
    with probability 0.

    >>> softmax(np.array([[2.0, 0.0]]), temperature=2.0).round(3)
    array([[0.731, 0.269]], dtype=float32)
    """
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.asarray(logits, np.float32) / np.float32(temperature)
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)


def are_probabilities(scores: NDArray[np.floating]) -> bool:
    """Return whether every row of scores [n, classes] is a probability distribution.

    >>> are_probabilities(np.array([[0.9, 0.1], [0.5, 0.5]])), are_probabilities(np.array([[2.0, -1.0]]))
    (True, False)
    """
    sums = np.asarray(scores, np.float64).sum(axis=1)
    return bool((scores >= 0).all() and np.allclose(sums, 1.0, atol=1e-2))


def log_probabilities(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Return the logarithm of probabilities, which are logits up to a constant per row; 0 counts as `SMALLEST`."""
    logarithms: NDArray[Any] = np.log(np.maximum(probabilities, SMALLEST))
    return logarithms
