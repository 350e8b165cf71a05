"""How well detections agree with the boxes that they should have found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.verifiers.pairs import paired
from edgecascade.types.detections import Detections
from edgecascade.types.errors import CalibrationError
from edgecascade.types.extras import naming_extras

__all__ = ["BoxF1", "BoxOverlap", "box_iou"]

Boxes = Detections | Mapping[str, Any]


@dataclass(frozen=True)
class BoxF1:
    """F1 of the boxes that match: 2 matches / (boxes found + boxes in the reference).

    Boxes match one to one, in the way that gives most matches, where their intersection over union is at least `iou`
    and their labels are equal. An input without boxes in answer and reference has the value 1.

    Attributes:
        iou: the least intersection over union of a match, in (0, 1].
        labels: whether labels must be equal; if not, only the places of the boxes count.
    """

    iou: float = 0.5
    labels: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise CalibrationError(f"iou: expected a number in (0, 1], got {self.iou}")

    def __call__(self, answers: Sequence[Boxes], references: Sequence[Boxes]) -> NDArray[np.float64]:
        """Return the value float64 [n] in [0, 1] of n inputs.

        Args:
            answers: `Detections`, or mappings with `boxes` [k, 4] and optionally `labels` [k]. The scores of the boxes
                do not count.
            references: the same.

        Raises:
            CalibrationError: they are not as many, or one is not as described.
        """
        return np.array(
            [
                _f1((found >= self.iou).astype(np.float64))
                for found in _overlaps(answers, references, labels=self.labels)
            ]
        )


@dataclass(frozen=True)
class BoxOverlap:
    """The soft version of `BoxF1`: each pair of boxes counts with its intersection over union instead of 1 or 0.

    Boxes are paired one to one so that the sum is largest. An input without boxes in answer and reference has the
    value 1.

    Attributes:
        labels: whether the labels of a pair must be equal.
    """

    labels: bool = True

    def __call__(self, answers: Sequence[Boxes], references: Sequence[Boxes]) -> NDArray[np.float64]:
        """Return the value float64 [n] in [0, 1] of n inputs; see `BoxF1`."""
        return np.array([_f1(found) for found in _overlaps(answers, references, labels=self.labels)])


def box_iou(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the intersection over union float64 [k, l] of boxes [k, 4] and [l, 4] (left, top, right, bottom).

    It is 0 for boxes without an area, and for those that are not finite.

    >>> box_iou(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 2], [1, 0, 3, 2]])).round(2)
    array([[1.  , 0.33]])
    """
    one, other = np.asarray(one, np.float64)[:, None], np.asarray(other, np.float64)[None]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
        shared = sides.clip(0).prod(axis=-1)
        areas = [(boxes[..., 2:] - boxes[..., :2]).clip(0).prod(axis=-1) for boxes in (one, other)]
        found: NDArray[np.float64] = shared / (areas[0] + areas[1] - shared)
    return np.where(np.isfinite(found), found, 0.0).clip(0.0, 1.0)


def _overlaps(answers: Sequence[Boxes], references: Sequence[Boxes], *, labels: bool) -> list[NDArray[np.float64]]:
    """Return the intersection over union [found, in the reference] of each input, 0 where the labels differ."""
    overlaps = []
    for i, (answer, reference) in enumerate(paired(answers, references)):
        boxes, called = _read(answer, f"answers: input {i}", labels=labels)
        wanted, names = _read(reference, f"references: input {i}", labels=labels)
        if len(called) and len(names) and (called.dtype.kind in "iubf") != (names.dtype.kind in "iubf"):
            raise CalibrationError(
                f"answers: input {i}: expected labels as in the references, such as {names[0]!r}, got {called[0]!r}"
            )
        overlaps.append(box_iou(boxes, wanted) * (called[:, None] == names[None]))
    return overlaps


def _f1(weight: NDArray[np.float64]) -> float:
    """Return twice the largest sum of a one-to-one assignment, divided by the numbers of boxes on both sides."""
    if sum(weight.shape) == 0:
        return 1.0
    with naming_extras():
        from scipy.optimize import linear_sum_assignment

    pairs = linear_sum_assignment(weight, maximize=True)
    return min(1.0, float(2 * weight[pairs].sum() / sum(weight.shape)))


def _read(value: Any, where: str, *, labels: bool) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return boxes [k, 4] and labels [k] of one input; labels are 0 where they do not count."""
    if isinstance(value, Detections):
        value = value._asdict()
    if not isinstance(value, Mapping) or "boxes" not in value:
        raise CalibrationError(f"{where}: expected detections with `boxes` [k, 4], got a {type(value).__name__}")
    boxes = np.asarray(value["boxes"], dtype=np.float64)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise CalibrationError(f"{where}: expected `boxes` [k, 4], got {list(boxes.shape)}")
    called = np.zeros(len(boxes), np.int64)
    if labels and value.get("labels") is not None:
        called = np.asarray(value["labels"]).reshape(-1)
    if len(called) != len(boxes):
        raise CalibrationError(f"{where}: expected one label for each of {len(boxes)} boxes, got {len(called)}")
    return boxes, called
