"""Classification, multiple choice and generated text: three instances of `Task`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.confidence import Task, Verifier
from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import softmax

__all__ = ["Generation", "Options", "classification", "generated_text", "multiple_choice"]

_ROUNDING = 1e-3  # what float16 may leave a log-probability above 0; probabilities of tokens are mostly higher


@dataclass(frozen=True)
class Options:
    """What a language model thinks of the options of n questions.

    Attributes:
        log_probabilities: floating [n, options], of each option's text, summed over its tokens; -inf where a
            question has fewer options.
        tokens: [n, options], at least 1, to compare options per token where they differ in length; or None.
    """

    log_probabilities: NDArray[np.floating]
    tokens: NDArray[np.integer] | None = None

    def logits(self) -> NDArray[np.floating]:
        """Log-probabilities [n, options], per token if their numbers are known, to calibrate as any logits."""
        if self.tokens is None:
            return self.log_probabilities
        if self.tokens.shape != self.log_probabilities.shape or (self.tokens < 1).any():
            raise CalibrationError(
                f"tokens: expected {list(self.log_probabilities.shape)} numbers of at least 1, one per option, "
                f"got {list(self.tokens.shape)}" + (f" from {self.tokens.min()}" if self.tokens.size else "")
            )
        return np.asarray(self.log_probabilities / self.tokens)


@dataclass(frozen=True)
class Generation:
    """A sampled answer.

    Attributes:
        text: what was generated.
        log_probabilities: floating [tokens], at most 0, of the tokens that were sampled.
    """

    text: str
    log_probabilities: NDArray[np.floating]


def classification() -> Task[NDArray[np.floating], NDArray[np.integer]]:
    """Logits [n, classes], judged by labels [n]. The score is max softmax(z), to calibrate by a temperature.

    >>> classification().judge(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))
    Judged(score=array([0.880797 , 0.7310586], dtype=float32), verdict=array([1., 0.]))
    """
    return Task(answers=_label, confidence=_max_softmax, verifier=_equal)


def multiple_choice() -> Task[Options, NDArray[np.integer]]:
    """`Options`, judged by the right ones [n]: classification whose logits are the options' log-probabilities.

    >>> task = multiple_choice()
    >>> summed = np.array([[-6.0, -8.0, -9.0]])     # the first is likeliest, and shortest
    >>> task.answers(Options(summed)), task.answers(Options(summed, tokens=np.array([[2, 8, 4]])))
    (array([0]), array([1]))
    >>> task.judge(Options(summed), np.array([0]))
    Judged(score=array([0.8437947], dtype=float32), verdict=array([1.]))
    """
    return Task(
        answers=lambda options: _label(options.logits()),
        confidence=lambda options: _max_softmax(options.logits()),
        verifier=_equal,
    )


def generated_text(verifier: Verifier[Sequence[str]]) -> Task[Sequence[Generation], Sequence[str]]:
    """Text, judged by any verifier. The score is the mean log-probability of the sampled tokens, for `fit_platt`.

    >>> task = generated_text(lambda answers, references: [r in a for a, r in zip(answers, references)])
    >>> said = [Generation("Paris.", np.log([0.9, 0.8])), Generation("Rome", np.log([0.3]))]
    >>> judged = task.judge(said, ["Paris", "Madrid"])
    >>> judged.score.round(3), judged.verdict
    (array([-0.164, -1.204]), array([1., 0.]))
    >>> from edgecascade.calibration.platt import fit_platt
    >>> fit_platt(judged.score, judged.verdict >= 0.5)(judged.score).round(3)
    array([0.667, 0.333])
    """
    return Task(
        answers=lambda generations: [generation.text for generation in generations],
        confidence=_mean_log_probability,
        verifier=verifier,
    )


def _label(logits: NDArray[np.floating]) -> NDArray[np.integer]:
    return np.asarray(logits.argmax(axis=1))


def _max_softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(softmax(logits).max(axis=1))


def _equal(answers: NDArray[np.integer], references: NDArray[np.integer]) -> NDArray[np.bool_]:
    if np.shape(references) != answers.shape:
        raise CalibrationError(f"references: expected {list(answers.shape)} labels, got {list(np.shape(references))}")
    return np.asarray(answers == references)


def _mean_log_probability(generations: Sequence[Generation]) -> NDArray[np.floating]:
    """Mean log-probability float64 [n] of the sampled tokens."""
    for i, generation in enumerate(generations):
        found = np.asarray(generation.log_probabilities)
        if found.ndim != 1 or len(found) == 0:
            raise CalibrationError(
                f"log_probabilities: expected at least one token [tokens], got {list(found.shape)} in answer {i}"
            )
        if (found > _ROUNDING).any():
            raise CalibrationError(f"log_probabilities: expected at most 0, got {found.max()} in answer {i}")
    return np.array([np.mean(generation.log_probabilities, dtype=np.float64) for generation in generations])
