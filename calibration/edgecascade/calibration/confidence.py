"""How sure a model is, how right it was, and how the two relate: one interface for all kinds of answers.

As Hao et al., arXiv 2601.07965, frame it: a *confidence function* makes a score of a model's internal values, a
*verifier* gives each answer a score in [0, 1], and binning says what the one is worth in terms of the other. The
instances are in `tasks.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.reliability import Reliability, reliability
from edgecascade.types.errors import CalibrationError

__all__ = ["ConfidenceFunction", "Judged", "Task", "Verifier", "relate"]

_Internals = TypeVar("_Internals")
_Internals_in = TypeVar("_Internals_in", contravariant=True)
_Answers = TypeVar("_Answers")
_Answers_in = TypeVar("_Answers_in", contravariant=True)


class ConfidenceFunction(Protocol[_Internals_in]):
    """From a model's internal values for n inputs to a raw score [n]: the higher, the surer, on any scale."""

    def __call__(self, internals: _Internals_in, /) -> NDArray[np.floating]:
        """Scores [n]; NaN where the model gives none."""


class Verifier(Protocol[_Answers_in]):
    """From n answers, and whatever it takes to judge them by, to scores [n] in [0, 1], or right and wrong."""

    def __call__(self, answers: _Answers_in, references: Any, /) -> ArrayLike:
        """Scores [n]: 1 is right, 0 is wrong."""


@dataclass(frozen=True)
class Judged:
    """What n answers were believed to be worth, and what they were.

    Attributes:
        score: floating [n], raw confidences.
        verdict: float64 [n], the verifier's scores in [0, 1].
    """

    score: NDArray[np.floating]
    verdict: NDArray[np.float64]


@dataclass(frozen=True)
class Task(Generic[_Internals, _Answers]):
    """A kind of question: how to read a model's answers, and its confidence in them, and how to verify them.

    Attributes:
        answers: from the model's internal values to its n answers.
        confidence: from the same values to raw scores [n].
        verifier: from answers and references to scores [n] in [0, 1].
    """

    answers: Callable[[_Internals], _Answers]
    confidence: ConfidenceFunction[_Internals]
    verifier: Verifier[_Answers]

    def judge(self, internals: _Internals, references: Any) -> Judged:
        """Score and verdict of every answer; `references` are what the verifier judges by.

        Raises:
            CalibrationError: unequal numbers of them, or a verdict outside [0, 1].
        """
        score = self.confidence(internals)
        verdict = np.asarray(self.verifier(self.answers(internals), references), np.float64)
        if score.ndim != 1 or verdict.shape != score.shape:
            raise CalibrationError(
                f"verifier: expected one score for each of {len(score)} answers, got {list(verdict.shape)}"
            )
        _check_verdict(verdict)
        return Judged(score, verdict)


def relate(confidence: NDArray[np.floating], verdict: NDArray[np.floating], bins: int = 15) -> Reliability:
    """Is a confidence of 0.8 worth a verdict of 0.8? The reliability bins of any verifier.

    Args:
        confidence: [n], in [0, 1]; scores on another scale become so by `fit_platt`.
        verdict: [n], in [0, 1].
        bins: how many, of equal width.

    Returns:
        Reliability bins whose `accuracy` is the mean verdict.

    >>> bins = relate(np.array([0.2, 0.3, 0.9]), np.array([0.0, 0.5, 1.0]), bins=2)
    >>> bins.confidence.round(2), bins.accuracy
    (array([0.25, 0.9 ]), array([0.25, 1.  ]))
    """
    _check_verdict(verdict)
    return reliability(confidence, cast(NDArray[np.bool_], verdict), bins)  # which averages any numbers


def _check_verdict(verdict: NDArray[np.floating]) -> None:
    outside = ~((verdict >= 0) & (verdict <= 1))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise CalibrationError(f"verdict: expected numbers in [0, 1], got {verdict.flat[row]} in row {row}")
