"""Does a score tell right answers from wrong ones? It can without being calibrated, and the reverse."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.judged_scores import check_judged_scores
from edgecascade.calibration.reliability import reliability
from edgecascade.types.errors import CalibrationError

__all__ = ["auroc", "monotonicity"]


def auroc(score: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """The chance that a right answer has a higher score than a wrong one, ties counting one half; in [0, 1].

    The area under the ROC curve of correctness, as the Mann-Whitney statistic: Hanley and McNeil (Radiology 143,
    1982). One half is a score that knows nothing.

    Args:
        score: floating [n], finite, the higher the surer, on any scale.
        correct: bool [n], whether the answer was right.

    Raises:
        CalibrationError: other shapes, types or numbers, or answers that are all right or all wrong.

    >>> auroc(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    from scipy.stats import rankdata

    check_judged_scores(score, correct)
    right = int(np.count_nonzero(correct))
    wrong = len(correct) - right
    if not (right and wrong):
        raise CalibrationError(
            f"correct: expected right and wrong answers to tell apart, got {right} right and {wrong} wrong"
        )
    return float((rankdata(score)[correct].mean() - (right + 1) / 2) / wrong)


def monotonicity(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """How steadily accuracy rises with confidence: 1 if from every bin to the next, -1 if it falls throughout.

    Hao et al., arXiv 2601.07965, observe that more confidence goes with more accuracy, about monotonically. We
    found no number for it there; our reading is Spearman's rank correlation of mean confidence and accuracy over
    bins of equal mass. Accuracies that differ by less than chance disorder the bins, which pulls it toward 0.

    Args:
        confidence: floating [n], in [0, 1].
        correct: bool [n], whether the answer was right.
        bins: how many; tied confidences are never split, so ties can leave fewer.

    Raises:
        CalibrationError: as `reliability`, or accuracy is the same in every bin.

    >>> confidence = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    >>> monotonicity(confidence, np.array([False, False, True, False, True, True]), bins=3)
    1.0
    """
    from scipy.stats import spearmanr

    table = reliability(confidence, correct, bins, spacing="mass")
    if np.ptp(table.accuracy) == 0:
        raise CalibrationError(
            f"correct: expected an accuracy that differs between bins, got {table.accuracy[0]:.3g} in all "
            f"{len(table.count)} of them"
        )
    return float(spearmanr(table.confidence, table.accuracy).statistic)
