"""What both models did on the same labelled inputs: the data of every plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.decision import LEARNED, routing_score
from edgecascade.calibration.learned_score import LearnedScore, fit_learned_score
from edgecascade.calibration.weights import effective_size, normalised, weighted_mean
from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.costs import ErrorCosts, labels_of
from edgecascade.types.errors import CalibrationError
from edgecascade.types.merge import merged_labels
from edgecascade.types.softmax import softmax

__all__ = ["Answers", "Groups", "Outcomes", "Pair"]

_BLOCK = 1 << 22  # probabilities of a block of rows
_MOST_GROUPS = 1000


@dataclass(frozen=True)
class Groups:
    """The class or group that each input belongs to.

    Attributes:
        by: what a group is called, such as `class`.
        names: one per group.
        index: intp [n], the position of each input's group in `names`.
    """

    by: str
    names: tuple[str, ...]
    index: NDArray[np.intp]

    @classmethod
    def of(cls, values: NDArray[Any], by: str = "group") -> Groups:
        """Return the groups of inputs with equal values, which are whole numbers or strings [n].

        Raises:
            CalibrationError: the values are of another kind, or there are more than 1,000 groups.

        >>> Groups.of(np.array(["night", "day", "night"])).names
        ('day', 'night')
        """
        if values.ndim != 1 or values.dtype.kind not in "iufbUSO":
            raise CalibrationError(
                f"groups: expected one number or string per input, got {values.dtype} {list(values.shape)}"
            )
        if values.dtype.kind == "f":
            whole = np.floor(values)
            if (values != whole).any():
                wrong = values[values != whole][0]
                raise CalibrationError(f"groups: expected names or whole numbers, got {wrong}; put others into bins")
            values = whole.astype(np.int64)
        names, index = np.unique(values.astype(np.str_) if values.dtype.kind in "SO" else values, return_inverse=True)
        if len(names) > _MOST_GROUPS:
            raise CalibrationError(f"groups: expected at most {_MOST_GROUPS} different ones, got {len(names)}")
        return cls(by, tuple(str(name) for name in names.tolist()), index)

    @classmethod
    def of_classes(cls, labels: NDArray[np.integer], names: Sequence[str] = ()) -> Groups:
        """Return one group per class of labels [n]; without names, a class is called by its number."""
        count = int(labels.max()) + 1 if len(labels) else 0
        return cls(
            "class", tuple(names) if len(names) >= count else tuple(map(str, range(count))), labels.astype(np.intp)
        )

    def __getitem__(self, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Groups:
        """Return the groups of some of the inputs."""
        return replace(self, index=self.index[rows])

    def members(self) -> Iterator[tuple[str, NDArray[np.intp]]]:
        """Yield the name of each group that has inputs, with their positions."""
        for one, name in enumerate(self.names):
            rows = np.flatnonzero(self.index == one)
            if len(rows):
                yield name, rows


class Answers(NamedTuple):
    """The classes behind `Outcomes`, int64 [n] each.

    Attributes:
        true: the true class.
        local: the local model's label.
        remote: the remote's own label.
        merged: the label once the remote has replied.
    """

    true: NDArray[np.int64]
    local: NDArray[np.int64]
    remote: NDArray[np.int64]
    merged: NDArray[np.int64]


@dataclass(frozen=True)
class Outcomes:
    """Both models under one score and one merge rule.

    Where answers are not simply right or wrong, `local_correct`, `remote_correct` and `merged_correct` may be floating
    [n] in [0, 1], such as a verifier's scores. Where errors cost differently, they are 1 - cost / largest cost, and a
    confidence is 1 - expected cost of the label / largest cost.

    Attributes:
        score: float32 [n], the local model's routing score.
        local_confidence: float32 [n], the largest probability, calibrated by the temperature alone.
        remote_confidence: float32 [n], likewise.
        local_correct: bool [n], whether the local answer is right.
        remote_correct: bool [n], whether the remote's answer is right.
        merged_correct: bool [n], whether the answer is right once the remote has replied.
        weight: float64 [n], how much each input counts, above 0 with a mean of 1; None if all count alike.
        groups: the class or group of each input; None if nothing is measured by group.
        answers: the classes themselves, where errors cost differently; else None.
        probabilities: float32 [n, classes], the local model's, for a score that is still to be learned; else None.
        measure: what the mean of these values is called in advice and summaries.
        difference: the size of a usual difference between a local and a merged value where they are not equal, above 0.
    """

    score: NDArray[np.float32]
    local_confidence: NDArray[np.float32]
    remote_confidence: NDArray[np.float32]
    local_correct: Correct
    remote_correct: Correct
    merged_correct: Correct
    weight: NDArray[np.float64] | None = None
    groups: Groups | None = None
    answers: Answers | None = None
    probabilities: NDArray[np.float32] | None = None
    measure: str = "accuracy"
    difference: float = 1.0

    def __getitem__(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Outcomes:
        """Return the outcomes of some of the inputs; their weights have a mean of 1 again."""
        weight = None if self.weight is None else self.weight[rows]
        return Outcomes(
            score=self.score[rows],
            local_confidence=self.local_confidence[rows],
            remote_confidence=self.remote_confidence[rows],
            local_correct=self.local_correct[rows],
            remote_correct=self.remote_correct[rows],
            merged_correct=self.merged_correct[rows],
            weight=normalised(weight, 0 if weight is None else len(weight)),
            groups=None if self.groups is None else self.groups[rows],
            answers=None if self.answers is None else Answers(*(column[rows] for column in self.answers)),
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            measure=self.measure,
            difference=self.difference,
        )

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.score)

    def learn_score(self) -> LearnedScore | None:
        """Return the score that is fitted to these inputs; None if none is to be learned."""
        if self.probabilities is None:
            return None
        return fit_learned_score(self.probabilities, self.local_correct, self.merged_correct, self.weight)

    def scored(self, learned: LearnedScore | None) -> Outcomes:
        """Return the outcomes under a learned score; None leaves them as they are."""
        if learned is None or self.probabilities is None:
            return self
        return replace(self, score=learned(self.probabilities))

    @property
    def size(self) -> float:
        """The number of equally weighted inputs that would be as informative (Kish); n without weights."""
        return effective_size(self.weight, len(self))

    def mean(self, values: NDArray[np.bool_] | NDArray[np.floating]) -> float:
        """Return the weighted mean of values [n], such as a share of inputs or an accuracy."""
        return weighted_mean(values, self.weight)


@dataclass(frozen=True)
class Pair:
    """Both models' logits on the same labelled inputs, with their temperatures.

    Attributes:
        local_logits: floating [n, classes].
        local_temperature: T of the local model.
        remote_logits: floating [n, classes].
        remote_temperature: T of the remote.
        labels: integer [n].
        weight: float64 [n], as in `Outcomes`.
        groups: as in `Outcomes`.
        local_map: from the local model's largest probability to its confidence; None if the two are the same.
        remote_map: likewise, of the remote.
        costs: of the errors; None if all cost the same.
    """

    local_logits: NDArray[np.floating]
    local_temperature: float
    remote_logits: NDArray[np.floating]
    remote_temperature: float
    labels: NDArray[np.integer]
    weight: NDArray[np.float64] | None = None
    groups: Groups | None = None
    local_map: ConfidenceMap | None = None
    remote_map: ConfidenceMap | None = None
    costs: ErrorCosts | None = None

    def outcomes(self, score: str, merge: str) -> Outcomes:
        """Return what both models did under a score of `SCORES` and a merge rule of `MERGES`.

        Under `learned` the score is still to be learned: see `Outcomes.learn_score`.

        Raises:
            CalibrationError: one of the names is unknown.
        """
        if score not in self._scores:
            fixed = "confidence" if score == LEARNED else score
            temperature, costs = self.local_temperature, self.costs
            parts = [routing_score(fixed, self.local_logits[rows], temperature, costs) for rows in self._rows]
            self._scores[score] = np.concatenate(parts)
        if merge not in self._merged:
            self._merged[merge] = np.concatenate([self._merged_labels(merge, rows) for rows in self._rows])
        (local_confidence, local), (remote_confidence, remote) = self._alone
        merged = self._merged[merge]
        return Outcomes(
            score=self._scores[score],
            local_confidence=local_confidence,
            remote_confidence=remote_confidence,
            local_correct=self._correct(local),
            remote_correct=self._correct(remote),
            merged_correct=self._correct(merged),
            weight=self.weight,
            groups=self.groups,
            answers=None if self.costs is None else Answers(self.labels.astype(np.int64), local, remote, merged),
            probabilities=self._local_probabilities if score == LEARNED else None,
        )

    def _correct(self, answered: NDArray[np.int64]) -> Correct:
        if self.costs is None:
            return np.asarray(answered == self.labels)
        return 1 - self.costs.of(self.labels, answered) / self.costs.largest

    def _probabilities(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return (
            softmax(self.local_logits[rows], self.local_temperature),
            softmax(self.remote_logits[rows], self.remote_temperature),
        )

    def _merged_labels(self, merge: str, rows: slice) -> NDArray[np.int64]:
        local, remote = self._probabilities(rows)
        return merged_labels(
            merge,
            local,
            remote,
            self.costs,
            local_confidence=_confidence(local, self.local_map),
            remote_confidence=_confidence(remote, self.remote_map),
        )

    @cached_property
    def _local_probabilities(self) -> NDArray[np.float32]:
        parts = [softmax(self.local_logits[rows], self.local_temperature) for rows in self._rows]
        return np.concatenate(parts)

    @cached_property
    def _rows(self) -> list[slice]:
        """Blocks of rows, so that the probabilities of all are never in memory at once."""
        step = max(1, _BLOCK // self.local_logits.shape[1])
        return [slice(start, start + step) for start in range(0, len(self.labels), step)]

    @cached_property
    def _alone(self) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """The confidence of each model, or 1 - expected cost / largest cost, and its labels."""
        confidence: list[list[NDArray[np.float32]]] = [[], []]
        labels: list[list[NDArray[np.int64]]] = [[], []]
        for rows in self._rows:
            for model, part in enumerate(self._probabilities(rows)):
                sure = part.max(axis=1) if self.costs is None else 1 - self.costs.expected(part).min(axis=1)
                confidence[model].append(sure)
                labels[model].append(labels_of(part, self.costs))
        return [(np.concatenate(confidence[model]), np.concatenate(labels[model])) for model in (0, 1)]

    @cached_property
    def _scores(self) -> dict[str, NDArray[np.float32]]:
        return {}

    @cached_property
    def _merged(self) -> dict[str, NDArray[np.int64]]:
        return {}


def _confidence(probabilities: NDArray[np.float32], found: ConfidenceMap | None) -> NDArray[np.float32]:
    largest: NDArray[np.float32] = probabilities.max(axis=1)
    return largest if found is None else found(largest).astype(np.float32)
