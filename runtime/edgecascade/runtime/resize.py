"""Images of any size to the size that a model takes, as the preprocessing in an ONNX file does it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.document import ImagePreprocessing

__all__ = ["Resize"]

_CUBIC = -0.5  # Keys' coefficient, as Pillow and the ONNX graph have it
_SIZES = 16  # of images whose weights are remembered


@dataclass(frozen=True)
class Resize:
    """ONNX's antialiased `Resize` and a crop of the centre, in float32: nothing is rounded to whole pixel values.

    Attributes:
        to: the size, interpolation and crop.
    """

    to: ImagePreprocessing

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Float32 [height, width, channels] of uint8 [any, any, channels]."""
        rows, columns = image.shape[:2]
        down, across = (
            _weights(side, wanted, min(rows, columns), self.to.shortest_edge, self.to.interpolation)
            for side, wanted in ((rows, self.to.height), (columns, self.to.width))
        )
        narrow = np.tensordot(down, image.astype(np.float32), axes=(1, 0))
        resized: NDArray[np.float32] = np.moveaxis(np.tensordot(narrow, across, axes=(1, 1)), 2, 1)
        return resized


@lru_cache(maxsize=_SIZES)
def _weights(side: int, wanted: int, shorter: int, edge: int | None, interpolation: str) -> NDArray[np.float32]:
    """What each of `wanted` pixels takes from each of `side` pixels along one axis, [wanted, side]."""
    step, start = side / wanted, 0
    if edge is not None:
        scale = np.float32(edge) / np.float32(shorter)  # in the graph's precision, which tells where half a pixel goes
        step, start = 1.0 / float(scale), (int(scale * np.float32(side) + np.float32(0.5)) - wanted) // 2
    centre = (np.arange(start, start + wanted)[:, None] + 0.5) * step
    distance = np.abs(np.arange(side) + 0.5 - centre) / max(step, 1.0)
    if interpolation == "linear":
        weights = np.maximum(0.0, 1.0 - distance)
    else:
        near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
        far = _CUBIC * (((distance - 5) * distance + 8) * distance - 4)
        weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
