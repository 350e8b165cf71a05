"""Recalibrate a cascade model in use: on new data, or along its own operating curve. The body stays the same."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from edgecascade.calibration import CertifiedLoss, LeastCost, LeastOffload, Objective, OperatingPoint
from edgecascade.export.calibrate import Calibrated, inner_body, write_cascade
from edgecascade.export.data import Inputs, LabelledData
from edgecascade.export.graph import keep, load_model, open_model, save_model
from edgecascade.export.scores import Progress, tensor_scores
from edgecascade.export.writing import write_tokenizer
from edgecascade.runtime.engine import open_session, read_classifier, read_document
from edgecascade.runtime.golden import compare, read_golden
from edgecascade.runtime.text import text_input
from edgecascade.types.document import GOLDEN_KEY, KEY, CascadeDocument, TaskDocument
from edgecascade.types.errors import ExportError, ParityError

__all__ = ["cascade_scores", "move_threshold", "recalibrate"]

_TOLERANCE = 1e-5


def cascade_scores(
    path: str | os.PathLike[str], inputs: Inputs, *, progress: Progress | None = None
) -> NDArray[np.floating]:
    """Return the raw scores [n, classes] or [n] of the body inside a cascade model, before any temperature.

    Args:
        path: the cascade model.
        inputs: [n, ...].
        progress: called with the number of inputs just done.
    """
    body = inner_body(path)
    return tensor_scores(body.model, body.logits.tensor, inputs, body.path, progress=progress)


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
    """Plan anew for the body of a cascade model, on other data, and write it with the new plan.

    Args:
        path: the cascade model.
        out: the file to write, which may be the same.
        data: labelled data, used for nothing else before or after.
        local_scores: raw scores of the body on that data, from `cascade_scores`.
        remote_scores: [n, classes], the remote's logits or probabilities on that data; or the calibrated probabilities
            that a `Watch` recorded with it, which are turned back into scores by the calibration in the file.
        objective: the aim of the plan.
        golden: whether a few of the inputs may travel in the file.
        options: `scores`, `merges`, `estimate`, `bins`, `remote_kind`, `remote_names`, `remote_chat`,
            `even_without_gain`, `calibrator` and `label_noise`, as in `calibrate`. Without `remote_names`, the remote's
            order of the classes is that in the file, and without `remote_chat`, how a generative model is asked.

    Raises:
        ModelFileError: the file is not a cascade model.
        ExportError: as in `calibrate`; nothing is written then.
    """
    body, document = inner_body(path), read_classifier(open_session(path), path)
    options = {"remote_chat": document.remote_chat, **options}
    if data.recorded is not None and np.array_equal(remote_scores, data.recorded):
        reading = document.calibrate_remote
        remote_scores = reading.inverse(remote_scores)
        options["remote_kind"] = "probabilities" if reading.probabilities else "logits"
        options.pop("remote_names", None)
    return write_cascade(body, out, data, local_scores, remote_scores, objective=objective, golden=golden, **options)


def move_threshold(
    path: str | os.PathLike[str], out: str | os.PathLike[str], objective: Objective, *, golden: bool = True
) -> OperatingPoint:
    """Choose another point of the operating curve in a cascade model, without data or remote.

    The objective is served by the accuracies in the file, which are cross-fitted unless an earlier version wrote it.
    The advantage table stays the same. A certificate is removed, since it was for the old threshold.

    Args:
        path: the cascade model.
        out: the file to write, which may be the same.
        objective: the aim of the threshold.
        golden: whether the golden inputs of the file, if any, stay in it.

    Returns:
        The operating point chosen.

    Raises:
        ModelFileError: the file is not a cascade model.
        ExportError: the objective is a `CertifiedLoss`, which needs fresh data, or a `LeastCost` with other costs of
            errors than the file's.
        CalibrationError: no point of the curve serves the objective.
        ParityError: the file does not decide its golden inputs as it should; nothing is written then.
    """
    if isinstance(objective, CertifiedLoss):
        raise ExportError("objective: a CertifiedLoss needs fresh data; call recalibrate")
    model = load_model(path)
    session = open_session(path)
    document = read_document(session, path)
    if isinstance(objective, LeastCost):
        objective = _with_costs(objective, document)
    n = document.policy.chosen.n if document.effective_n is None else document.effective_n
    if isinstance(document, TaskDocument):
        remote, measure = document.remote, "mean value"
    else:
        remote, measure = document.remote.accuracy, "accuracy"
    measured = remote.value, n
    chosen = objective.choose(document.operating_curve, *measured)
    moved = "the threshold was moved along the curve of the calibration data; nothing was measured anew"
    policy = replace(
        document.policy,
        objective=objective.aim(measure),
        threshold=chosen.threshold,
        chosen=chosen,
        advice=(moved,),
        errors=None,
        chance=objective.chance(chosen, *measured) if isinstance(objective, LeastOffload) else None,
    )
    (threshold,) = (one for one in model.graph.initializer if one.name == "threshold")
    threshold.CopyFrom(numpy_helper.from_array(np.asarray(chosen.threshold, np.float32), "threshold"))
    groups = None if document.groups is None else document.groups.moved(document.operating_curve.index(chosen))
    changes: dict[str, Any] = {"certificate": None, "policy": policy, "groups": groups}
    _set_property(model, KEY, replace(document, **changes).to_json())
    _move_golden(model, chosen.threshold, path)
    keep(model.metadata_props, lambda entry: golden or entry.key != GOLDEN_KEY)
    text = text_input(session, path)
    if text is not None:
        write_tokenizer(text.name, text.content, out)
    save_model(model, out)
    return chosen


def _with_costs(objective: LeastCost, document: CascadeDocument | TaskDocument) -> LeastCost:
    """Return the objective in the order of the classes, if its costs of errors are those of the file."""
    labels = document.labels if isinstance(document, CascadeDocument) else ()
    found = objective.for_classes(len(labels), labels) if labels else objective
    planned = None if isinstance(found.error, (int, float)) else found.costs
    if planned != document.policy.costs:
        raise ExportError("objective: expected the costs of errors that the file was planned for; others need data")
    return found


def _move_golden(model: ModelProto, threshold: float, path: str | os.PathLike[str]) -> None:
    """Give the golden inputs the decisions of the new threshold, and check that the model takes them."""
    session = open_model(model)
    golden = read_golden(session, path)
    if golden is None:
        return
    forward = ~(golden.expected.advantage >= np.float32(threshold))
    golden = replace(golden, expected=replace(golden.expected, forward=forward))
    _, sentence = compare(session, golden.inputs, golden.expected, _TOLERANCE)
    if sentence is not None:
        raise ParityError(f"parity failed: {sentence}; nothing was written")
    _set_property(model, GOLDEN_KEY, golden.text())


def _set_property(model: ModelProto, key: str, value: str) -> None:
    (entry,) = (one for one in model.metadata_props if one.key == key)
    entry.value = value
