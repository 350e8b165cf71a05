"""Accuracy on multiple-choice questions by subject, and how well the probabilities of the choices are calibrated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.choices.chooser import Chooser
from edgecascade.benchmarks.choices.questions import Question
from edgecascade.benchmarks.report.result import HIGHER, LOWER
from edgecascade.calibration import calibration_error, expected_calibration_error, proportion
from edgecascade.calibration.metrics import auroc, auroc_interval
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["Choices", "SubjectResult", "ask_choices", "measure_choices"]

_FEWEST = 2


@dataclass(frozen=True)
class SubjectResult:
    """The questions of one subject.

    Attributes:
        subject: Its name; empty where there are no subjects.
        accuracy: The share of questions whose most probable choice is right.
        chance: The expected share if choices were drawn at random.
        unread: The number of questions without probabilities, whose reply named no choice; they count as wrong.
        above_chance: Whether the whole interval is above chance.
    """

    subject: str
    accuracy: Estimate = field(metadata=HIGHER)
    chance: float
    unread: int

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval is above chance."""
        return self.accuracy.low > self.chance


@dataclass(frozen=True)
class Choices:
    """The whole measurement.

    Attributes:
        subjects: The result of each subject, in the order of the file.
        overall: All questions together.
        mean_of_subjects: The mean of the subjects' accuracies, as MMLU reports it.
        ece: Expected calibration error of the probability of the chosen answer; None if no reply could be read.
        corrected_ece: The same minus its finite-sample bias.
        auroc: How well that probability tells right answers from wrong ones; None if all are alike.
        confidence: float64 [read], the probability of the chosen answer, where a reply could be read.
        correct: bool [read], whether that answer is right.
    """

    subjects: tuple[SubjectResult, ...]
    overall: SubjectResult
    mean_of_subjects: float
    ece: float | None
    corrected_ece: Estimate | None = field(metadata=LOWER)
    auroc: Estimate | None = field(metadata=HIGHER)
    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]


def ask_choices(
    asked: Sequence[tuple[Question, tuple[Question, ...]]],
    chooser: Chooser,
    progress: Callable[[int], object] | None = None,
) -> list[NDArray[np.float64] | None]:
    """Return the probabilities of each question's choices; None where the reply names none.

    Args:
        asked: Questions with the examples that precede them, as `with_shots` returns them.
        chooser: What is asked.
        progress: Called with 1 after each question.
    """
    found = []
    for question, shots in asked:
        found.append(chooser.probabilities(question, shots))
        if progress is not None:
            progress(1)
    return found


def measure_choices(questions: Sequence[Question], probabilities: Sequence[NDArray[np.float64] | None]) -> Choices:
    """Measure answers.

    Args:
        questions: The questions.
        probabilities: Of the choices of each; None where the reply named no choice.

    Raises:
        BenchmarkError: There are fewer than two questions, or another number of probabilities.

    >>> two = [Question("1 + 1?", ("2", "3"), 0, "sums"), Question("2 + 2?", ("5", "4"), 1, "sums")]
    >>> found = measure_choices(two, [np.array([0.9, 0.1]), None])
    >>> found.overall.accuracy.value, found.overall.chance, found.overall.unread
    (0.5, 0.5, 1)
    """
    if len(questions) < _FEWEST or len(probabilities) != len(questions):
        raise BenchmarkError(
            f"questions: expected at least {_FEWEST}, and probabilities for each, got {len(questions)} "
            f"and {len(probabilities)}"
        )
    for question, row in zip(questions, probabilities, strict=True):
        if row is not None and row.shape != (len(question.choices),):
            raise BenchmarkError(f"probabilities: expected {len(question.choices)} numbers, got {list(row.shape)}")
    right = np.array(
        [row is not None and int(np.argmax(row)) == q.answer for q, row in zip(questions, probabilities, strict=True)]
    )
    read = np.array([row is not None for row in probabilities])
    names = np.array([question.subject for question in questions])
    chance = np.array([1 / len(question.choices) for question in questions])
    subjects = tuple(
        _subject(str(name), right[names == name], read[names == name], chance[names == name])
        for name in dict.fromkeys(names.tolist())
    )
    confidence = np.array([float(row.max()) for row in probabilities if row is not None], np.float64)
    correct = right[read]
    mixed = 0 < correct.sum() < len(correct)
    return Choices(
        subjects=subjects,
        overall=_subject("all", right, read, chance),
        mean_of_subjects=float(np.mean([one.accuracy.value for one in subjects])),
        ece=expected_calibration_error(confidence, correct) if len(correct) else None,
        corrected_ece=calibration_error(confidence, correct) if len(correct) >= _FEWEST else None,
        auroc=_auroc(confidence, correct) if mixed else None,
        confidence=confidence,
        correct=correct,
    )


def _subject(
    name: str, right: NDArray[np.bool_], read: NDArray[np.bool_], chance: NDArray[np.float64]
) -> SubjectResult:
    return SubjectResult(name, proportion(float(right.mean()), len(right)), float(chance.mean()), int((~read).sum()))


def _auroc(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Estimate:
    value = auroc(confidence, correct)
    low, high = auroc_interval(confidence, correct)
    return Estimate(value, low, high, len(correct))
