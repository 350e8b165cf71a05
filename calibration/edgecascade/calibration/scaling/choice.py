"""The choice between Platt scaling and isotonic regression, by cross-validation.

The one-standard-error rule of Breiman et al., "Classification and Regression Trees" (1984), section 3.4.3: of methods
that cross-validation cannot separate, choose the simplest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_scored_answers
from edgecascade.calibration.scaling.isotonic import Isotonic, fit_isotonic
from edgecascade.calibration.scaling.platt import Platt, fit_platt
from edgecascade.types.errors import CalibrationError

__all__ = ["Candidate", "Selection", "choose_calibrator"]

_METHODS: dict[str, Callable[[NDArray[np.floating], NDArray[np.bool_]], Platt | Isotonic]] = {
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}


@dataclass(frozen=True)
class Candidate:
    """A method and its cross-validated likelihood.

    Attributes:
        method: `platt` or `isotonic`.
        nll: mean negative log-likelihood of rows outside the fit, in nats.
        nll_error: its standard error.
        gain: Platt scaling's `nll` minus this one, in nats.
        gain_error: standard error of the gain, from paired differences.
    """

    method: str
    nll: float
    nll_error: float
    gain: float
    gain_error: float


@dataclass(frozen=True)
class Selection:
    """The chosen calibrator and the evidence for it.

    Attributes:
        method: `isotonic` if its gain is above one standard error of it, else `platt`.
        calibrator: that method fitted to all rows.
        candidates: both methods, Platt scaling first.
    """

    method: str
    calibrator: Platt | Isotonic
    candidates: tuple[Candidate, ...]


def choose_calibrator(
    score: NDArray[np.floating], correct: NDArray[np.bool_], *, folds: int = 5, seed: int = 0
) -> Selection:
    """Choose Platt scaling or isotonic regression by cross-fitted negative log-likelihood.

    Both are fitted to all folds but one and measured on that one; folds are stratified by correctness. The standard
    errors take the rows as independent, which ignores that the fits share data.

    Args:
        score: floating [n], finite; higher is surer, on any scale.
        correct: bool [n], whether the answer was right.
        folds: at least 2.
        seed: of the split.

    Raises:
        CalibrationError: other shapes, types or numbers, fewer rows than folds, or scores that are all equal.

    >>> rng = np.random.default_rng(0)
    >>> score = rng.normal(size=1000)
    >>> found = choose_calibrator(score, rng.random(1000) < 1 / (1 + np.exp(-2 * score)))
    >>> found.method, [f"{c.method} {c.nll:.3f} ± {c.nll_error:.3f}" for c in found.candidates]
    ('platt', ['platt 0.503 ± 0.016', 'isotonic 0.516 ± 0.020'])
    """
    check_scored_answers(score, correct)
    if not 2 <= folds <= len(score):
        raise CalibrationError(f"folds: expected 2 to {len(score)}, the number of rows, got {folds}")
    fold = _deal(correct, folds, seed)
    losses = {method: _cross_fitted(method, score, correct, fold) for method in _METHODS}
    candidates = tuple(
        Candidate(method, *_mean_and_error(loss), *_mean_and_error(losses["platt"] - loss))
        for method, loss in losses.items()
    )
    method = "isotonic" if candidates[1].gain > candidates[1].gain_error else "platt"
    return Selection(method, _METHODS[method](score, correct), candidates)


def _deal(correct: NDArray[np.bool_], folds: int, seed: int) -> NDArray[np.intp]:
    """Return the fold [n] of each row, at random but stratified by correctness."""
    shuffled = np.random.default_rng(seed).permutation(len(correct))
    fold = np.empty(len(correct), np.intp)
    fold[shuffled[np.argsort(correct[shuffled], kind="stable")]] = np.arange(len(correct)) % folds
    return fold


def _cross_fitted(
    method: str, score: NDArray[np.floating], correct: NDArray[np.bool_], fold: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the negative log-likelihood [n] of each answer under the fit that has not seen it."""
    probability = np.empty(len(score))
    for one in np.unique(fold):
        probability[fold == one] = _METHODS[method](score[fold != one], correct[fold != one])(score[fold == one])
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(np.where(correct, probability, 1 - probability)))


def _mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
