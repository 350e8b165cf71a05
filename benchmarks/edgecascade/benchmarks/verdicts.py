"""What both models say about every test input, before any network is involved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import MERGES, SCORES, merged_labels, routing_score, softmax
from edgecascade.export.labelled import Inputs, LabelledData, batches
from edgecascade.runtime.engine import open_session, read_document, run_in_batches
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.types.document import CascadeDocument
from edgecascade.types.errors import BenchmarkError

__all__ = ["Verdicts", "judge"]

_TINY = np.finfo(np.float32).tiny
_COLUMNS = ["label", "confidence", "advantage", "forward", "probabilities"]


@dataclass(frozen=True)
class Verdicts:
    """One row per labelled input.

    Attributes:
        local_correct: bool [n].
        confidence: float32 [n], the local model's, calibrated.
        raw_confidence: float32 [n], the local model's at T = 1.
        advantage: float32 [n].
        forward: bool [n], the file's own decision.
        remote_correct: bool [n].
        merged_correct: bool [n], by the file's merge rule.
        remote_confidence: float32 [n], calibrated.
        remote_raw_confidence: float32 [n], at T = 1.
        remote_label: int64 [n].
        scores: float32 [n], the local model's at the file's temperature, by the names of `SCORES`.
        merged: bool [n], whether the answer is right once the remote has replied, by merge rule.
    """

    local_correct: NDArray[np.bool_]
    confidence: NDArray[np.float32]
    raw_confidence: NDArray[np.float32]
    advantage: NDArray[np.float32]
    forward: NDArray[np.bool_]
    remote_correct: NDArray[np.bool_]
    merged_correct: NDArray[np.bool_]
    remote_confidence: NDArray[np.float32]
    remote_raw_confidence: NDArray[np.float32]
    remote_label: NDArray[np.int64]
    scores: Mapping[str, NDArray[np.float32]]
    merged: Mapping[str, NDArray[np.bool_]]

    def confidences(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        """Confidence and correctness of both models, before and after calibration."""
        return {
            "local before": (self.raw_confidence, self.local_correct),
            "local after": (self.confidence, self.local_correct),
            "remote before": (self.remote_raw_confidence, self.remote_correct),
            "remote after": (self.remote_confidence, self.remote_correct),
        }


def judge(
    path: str | os.PathLike[str], data: LabelledData, remote_scores: NDArray[np.floating]
) -> tuple[Verdicts, CascadeDocument]:
    """Run the cascade model on every input.

    Args:
        path: a cascade model.
        data: labelled inputs that nothing was fitted on.
        remote_scores: [n, classes], the remote's on the same inputs.

    Raises:
        BenchmarkError: the scores are not those of these inputs.
    """
    session = open_session(path)
    document = read_document(session, path)
    n, classes = len(data.labels), len(document.labels)
    if remote_scores.shape != (n, classes):
        raise BenchmarkError(f"remote: expected {n} rows of {classes} scores, got {list(remote_scores.shape)}")
    label, confidence, advantage, forward, probabilities = _run(session, path, data.inputs, _COLUMNS)
    logits = np.log(np.maximum(probabilities, _TINY))  # over T, up to a constant for each input
    calibrate = document.calibrate_remote
    theirs = calibrate(remote_scores)
    uncalibrated = type(calibrate)(1.0, calibrate.probabilities)
    merged = {rule: merged_labels(rule, probabilities, theirs) == data.labels for rule in MERGES}
    verdicts = Verdicts(
        local_correct=label == data.labels,
        confidence=confidence,
        raw_confidence=softmax(logits, 1 / float(document.calibration.temperature)).max(axis=1),
        advantage=advantage,
        forward=forward,
        remote_correct=remote_scores.argmax(axis=1) == data.labels,
        merged_correct=merged[document.policy.merge],
        remote_confidence=theirs.max(axis=1),
        remote_raw_confidence=uncalibrated(remote_scores).max(axis=1),
        remote_label=remote_scores.argmax(axis=1),
        scores={name: routing_score(name, logits) for name in SCORES},
        merged=merged,
    )
    return verdicts, document


def _run(session: Any, path: str | os.PathLike[str], inputs: Inputs, outputs: list[str]) -> list[NDArray[Any]]:
    declared = model_inputs(session, path)
    parts = [
        run_in_batches(session, outputs, declared.feeds("data", batch))
        for batch in batches(inputs, declared.batch or 32)
    ]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
