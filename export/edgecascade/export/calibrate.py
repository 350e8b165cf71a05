"""From a body and calibration data to a cascade model: fit, plan, fold, prove, write."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration import (
    Calibration,
    DecisionRule,
    Policy,
    advantage_table,
    are_probabilities,
    calibrate_temperature,
    plan,
    softmax,
)
from edgecascade.export.errors import ExportError
from edgecascade.export.fold import fold
from edgecascade.export.graph import find_logits, load_model, save_model
from edgecascade.export.labelled import LabelledData, batches
from edgecascade.export.parity import Parity, check_parity
from edgecascade.export.preprocess import PREPROCESSING_KEY
from edgecascade.runtime.metadata import FORMAT, KEY
from edgecascade.runtime.remote_calibration import RemoteCalibration

__all__ = ["Calibrated", "calibrate"]

_PARITY_INPUTS = 128


@dataclass(frozen=True)
class Calibrated:
    """What was fitted, chosen and proved on the way to a written file."""

    local: Calibration
    remote: Calibration
    policy: Policy
    parity: Parity


def calibrate(
    body: str | os.PathLike[str],
    out: str | os.PathLike[str],
    data: LabelledData,
    local_logits: NDArray[np.floating],
    remote_scores: NDArray[np.floating],
    *,
    budget: float,
    estimate: str = "confidences",
    bins: int = 15,
    output: str | None = None,
) -> Calibrated:
    """Write the cascade model `out` of an ONNX body.

    Fits both temperatures, builds the advantage table, chooses the threshold for the budget, folds all of
    it into the body's graph and checks parity. On any failure nothing is written.

    Args:
        body: ONNX file, already quantized if it is to be.
        out: the file to write.
        data: labelled calibration data, used for nothing else before or after.
        local_logits: [n, classes], the body's on that data.
        remote_scores: [n, classes], the remote's logits or probabilities on that data.
        budget: the largest offload rate wanted, in [0, 1].
        estimate: advantage from calibrated `confidences` (the paper's rule) or from `labels`.
        bins: of the advantage table.
        output: the body's output that holds the logits, if it is not evident.

    Raises:
        ExportError: the files or the data do not fit together, or parity failed.
        CalibrationError: the data cannot support the numbers asked for.
    """
    model = load_model(body)
    logits_name = find_logits(model, output)
    if local_logits.shape != remote_scores.shape:
        raise ExportError(
            f"remote: expected scores {list(local_logits.shape)} as the local model gives, "
            f"got {list(remote_scores.shape)}"
        )
    names = data.names or tuple(str(label) for label in range(local_logits.shape[1]))
    if len(names) != local_logits.shape[1]:
        raise ExportError(f"names: expected {local_logits.shape[1]}, one per class of the model, got {len(names)}")
    local = calibrate_temperature(local_logits, data.labels)
    probabilities = are_probabilities(remote_scores)
    remote_logits = RemoteCalibration(1.0, probabilities).logits(remote_scores)
    remote = calibrate_temperature(remote_logits, data.labels)
    policy = _plan(local_logits, remote_logits, data.labels, local, remote, budget, estimate, bins)
    document = _document(model, body, data, names, local, remote, policy, probabilities)
    rule = DecisionRule(local.temperature, policy.table, policy.threshold)
    folded = fold(model, logits=logits_name, rule=rule, document=document)
    sample = next(batches(data.inputs, _PARITY_INPUTS))
    parity = check_parity(folded, sample, local_logits[: len(sample)], rule)
    save_model(folded, out)
    return Calibrated(local, remote, policy, parity)


def _plan(
    local_logits: NDArray[np.floating],
    remote_logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    local: Calibration,
    remote: Calibration,
    budget: float,
    estimate: str,
    bins: int,
) -> Policy:
    score = softmax(local_logits, local.temperature).max(axis=1)
    remote_confidence = softmax(remote_logits, remote.temperature).max(axis=1)
    local_correct = local_logits.argmax(axis=1) == labels
    remote_correct = remote_logits.argmax(axis=1) == labels
    if estimate == "confidences":
        table = advantage_table(score, score, remote_confidence, bins)
    elif estimate == "labels":
        table = advantage_table(score, local_correct, remote_correct, bins)
    else:
        raise ExportError(f"estimate: expected confidences or labels, got {estimate!r}")
    return plan(score, local_correct, remote_correct, table, budget=budget, estimate=estimate)


def _document(
    model: ModelProto,
    body: str | os.PathLike[str],
    data: LabelledData,
    names: Sequence[str],
    local: Calibration,
    remote: Calibration,
    policy: Policy,
    probabilities: bool,
) -> dict[str, Any]:
    """The metadata of format 1; `docs` of it is `Metadata` in the runtime."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    preprocessing = properties.get(PREPROCESSING_KEY)
    return {
        "format": FORMAT,
        "written_by": f"{KEY} {version(KEY)}",
        "labels": list(names),
        "preprocessing": json.loads(preprocessing) if preprocessing else None,
        "calibration": asdict(local),
        "remote": {**asdict(remote), "scores": "probabilities" if probabilities else "logits"},
        "policy": {
            "score": "confidence",
            "estimate": policy.estimate,
            "bins": len(policy.table.values),
            "counts": policy.table.counts.tolist(),
            "threshold": policy.threshold,
            "budget": policy.budget,
            "merge": "replace",
            "chosen": asdict(policy.chosen),
        },
        "operating_curve": [asdict(point) for point in policy.curve],
        "certificate": None,
        "source": {
            "model": Path(body).name,
            "model_sha256": hashlib.sha256(Path(body).read_bytes()).hexdigest(),
            "data_sha256": data.digest,
        },
    }
