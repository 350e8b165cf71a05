"""Where a classifier's logits are, and how other scores become logits: in numpy and in the graph alike.

A temperature divides logits. Probabilities give logits up to a constant per row, by their logarithm. A binary head
gives one number z, which stands for the logits (0, z) of two classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from edgecascade.export.graph import Step
from edgecascade.runtime.engine import WITHOUT_ZIPMAP
from edgecascade.types.errors import ExportError
from edgecascade.types.softmax import SMALLEST, Recognised, in_unit_interval, recognise, resolution, two_columns

__all__ = [
    "KINDS",
    "LogitsSource",
    "declared_classes",
    "find_logits",
    "is_one_number",
    "kind_of",
    "logits_of",
    "logits_steps",
    "recognise_scores",
]

KINDS = ("logits", "probabilities", "binary-logits", "binary-probabilities")
_GENERAL = "; for a general task, see `export --outputs` and `calibrate --task`"
_COPIES = ("Identity", "Cast", "Dropout")  # operators that leave values where they are
_MOVES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Clip", "Gather", "Slice", "Expand")
_SIGMOIDS = ("Sigmoid", "HardSigmoid")
_FLOATING = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64"}


@dataclass(frozen=True)
class LogitsSource:
    """A tensor that the logits can be computed from.

    Attributes:
        tensor: its name in the graph.
        kind: one of `KINDS`, or None as long as only its values can tell.
        floor: the number that smaller probabilities are raised to before the logarithm.
    """

    tensor: str
    kind: str | None
    floor: float = SMALLEST


def find_logits(model: ModelProto, name: str | None = None, kind: str | None = None) -> LogitsSource:
    """Find the tensor that holds the logits [batch, classes], or what they can be computed from.

    It is the named output, else the output `logits`, else the only floating [batch, classes] output, else the only
    floating [batch] or [batch, 1] output. If a Softmax or a Sigmoid makes that output, it is the input of that node.
    Several Sigmoids, also in another shape, are the probabilities of independent labels and are refused without a kind.

    Args:
        model: a classifier.
        name: the output, if it is not evident.
        kind: one of `KINDS`, if the values do not tell.

    Raises:
        ExportError: there is no such output, or more than one.
    """
    if kind is not None and kind not in KINDS:
        raise ExportError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    outputs = {o.name: o.type.tensor_type for o in model.graph.output}
    listed = ", ".join(f"{n} [{', '.join(_side(d) for d in t.shape.dim)}]" for n, t in outputs.items())
    if name is None:
        name = _only(outputs, listed)
    if name not in outputs:
        raise ExportError(f"logits: the model has no output {name!r}, but {listed}")
    chosen = outputs[name]
    if chosen.elem_type not in _FLOATING:
        raise ExportError(
            f"logits: expected {', '.join(_FLOATING.values())} in {name!r}, got another type{_zipmap(outputs)}"
        )
    if chosen.HasField("shape") and len(chosen.shape.dim) not in (1, 2):
        raise ExportError(f"logits: expected [batch, classes] in {name!r}, got {listed}{_GENERAL}")
    binary = kind.startswith("binary") if kind else _is_binary(chosen)
    producers = {output: node for node in model.graph.node for output in node.output}
    producer = _maker(name, producers, _COPIES)
    last = producer.op_type if producer is not None else ""
    of_probabilities = kind in (None, "probabilities", "binary-probabilities")
    if producer is not None and last == ("Sigmoid" if binary else "Softmax") and of_probabilities:
        return LogitsSource(producer.input[0], "binary-logits" if binary else "logits")
    sigmoid = _is_sigmoid(name, producers)
    if sigmoid and not binary and kind is None:
        raise ExportError(
            f"logits: {name!r} is a Sigmoid over {listed}: independent labels, of which several may be right; "
            "expected a classifier whose classes exclude each other; if they do, say how to read the values with "
            "`calibrate --kind probabilities` or `--kind logits`"
        )
    if sigmoid and kind == "binary-logits":
        raise ExportError(f"kind: expected binary-probabilities, as {name!r} is a Sigmoid, got {kind}")
    found = "binary-probabilities" if sigmoid else "logits" if last == "LogSoftmax" else None
    return LogitsSource(name, kind or found)


def is_one_number(model: ModelProto) -> bool:
    """Return whether a classifier's output is one number for each input, as that of a regression would be."""
    outputs = {o.name: o.type.tensor_type for o in model.graph.output}
    return _is_binary(outputs[_only(outputs, "several")])


def declared_classes(model: ModelProto) -> int | None:
    """Return the number of classes of a classifier's output as the graph declares it, or None if it does not."""
    outputs = {o.name: o.type.tensor_type for o in model.graph.output}
    chosen = outputs[_only(outputs, "several")]
    if _is_binary(chosen):
        return 2
    sides = chosen.shape.dim
    return int(sides[1].dim_value) or None if len(sides) == 2 else None


def kind_of(source: LogitsSource, scores: NDArray[np.floating]) -> str:
    """Return what a tensor holds, one of `KINDS`, from its values if the graph does not tell.

    Args:
        source: from `find_logits`.
        scores: its raw values, [n, classes], or [n] or [n, 1] of a binary head.

    Raises:
        ExportError: the values have another shape, or do not tell.
    """
    wide = scores.ndim == 2 and scores.shape[1] > 1
    if scores.ndim not in (1, 2) or (source.kind is not None and source.kind.startswith("binary") == wide):
        raise ExportError(f"logits: expected {source.kind or 'scores'} in {source.tensor!r}, got {list(scores.shape)}")
    if source.kind is not None:
        if source.kind.endswith("probabilities") and not in_unit_interval(scores):
            raise ExportError(
                f"logits: expected numbers in [0, 1] in {source.tensor!r} with --kind {source.kind}, "
                f"got {scores.min():g} to {scores.max():g}"
            )
        return source.kind
    if wide:
        found = recognise(scores)
        if found.doubt:
            raise ExportError(
                f"logits: {source.tensor!r} has {found.doubt}; say what they are with --kind probabilities or "
                "--kind logits"
            )
        return found.kind
    if ((scores < 0) | (scores > 1)).any():
        return "binary-logits"
    raise ExportError(
        f"logits: all {len(scores)} numbers in {source.tensor!r} lie in [0, 1], as probabilities do and logits may; "
        "say which with --kind binary-probabilities or --kind binary-logits"
    )


def recognise_scores(scores: NDArray[np.floating], kind: str) -> Recognised:
    """Find how a model's raw scores of one of the `KINDS` were rounded, and the floor of their probabilities.

    The probability 1 - p of a binary head is rounded to half a unit in the last place of a number below 1, since the
    head computes p.
    """
    if kind == "probabilities":
        return resolution(scores)
    if kind != "binary-probabilities":
        return Recognised("logits")
    found = resolution(two_columns(scores, probabilities=True))
    stored = np.float16 if found.rounding == "float16" else np.float32
    return replace(found, floor=max(found.floor, 0.5 * float(np.finfo(stored).epsneg)))


def logits_of(scores: NDArray[Any], kind: str, floor: float = SMALLEST) -> NDArray[np.float32]:
    """Return the logits float32 [n, classes] of a model's raw scores, in the arithmetic of `logits_steps`."""
    values = scores.astype(np.float32)
    if kind.startswith("binary"):
        values = two_columns(values, probabilities=kind == "binary-probabilities")
    return np.log(np.maximum(values, np.float32(floor))) if kind.endswith("probabilities") else values


def logits_steps(tensor: str, kind: str, floor: str = "tiny") -> list[Step]:
    """Return the steps from a tensor to `logits` float32 [batch, classes].

    They use the constants `one` and `column` of the head, and the one of the given name as floor of probabilities.
    """
    cast: Step = ("Cast", [tensor], "logits" if kind == "logits" else "scores", {"to": TensorProto.FLOAT})
    made = "logits" if kind == "binary-logits" else "distribution"
    binary: list[Step] = [
        ("Reshape", ["scores", "column"], "second_class", {}),
        ("Sub", ["one" if kind == "binary-probabilities" else "second_class", "second_class"], "first_class", {}),
        ("Concat", ["first_class", "second_class"], made, {"axis": 1}),
    ]
    logarithm: list[Step] = [
        ("Max", ["scores" if kind == "probabilities" else "distribution", floor], "likely", {}),
        ("Log", ["likely"], "logits", {}),
    ]
    return [
        cast,
        *(binary if kind.startswith("binary") else []),
        *(logarithm if kind.endswith("probabilities") else []),
    ]


def _maker(name: str, producers: Mapping[str, NodeProto], through: Sequence[str]) -> NodeProto | None:
    """Return the node that makes a tensor, before nodes of the given operators."""
    node = producers.get(name)
    while node is not None and node.op_type in through:
        node = producers.get(node.input[0])
    return node


def _is_sigmoid(name: str, producers: Mapping[str, NodeProto]) -> bool:
    """Return whether all values of a tensor come out of Sigmoids, in any shape or order."""
    waiting, seen = [name], set()
    while waiting:
        node = _maker(waiting.pop(), producers, (*_COPIES, *_MOVES))
        if node is None or not (node.op_type in _SIGMOIDS or node.op_type == "Concat"):
            return False
        if node.op_type == "Concat" and node.output[0] not in seen:
            seen.add(node.output[0])
            waiting += node.input
    return True


def _only(outputs: dict[str, onnx.TypeProto.Tensor], listed: str) -> str:
    if "logits" in outputs:
        return "logits"
    floating = {n: t for n, t in outputs.items() if t.elem_type in _FLOATING}
    tables = [n for n, t in floating.items() if len(t.shape.dim) == 2 and not _is_binary(t)]
    columns = [n for n, t in floating.items() if _is_binary(t)]
    for found in (tables, columns):
        if len(found) == 1:
            return found[0]
        if found:
            break
    cure = _zipmap(outputs) or f"; of a classifier, name it with `calibrate --logits`{_GENERAL}"
    raise ExportError(f"logits: expected one floating [batch, classes] output, got {listed}{cure}")


def _zipmap(outputs: Mapping[str, onnx.TypeProto.Tensor]) -> str:
    """Return how to avoid outputs that are not tensors, or nothing if there are none."""
    return f"; {WITHOUT_ZIPMAP}" if any(one.elem_type == TensorProto.UNDEFINED for one in outputs.values()) else ""


def _is_binary(output: onnx.TypeProto.Tensor) -> bool:
    sides = output.shape.dim
    return output.HasField("shape") and (len(sides) == 1 or (len(sides) == 2 and sides[1].dim_value == 1))


def _side(dim: onnx.TensorShapeProto.Dimension) -> str:
    return str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?"
