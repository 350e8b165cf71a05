"""Compare two bodies on labelled data: before and after quantization, pruning or another export."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import Calibration, Estimate, calibrate_temperature, paired_difference_interval
from edgecascade.calibration.estimate import proportion
from edgecascade.export.data import LabelledData
from edgecascade.export.graph import load_model
from edgecascade.export.logits import find_logits, kind_of, logits_of
from edgecascade.export.scores import tensor_scores
from edgecascade.types.errors import ExportError

__all__ = ["Compared", "compare_bodies"]


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

    Args:
        before: an ONNX classifier.
        after: another one, which takes the same inputs.
        data: labelled inputs, on which neither was trained or quantized.
        output: the output that holds the logits, if it is not evident.
        kind: one of `KINDS`, if the values do not tell.

    Raises:
        ExportError: they do not take the data, or have different classes.
        CalibrationError: no temperature can be fitted.
    """
    first, second = (_logits(path, data, output, kind) for path in (before, after))
    if first.shape != second.shape:
        raise ExportError(f"{after}: expected {first.shape[1]} classes as {before} has, got {second.shape[1]}")
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


def _logits(
    path: str | os.PathLike[str], data: LabelledData, output: str | None, kind: str | None
) -> NDArray[np.float32]:
    model = load_model(path)
    source = find_logits(model, output, kind)
    scores = tensor_scores(model, source.tensor, data.inputs, str(path))
    return logits_of(scores, kind_of(source, scores))
