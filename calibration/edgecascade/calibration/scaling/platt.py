"""Platt scaling: from a score on any scale, such as a mean log-probability, to the probability of being right."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_scored_answers
from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.weights import normalised
from edgecascade.types.errors import CalibrationError
from edgecascade.types.platt import Platt

__all__ = ["fit_platt", "prior_corrected_targets", "row_weights"]

_MAX_STEPS = 100
_PRECISION = 1e-8  # of the last Newton step but one in log-odds; the step squares the error
_RIDGE = 1e-12
_SUFFICIENT = 1e-4  # Armijo's constant
_ROUNDING = 1e-14  # relative, of a sum of losses


def fit_platt(score: NDArray[np.floating], correct: Correct, weight: ArrayLike | None = None) -> Platt:
    """Fit slope and intercept to prior-corrected targets by maximum likelihood.

    Platt (1999), section 2.2, by the Newton method with backtracking of Lin, Lin and Weng, "A note on Platt's
    probabilistic outputs for support vector machines" (2007), section 3, in float64. The targets lie inside (0, 1),
    so two distinct scores suffice for one finite optimum, even where they separate right from wrong. Where all
    answers are right, or all wrong, the slope is 0 and every score gets (n + 1) / (n + 2) or 1 / (n + 2).

    Args:
        score: [n], floating and finite, on any scale.
        correct: bool [n], whether the answer was right; or floating [n] in [0, 1], how good it was.
        weight: [n], numbers above 0 on any scale, by which each row counts; None for equal weights.

    Raises:
        CalibrationError: other shapes, types or numbers, or the scores are all equal.

    >>> score = np.log([0.9, 0.8, 0.7, 0.4, 0.6, 0.3])
    >>> fit_platt(score, np.array([True, True, True, True, False, False]))(score).round(2)
    array([0.8 , 0.77, 0.72, 0.5 , 0.67, 0.38])
    """
    check_scored_answers(score, correct, graded=True)
    weight = row_weights(weight, len(score))
    if score.min() == score.max():
        raise CalibrationError(f"score: expected at least two distinct values, got {score[0]} in all {len(score)} rows")
    # Scaling by a power of two is exact: no difference of scores is lost or overflows.
    exponent = int(np.frexp(np.abs(score).max())[1])
    unit = np.ldexp(score.astype(np.float64), -exponent)
    middle, half = (unit.max() + unit.min()) / 2, (unit.max() - unit.min()) / 2
    if_wrong, if_right = prior_corrected_targets(correct, weight)
    graded = if_wrong + (if_right - if_wrong) * correct
    target = np.where(correct, if_right, if_wrong) if correct.dtype == np.bool_ else graded
    slope, intercept = _minimise((unit - middle) / half, target, weight)
    with np.errstate(over="ignore"):
        platt = Platt(float(np.ldexp(slope / half, -exponent)), float(intercept - slope * middle / half))
    if not np.isfinite(platt.slope):
        raise CalibrationError(f"score: expected values that differ by more, got at most {np.ptp(score)}; scale them")
    return platt


def prior_corrected_targets(correct: Correct, weight: NDArray[np.float64] | None = None) -> tuple[float, float]:
    """Return the targets that replace 0 and 1: 1 / (w + 2) for w wrong answers, (r + 1) / (r + 2) for r right ones.

    With weights, r and w are sums of them. An answer of value v counts as v right and 1 - v wrong ones.

    Platt, "Probabilistic Outputs for Support Vector Machines" (1999), section 2.2: the posterior means under a
    uniform prior. A fit to them is never certain.

    >>> prior_corrected_targets(np.array([True, True, False]))
    (0.3333333333333333, 0.75)
    """
    weight = np.ones(len(correct)) if weight is None else weight
    if correct.dtype == np.bool_:
        right, wrong = float(weight[correct].sum()), float(weight[~correct].sum())
    else:
        right, wrong = float(weight @ correct), float(weight @ (1 - correct))
    return 1 / (wrong + 2), (right + 1) / (right + 2)


def row_weights(weight: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return weights float64 [n] with a mean of 1; None gives equal ones, and errors are those of `normalised`."""
    scaled = normalised(weight, n)
    return np.ones(n) if scaled is None else scaled


def _minimise(x: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return slope and intercept over x in [-1, 1], starting from a flat line at the mean target."""
    design = np.column_stack([x, np.ones_like(x)])
    mean = np.average(target, weights=weight)
    parameters = np.array([0.0, np.log(mean / (1 - mean))])
    loss = _loss(design @ parameters, target, weight)
    for _ in range(_MAX_STEPS):
        p = _sigmoid(design @ parameters)
        gradient = design.T @ (weight * (p - target))
        curvature = (design.T * (weight * p * (1 - p))) @ design + _RIDGE * np.eye(2)
        step = -np.linalg.solve(curvature, gradient)
        if np.abs(step).sum() <= _PRECISION or -float(gradient @ step) <= _ROUNDING * loss:
            return np.asarray(parameters + step)
        expected = _SUFFICIENT * float(gradient @ step)
        while (tried := _loss(design @ (parameters + step), target, weight)) > loss + expected + _ROUNDING * loss:
            step, expected = step / 2, expected / 2
        parameters, loss = parameters + step, tried
    raise CalibrationError(f"score: Newton's method found no optimum in {_MAX_STEPS} steps")


def _loss(log_odds: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Return the summed cross-entropy in nats: equation 5 of Lin, Lin and Weng as a sum of numbers above 0."""
    against = np.where(log_odds > 0, (1 - target) * log_odds, -target * log_odds)
    return float(np.sum(weight * (against + np.log1p(np.exp(-np.abs(log_odds))))))


def _sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0.0, -log_odds)))
