"""Choose a calibrator by cross-validation: from scores and values, or for the confidence of a classifier.

The one-standard-error rule of Breiman et al., "Classification and Regression Trees" (1984), section 3.4.3: of methods
that cross-validation cannot separate, choose the simplest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_scored_answers, labelled
from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.intervals import accuracy_interval
from edgecascade.calibration.metrics.reliability import calibration_error
from edgecascade.calibration.scaling.isotonic import fit_isotonic, grouped
from edgecascade.calibration.scaling.noisy_labels import fit_temperature_and_noise
from edgecascade.calibration.scaling.platt import fit_platt, row_weights
from edgecascade.calibration.scaling.temperature import (
    calibrate_temperature,
    mean_loss,
    measure_temperature,
    row_losses,
)
from edgecascade.calibration.weights import normalised, weighted_mean
from edgecascade.types.arrays import as_array
from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.costs import ErrorCosts, labels_of
from edgecascade.types.document import Calibration, ScoreCalibration
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate
from edgecascade.types.platt import Platt
from edgecascade.types.softmax import softmax

__all__ = [
    "CALIBRATORS",
    "SCORE_CALIBRATORS",
    "Candidate",
    "Selection",
    "calibrate_confidence",
    "calibrate_score",
    "choose_calibrator",
]

CALIBRATORS = ("auto", "temperature", "map")
SCORE_CALIBRATORS = ("auto", "platt", "map")
_KNOTS = 16
_STEEPEST = 64.0  # times the rounding error of a float32 near 1 is 4e-6, within the tolerance of the parity check
_FEWEST = 10  # right and wrong answers, two in each of five folds
_UNIT = 2.0**-20
_DRAWS = 200  # of the chance errors of a fit
_TINY = float(np.finfo(np.float32).tiny)
_LARGEST_INTERCEPT = 256.0  # log-odds, which rounds to 4e-6 of a confidence in float32
_SMALLEST = 2.0**-25  # a probability nearer to 0 or 1 is 0 or 1 in float32

Calibrator = Platt | ConfidenceMap
_Fit = Callable[[NDArray[np.floating], Correct, NDArray[np.float64]], Calibrator | None]


@dataclass(frozen=True)
class Candidate:
    """A method and its cross-validated likelihood.

    Attributes:
        method: `unchanged`, `platt` or `isotonic`.
        nll: mean negative log-likelihood of rows outside the fit, in nats.
        nll_error: its standard error.
        gain: the first candidate's `nll` minus this one, in nats.
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
        method: the first that no other beats by more than one standard error of the difference.
        calibrator: that method fitted to all rows; None leaves probabilities as they are.
        candidates: all methods, the simplest first.
        held_out: float64 [n], the probability of each answer by the fit that has not seen it.
        fold: intp [n], the fold of each answer, which that fit left out.
    """

    method: str
    calibrator: Calibrator | None
    candidates: tuple[Candidate, ...]
    held_out: NDArray[np.float64] = field(compare=False, repr=False)
    fold: NDArray[np.intp] = field(compare=False, repr=False)


def choose_calibrator(
    score: NDArray[np.floating],
    correct: Correct,
    weight: ArrayLike | None = None,
    *,
    probabilities: bool = False,
    methods: Sequence[str] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Selection:
    """Choose Platt scaling, isotonic regression or, for probabilities, neither by cross-fitted likelihood.

    Each method is fitted to all folds but one and measured on that one; folds are stratified by correctness. The
    standard errors take the rows as independent, which ignores that the fits share data.

    Args:
        score: floating [n], finite; higher is surer, on any scale.
        correct: bool [n], whether the answer was right; or floating [n] in [0, 1], how good it was.
        weight: [n], numbers above 0 on any scale, by which each row counts; None for equal weights.
        probabilities: whether the scores are probabilities. They may then stay `unchanged`, which is the simplest
            method. Platt scaling acts on their log-odds, and the calibrator is a `ConfidenceMap` in every case.
        methods: names to choose among, the simplest first; by default all.
        folds: at least 2.
        seed: of the split.

    Raises:
        CalibrationError: other shapes, types or numbers, fewer rows than folds, or scores that are all equal.

    >>> rng = np.random.default_rng(0)
    >>> score = rng.normal(size=1000)
    >>> found = choose_calibrator(score, rng.random(1000) < 1 / (1 + np.exp(-2 * score)))
    >>> found.method, [f"{c.method} {c.nll:.3f} ± {c.nll_error:.3f}" for c in found.candidates]
    ('platt', ['platt 0.503 ± 0.016', 'isotonic 0.508 ± 0.016'])
    """
    check_scored_answers(score, correct, graded=True)
    weight = row_weights(weight, len(score))
    if not 2 <= folds <= len(score):
        raise CalibrationError(f"folds: expected 2 to {len(score)}, the number of rows, got {folds}")
    known = _OF_PROBABILITIES if probabilities else _OF_SCORES
    fits = {name: known[name] for name in (known if methods is None else methods)}
    fold = _deal(correct, folds, seed)
    held_out = {name: _cross_fitted(fit, score, correct, weight, fold) for name, fit in fits.items()}
    losses = {name: _losses(found, correct) for name, found in held_out.items()}
    simplest = next(iter(losses.values()))
    candidates = tuple(
        Candidate(name, *_mean_and_error(loss, weight), *_mean_and_error(simplest - loss, weight))
        for name, loss in losses.items()
    )
    method = _simplest_of_the_best(losses, weight)
    return Selection(method, fits[method](score, correct, weight), candidates, held_out[method], fold)


def calibrate_confidence(
    logits: ArrayLike,
    labels: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    calibrator: str = "auto",
    costs: ErrorCosts | None = None,
    label_noise: bool = False,
    seed: int = 0,
) -> Calibration:
    """Fit T, and a map from the label's probability to the confidence where that is better by cross-fitting.

    The figures after calibration are those of the final confidence. With a map, each input is measured by a map that
    was fitted without it, and the NLL is that of the probabilities in which the label has the confidence and the others
    share the rest in proportion.

    Args:
        logits: floating [n, classes], of numpy, torch, pandas or polars, as the other arrays.
        labels: integer [n].
        weight: [n], numbers above 0 on any scale, by which each row counts; None for equal weights.
        calibrator: `auto`, `temperature` or `map`.
        costs: of the errors, by which the labels are chosen; None if all cost the same.
        label_noise: whether T allows for wrong labels, as `fit_temperature_and_noise` does, where the interval of
            their share excludes 0. No map is fitted then, since it would make the confidence that of agreeing with the
            wrong labels, too. All figures are those on the labels as given: wrong ones make the accuracy too low, by
            at most about their share, and the ECE too high by as much.
        seed: of the split.

    Raises:
        CalibrationError: as `fit_temperature`; a map is wanted with label noise; or a map is
            wanted, and fewer than ten answers are right or wrong.
    """
    if calibrator not in CALIBRATORS:
        raise CalibrationError(f"calibrator: expected one of {', '.join(CALIBRATORS)}, got {calibrator!r}")
    logits, labels = labelled(logits, labels)
    weight = normalised(weight, len(labels))
    if label_noise and calibrator == "map":
        raise CalibrationError(
            "calibrator: expected auto or temperature with label noise, got map, which would learn the wrong labels"
        )
    plain = calibrate_temperature(logits, labels, weight)
    noise = fit_temperature_and_noise(logits, labels, weight, without=plain.temperature)
    if label_noise and noise.shown:
        ends, bound = noise.temperature_interval, noise.bound
        found = measure_temperature(logits, labels, weight, noise.temperature, interval=ends, bound=bound)
        return replace(found, label_noise=replace(noise, used=True))
    plain = replace(plain, label_noise=noise)
    probabilities = softmax(logits, plain.temperature)
    answers = logits.argmax(axis=1) if costs is None else labels_of(probabilities, costs)
    confidence, correct = np.take_along_axis(probabilities, answers[:, None], axis=1)[:, 0], answers == labels
    fewest = min(np.count_nonzero(correct), np.count_nonzero(~correct))
    if calibrator == "map" and fewest < _FEWEST:
        raise CalibrationError(f"calibrator: expected {_FEWEST} right and {_FEWEST} wrong answers, got {fewest}")
    if calibrator == "temperature" or fewest < _FEWEST:
        return plain
    methods = None if calibrator == "auto" else ("platt", "isotonic")
    chosen = choose_calibrator(confidence, correct, weight, probabilities=True, methods=methods, seed=seed)
    if not isinstance(chosen.calibrator, ConfidenceMap):
        return plain
    gain = _losses(confidence, correct) - _losses(chosen.held_out, correct)
    unseen = weighted_mean(_losses(chosen.held_out, np.zeros_like(correct)), weight)
    return replace(
        plain,
        method="temperature + map",
        nll_after=mean_loss(row_losses(logits, labels, plain.temperature) - gain, unseen, weight),
        ece_after=calibration_error(chosen.held_out, correct, weight=weight),
        confidence_map=chosen.calibrator,
    )


def calibrate_score(
    score: ArrayLike,
    value: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    calibrator: str = "auto",
    seed: int = 0,
) -> ScoreCalibration:
    """Fit the expected value of an answer to its raw score: by Platt scaling, or a map where that is better.

    Args:
        score: floating [n], finite; higher is surer, on any scale.
        value: bool [n], whether the answer was right; or floating [n] in [0, 1], how good it was.
        weight: [n], numbers above 0 on any scale, by which each row counts; None for equal weights.
        calibrator: `platt`, `map` or `auto`, which chooses by cross-fitted likelihood, as `choose_calibrator`.
        seed: of the split.

    Raises:
        CalibrationError: as `choose_calibrator`, the calibrator is unknown, or Platt scaling is wanted and float32
            cannot resolve it, as the scores lie too close together for their distance from 0.

    >>> rng = np.random.default_rng(0)
    >>> score = rng.normal(size=1000)
    >>> print(calibrate_score(score, rng.beta(2 + score.clip(-1), 1)))
    mean value 64.2 % (62.5 to 65.9), a map of 13 knots on n = 1000, ECE 0.017 (0.000 to 0.040)
    """
    if calibrator not in SCORE_CALIBRATORS:
        raise CalibrationError(f"calibrator: expected one of {', '.join(SCORE_CALIBRATORS)}, got {calibrator!r}")
    score, value = as_array(score, "score"), as_array(value, "value")
    methods = {"platt": ("platt",), "map": ("isotonic",)}.get(calibrator)
    chosen = choose_calibrator(score, value, weight, methods=methods, seed=seed)
    if isinstance(chosen.calibrator, Platt) and abs(chosen.calibrator.intercept) > _LARGEST_INTERCEPT:
        if calibrator == "platt":
            raise CalibrationError(
                f"score: expected a spread of more than a thousandth of its size for platt, got {np.std(score):.3g} "
                f"around {np.mean(score):.6g}; subtract a constant from the score, or take the calibrator map"
            )
        chosen = choose_calibrator(score, value, weight, methods=("isotonic",), seed=seed)
    assert chosen.calibrator is not None
    share = normalised(weight, len(score))
    return ScoreCalibration(
        confidence=chosen.calibrator,
        n=len(score),
        value=Estimate(weighted_mean(value, share), *accuracy_interval(value, share), len(score)),
        ece_after=_error_with_fit(chosen, score, value, row_weights(weight, len(score))),
    )


def _error_with_fit(
    chosen: Selection, score: NDArray[np.floating], value: Correct, weight: NDArray[np.float64]
) -> Estimate:
    """Return the calibration error outside the fit, together with that which the fit's own chance error makes.

    In bins of cross-fitted confidences, the chance errors of the fits cancel: what is low by chance in one fold makes
    the fits without it low and its own confidences high. How far the fits are from each other shows these errors
    (jackknife with groups; Kott, Journal of Official Statistics 17, 2001).
    """
    outside = calibration_error(chosen.held_out, value, weight=weight)
    folds = np.unique(chosen.fold)
    fits = np.empty((len(folds), len(score)))
    for position, one in enumerate(folds):
        without = chosen.fold != one
        found = _OF_SCORES[chosen.method](score[without], value[without], weight[without])
        assert found is not None
        fits[position] = found(score)
    apart = (fits - fits.mean(axis=0)) * np.sqrt((len(folds) - 1) / len(folds))
    chance = np.random.default_rng(0).standard_normal((_DRAWS, len(folds))) @ apart
    errors = np.abs(chance) @ weight / weight.sum()
    high = float(np.hypot(outside.high, np.quantile(errors, 0.975)))
    return Estimate(float(np.hypot(outside.value, errors.mean())), outside.low, min(high, 1.0), len(score))


def _deal(correct: Correct, folds: int, seed: int) -> NDArray[np.intp]:
    """Return the fold [n] of each row, at random but stratified by correctness."""
    shuffled = np.random.default_rng(seed).permutation(len(correct))
    fold = np.empty(len(correct), np.intp)
    fold[shuffled[np.argsort(correct[shuffled], kind="stable")]] = np.arange(len(correct)) % folds
    return fold


def _cross_fitted(
    fit: _Fit,
    score: NDArray[np.floating],
    correct: Correct,
    weight: NDArray[np.float64],
    fold: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return the probability float64 [n] of each answer by the fit that has not seen it."""
    probability = score.astype(np.float64)
    for one in np.unique(fold):
        within, without = fold == one, fold != one
        found = fit(score[without], correct[without], weight[without])
        if found is not None:
            probability[within] = found(score[within])
    return probability


def _losses(probability: NDArray[np.floating], correct: Correct) -> NDArray[np.float64]:
    """Return the negative log-likelihood float64 [n] of each answer in nats; of graded ones, the cross-entropy."""
    clipped = np.clip(probability.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    if correct.dtype != np.bool_:
        return np.asarray(-correct * np.log(clipped) - (1 - correct) * np.log1p(-clipped))
    return np.asarray(-np.log(np.where(correct, clipped, 1 - clipped)))


def _mean_and_error(values: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float]:
    """Return the weighted mean and its standard error."""
    n, total = len(values), weight.sum()
    mean = float(weight @ values / total)
    return mean, float(np.sqrt(weight**2 @ (values - mean) ** 2 * n / (n - 1)) / total)


def _simplest_of_the_best(losses: Mapping[str, NDArray[np.float64]], weight: NDArray[np.float64]) -> str:
    best = min(losses, key=lambda name: weight @ losses[name])
    for name, loss in losses.items():
        worse, error = _mean_and_error(loss - losses[best], weight)
        if worse <= error:
            return name
    return best


def _unchanged(score: NDArray[np.floating], correct: Correct, weight: NDArray[np.float64]) -> None:
    """Fit nothing."""


def _platt_map(score: NDArray[np.floating], correct: Correct, weight: NDArray[np.float64]) -> ConfidenceMap | None:
    """Return Platt scaling of log-odds as a map, with knots at the ends and at the means of groups.

    Where it cannot be fitted, return None, which leaves the probabilities as they are.
    """
    clipped = np.clip(score.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    log_odds = np.log(clipped) - np.log1p(-clipped)
    ends = np.array([log_odds.min(), log_odds.max()])
    try:
        platt = fit_platt(log_odds, correct, weight) if ends[0] < ends[1] else Platt(0.0, 0.0)
    except CalibrationError:
        return None
    if platt.slope <= 0:  # the scores say nothing: every answer gets the same probability
        return fit_isotonic(np.zeros(len(score)), correct, weight)
    knots, values, _ = grouped(score, platt(log_odds), weight, _KNOTS - 2)
    low, high = platt(ends)
    return _gentle(np.hstack([score.min(), knots, score.max()]), np.hstack([low, values, high]))


def _isotonic_map(
    score: NDArray[np.floating], correct: Correct, weight: NDArray[np.float64], steepest: float = _STEEPEST
) -> ConfidenceMap:
    found = fit_isotonic(score, correct, weight, groups=_KNOTS)
    return _gentle(np.array(found.knots), np.array(found.values), steepest)


def _score_map(score: NDArray[np.floating], correct: Correct, weight: NDArray[np.float64]) -> ConfidenceMap:
    """Return a map of scores on any scale, of which the largest has the largest rounding error."""
    return _isotonic_map(score, correct, weight, _STEEPEST / max(float(np.abs(score).max()), _TINY))


def _gentle(knots: NDArray[np.float64], values: NDArray[np.float64], steepest: float = _STEEPEST) -> ConfidenceMap:
    """Return a map in which knots that are too steep to resolve are merged.

    Knots are float32 numbers, and values multiples of 2^-20 below 1, whose sums and differences are exact in float32.
    """
    knots = knots.astype(np.float32).astype(np.float64)
    values = values.copy()
    while len(knots) > 1:
        rise, run = np.diff(values), np.diff(knots)
        steep = int(np.argmax(rise - steepest * run))
        if rise[steep] <= steepest * run[steep] and run.min() > 0:
            break
        at = steep if run.min() > 0 else int(np.argmin(run))
        knots[at] = np.float32((knots[at] + knots[at + 1]) / 2)
        values[at] = (values[at] + values[at + 1]) / 2
        knots, values = (np.delete(array, at + 1) for array in (knots, values))
    exact = np.clip(np.round(values / _UNIT), 1, 1 / _UNIT - 1) * _UNIT
    return ConfidenceMap(tuple(knots.tolist()), tuple(exact.tolist()))


_OF_SCORES: dict[str, _Fit] = {"platt": fit_platt, "isotonic": _score_map}
_OF_PROBABILITIES: dict[str, _Fit] = {"unchanged": _unchanged, "platt": _platt_map, "isotonic": _isotonic_map}
