"""Temperature scaling: the scalar T that minimises the negative log-likelihood of softmax(z / T).

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2.

A model that is right on every row has no finite optimum: every smaller T makes the labels likelier. The likelihood is
then multiplied by Jeffreys' prior on 1 / T, the square root of the information about it (Firth, "Bias reduction of
maximum likelihood estimates", Biometrika 80, 1993). The effect is that of half an error: where all rows have the same
margin, the model expects to be wrong on half a row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_labelled_logits, labelled
from edgecascade.calibration.intervals import accuracy_interval, loss_interval
from edgecascade.calibration.metrics.reliability import calibration_error
from edgecascade.calibration.scaling.likelihood import (
    CHUNK_ELEMENTS,
    Derivatives,
    chunks,
    minimise,
    pick,
    row_likelihoods,
    silence_masked,
    total,
)
from edgecascade.calibration.weights import normalised, weighted_mean
from edgecascade.types.document import Calibration
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate
from edgecascade.types.extras import naming_extras
from edgecascade.types.softmax import softmax

__all__ = [
    "bounded",
    "calibrate_temperature",
    "fit_temperature",
    "interval_from_rows",
    "mean_loss",
    "measure_temperature",
    "negative_log_likelihood",
    "row_losses",
    "temperature_interval",
]

_FIRST_LOOK = 1000  # rows of the first fit, whose optimum starts the fit on eight times as many, and so on
_STRIDE = float(np.log(4.0))  # in ln(1 / T), of the search for a bounded T
_LARGEST_SPREAD = 1e150  # its square is still a float64
_LEAST_FREEDOM = 3.0  # of the t distribution
_LONGEST_ARM = 50.0  # of ln T, which stays finite
_Z = 1.959963984540054  # two-sided 95 % of a normal
_PRECISION = 3e-5  # relative, of the last step but one: Newton's method squares the error


def fit_temperature(logits: ArrayLike, labels: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Return the temperature T > 0 that minimises the negative log-likelihood of softmax(z / T).

    The likelihood is convex in b = 1 / T, so Newton's method on b inside a shrinking bracket always converges. It
    works in chunks, so the logits may be memory-mapped. Exponentials are taken in float32 unless the logits are
    float64; sums over rows are always float64. Where the model is right on every row, T is bounded by a weak prior,
    worth half an error.

    Args:
        logits: [n, classes], floating, of numpy, torch, pandas or polars; -inf masks a class.
        labels: [n], integer, in 0..classes - 1, likewise.
        weight: [n], numbers above 0 on any scale, by which each row counts; None for equal weights.

    Raises:
        CalibrationError: no finite T exists; the message says why.

    >>> logits = np.array([[4.0, 0.0]] * 10)          # always sure of class 0,
    >>> labels = np.array([0] * 9 + [1])              # and right nine times out of ten
    >>> round(fit_temperature(logits, labels), 3)     # softmax(4 / T) = 0.9
    1.82
    """
    logits, labels = labelled(logits, labels)
    return _fit(logits, labels, normalised(weight, len(labels)))[0]


def _fit(
    logits: NDArray[np.floating], labels: NDArray[np.integer], weight: NDArray[np.float64] | None
) -> tuple[float, str | None]:
    """Return T, and a phrase that says how and why it was bounded, if it was."""
    check_labelled_logits(logits, labels)
    survey = _survey(logits, labels, weight)
    spread = survey.mean_distance
    if spread > _LARGEST_SPREAD:
        raise CalibrationError(f"logits: expected distances below {_LARGEST_SPREAD:.0e}, got {spread:.0e} on average")
    if not 1e-15 < spread < 1e15:  # their squares are no float32
        logits = logits.astype(np.float64)
    if not survey.any_wrong:
        bound = f"bounded by a prior worth half an error, as all {len(labels)} are right"
        return bounded(partial(_penalised, logits, labels, weight), survey.median_distance or spread), bound
    start, rows = 1.0 / spread, _FIRST_LOOK
    while rows < len(logits) // 4:
        every = len(logits) // rows
        some = None if weight is None else weight[::every]
        start = minimise(partial(_likelihood, logits[::every], labels[::every], some), start, precision=0.01) or start
        rows *= 8
    inverse = minimise(partial(_likelihood, logits, labels, weight), start, _PRECISION)
    if inverse is None:
        raise CalibrationError("logits: no finite T was found for them; are some of them huge by mistake?")
    as_it_was = negative_log_likelihood(logits, labels, 1.0, weight)
    improved = negative_log_likelihood(logits, labels, 1.0 / inverse, weight) <= as_it_was
    return 1.0 / inverse if improved else 1.0, None


def negative_log_likelihood(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    temperature: float = 1.0,
    weight: ArrayLike | None = None,
) -> float:
    """Return the mean of -log softmax(z / T)[label] in nats; arguments as `fit_temperature`."""
    return weighted_mean(row_losses(logits, labels, temperature), normalised(weight, len(labels)))


def row_losses(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Return -log softmax(z / T)[label] of each row, float64 [n], in nats."""
    check_labelled_logits(logits, labels)
    losses = []
    for below, truth, _ in chunks(logits, labels):
        at_label = pick(below, truth).astype(np.float64)
        below /= below.dtype.type(temperature)
        losses.append(np.log(np.exp(below, out=below).sum(axis=1, dtype=np.float64)) - at_label / temperature)
    return np.concatenate(losses)


def temperature_interval(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float, weight: ArrayLike | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of the T that unlimited inputs would have, given the one fitted to these.

    The variance of ln T is the larger of two: that of the sandwich (White, Econometrica 50, 1982), which holds although
    no temperature makes the probabilities right, and that of a right model, which is steadier with few errors. The
    influence of the most influential input counts once more, because an input like it may be missing. Where few inputs
    matter, wrong labels for example, a sample with too few of them has both a lower T and a smaller variance. The upper
    end therefore uses the t distribution, with one degree of freedom more than the number of equally influential inputs
    that the variance is worth (after Satterthwaite, Biometrics Bulletin 2, 1946). Where every label is right, each
    smaller T is likelier, and the lower end is 0.

    Args:
        logits: [n, classes], floating.
        labels: [n], integer.
        temperature: T, as `fit_temperature` gives it.
        weight: [n], numbers above 0 on any scale; None for equal weights.
    """
    weight = normalised(weight, len(labels))
    found, *_ = zip(*row_likelihoods(logits, labels, weight, 1 / temperature), strict=True)
    slope, curvature = (np.concatenate(some).astype(np.float64) for some in list(zip(*found, strict=True))[1:])
    return interval_from_rows(temperature, slope, curvature, np.ones(len(labels)) if weight is None else weight)


def interval_from_rows(
    temperature: float, slope: NDArray[np.float64], curvature: NDArray[np.float64], share: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the interval of `temperature_interval` from the derivatives of each row's loss [n] in 1 / T."""
    with naming_extras():
        from scipy.special import stdtrit

    squares = (share * slope) ** 2
    variance = max(float(squares.sum()), float(share**2 @ curvature)) + float(squares.max())
    information = float(share @ curvature)
    error = float(np.sqrt(variance)) * temperature / information if information > 0 else np.inf
    relative = squares / (squares.max() or 1.0)
    alike = float(relative.sum() ** 2 / max(1.0, np.sum(relative**2)))
    freedom = max(_LEAST_FREEDOM, 1 + alike)
    below, above = (min(_LONGEST_ARM, quantile * error) for quantile in (_Z, float(stdtrit(freedom, 0.975))))
    low = temperature * float(np.exp(-below)) if (slope > 0).any() else 0.0
    return low, temperature * float(np.exp(above))


def calibrate_temperature(logits: ArrayLike, labels: ArrayLike, weight: ArrayLike | None = None) -> Calibration:
    """Fit T and record accuracy, NLL and ECE before and after, with 95 % intervals, on the data of the fit.

    Arguments and errors as `fit_temperature`.
    """
    logits, labels = labelled(logits, labels)
    weight = normalised(weight, len(labels))
    temperature, bound = _fit(logits, labels, weight)
    interval = temperature_interval(logits, labels, temperature, weight)
    return measure_temperature(logits, labels, weight, temperature, interval=interval, bound=bound)


def measure_temperature(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    weight: NDArray[np.float64] | None,
    temperature: float,
    *,
    interval: tuple[float, float],
    bound: str | None,
) -> Calibration:
    """Record a temperature with accuracy, NLL and ECE before and after it, with 95 % intervals."""
    correct = logits.argmax(axis=1) == labels
    return Calibration(
        method="temperature",
        temperature=temperature,
        n=len(labels),
        accuracy=Estimate(weighted_mean(correct, weight), *accuracy_interval(correct, weight), len(labels)),
        nll_before=_likelihood_loss(logits, labels, 1.0, weight),
        nll_after=_likelihood_loss(logits, labels, temperature, weight),
        ece_before=calibration_error(softmax(logits).max(axis=1), correct, weight=weight),
        ece_after=calibration_error(softmax(logits, temperature).max(axis=1), correct, weight=weight),
        bound=bound,
        temperature_interval=interval,
    )


def mean_loss(losses: NDArray[np.float64], unseen: float = 0.0, weight: NDArray[np.float64] | None = None) -> Estimate:
    """Return the mean of losses [n] with the interval of `loss_interval`; arguments as there."""
    return Estimate(weighted_mean(losses, weight), *loss_interval(losses, unseen, weight), len(losses))


def _likelihood_loss(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    temperature: float,
    weight: NDArray[np.float64] | None,
) -> Estimate:
    """Return the NLL; a loss that the inputs may not show is that of the second most likely class."""
    unseen = weighted_mean(row_losses(logits, _runner_up(logits), temperature), weight)
    return mean_loss(row_losses(logits, labels, temperature), unseen, weight)


def _runner_up(logits: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the second most likely class of each row, or the likeliest where all others are masked."""
    rows = max(1, CHUNK_ELEMENTS // logits.shape[1])
    found = []
    for start in range(0, len(logits), rows):
        first, second = np.argpartition(-logits[start : start + rows], 1, axis=1)[:, :2].T
        masked = np.isneginf(np.take_along_axis(logits[start : start + rows], second[:, None], axis=1)[:, 0])
        found.append(np.where(masked, first, second))
    return np.concatenate(found)


def _likelihood(
    logits: NDArray[np.floating], labels: NDArray[np.integer], weight: NDArray[np.float64] | None, inverse: float
) -> Derivatives:
    rows = row_likelihoods(logits, labels, weight, inverse)
    loss, slope, curvature = np.sum([[total(one, share) for one in found] for found, share, _ in rows], axis=0)
    return Derivatives(float(loss), float(slope), float(curvature))


def bounded(penalised: Callable[[float], float], distance: float) -> float:
    """Return the T that minimises a penalised negative log-likelihood, a function of ln(1 / T) that falls, then rises.

    The search goes down from a typical distance of logits, so that single rows with much larger ones do not matter.
    """
    with naming_extras():
        from scipy.optimize import minimize_scalar

    first = -float(np.log(distance))
    losses = [penalised(first)]
    while len(losses) - int(np.argmin(losses)) < 3:  # until it has risen twice
        losses.append(penalised(first + _STRIDE * len(losses)))
    best = first + _STRIDE * int(np.argmin(losses))
    found = minimize_scalar(penalised, bounds=(best - _STRIDE, best + _STRIDE), method="bounded")
    return float(np.exp(-found.x))


def _penalised(
    logits: NDArray[np.floating], labels: NDArray[np.integer], weight: NDArray[np.float64] | None, log_inverse: float
) -> float:
    """Return the negative log-likelihood less half the logarithm of its curvature in 1 / T."""
    at = _likelihood(logits, labels, weight, float(np.exp(log_inverse)))
    return at.loss - 0.5 * float(np.log(at.curvature)) if at.curvature > 0 else np.inf


class _Survey(NamedTuple):
    """The mean and the median over rows of the mean distance from a row's largest logit; whether any row is wrong."""

    mean_distance: float
    median_distance: float
    any_wrong: bool


def _survey(logits: NDArray[np.floating], labels: NDArray[np.integer], weight: NDArray[np.float64] | None) -> _Survey:
    """Look at all rows once, and refuse logits that no temperature makes useful."""
    any_wrong, slope_at_zero, done = False, 0.0, 0
    distances = []
    for below, truth, share in chunks(logits, labels, weight):
        at_label = pick(below, truth)
        classes = np.full(len(below), below.shape[1]) - silence_masked(below)
        sums = below.sum(axis=1)
        if not np.isfinite(sums).all():
            row = done + int(np.flatnonzero(~np.isfinite(sums))[0])
            raise CalibrationError(
                f"logits: expected finite numbers or -inf for a masked class, got NaN or +inf in row {row}"
            )
        if np.isneginf(at_label).any():
            raise CalibrationError("logits: the true class of a row is masked (-inf), so no T explains it")
        any_wrong |= bool((at_label < 0).any())
        slope_at_zero += total(sums / classes - at_label, share)
        distances.append(-sums.astype(np.float64) / below.shape[1])
        done += len(below)
    distance = np.concatenate(distances)
    if not distance.any():
        raise CalibrationError("logits: every row is constant, so every temperature gives the same answer")
    if slope_at_zero >= 0:
        raise CalibrationError(
            "labels: the logits say no more than chance about them, so no finite T is best; "
            "check the order of the classes"
        )
    return _Survey(float(distance.mean()), float(np.median(distance)), any_wrong)
