"""Confidence functions: from the outputs of a body to a score [batch], as operators that travel in the file.

Each names the outputs that it reads and how. A score may have any scale; higher is surer. The plan maps it to the
expected value of the answer. A confidence function of one's own is a torch function or an ONNX file: see `own.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isqrt
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from edgecascade.export.head import INNER
from edgecascade.export.task.operators import Operators
from edgecascade.runtime.decode import COLUMNS
from edgecascade.types.errors import ExportError
from edgecascade.types.named import named
from edgecascade.types.softmax import SMALLEST, are_probabilities

__all__ = [
    "CONFIDENCES",
    "SCORE_PREFIX",
    "Confidence",
    "Entropy",
    "Margin",
    "MaxScore",
    "MeanLogProbability",
    "MeanScore",
    "MinLogProbability",
    "MinScore",
    "Output",
    "Outputs",
    "confidence_named",
    "options_of",
]

Outputs = Mapping[str, NDArray[Any]]
SCORE_PREFIX = f"{INNER}score/"  # of everything between the body's outputs and the score
_KINDS = ("auto", "logits", "probabilities")
_LARGEST = float(np.finfo(np.float32).max)
_MANY_CLASSES, _FEWEST_BLOCKS = 256, 8  # below, finding the largest in blocks saves nothing


class Confidence(Protocol):
    """A confidence function that can become a graph. What ships is a frozen dataclass of its options."""

    @property
    def name(self) -> str:
        """Return the name by which the document knows it."""
        ...

    def graph(self, samples: Sequence[Outputs], opset: int) -> ModelProto:
        """Return an ONNX model whose inputs are outputs of a body, by name, and whose one output is the score [batch].

        The names of everything else in it begin with `SCORE_PREFIX`.

        Args:
            samples: the body's outputs for a few inputs, each run alone.
            opset: the body's version of the operators. A graph of one's own may have a newer one; the body is then
                converted.

        Raises:
            ExportError: the body has no such outputs.
        """
        ...


@dataclass(frozen=True)
class Output:
    """An output [batch] or [batch, 1] as it is, such as a quality or a variance that the model estimates.

    Attributes:
        output: name of the output; empty if there is one that fits.
        negate: whether lower values are surer, as of a variance.
    """

    name: ClassVar[str] = "output"
    output: str = ""
    negate: bool = False

    def graph(self, samples: Sequence[Outputs], opset: int) -> ModelProto:
        """Return the graph."""
        output = _chosen(self.name, self.output, samples, lambda one: one.size == 1, "one number per input")
        add = Operators(SCORE_PREFIX, opset)
        x = add.wide(output, samples[0][output])
        return _model(add, add("Neg", x) if self.negate else x, [output], samples, opset)


@dataclass(frozen=True)
class _Scores:
    output: str = ""
    column: int | None = None
    floor: float | None = None
    count: str = ""
    empty: float = 0.0
    columns: str = ""
    transposed: bool = False
    background: int | None = None

    def graph(self, samples: Sequence[Outputs], opset: int) -> ModelProto:
        """Return the graph."""
        if self.columns not in ("", *COLUMNS) or (self.columns and self.column is not None):
            raise ExportError(
                f"confidence: expected {self.name}:columns=one of {', '.join(COLUMNS)}, without column=..., got "
                f"{self.columns}"
            )
        what = "boxes and scores [batch, N, 4 + ...]" if self.columns else "scores [batch, N]"
        output = _chosen(self.name, self.output, samples, self._fits, what)
        sample, add = samples[0][output], Operators(SCORE_PREFIX, opset)
        batched = all(len(one[output]) == 1 for one in samples)
        x = self._row(add, add.wide(output, sample), sample.shape, batched)
        keep = add("Not", add("Less", x, -_LARGEST if self.floor is None else float(self.floor)))
        if self.count:
            _check_named(self.name, "count", self.count, samples)
            keep = add("And", keep, _before(add, x, add.wide(self.count, samples[0][self.count])))
        number = add.reduce("Sum", add("Cast", keep, to=TensorProto.FLOAT), axis=1)
        total = add.reduce("Sum", add("Where", keep, x, 0.0), axis=1)
        mean = add("Div", total, add("Max", number, 1.0))
        found = mean if self.how == "Mean" else _extreme(add, self.how, x, keep, total)
        score = add("Where", add("Greater", number, 0.0), found, float(self.empty))
        return _model(add, score, [output, *filter(None, [self.count])], samples, opset)

    def _fits(self, one: NDArray[Any]) -> bool:
        if self.columns:
            return one.ndim in (2, 3) and one.shape[-2 if self.transposed else -1] > 4
        return one.ndim in ((1, 2, 3) if self.column is None else (2, 3))

    def _row(self, add: Operators, x: str, shape: Sequence[int], batched: bool) -> str:
        """Return scores [batch, N]: one column of a table, or the largest over classes, where there are more sides."""
        sides, last = len(shape), shape[-1]
        if self.transposed and sides > 1:
            x, last = add("Transpose", x, perm=[*range(sides - 2), sides - 1, sides - 2]), shape[-2]
        if self.columns:
            x, last = self._beside(add, x, last)
        if self.column is not None:
            x, sides = add("Gather", x, self.column, axis=-1), sides - 1
        elif sides == 3 or (sides == 2 and (self.columns or not batched)):
            if self.background is not None:
                x = self._without_background(add, x, last)
            x, sides = add.reduce("Max", x, axis=-1), sides - 1
        return x if sides == 2 else add("Reshape", x, [1, -1])

    def _beside(self, add: Operators, x: str, width: int) -> tuple[str, int]:
        """Return the scores of classes that stand beside boxes [..., N, width], and the number of classes."""
        first = 5 if self.columns == "objectness" and width > 5 else 4
        last = 5 if self.columns == "score-label" else width
        scores = add("Slice", x, [first], [last], [-1])
        return scores if first == 4 else add("Mul", scores, add("Slice", x, [4], [5], [-1])), last - first

    def _without_background(self, add: Operators, x: str, classes: int) -> str:
        assert self.background is not None
        if not -classes <= self.background < classes:
            raise ExportError(
                f"confidence: expected {self.name}:background=one of {classes} classes, got {self.background}"
            )
        chosen = [int(one == self.background % classes) for one in range(classes)]
        return add("Where", add("Equal", chosen, 1), -_LARGEST, x)

    name: ClassVar[str] = ""
    how: ClassVar[str] = ""


class MaxScore(_Scores):
    """The largest score of the detections of an input.

    Attributes:
        output: name of the scores, [batch, N], [batch, N, classes], of which the largest counts, or [N], after
            non-maximum suppression; empty if there is one output that fits.
        column: which column holds the scores, where detections are rows [batch, N, columns] or [N, columns].
        floor: detections with lower scores do not count; None counts all.
        count: name of an output [batch] with the number of detections that count; empty without one.
        empty: the score where no detection counts.
        columns: what stands beside the boxes [batch, N, 4 + ...] in the output: `classes`, `objectness` or
            `score-label`, as of the decoder `Boxes`; empty if the output has no boxes.
        transposed: whether the output is [batch, columns, N].
        background: the class that stands for no object, and does not count; None if there is none.
    """

    name = "max"
    how = "Max"


class MeanScore(_Scores):
    """The mean score of the detections of an input; attributes as `MaxScore`."""

    name = "mean"
    how = "Mean"


class MinScore(_Scores):
    """The smallest score of the detections of an input; attributes as `MaxScore`."""

    name = "min"
    how = "Min"


@dataclass(frozen=True)
class _Steps:
    output: str = ""
    kind: str = "auto"
    axis: int | None = None
    mask: str = ""
    length: str = ""

    def _graph(self, samples: Sequence[Outputs], opset: int, blank: int | None, lowest: bool) -> ModelProto:
        last = -1 if self.axis is None else self.axis

        def fits(one: NDArray[Any]) -> bool:
            return one.ndim >= 2 and -one.ndim <= last < one.ndim and one.shape[last] > 1

        what = "scores [batch, steps, classes]" if last == -1 else f"scores of classes along axis {last}"
        output = _chosen(self.name, self.output, samples, fits, what)
        add, sample = Operators(SCORE_PREFIX, opset), samples[0][output]
        if self.axis is None and sample.ndim > 3:
            raise ExportError(
                f"confidence: expected {self.name}:axis=..., that of the classes in {output!r} {list(sample.shape)}, "
                "such as axis=1, got none"
            )
        batched = all(len(one[output]) == 1 for one in samples)
        axis, x = last % sample.ndim, add.wide(output, sample)
        classes = sample.shape[axis]
        if blank is not None and not -classes <= blank < classes:
            raise ExportError(f"confidence: expected {self.name}:blank=one of {classes} classes, got {blank}")
        shape = ([0, -1] if sample.ndim > 2 else [-1, 1]) if batched else [1, -1]
        logits = self._logits(samples, output, last)
        if blank is None:
            each = add("Reshape", self._each(add, x, axis, logits), shape)
            keep = self._real(add, each, samples)
        else:
            values = add("LogSoftmax", x, axis=axis) if logits else x
            top, symbol = _likeliest(add, values, classes if axis == sample.ndim - 1 == 2 else 0, axis)
            each = add("Reshape", top if logits else add("Log", add("Max", top, SMALLEST)), shape)
            symbol = add("Reshape", symbol, shape)
            keep = _characters(add, symbol, blank % classes, self._real(add, each, samples))
        read = [output, *filter(None, [self.mask, self.length])]
        return _model(add, _over_steps(add, each, keep, lowest), read, samples, opset)

    def _each(self, add: Operators, x: str, axis: int, logits: bool) -> str:
        """Return the value of each step, without the axis of the classes."""
        raise NotImplementedError

    def _logits(self, samples: Sequence[Outputs], output: str, axis: int) -> bool:
        if self.kind not in _KINDS:
            raise ExportError(f"confidence: expected kind={', kind='.join(_KINDS)}, got kind={self.kind}")
        if self.kind != "auto":
            return self.kind == "logits"
        rows = [np.moveaxis(one[output], axis, -1).reshape(-1, one[output].shape[axis]) for one in samples]
        return not are_probabilities(np.concatenate(rows).astype(np.float32))

    def _real(self, add: Operators, each: str, samples: Sequence[Outputs]) -> str | None:
        """Return which steps [batch, steps] are no padding, or None if all are not."""
        if self.mask:
            _check_named(self.name, "mask", self.mask, samples)
            mask = add.wide(self.mask, samples[0][self.mask])
            return add("Greater", add("Reshape", mask, add("Shape", each)), 0.5)
        if self.length:
            _check_named(self.name, "length", self.length, samples)
            return _before(add, each, add.wide(self.length, samples[0][self.length]))
        return None

    name: ClassVar[str] = ""


@dataclass(frozen=True)
class _Likeliest(_Steps):
    blank: int | None = None

    lowest: ClassVar[bool] = False

    def graph(self, samples: Sequence[Outputs], opset: int) -> ModelProto:
        """Return the graph."""
        return self._graph(samples, opset, self.blank, self.lowest)

    def _each(self, add: Operators, x: str, axis: int, logits: bool) -> str:
        if logits:
            return add.reduce("Max", add("LogSoftmax", x, axis=axis), axis=axis)
        return add("Log", add("Max", add.reduce("Max", x, axis=axis), SMALLEST))


class MeanLogProbability(_Likeliest):
    """The mean log-probability of the likeliest class of each step, in nats.

    Attributes:
        output: name of the scores, [batch, steps, classes]; empty if there is one output that fits. Several axes of
            steps, such as the height and width of a segmentation, will do, and so will [batch, classes].
        kind: `logits`, `probabilities`, or `auto`, which tells by the values.
        axis: the axis of the classes; None is the last of at most three, and must not be of more.
        mask: name of an output [batch, steps] that is above 0.5 where a step is no padding; empty without one.
        length: name of an output [batch] with the number of steps that are no padding; empty without one.
        blank: the class that is CTC's blank, -1 for the last; then only the steps with a character count: those whose
            likeliest class is not the blank, nor that of the step before. All steps count where there is no character.
            None if the scores are not those of CTC.
    """

    name = "mean-log-probability"


class MinLogProbability(_Likeliest):
    """The smallest log-probability of the likeliest class of a step, in nats; attributes as `MeanLogProbability`."""

    name = "min-log-probability"
    lowest = True


class Entropy(_Steps):
    """The negative entropy of the classes in nats, its mean over the steps; attributes as `MeanLogProbability`."""

    name = "entropy"

    def graph(self, samples: Sequence[Outputs], opset: int) -> ModelProto:
        """Return the graph."""
        return self._graph(samples, opset, None, lowest=False)

    def _each(self, add: Operators, x: str, axis: int, logits: bool) -> str:
        if logits:
            logarithm = add("Max", add("LogSoftmax", x, axis=axis), float(np.log(SMALLEST)))
            x = add("Exp", logarithm)
        else:
            logarithm = add("Log", add("Max", x, SMALLEST))
        return add.reduce("Sum", add("Mul", x, logarithm), axis=axis)


class Margin(_Steps):
    """The largest score less the second largest, as the model gives them, its mean over the steps.

    Of logits it is the log-odds of the two likeliest classes; of similarities, the lead of the best match. Attributes
    are those of `MeanLogProbability`; `kind` has no effect.
    """

    name = "margin"

    def graph(self, samples: Sequence[Outputs], opset: int) -> ModelProto:
        """Return the graph."""
        return self._graph(samples, opset, None, lowest=False)

    def _each(self, add: Operators, x: str, axis: int, logits: bool) -> str:  # noqa: ARG002
        top = add("TopK", x, [2], axis=axis)
        return add("Sub", *(add("Gather", top, place, axis=axis) for place in (0, 1)))


CONFIDENCES: Mapping[str, Callable[..., Confidence]] = {
    one.name: one
    for one in (
        Output,
        MaxScore,
        MeanScore,
        MinScore,
        MeanLogProbability,
        MinLogProbability,
        Entropy,
        Margin,
    )
}  # by the name that commands take


def confidence_named(text: str, argument: str = "confidence") -> Any:
    """Return the confidence function that a text names: one of `CONFIDENCES` with its options, or one's own object.

    Args:
        text: such as `margin`, `max:output=scores,floor=0.3` or `mymodule.py:sureness`.
        argument: the name of the argument for error messages.

    Raises:
        ArgumentError: there is none of this name, or it has no such option.

    >>> confidence_named("max:output=scores,floor=0.3").floor
    0.3
    """
    return named(text, CONFIDENCES, argument)


def options_of(confidence: Confidence) -> dict[str, str | int | float | bool]:
    """Return the options of a confidence function that are not the defaults, for the document."""
    if type(confidence) not in CONFIDENCES.values():
        return {}
    given, usual = asdict(confidence), asdict(type(confidence)())  # type: ignore[call-overload]
    return {name: value for name, value in given.items() if value != usual[name]}


def _chosen(name: str, output: str, samples: Sequence[Outputs], fits: Callable[[NDArray[Any]], bool], what: str) -> str:
    """Return the output to read: the one that is named, or the only floating one that fits."""
    described = ", ".join(f"{key} {array.dtype} {list(array.shape)}" for key, array in samples[0].items())
    if output:
        _check_named(name, "output", output, samples)
        if samples[0][output].dtype.kind not in "fiu" or not all(fits(one[output]) for one in samples):
            raise ExportError(f"confidence: expected {what} in {output!r} for {name}, got {described}")
        return output
    found = [
        key for key, array in samples[0].items() if array.dtype.kind == "f" and all(fits(one[key]) for one in samples)
    ]
    if len(found) != 1:
        raise ExportError(
            f"confidence: expected {name}:output=NAME, the output with {what}, of a body that gives {described}"
        )
    return found[0]


def _check_named(name: str, option: str, output: str, samples: Sequence[Outputs]) -> None:
    if output not in samples[0]:
        raise ExportError(f"confidence: expected {name}:{option}=one of {', '.join(samples[0])}, got {output!r}")


def _before(add: Operators, x: str, count: str) -> str:
    """Return which of the columns of x [batch, N] come before a count [batch]."""
    side = add("Gather", add("Shape", x), 1)
    place = add("Cast", add("Range", 0, side, 1), to=TensorProto.FLOAT)
    return add("Less", place, add("Reshape", count, [-1, 1]))


def _extreme(add: Operators, kind: str, x: str, keep: str, total: str) -> str:
    """Return the largest or smallest number [batch] that is kept; a NaN in the total stays one."""
    other = -_LARGEST if kind == "Max" else _LARGEST
    kept = add("Pad", add("Where", keep, x, other), [0, 1, 0, 0], other)  # a side of 0 cannot be reduced
    return add("Where", add("IsNaN", total), total, add.reduce(kind, kept, axis=1))


def _likeliest(add: Operators, x: str, classes: int, axis: int) -> tuple[str, str]:
    """Return the largest value of each step, and its class.

    One TopK takes less time than a ReduceMax and an ArgMax. For many classes along the last of three axes it takes a
    third of that to find the largest value of each block of classes first.

    Args:
        add: adds the operators.
        x: values of the classes.
        classes: how many there are, if they are along the last of three axes; otherwise 0.
        axis: that of the classes.
    """
    blocks = next((count for count in range(isqrt(classes), 1, -1) if classes % count == 0), 1)
    if classes < _MANY_CLASSES or blocks < _FEWEST_BLOCKS:
        top = add("TopK", x, [1], axis=axis)
        return top, f"{top}_index"
    wide = classes // blocks
    table = add("Reshape", x, [0, 0, blocks, wide])
    top = add("TopK", add.reduce("Max", table, axis=3), [1], axis=2)
    inside = add("ArgMax", add("GatherND", table, f"{top}_index", batch_dims=2), axis=2, keepdims=1)
    return top, add("Add", add("Mul", f"{top}_index", wide), inside)


def _characters(add: Operators, symbol: str, blank: int, real: str | None) -> str:
    """Return which steps [batch, steps] have a character under CTC, or all that are no padding where none has."""
    before = add("Slice", add("Pad", symbol, [0, 1, 0, 0], -1), [0], [-1], [1])
    silent = add("Or", add("Equal", symbol, blank), add("Equal", symbol, before))
    spoken = add("Not", silent)
    if real is not None:
        spoken = add("And", spoken, real)
    number = add.reduce("Sum", add("Cast", spoken, to=TensorProto.FLOAT), axis=1, keepdims=True)
    every = add("Or", spoken, add("Less", number, 0.5))
    return every if real is None else add("And", every, real)


def _over_steps(add: Operators, each: str, keep: str | None, lowest: bool) -> str:
    """Return the mean or the smallest [batch] of the values of steps; NaN where no step counts."""
    if keep is None:
        return add.reduce("Min" if lowest else "Mean", each, axis=1)
    number = add.reduce("Sum", add("Cast", keep, to=TensorProto.FLOAT), axis=1)
    total = add.reduce("Sum", add("Where", keep, each, 0.0), axis=1)
    mean = add("Div", total, number)
    return _extreme(add, "Min", each, keep, mean) if lowest else mean


def _model(add: Operators, score: str, read: Sequence[str], samples: Sequence[Outputs], opset: int) -> ModelProto:
    """Return what was written as a model from outputs of the body to the score."""
    done = add("Reshape", score, [-1])
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(samples[0][name].dtype), [None] * samples[0][name].ndim
        )
        for name in dict.fromkeys(read)
    ]
    output = helper.make_tensor_value_info(done, TensorProto.FLOAT, ["batch"])
    graph = helper.make_graph(add.nodes, "confidence", inputs, [output], add.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
