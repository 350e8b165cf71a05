"""How well a map of classes agrees with the map that it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.verifiers.pairs import paired
from edgecascade.types.errors import CalibrationError

__all__ = ["MeanIou"]


@dataclass(frozen=True)
class MeanIou:
    """The mean intersection over union of the classes that answer or reference have.

    An input without any counted pixel has the value 1.

    Attributes:
        ignore: the class of reference pixels that do not count, such as 255 at the edges of objects; or None.
    """

    ignore: int | None = 255

    def __call__(self, answers: Sequence[ArrayLike], references: Sequence[ArrayLike]) -> NDArray[np.float64]:
        """Return the value float64 [n] in [0, 1] of n maps of classes.

        Args:
            answers: integer maps, such as [height, width].
            references: integer maps of the same shapes.

        Raises:
            CalibrationError: they are not as many, or a map is of another type or shape.
        """
        found = []
        for i, pair in enumerate(paired(answers, references)):
            answer, reference = map(np.asarray, pair)
            if answer.shape != reference.shape or answer.dtype.kind not in "biu" or reference.dtype.kind not in "biu":
                raise CalibrationError(
                    f"answers: expected integers {list(reference.shape)} as in the reference of input {i}, "
                    f"got {answer.dtype} {list(answer.shape)} for {reference.dtype}"
                )
            counted = np.full(reference.shape, True) if self.ignore is None else reference != self.ignore
            found.append(_mean_iou(answer[counted], reference[counted]))
        return np.array(found, dtype=np.float64)


def _mean_iou(answer: NDArray[np.integer], reference: NDArray[np.integer]) -> float:
    n = len(answer)
    if n == 0:
        return 1.0
    classes, index = np.unique(np.concatenate([answer, reference]), return_inverse=True)
    found, wanted = index.reshape(2, n)
    shared = np.bincount(found[found == wanted], minlength=len(classes))
    either = np.bincount(found, minlength=len(classes)) + np.bincount(wanted, minlength=len(classes)) - shared
    return float((shared / either).mean())
