"""Compare two bodies on labelled data: before and after quantization, pruning or another export."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration import (
    Calibration,
    Estimate,
    calibrate_temperature,
    paired_difference_interval,
    proportion,
    softmax,
)
from edgecascade.calibration.class_order import order_sentence
from edgecascade.export.class_names import check_numbers, columns_by_name, labelled_as, model_names
from edgecascade.export.data import Inputs, LabelledData
from edgecascade.export.graph import load_model
from edgecascade.export.logits import find_logits, kind_of, logits_of, recognise_scores
from edgecascade.export.scores import tensor_scores
from edgecascade.types.errors import ExportError

__all__ = ["Compared", "agreement", "check_quantized", "compare_bodies"]


@dataclass(frozen=True)
class Compared:
    """Two bodies on the same labelled inputs.

    Attributes:
        before: accuracy, T, NLL and ECE of the first; T is fitted on these inputs.
        after: the same of the second.
        agreement: share of the inputs that get the same label from both.
        difference: accuracy of the second minus that of the first, on the same inputs.
        megabytes: sizes of both files.
    """

    before: Calibration
    after: Calibration
    agreement: Estimate
    difference: Estimate
    megabytes: tuple[float, float]


def compare_bodies(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    data: LabelledData,
    *,
    output: str | None = None,
    kind: str | None = None,
) -> Compared:
    """Run two bodies on the data, on one thread each, and compare their accuracy and calibration.

    Where the bodies name their classes, they are matched by name with one another and with the data.

    Args:
        before: an ONNX classifier.
        after: another one, which takes the same inputs.
        data: labelled inputs, on which neither was trained or quantized.
        output: the output that holds the logits, if it is not evident.
        kind: one of `KINDS`, if the values do not tell.

    Raises:
        ExportError: they do not take the data, have different classes, or fit its labels far better with their classes
            in another order.
        CalibrationError: no temperature can be fitted.
    """
    models = [load_model(path) for path in (before, after)]
    first, second = (
        _logits(model, data, str(path), output, kind) for model, path in zip(models, (before, after), strict=True)
    )
    if first.shape != second.shape:
        raise ExportError(f"{after}: expected {first.shape[1]} classes as {before} has, got {second.shape[1]}")
    names, others = (
        model_names(model, path, first.shape[1]) for model, path in zip(models, (before, after), strict=True)
    )
    columns = columns_by_name(names, others, str(after))
    data, second = labelled_as(data, names or others), second if columns is None else second[:, columns]
    check_numbers(data, (first if names else second).argmax(axis=1))
    for logits, path in ((first, before), (second, after)):
        _check_order(logits, data, str(path))
    n, labels = len(data.labels), (first.argmax(axis=1), second.argmax(axis=1))
    right = [found == data.labels for found in labels]
    return Compared(
        before=calibrate_temperature(first, data.labels),
        after=calibrate_temperature(second, data.labels),
        agreement=proportion(float((labels[0] == labels[1]).mean()), n),
        difference=Estimate(
            float(right[1].mean() - right[0].mean()), *paired_difference_interval(right[1], right[0]), n
        ),
        megabytes=(Path(before).stat().st_size / 1e6, Path(after).stat().st_size / 1e6),
    )


def check_quantized(
    before: ModelProto,
    after: ModelProto,
    data: LabelledData,
    allowed: float,
    *,
    option: str = "--int8",
    purpose: str = "that the body was quantized on",
    place: str | os.PathLike[str] | None = None,
) -> str:
    """Compare the accuracy of a body before and after quantization, and return a sentence about it.

    Args:
        before: the body in float.
        after: the same body with less precision.
        data: labelled inputs of both.
        allowed: largest loss of accuracy, in [0, 1].
        option: that asked for it, for error messages.
        purpose: what the inputs are, in words.
        place: a file in the folder of the bodies' tokenizer, if they take text.

    Raises:
        ExportError: the whole 95 % interval of the loss is above what is allowed, or another order of the classes fits
            the labels far better, so that no loss can be measured.
    """
    where = option if place is None else str(place)
    wide, narrow = (_logits(model, data, where) for model in (before, after))
    _check_order(wide, data, option)
    first, second = (logits.argmax(axis=1) == data.labels for logits in (wide, narrow))
    n, (low, high) = len(data.labels), paired_difference_interval(first, second)
    loss = float(first.mean() - second.mean())
    sentence = (
        f"accuracy {proportion(float(second.mean()), n).percent()}, in float "
        f"{proportion(float(first.mean()), n).percent()}; loss {100 * loss:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f}), on the {n} inputs {purpose}"
    )
    if low > allowed:
        raise ExportError(
            f"{option}: expected a loss of at most {100 * allowed:g} points (--int8-loss), got {sentence}"
        )
    return sentence


def agreement(before: ModelProto, after: ModelProto, inputs: Inputs, argument: str) -> tuple[Estimate, float]:
    """Return how often two bodies give an input the same label, and the largest difference of a probability.

    Args:
        before: a body.
        after: the same body with less precision.
        inputs: [n, ...], of both; they need no labels.
        argument: the name of the inputs in error messages, and the path beside which a tokenizer lies.
    """
    scores = []
    for model in (before, after):
        source = find_logits(model)
        found = tensor_scores(model, source.tensor, inputs, argument)
        kind = kind_of(source, found)
        scores.append(softmax(logits_of(found, kind, recognise_scores(found, kind).floor)))
    same = scores[0].argmax(axis=1) == scores[1].argmax(axis=1)
    return proportion(float(same.mean()), len(same)), float(np.abs(scores[0] - scores[1]).max())


def _check_order(logits: NDArray[np.floating], data: LabelledData, argument: str) -> None:
    sentence = order_sentence(logits.argmax(axis=1), data.labels, logits.shape[1], data.names)
    if sentence is not None:
        raise ExportError(
            f"{argument}: {sentence}; give the model's classes their names in the order of its outputs (`edgecascade "
            "export FILE --names`), so that they are matched by name"
        )


def _logits(
    model: ModelProto, data: LabelledData, argument: str, output: str | None = None, kind: str | None = None
) -> NDArray[np.float32]:
    source = find_logits(model, output, kind)
    scores = tensor_scores(model, source.tensor, data.inputs, argument)
    kind = kind_of(source, scores)
    return logits_of(scores, kind, recognise_scores(scores, kind).floor)
