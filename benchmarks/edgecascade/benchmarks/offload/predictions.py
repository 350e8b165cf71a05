"""What both models say about every labelled input, before any network is involved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import MERGES, SCORES, merged_labels, routing_score, softmax
from edgecascade.export.data import Inputs, LabelledData, batches
from edgecascade.runtime.engine import open_session, read_classifier, run_in_batches
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.types.costs import labels_of
from edgecascade.types.document import CascadeDocument
from edgecascade.types.errors import BenchmarkError

__all__ = ["Predictions", "predict_all"]

_TINY = np.finfo(np.float32).tiny
_COLUMNS = ["label", "confidence", "advantage", "forward", "probabilities"]


@dataclass(frozen=True)
class Predictions:
    """One row per labelled input.

    Attributes:
        label: int64 [n], the true labels.
        local_label: int64 [n].
        remote_label: int64 [n].
        confidence: float32 [n], of the local model, calibrated.
        raw_confidence: float32 [n], of the local model at T = 1.
        remote_confidence: float32 [n], calibrated.
        remote_raw_confidence: float32 [n], at T = 1.
        advantage: float32 [n].
        forward: bool [n], the decision of the file.
        scores: float32 [n], of the local model at the file's temperature, by the names of `SCORES`.
        merged: bool [n], whether the answer is right once the remote has replied, by merge rule.
        merge: The file's merge rule.
    """

    label: NDArray[np.int64]
    local_label: NDArray[np.int64]
    remote_label: NDArray[np.int64]
    confidence: NDArray[np.float32]
    raw_confidence: NDArray[np.float32]
    remote_confidence: NDArray[np.float32]
    remote_raw_confidence: NDArray[np.float32]
    advantage: NDArray[np.float32]
    forward: NDArray[np.bool_]
    scores: Mapping[str, NDArray[np.float32]]
    merged: Mapping[str, NDArray[np.bool_]]
    merge: str

    @property
    def local_correct(self) -> NDArray[np.bool_]:
        """Whether the local model is right, bool [n]."""
        return np.equal(self.local_label, self.label)

    @property
    def remote_correct(self) -> NDArray[np.bool_]:
        """Whether the remote is right, bool [n]."""
        return np.equal(self.remote_label, self.label)

    @property
    def merged_correct(self) -> NDArray[np.bool_]:
        """Whether the answer by the file's merge rule is right, bool [n]."""
        return self.merged[self.merge]

    @property
    def decided_correct(self) -> NDArray[np.bool_]:
        """Whether the answer by the file's decision and merge rule is right, bool [n]."""
        return np.where(self.forward, self.merged_correct, self.local_correct)

    def confidences(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        """Return confidence and correctness of both models, before and after calibration."""
        return {
            "local before": (self.raw_confidence, self.local_correct),
            "local after": (self.confidence, self.local_correct),
            "remote before": (self.remote_raw_confidence, self.remote_correct),
            "remote after": (self.remote_confidence, self.remote_correct),
        }


def predict_all(
    path: str | os.PathLike[str], data: LabelledData, remote_scores: NDArray[np.floating]
) -> tuple[Predictions, CascadeDocument]:
    """Run the cascade model on every input.

    Args:
        path: A cascade model.
        data: Labelled inputs that nothing was fitted on.
        remote_scores: [n, classes], of the remote on the same inputs.

    Raises:
        BenchmarkError: The scores have another shape, or the local confidence on an input is not a number.
    """
    session = open_session(path)
    document = read_classifier(session, path)
    n, classes = len(data.labels), len(document.labels)
    if remote_scores.shape != (n, classes):
        raise BenchmarkError(f"remote: expected {n} rows of {classes} scores, got {list(remote_scores.shape)}")
    label, confidence, advantage, forward, probabilities = _run(session, path, data.inputs, _COLUMNS)
    if np.isnan(confidence).any():
        where = int(np.flatnonzero(np.isnan(confidence))[0])
        raise BenchmarkError(f"data: the local model's confidence on input {where} is not a number")
    logits = np.log(np.maximum(probabilities, _TINY))  # divided by T, up to a constant for each input
    calibrate, costs = document.calibrate_remote, document.policy.costs
    theirs = calibrate(remote_scores)
    remote_label = labels_of(theirs, costs)
    remote_confidence = calibrate.confidence(theirs, remote_label)
    uncalibrated = calibrate._replace(temperature=1.0, confidence_map=None)
    predictions = Predictions(
        label=data.labels,
        local_label=label,
        remote_label=remote_label,
        confidence=confidence,
        raw_confidence=softmax(logits, 1 / document.calibration.temperature).max(axis=1),
        remote_confidence=remote_confidence,
        remote_raw_confidence=uncalibrated(remote_scores).max(axis=1),
        advantage=advantage,
        forward=forward,
        scores={name: routing_score(name, logits) for name in SCORES},
        merged={
            rule: data.labels
            == merged_labels(
                rule, probabilities, theirs, costs, local_confidence=confidence, remote_confidence=remote_confidence
            )
            for rule in MERGES
        },
        merge=document.policy.merge,
    )
    return predictions, document


def _run(session: Any, path: str | os.PathLike[str], inputs: Inputs, outputs: list[str]) -> list[NDArray[Any]]:
    declared = model_inputs(session, path)
    parts = [
        run_in_batches(session, outputs, declared.feeds("data", batch))
        for batch in batches(inputs, declared.batch or 32)
    ]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
