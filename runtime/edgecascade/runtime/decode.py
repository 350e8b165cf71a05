"""Decoders: from the named output arrays of one input to what the application wants, such as a text or boxes.

Each is called with the outputs of one input, without a batch axis, and so is a function of one's own:

>>> import numpy as np
>>> steps = np.log(np.array([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7]]))
>>> Ctc("ab")({"logits": steps})
'aab'

They need numpy alone, and run on the device as in calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.answer import Decode, Outputs
from edgecascade.types.detections import Detections
from edgecascade.types.errors import ArgumentError, first_line
from edgecascade.types.named import named

__all__ = ["COLUMNS", "DECODERS", "Boxes", "ClassMap", "Ctc", "Ranking", "Value", "check_names", "decoder_named"]

_CORNERS = ("xyxy", "yxyx", "xywh", "cxcywh")
COLUMNS = ("classes", "objectness", "score-label")


@dataclass(frozen=True)
class Ctc:
    """Text from the scores of characters at each step, by CTC's greedy decoding (Graves et al. 2006).

    At each step the character with the highest score counts; repeated ones are one character, and blanks are left out.

    Attributes:
        characters: the text of each class but the blank, in the order of the classes.
        blank: the class that stands for no character; -1 is the last.
        output: the name of the scores [steps, classes], logits or probabilities; empty if there is one such output.
        length: the name of the output with the number of steps that count; empty if all of them do.
    """

    characters: Sequence[str]
    blank: int = 0
    output: str = ""
    length: str = ""

    def __post_init__(self) -> None:
        if not -1 <= self.blank <= len(self.characters):
            raise ArgumentError(f"blank: expected a class from 0 to {len(self.characters)}, or -1, got {self.blank}")

    def __call__(self, outputs: Outputs) -> str:
        """Return the text.

        Raises:
            ArgumentError: there are no such outputs, or not one class for each character and the blank.
        """
        scores = _output(outputs, self.output, 2, "[steps, classes]", {self.length})
        classes = len(self.characters) + 1
        if scores.shape[1] != classes:
            raise ArgumentError(
                f"decode: expected scores of {classes} classes, those of {classes - 1} characters and the blank, "
                f"got {list(scores.shape)}"
            )
        blank = self.blank % classes
        best = scores[: _number(outputs, self.length)].argmax(axis=1) if self.length else scores.argmax(axis=1)
        changed = np.concatenate([[True], best[1:] != best[:-1]])[: len(best)]
        return "".join(self.characters[one - (one > blank)] for one in best[changed & (best != blank)].tolist())


@dataclass(frozen=True)
class Boxes:
    """Detections from the outputs of a detector, with or without suppression of overlapping boxes in its graph.

    Attributes:
        boxes: the name of the output with boxes [k, 4], or with all columns [k, 4 + ...]; empty if there is only one
            output.
        scores: the name of the scores [k], or of classes [k, classes]; empty if they are columns beside the boxes.
        labels: the name of the labels [k]; empty if they are given by the scores.
        count: the name of the output with the number of boxes that count; empty if all of them do.
        corners: what the four numbers of a box are: `xyxy` (left, top, right, bottom), `yxyx`, `xywh` (left, top,
            width, height) or `cxcywh` (middle, width, height).
        columns: what stands beside the boxes where `scores` is empty: the scores of the `classes` (YOLOv8),
            an `objectness` and the scores of the classes, which are multiplied (YOLOv5), or `score-label`.
        transposed: whether that output is [4 + ..., k].
        least: the lowest score of a box that counts.
        overlap: boxes of a label that overlap one of a higher score by a larger intersection over union are left out;
            None keeps all, where the graph has suppressed them.
        most: the largest number of boxes, those with the highest scores.
        background: the class of scores [k, classes] that stands for no object, and does not count; None if there is
            none.
        first_label: the label of class 0.
        width: what a width is divided by, such as the width of the model's input, to get shares of the sides.
        height: the same for heights.
    """

    boxes: str = ""
    scores: str = ""
    labels: str = ""
    count: str = ""
    corners: str = "xyxy"
    columns: str = "classes"
    transposed: bool = False
    least: float = 0.25
    overlap: float | None = 0.5
    most: int = 100
    background: int | None = None
    first_label: int = 0
    width: float = 1.0
    height: float = 1.0

    def __post_init__(self) -> None:
        for name, value, known in (("corners", self.corners, _CORNERS), ("columns", self.columns, COLUMNS)):
            if value not in known:
                raise ArgumentError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
        for name, number in (("width", self.width), ("height", self.height), ("most", self.most)):
            if not number > 0:
                raise ArgumentError(f"{name}: expected a number above 0, got {number}")

    def __call__(self, outputs: Outputs) -> Detections:
        """Return what was detected, the highest score first.

        Raises:
            ArgumentError: there are no such outputs, or their sizes do not fit each other.
        """
        boxes, scores, labels = self._columns(outputs)
        valid = min(_number(outputs, self.count), len(boxes)) if self.count else len(boxes)
        with np.errstate(invalid="ignore"):
            counted = np.flatnonzero(scores[:valid] >= self.least)
        order = counted[np.argsort(-scores[counted], kind="stable")]
        scale = np.array([self.width, self.height] * 2)
        corners = _as_corners(boxes[order], self.corners) / scale
        kept = np.arange(len(order))[: self.most]
        if self.overlap is not None:
            kept = _unsuppressed(corners, labels[order], self.overlap, self.most)
        return Detections(corners[kept], labels[order][kept], scores[order][kept])

    def _columns(self, outputs: Outputs) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Return boxes [k, 4], scores [k] and labels [k] as the outputs hold them."""
        given = _output(outputs, self.boxes, others={self.scores, self.labels, self.count})
        alone = given.ndim == 1  # the only box of an input, whose axis was taken for that of the batch
        table = given[None] if alone else given
        if table.ndim != 2:
            raise ArgumentError(f"decode: expected boxes [k, 4] of one input, got {list(given.shape)}")
        table = np.asarray(table.T if self.transposed and not alone else table, np.float64)
        if self.scores:
            scored = _named(outputs, self.scores)
            beside = np.asarray(scored[None] if alone else scored, np.float64)
        elif table.shape[1] > 4:
            beside = table[:, 4:]
        else:
            raise ArgumentError(f"decode: expected scores beside the boxes, or their output, got {list(table.shape)}")
        if table.shape[1] < 4 or len(beside) != len(table):
            raise ArgumentError(
                f"decode: expected boxes [k, 4] and as many scores, got {list(table.shape)} and {list(beside.shape)}"
            )
        scores, labels = self._scored(beside)
        if self.labels:
            labels = np.asarray(_named(outputs, self.labels)).reshape(-1).astype(np.int64)
        if len(labels) != len(table):
            raise ArgumentError(f"decode: expected a label for each of {len(table)} boxes, got {len(labels)}")
        return table[:, :4], scores, labels + self.first_label

    def _scored(self, beside: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return scores [k] and labels [k] from the scores of classes, or from the columns beside the boxes."""
        packed = not self.scores
        if packed and self.columns == "score-label":
            return beside[:, 0], beside[:, 1].astype(np.int64)
        if beside.ndim == 1 or beside.shape[1] == 1:
            return beside.reshape(-1), np.zeros(len(beside), np.int64)
        classes = beside[:, 1:] * beside[:, :1] if packed and self.columns == "objectness" else beside.copy()
        if self.background is not None:
            if not -classes.shape[1] <= self.background < classes.shape[1]:
                raise ArgumentError(
                    f"background: expected one of the {classes.shape[1]} classes of the scores, got {self.background}"
                )
            classes[:, self.background] = -np.inf
        return classes.max(axis=1), classes.argmax(axis=1)


@dataclass(frozen=True)
class ClassMap:
    """A map of classes, such as int64 [height, width], from scores of the classes.

    Attributes:
        output: the name of the scores; empty if there is one output.
        axis: that of the classes, such as 0 for [classes, height, width].
    """

    output: str = ""
    axis: int = 0

    def __call__(self, outputs: Outputs) -> NDArray[np.int64]:
        """Return the class with the highest score at each place.

        Raises:
            ArgumentError: there is no such output or axis.
        """
        scores = _output(outputs, self.output)
        if not -scores.ndim <= self.axis < scores.ndim:
            raise ArgumentError(f"axis: expected one of the {scores.ndim} axes of the output, got {self.axis}")
        return np.asarray(scores.argmax(axis=self.axis), np.int64)


@dataclass(frozen=True)
class Value:
    """A number, or an array, as an output has it.

    Attributes:
        output: the name of the output; empty if there is one output.
    """

    output: str = ""

    def __call__(self, outputs: Outputs) -> Any:
        """Return a float, or an array where the output has more than one element.

        Raises:
            ArgumentError: there is no such output.
        """
        found = _output(outputs, self.output)
        return found.item() if found.size == 1 else found


@dataclass(frozen=True)
class Ranking:
    """Items in the order of their scores, the highest first.

    Attributes:
        output: the name of the scores [items]; empty if there is one output.
        most: the largest number of items.
    """

    output: str = ""
    most: int = 100

    def __call__(self, outputs: Outputs) -> NDArray[np.int64]:
        """Return the numbers of the items int64 [at most `most`], from 0.

        Raises:
            ArgumentError: there is no such output.
        """
        scores = _output(outputs, self.output, 1, "[items]")
        return np.argsort(-scores, kind="stable")[: self.most].astype(np.int64)


def _ctc(characters: str, blank: int = 0, output: str = "", length: str = "", space: bool = False) -> Ctc:
    """Return a `Ctc` whose characters are the lines of a text file, and a space after them if `space`."""
    try:
        lines = Path(characters).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(
            f"characters: expected a text file with one in each line, got {characters}: {first_line(error)}"
        ) from error
    lines = lines[:-1] if lines[-1] == "" else lines
    return Ctc((*lines, " ") if space else tuple(lines), blank, output, length)


DECODERS: Mapping[str, Callable[..., Decode]] = {
    "boxes": Boxes,
    "class-map": ClassMap,
    "ctc": _ctc,
    "ranking": Ranking,
    "value": Value,
}  # by the name that commands take


def decoder_named(text: str, argument: str = "decode") -> Decode:
    """Return the decoder that a text names: one of `DECODERS` with its options, or `MODULE:FUNCTION`.

    Args:
        text: such as `ctc:characters=keys.txt`, `boxes:scores=scores,corners=yxyx` or `mymodule.py:decode`.
        argument: the name of the argument for error messages.

    Raises:
        ArgumentError: there is no such decoder or option.

    >>> decoder_named("ranking:most=5")
    Ranking(output='', most=5)
    """
    found: Decode = named(text, DECODERS, argument)
    return found


def check_names(decode: Decode, names: Collection[str], argument: str = "decode") -> None:
    """Check that outputs have the names that a decoder reads, if it is one of those that ship.

    Args:
        decode: the decoder, or a function with it as `__wrapped__`.
        names: of the outputs.
        argument: the name of the argument for error messages.

    Raises:
        ArgumentError: there is no such output, or several where the decoder names none.
    """
    decode = getattr(decode, "__wrapped__", decode)
    if not isinstance(decode, (Boxes, ClassMap, Ctc, Ranking, Value)):
        return
    read = [getattr(decode, name, "") for name in ("output", "boxes", "scores", "labels", "count", "length")]
    left, missing = [one for one in names if one not in read], [one for one in read if one and one not in names]
    if missing:
        raise ArgumentError(f"{argument}: expected an output {missing[0]!r}, got {', '.join(names)}")
    if not any(read[:2]) and len(left) != 1:
        raise ArgumentError(f"{argument}: expected output=NAME, one of {', '.join(left) or 'none'}, got none")


def _named(outputs: Outputs, name: str) -> NDArray[Any]:
    if name not in outputs:
        raise ArgumentError(f"decode: expected an output {name!r}, got {', '.join(outputs) or 'none'}")
    return np.asarray(outputs[name])


def _output(
    outputs: Outputs, name: str, axes: int | None = None, shape: str = "", others: set[str] | None = None
) -> NDArray[Any]:
    """Return an output by its name, or the only one that is not among the others."""
    left = [one for one in outputs if one not in (others or ())]
    if not name and len(left) != 1:
        raise ArgumentError(f"decode: expected the name of an output, because there are {', '.join(left) or 'none'}")
    found = _named(outputs, name or left[0])
    if axes is not None and found.ndim != axes:
        raise ArgumentError(f"decode: expected {name or left[0]!r} {shape} of one input, got {list(found.shape)}")
    return found


def _number(outputs: Outputs, name: str) -> int:
    found = _named(outputs, name)
    if found.size != 1 or not found.item() >= 0:
        raise ArgumentError(f"decode: expected one number of 0 or more in {name!r}, got {list(found.shape)}")
    return int(found.item())


def _as_corners(boxes: NDArray[np.float64], corners: str) -> NDArray[np.float64]:
    """Return boxes [k, 4] as left, top, right, bottom."""
    if corners == "yxyx":
        return boxes[:, [1, 0, 3, 2]]
    if corners == "xywh":
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    if corners == "cxcywh":
        half = boxes[:, 2:] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return boxes


def _unsuppressed(
    boxes: NDArray[np.float64], labels: NDArray[np.int64], overlap: float, most: int
) -> NDArray[np.int64]:
    """Return the indices of at most `most` boxes that no box of the same label before them overlaps by more."""
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        sides = np.minimum(boxes[best, 2:], boxes[left, 2:]) - np.maximum(boxes[best, :2], boxes[left, :2])
        shared = sides.clip(0).prod(axis=1)
        together = areas[best] + areas[left] - shared
        left = left[(shared <= overlap * together) | (labels[left] != labels[best])]
    return np.array(kept, np.int64)
