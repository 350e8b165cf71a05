"""What a detector finds in one input."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Detections"]


class Detections(NamedTuple):
    """Boxes in one input, with a label and a score each.

    Attributes:
        boxes: floating [k, 4], left, top, right and bottom, all in pixels or all as shares of the sides.
        labels: int64 [k].
        scores: floating [k], higher is surer; 1 for references.
    """

    boxes: NDArray[np.floating]
    labels: NDArray[np.int64]
    scores: NDArray[np.floating]
