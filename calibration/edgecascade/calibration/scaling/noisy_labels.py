"""Temperature scaling where labels are wrong: T, and the share rho of labels that are as if drawn at random.

A label is taken to be drawn from (1 - rho) softmax(z / T) + rho / C, with C classes. A label that the model finds
impossible then costs log(C / rho) at most, and no longer flattens the probabilities of all inputs. A confusion of
certain classes is not of this kind, and is allowed for in part.

The likelihood is maximised over rho at each T, which takes the rows' probabilities of their labels alone, and over T by
Newton's method on that profile. The interval of rho is that of the likelihood ratio. Its ends are found by alternating
a root in rho and a Newton step in 1 / T (after Venzon and Moolgavkar, "A method for computing
profile-likelihood-based confidence intervals", Applied Statistics 37, 1988).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_labelled_logits
from edgecascade.calibration.scaling.likelihood import Derivatives, minimise, row_likelihoods
from edgecascade.calibration.scaling.temperature import bounded, fit_temperature, interval_from_rows
from edgecascade.calibration.weights import effective_size, normalised, weighted_mean
from edgecascade.types.document import LabelNoise
from edgecascade.types.estimate import Estimate
from edgecascade.types.extras import naming_extras

__all__ = ["fit_temperature_and_noise"]

_LOWEST, _HIGHEST = 1e-12, 1 - 1e-9  # rho, where it is neither 0 nor 1
_FIRST_LOOK = 8000  # rows of the first fit, where there are many more
_MOST_LOSS = 700.0  # nats, whose exponential is a float
_HALF_QUANTILE = 1.9207294103470678  # half the 95 % quantile of chi squared with one degree of freedom
_MISSING = 0.5  # wrong labels
_NEAR = 0.01  # nats
_MOST_STEPS = 20
_LEAST_INFORMATION = 1.0  # about ln T, with which its standard error is 1
_PRECISION = 3e-5  # relative, of the last step but one in 1 / T
_BOUND = "bounded by a prior worth half an error, as wrong labels may explain every error"


class _Rows(NamedTuple):
    """What rows say at one b = 1 / T, float64 [n] each.

    Attributes:
        p: probability of the label under the model.
        slope: first derivative of -log p in b.
        curvature: second derivative of -log p in b.
        even: 1 / C, with the C classes of the row that are not masked.
        share: weight.
    """

    p: NDArray[np.float64]
    slope: NDArray[np.float64]
    curvature: NDArray[np.float64]
    even: NDArray[np.float64]
    share: NDArray[np.float64]

    def mixed(self, rho: float) -> NDArray[np.float64]:
        """Return the probability of each label, wrong ones allowed for."""
        found: NDArray[np.float64] = self.p + rho * (self.even - self.p)
        return found

    def loss(self, rho: float) -> float:
        """Return the summed negative log-likelihood."""
        return -float(self.share @ np.log(self.mixed(rho)))

    def in_rho(self, rho: float) -> NDArray[np.float64]:
        """Return the first derivative of each row's loss in rho; its square is the second."""
        found: NDArray[np.float64] = (self.p - self.even) / self.mixed(rho)
        return found

    def in_inverse(self, rho: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the first and the second derivative of each row's loss in b."""
        kept = (1 - rho) * self.p / self.mixed(rho)  # the probability that the label came from the model
        return kept * self.slope, kept * (self.curvature - (1 - kept) * self.slope**2)

    def adjusted(self, rho: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the derivatives in b where rho follows, so that the loss stays lowest in rho."""
        slope, curvature = self.in_inverse(rho)
        if rho == 0:
            return slope, curvature
        in_rho = self.in_rho(rho)
        cross = -self.slope * self.p * self.even / self.mixed(rho) ** 2
        follow = (self.share @ cross) / (self.share @ in_rho**2)
        return slope - follow * in_rho, curvature - 2 * follow * cross + follow**2 * in_rho**2

    def certain_curvature(self, rho: float) -> float:
        """Return the second derivative of the loss in b as if it were certain which labels are wrong."""
        return float(self.share @ ((1 - rho) * self.p / self.mixed(rho) * self.curvature))

    def best_rho(self, more: float = 0.0) -> float:
        """Return the likeliest rho, given so many wrong labels more than those in the rows."""

        def score(rho: float) -> float:
            return rho * float(self.share @ self.in_rho(rho)) - more

        if score(_LOWEST) >= 0:
            return 0.0
        return _root(score, _LOWEST, _HIGHEST) if score(_HIGHEST) > 0 else _HIGHEST


def fit_temperature_and_noise(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    weight: ArrayLike | None = None,
    *,
    without: float | None = None,
) -> LabelNoise:
    """Return T and rho that maximise the likelihood of (1 - rho) softmax(z / T) + rho / C, with 95 % intervals.

    Where the likelihood falls with rho, rho is 0 and T is that of `fit_temperature`. The interval of rho is that of the
    likelihood ratio; its upper end counts half a wrong label more, which the inputs may not show, and without which an
    interval from no wrong label would be too short. Where the rows' weights differ, the ratio is scaled to the number
    of inputs that they are worth.

    Args:
        logits: [n, classes], floating; -inf masks a class, which is not among the C of its row then.
        labels: [n], integer, in 0..classes - 1.
        weight: [n], numbers above 0 on any scale, by which each row counts; None for equal weights.
        without: T without label noise, as `fit_temperature` gives it, if it is known.

    Raises:
        CalibrationError: as `fit_temperature`.

    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0.0, 4.0, (2000, 10))
    >>> labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)    # from softmax(z)
    >>> labels[:100] = (labels[:100] + rng.integers(1, 10, 100)) % 10       # and 5 % of them wrong
    >>> print(fit_temperature_and_noise(logits, labels))
    about 4.8 % (3.5 to 6.2) of the labels look wrong to this model; T is 1.02 allowing for that, 1.38 without
    """
    check_labelled_logits(logits, labels)
    weight = normalised(weight, len(labels))
    without = fit_temperature(logits, labels, weight) if without is None else without
    if not 1e-15 < without < 1e15:  # logits whose squares are no float32
        logits = logits.astype(np.float64)
    likelihood = _Likelihood(logits, labels, weight)
    plain = likelihood.at(1 / without)
    inverse, rows, bound = 1 / without, plain, None
    if plain.best_rho() > 0:
        inverse, rows, bound = _fit(likelihood, without)
    rho = rows.best_rho()
    if rho == 0:
        inverse, rows, bound = 1 / without, plain, None
    worth = len(labels) / effective_size(weight, len(labels))
    low, high = _ratio_interval(likelihood, inverse, rows, plain.loss(0.0), worth)
    coldest, hottest = interval_from_rows(1 / inverse, *rows.adjusted(rho), rows.share)
    n, wrong = len(labels), weighted_mean(1 - rows.even, weight)
    return LabelNoise(
        wrong=Estimate(rho * wrong, low * wrong, high * wrong, n),
        rho=Estimate(rho, low, high, n),
        temperature=1 / inverse,
        temperature_interval=(coldest if bound is None else 0.0, hottest),
        without=without,
        bound=bound,
    )


class _Likelihood(NamedTuple):
    """Labelled logits, of which the likelihood is taken."""

    logits: NDArray[np.floating]
    labels: NDArray[np.integer]
    weight: NDArray[np.float64] | None

    def at(self, inverse: float) -> _Rows:
        """Return what all rows say at b."""
        found, _, masked = zip(*row_likelihoods(*self, inverse), strict=True)
        loss, slope, curvature = (np.concatenate(some).astype(np.float64) for some in zip(*found, strict=True))
        even = 1 / (self.logits.shape[1] - np.concatenate(masked))
        share = np.ones(len(self.labels)) if self.weight is None else self.weight
        return _Rows(np.exp(-np.minimum(loss, _MOST_LOSS)), slope, curvature, even, share)

    def profile(self, inverse: float) -> Derivatives:
        """Return the loss at the likeliest rho for b, and its derivatives in b."""
        rows = self.at(inverse)
        rho = rows.best_rho()
        slope, curvature = rows.adjusted(rho)
        return Derivatives(rows.loss(rho), float(rows.share @ slope), float(rows.share @ curvature))

    def penalised(self, log_inverse: float) -> float:
        """Return the loss at the likeliest rho less half the logarithm of its curvature in b."""
        rows = self.at(float(np.exp(log_inverse)))
        rho = rows.best_rho()
        curvature = rows.certain_curvature(rho)
        return rows.loss(rho) - 0.5 * float(np.log(curvature)) if curvature > 0 else np.inf

    def every(self, step: int) -> _Likelihood:
        """Return one in so many rows."""
        weight = None if self.weight is None else self.weight[::step]
        return _Likelihood(self.logits[::step], self.labels[::step], weight)


def _fit(likelihood: _Likelihood, without: float) -> tuple[float, _Rows, str | None]:
    """Return the likeliest b, what the rows say there, and a phrase that says how and why it was bounded, if it was."""
    start, step = 1 / without, len(likelihood.labels) // _FIRST_LOOK
    if step > 3:
        start = minimise(likelihood.every(step).profile, start, precision=0.01) or start
    found = minimise(likelihood.profile, start, _PRECISION)
    if found is not None:
        rows = likelihood.at(found)
        if rows.share @ rows.adjusted(rows.best_rho())[1] * found**2 >= _LEAST_INFORMATION:
            return found, rows, None
    inverse = 1 / bounded(likelihood.penalised, without)
    return inverse, likelihood.at(inverse), _BOUND


def _ratio_interval(
    likelihood: _Likelihood, inverse: float, rows: _Rows, at_zero: float, worth: float
) -> tuple[float, float]:
    """Return the 95 % interval of rho.

    Args:
        likelihood: of all rows.
        inverse: the likeliest b.
        rows: what the rows say at that b.
        at_zero: the lowest loss without label noise.
        worth: how many rows count as one.
    """
    best, cut = rows.loss(rows.best_rho()), _HALF_QUANTILE * worth
    low = _Cut(best + cut, 0.0, _LOWEST)
    missing = _MISSING * worth
    likeliest = rows.best_rho(missing)
    high = _Cut(rows.loss(likeliest) - missing * float(np.log(likeliest)) + cut, missing, _HIGHEST)
    return (
        _end(likelihood, inverse, rows, low) if at_zero > low.level else 0.0,
        _end(likelihood, inverse, rows, high),
    )


class _Cut(NamedTuple):
    """A level of the loss, which may count wrong labels that the rows do not show, on one side of the likeliest rho."""

    level: float
    missing: float
    outer: float

    def rho(self, rows: _Rows) -> float | None:
        """Return the rho at which the loss reaches the level at the rows' b; None if it is above it everywhere."""

        def excess(rho: float) -> float:
            return rows.loss(rho) - self.missing * float(np.log(rho)) - self.level

        inner = rows.best_rho(self.missing) or _LOWEST
        if excess(inner) > 0:
            return None
        if excess(self.outer) <= 0:
            return self.outer
        return _root(excess, *sorted((inner, self.outer)))


def _end(likelihood: _Likelihood, inverse: float, rows: _Rows, cut: _Cut) -> float:
    """Return the outermost rho at which the loss reaches a level, over all b: there, its slope in b is 0."""
    rho = cut.rho(rows)
    assert rho is not None
    for _ in range(_MOST_STEPS):
        slope, curvature = (float(rows.share @ one) for one in rows.in_inverse(rho))
        if curvature <= 0:
            curvature = rows.certain_curvature(rho)
        if slope**2 <= 2 * _NEAR * curvature or curvature <= 0:
            break
        step = max(-inverse / 2, min(inverse, -slope / curvature))
        while (found := cut.rho(moved := likelihood.at(inverse + step))) is None:
            step /= 2
        inverse, rows, rho = inverse + step, moved, found
    return rho


def _root(of: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function of rho is 0, between two at which it has opposite signs."""
    with naming_extras():
        from scipy.optimize import brentq

    return float(np.exp(brentq(lambda log_rho: of(float(np.exp(log_rho))), np.log(low), np.log(high), xtol=1e-9)))
