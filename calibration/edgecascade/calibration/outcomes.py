"""What both models did on the same labelled inputs: the data of every plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.decision import routing_score
from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.merge import merged_labels
from edgecascade.types.softmax import softmax

__all__ = ["Outcomes", "Pair"]


@dataclass(frozen=True)
class Outcomes:
    """Both models under one score and one merge rule.

    Attributes:
        score: float32 [n], the local model's routing score.
        local_confidence: float32 [n], the largest probability, calibrated by the temperature alone.
        remote_confidence: float32 [n], likewise.
        local_correct: bool [n], whether the local answer is right.
        remote_correct: bool [n], whether the remote's answer is right.
        merged_correct: bool [n], whether the answer is right once the remote has replied.
    """

    score: NDArray[np.float32]
    local_confidence: NDArray[np.float32]
    remote_confidence: NDArray[np.float32]
    local_correct: NDArray[np.bool_]
    remote_correct: NDArray[np.bool_]
    merged_correct: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Outcomes:
        """Return the outcomes of some of the inputs."""
        return Outcomes(*(column[rows] for column in vars(self).values()))

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.score)


@dataclass(frozen=True)
class Pair:
    """Both models' logits on the same labelled inputs, with their temperatures.

    Attributes:
        local_logits: floating [n, classes].
        local_temperature: T of the local model.
        remote_logits: floating [n, classes].
        remote_temperature: T of the remote.
        labels: integer [n].
        local_map: from the local model's largest probability to its confidence; None if the two are the same.
        remote_map: likewise, of the remote.
    """

    local_logits: NDArray[np.floating]
    local_temperature: float
    remote_logits: NDArray[np.floating]
    remote_temperature: float
    labels: NDArray[np.integer]
    local_map: ConfidenceMap | None = None
    remote_map: ConfidenceMap | None = None

    def outcomes(self, score: str, merge: str) -> Outcomes:
        """Return what both models did under a score of `SCORES` and a merge rule of `MERGES`.

        Raises:
            CalibrationError: one of the names is unknown.
        """
        local = softmax(self.local_logits, self.local_temperature)
        remote = softmax(self.remote_logits, self.remote_temperature)
        merged = merged_labels(
            merge,
            local,
            remote,
            local_confidence=None if self.local_map is None else self.local_map(local.max(axis=1)),
            remote_confidence=None if self.remote_map is None else self.remote_map(remote.max(axis=1)),
        )
        return Outcomes(
            score=routing_score(score, self.local_logits, self.local_temperature),
            local_confidence=local.max(axis=1),
            remote_confidence=remote.max(axis=1),
            local_correct=local.argmax(axis=1) == self.labels,
            remote_correct=remote.argmax(axis=1) == self.labels,
            merged_correct=merged == self.labels,
        )
