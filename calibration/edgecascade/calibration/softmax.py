"""Softmax with a temperature, in the float32 arithmetic that the cascade graph uses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["are_probabilities", "softmax"]


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float32]:
    """Class probabilities: the exponentials of float32 logits z / T [n, classes], summing to 1.

    A row with a NaN, a +inf or nothing but -inf has no probabilities: all of it is NaN, here as in
    ONNX Runtime. A single -inf is a masked class, with probability 0.

    >>> softmax(np.array([[2.0, 0.0]]), temperature=2.0).round(3)
    array([[0.731, 0.269]], dtype=float32)
    """
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.asarray(logits, np.float32) / np.float32(temperature)
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)


def are_probabilities(scores: NDArray[np.floating]) -> bool:
    """Whether every row of scores [n, classes] is a distribution, and not logits.

    >>> are_probabilities(np.array([[0.9, 0.1], [0.5, 0.5]])), are_probabilities(np.array([[2.0, -1.0]]))
    (True, False)
    """
    sums = np.asarray(scores, np.float64).sum(axis=1)
    return bool((scores >= 0).all() and np.allclose(sums, 1.0, atol=1e-2))
