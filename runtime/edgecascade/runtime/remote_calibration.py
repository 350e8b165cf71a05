"""The remote's own temperature, applied on the device: third-party servers need no change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RemoteCalibration"]

_TINY = 2.0**-126  # the least normal float32


class RemoteCalibration(NamedTuple):
    """How to read a remote's scores.

    Attributes:
        temperature: T that divides its logits.
        probabilities: whether its scores are probabilities, whose logarithms serve as logits.
    """

    temperature: float
    probabilities: bool

    def __call__(self, scores: NDArray[Any]) -> NDArray[np.float32]:
        """Calibrated probabilities float32 [n, classes] of scores [n, classes]."""
        logits = self.logits(scores) / self.temperature
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)

    def logits(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Scores as logits, up to a constant per row."""
        wide = scores.astype(np.float64)
        return np.log(np.maximum(wide, _TINY)) if self.probabilities else wide
