"""What both models say about every labelled input, before any network is involved."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import MERGES, SCORES, merged_labels, routing_score, softmax
from edgecascade.export.data import Inputs, LabelledData, batches
from edgecascade.runtime.engine import open_session, read_document, run_in_batches
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.types.costs import labels_of
from edgecascade.types.document import CascadeDocument
from edgecascade.types.errors import BenchmarkError

__all__ = ["Predictions", "labelled_as", "predict_all"]

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
    document = read_document(session, path)
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


def labelled_as(data: LabelledData, classes: Sequence[str]) -> LabelledData:
    """Return the data with the labels of the model, matched by name where both have names.

    Folders of images are in alphabetical order, which may not be the order of the model's classes. Names that are
    whole numbers are labels themselves. The data may lack classes of the model, but not the reverse.

    Args:
        data: Labelled data, with or without names.
        classes: The names of the model's classes in order; numbers from 0 if it has none.

    Raises:
        BenchmarkError: The data has a class that the model does not have.
    """
    if not data.names:
        return _checked(data, len(classes))
    numbers = [str(label) for label in range(len(classes))]
    if set(data.names) <= set(numbers):
        return _renumbered(data, numbers, classes)
    if list(classes) != numbers:
        return _renumbered(data, classes, classes)
    if len(data.names) != len(classes):
        raise BenchmarkError(
            f"data: expected {len(classes)} classes, as many as the unnamed ones of the model, got {len(data.names)}"
        )
    return _checked(data, len(classes))


def _renumbered(data: LabelledData, known: Sequence[str], classes: Sequence[str]) -> LabelledData:
    strange = [name for name in data.names if name not in known]
    if strange:
        raise BenchmarkError(f"data: expected classes of the model ({_some(classes)}), got {_some(strange)}")
    if len(set(known)) != len(known):
        raise BenchmarkError(f"data: expected a model whose classes have different names, got {_some(classes)}")
    label = np.array([known.index(name) for name in data.names], np.int64)
    return replace(data, labels=label[_checked(data, len(data.names)).labels], names=tuple(classes))


def _checked(data: LabelledData, classes: int) -> LabelledData:
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= classes:
        raise BenchmarkError(f"data: expected labels from 0 to {classes - 1}, got {low if low < 0 else high}")
    return data


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
