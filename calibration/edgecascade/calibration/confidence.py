"""Calibrated confidence for tasks other than classification, such as generated text.

A `ConfidenceFunction` gives each answer a raw score, a `Verifier` says how good the answer was, `fit_platt` turns raw
scores into probabilities, and `relate` checks them. These are the two plug-ins of Hao et al., arXiv 2601.07965:

>>> import numpy as np
>>> from edgecascade.calibration import fit_platt
>>> answers = ["Paris.", "Rome", "It is Oslo", "Bern"]
>>> sampled = [np.log([0.9, 0.8]), np.log([0.3]), np.log([0.8, 0.9, 0.7]), np.log([0.4])]    # of each token
>>> def contains(answers, references):
...     return np.array([reference in answer for answer, reference in zip(answers, references)])
>>> score = mean_log_probability(sampled)
>>> verified = contains(answers, ["Paris", "Madrid", "Oslo", "Vienna"])
>>> confidence = fit_platt(score, verified)(score)
>>> confidence.round(2)
array([0.75, 0.2 , 0.72, 0.33])
>>> relate(confidence, verified, bins=2).accuracy
array([0., 1.])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.metrics.reliability import Reliability, reliability
from edgecascade.types.errors import CalibrationError

__all__ = ["ConfidenceFunction", "Verifier", "mean_log_probability", "relate"]

_Internals = TypeVar("_Internals", contravariant=True)
_Answers = TypeVar("_Answers", contravariant=True)
_ROUNDING = 1e-3  # by which float16 may raise a log-probability above 0


class ConfidenceFunction(Protocol[_Internals]):
    """From a model's internal values for n inputs to raw scores [n]. Higher is surer, on any scale."""

    def __call__(self, internals: _Internals, /) -> NDArray[np.floating]:
        """Return scores [n], NaN where the model gives none."""


class Verifier(Protocol[_Answers]):
    """From n answers and their references to scores [n] in [0, 1]: 1 is right, 0 is wrong. Bool will do."""

    def __call__(self, answers: _Answers, references: Any, /) -> ArrayLike:
        """Return scores [n]."""


def mean_log_probability(log_probabilities: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Return the mean log-probability float64 [n] of the tokens of n sampled answers: a `ConfidenceFunction`.

    Args:
        log_probabilities: for each answer floating [tokens], at most 0, of the tokens that were sampled.

    Raises:
        CalibrationError: an answer has no tokens, or a log-probability is above 0.
    """
    for i, answer in enumerate(log_probabilities):
        if np.ndim(answer) != 1 or len(answer) == 0:
            raise CalibrationError(
                f"log_probabilities: expected at least one token [tokens], got {list(np.shape(answer))} in answer {i}"
            )
        if (answer > _ROUNDING).any():
            raise CalibrationError(f"log_probabilities: expected at most 0, got {answer.max()} in answer {i}")
    return np.array([np.mean(answer, dtype=np.float64) for answer in log_probabilities])


def relate(
    confidence: NDArray[np.floating], verified: NDArray[np.floating] | NDArray[np.bool_], bins: int = 15
) -> Reliability:
    """Return reliability bins of a verifier's scores: whether a confidence of 0.8 goes with a mean score of 0.8.

    Args:
        confidence: floating [n], in [0, 1], such as `fit_platt` makes of raw scores.
        verified: [n], a verifier's scores in [0, 1].
        bins: number of bins of equal width.

    Returns:
        Bins whose `accuracy` is the mean score.

    Raises:
        CalibrationError: a score is outside [0, 1], or as `reliability`.
    """
    outside = ~((verified >= 0) & (verified <= 1))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise CalibrationError(f"verified: expected numbers in [0, 1], got {verified.flat[row]} in row {row}")
    return reliability(confidence, verified, bins)
