"""What a change of the body did to it: quantization, pruning, another exporter."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import Calibration, Estimate, calibrate_temperature, paired_difference_interval, proportion
from edgecascade.export.graph import load_model
from edgecascade.export.labelled import LabelledData
from edgecascade.export.logits import find_logits, logits_of, settle
from edgecascade.export.scores import local_scores
from edgecascade.types.errors import ExportError

__all__ = ["Compared", "compare_bodies"]


@dataclass(frozen=True)
class Compared:
    """Two bodies on the same labelled inputs.

    Attributes:
        before: accuracy, T, NLL and ECE of the first; T is fitted on these inputs.
        after: the same of the second.
        agreement: share of inputs that get the same label.
        difference: accuracy of the second less that of the first, on the same inputs.
        megabytes: of both files.
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
    """Run both on the data, with one thread.

    Args:
        before: ONNX classifier.
        after: another, which takes the same inputs.
        data: labelled inputs, on which neither was trained or quantized.
        output: as `calibrate` takes it.
        kind: likewise.

    Raises:
        ExportError: they do not take the data, or give other classes.
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
    raw = local_scores(path, data.inputs, output=output, kind=kind)
    settled = settle(find_logits(load_model(path), output, kind), raw).kind
    assert settled is not None
    return logits_of(raw, settled)
