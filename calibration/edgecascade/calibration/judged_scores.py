"""Scores and whether the answers behind them were right: the pair that Platt scaling and isotonic regression fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import CalibrationError

__all__ = ["check_judged_scores", "prior_corrected_targets"]


def check_judged_scores(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> None:
    """Refuse shapes, types and numbers that no calibration can use.

    Args:
        score: [n], floating and finite.
        correct: bool [n].

    Raises:
        CalibrationError: naming the argument, what came and what was expected.
    """
    if score.ndim != 1 or len(score) == 0 or not np.issubdtype(score.dtype, np.floating):
        raise CalibrationError(f"score: expected floating [n] with n > 0, got {score.dtype} {list(score.shape)}")
    if correct.shape != score.shape or correct.dtype != np.bool_:
        raise CalibrationError(
            f"correct: expected bool [{len(score)}], one per score, got {correct.dtype} {list(correct.shape)}"
        )
    if not np.isfinite(score).all():
        row = int(np.flatnonzero(~np.isfinite(score))[0])
        raise CalibrationError(f"score: expected finite numbers, got {score[row]} in row {row}")


def prior_corrected_targets(correct: NDArray[np.bool_]) -> tuple[float, float]:
    """Probabilities to fit in place of 0 and 1: 1 / (w + 2) for w wrong answers, (r + 1) / (r + 2) for r right ones.

    Platt, "Probabilistic Outputs for Support Vector Machines" (1999), section 2.2: what one may believe of
    answers like these after seeing so many, under a uniform prior. Nothing fitted to them is ever certain.

    >>> prior_corrected_targets(np.array([True, True, False]))
    (0.3333333333333333, 0.75)
    """
    right = int(np.count_nonzero(correct))
    wrong = len(correct) - right
    return 1 / (wrong + 2), (right + 1) / (right + 2)
