"""A cascade model in the field, planned anew: on other data, or along its own curve. The body stays what it was."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from edgecascade.calibration import CertifiedLoss, Objective, OperatingPoint
from edgecascade.export.calibrate import Calibrated, fold_plan
from edgecascade.export.fold import unfold
from edgecascade.export.graph import load_model, save_model
from edgecascade.export.labelled import Inputs, LabelledData
from edgecascade.export.logits import LogitsSource
from edgecascade.export.scores import Progress, tensor_scores
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.golden import compare, read_golden
from edgecascade.runtime.text import text_input
from edgecascade.types.document import GOLDEN_KEY, KEY, CascadeDocument
from edgecascade.types.errors import ExportError, ParityError

__all__ = ["cascade_scores", "move_threshold", "recalibrate"]

_TOLERANCE = 1e-5


def cascade_scores(
    path: str | os.PathLike[str], inputs: Inputs, *, progress: Progress | None = None
) -> NDArray[np.floating]:
    """What the body inside a cascade model gives for inputs, before any temperature: [n, classes] or [n]."""
    source = _document(path).source
    return tensor_scores(unfold(load_model(path)), source.logits, inputs, str(path), progress=progress)


def recalibrate(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    data: LabelledData,
    local_scores: NDArray[np.floating],
    remote_scores: NDArray[np.floating],
    *,
    objective: Objective,
    golden: bool = True,
    **options: Any,
) -> Calibrated:
    """Take the head off, plan anew on other data, and fold the new plan in.

    Args:
        path: a cascade model.
        out: the file to write; it may be the same.
        data: labelled data, used for nothing else before or after.
        local_scores: the body's on that data, as `cascade_scores` gives them.
        remote_scores: [n, classes], the remote's logits or probabilities on that data.
        objective: what the plan is to achieve.
        golden: whether a few of the inputs may travel in the file.
        options: `scores`, `merges`, `estimate` and `bins`, as `calibrate` takes them.

    Raises:
        ModelFileError: this is no cascade model.
        ExportError: as `calibrate`; nothing is written then.
    """
    source = _document(path).source
    return fold_plan(
        unfold(load_model(path)),
        LogitsSource(source.logits, source.kind, source.kind.startswith("binary")),
        {"model": source.model, "model_sha256": source.model_sha256},
        path,
        out,
        data if data.names else replace(data, names=_document(path).labels),
        local_scores,
        remote_scores,
        objective=objective,
        golden=golden,
        **options,
    )


def move_threshold(path: str | os.PathLike[str], out: str | os.PathLike[str], objective: Objective) -> OperatingPoint:
    """Choose another point of the operating curve in the file: no data, no remote, and the same table.

    The certificate, if there was one, was for the old threshold and goes.

    Args:
        path: a cascade model.
        out: the file to write; it may be the same.
        objective: what the threshold is to achieve.

    Raises:
        ModelFileError: this is no cascade model.
        ExportError: the objective is a `CertifiedLoss`, which needs fresh data.
        CalibrationError: no point of the curve serves the objective.
        ParityError: the file does not decide its golden inputs as it should; nothing is written then.
    """
    if isinstance(objective, CertifiedLoss):
        raise ExportError("objective: a CertifiedLoss needs fresh data; call recalibrate")
    model, document = load_model(path), _document(path)
    text = text_input(open_session(path), path)
    chosen = objective.choose(document.operating_curve, document.remote.accuracy.value)
    moved = "the threshold was moved along the curve of the calibration data; nothing was measured anew"
    policy = replace(
        document.policy, objective=str(objective), threshold=chosen.threshold, chosen=chosen, advice=(moved,)
    )
    document = replace(document, certificate=None, policy=policy)
    _set(model, "threshold", chosen.threshold)
    _set_property(model, KEY, document.to_json())
    _keep_golden(model, chosen.threshold, path)
    if text is not None:
        text.copy(Path(out).parent)
    save_model(model, out)
    return chosen


def _document(path: str | os.PathLike[str]) -> CascadeDocument:
    if not Path(path).is_file():
        raise ExportError(f"{path}: no such file")
    return read_document(open_session(path), path)


def _keep_golden(model: ModelProto, threshold: float, path: str | os.PathLike[str]) -> None:
    """The golden inputs with the decisions of the new threshold, after the model has shown that it takes them."""
    session = open_session(model.SerializeToString())
    golden = read_golden(session, path)
    if golden is None:
        return
    forward = ~(golden.expected.advantage >= np.float32(threshold))
    golden = replace(golden, expected=replace(golden.expected, forward=forward))
    _, sentence = compare(session, golden.inputs, golden.expected, _TOLERANCE)
    if sentence is not None:
        raise ParityError(f"parity failed: {sentence}; nothing was written")
    _set_property(model, GOLDEN_KEY, golden.text())


def _set(model: ModelProto, name: str, value: float) -> None:
    (initializer,) = (one for one in model.graph.initializer if one.name == name)
    initializer.CopyFrom(numpy_helper.from_array(np.asarray(value, np.float32), name))


def _set_property(model: ModelProto, key: str, value: str) -> None:
    (entry,) = (one for one in model.metadata_props if one.key == key)
    entry.value = value
