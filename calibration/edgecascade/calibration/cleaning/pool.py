"""The pool: several experts combined into one calibrated judge of labels.

The logarithmic opinion pool softmax(sum_k w_k z_k) with weights w >= 0 (Genest and Zidek, Statistical Science 1, 1986),
fitted by likelihood on held-out labelled rows. It is temperature scaling for K experts: convex in w, aware that experts
err together, and a weak expert gets a weight near 0. Some of the held-out labels are wrong too: with probability rho,
a label is taken for one drawn from all classes alike, so that wrong labels do not blunt the pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from edgecascade.calibration.cleaning.experts import ABSENT, Experts, check_labels
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate

__all__ = ["Pool", "fit_pool"]

_FEWEST = 10  # rows
_ALONE = 800  # rows on which each expert is calibrated
_FIRST_LOOK = 500  # rows that show how far the scores lie apart
_FIRST_FIT = 100  # rows of the first fit, whose optimum starts the fit on five times as many
_SHRINK = 10.0  # rows that the prior of equal weights is worth
_NOTICED = 0.1  # share of the weights' differences that the prior takes away, from which on it is said
_WIDEST = 30.0  # nats of mean distance from the best class: a weak prior on the pool's sharpness
_NOTHING = 1e-3  # nats of mean distance from the best class, below which an expert says nothing
_STEPS = 50
_HALVINGS = 30
_UNTHREADED = 1 << 17  # multiplications
_HELD = 8  # arrays of a chunk's size: two of the pool's, what the experts gave, and what its caller has
_TINY = 1e-30
_NEAR = 0.05  # relative to the largest weight: Newton's method squares the error
_ROUGHLY = 0.5  # standard errors that the last step but one is away from the optimum, on some of the rows
_PRECISION = 0.15  # the same on all rows
_MUCH = 10.0  # nats of likelihood
_MOST_NOISE = 0.9
_LEAST_WEIGHT = 1e-20  # which leaves absent options absent
_Z = 1.959963984540054  # two-sided 95 % of a normal

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """A fitted pool of experts.

    Attributes:
        names: of the experts.
        weights: by which each expert's logits count, 0 or more, each with its 95 % interval.
        temperatures: float64 [K], of each expert on its own.
        rho: share of held-out labels that say nothing about the row, with its 95 % interval.
        classes: number of classes.
        n: held-out rows of the fit.
        shrinkage: share of the differences between the weights that the prior took away, in [0, 1].
    """

    names: tuple[str, ...]
    weights: tuple[Estimate, ...]
    temperatures: Floats
    rho: Estimate
    classes: int
    n: int
    shrinkage: float

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {one.value:.3g}" for name, one in zip(self.names, self.weights, strict=True))
        few = f"; shrunk towards equal weights, of which {self.n} held-out rows tell little" if self.shrunk else ""
        return f"pool of {len(self.names)} experts on {self.n} held-out rows, weights: {parts}{few}"

    @property
    def shrunk(self) -> bool:
        """Whether the weights are notably closer to equal than the held-out rows say, since these tell little.

        They may be few, or the experts may be right so often that hardly any row shows which of them is better.
        """
        return len(self.names) > 1 and self.shrinkage > _NOTICED

    def logits(self, experts: Experts) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield sum_k w_k z_k of all rows, float32 [m, classes], with their place; the next chunk overwrites it.

        They are logits up to a constant per row; -inf is an absent option.

        Raises:
            CalibrationError: a row holds something else than logits or probabilities.
        """
        used = [(k, one.value) for k, one in enumerate(self.weights) if one.value > 0]
        for part in experts.parts(_HELD):
            if part.start == 0:
                buffers = np.empty((2, part.stop, experts.classes), np.float32)
            pooled, one = buffers[:, : part.stop - part.start]
            for place, (k, weight) in enumerate(used):
                experts.read_into(one if place else pooled, k, part, weight)
                if place:
                    pooled += one
            yield part, pooled


def fit_pool(experts: Experts, labels: ArrayLike, *, shrink: float = _SHRINK) -> Pool:
    """Fit the weights of a pool by likelihood on rows that no expert was trained on.

    The likelihood of a row with label y is (1 - rho) softmax(sum_k w_k z_k)_y + rho / classes. A prior draws the
    weights of the calibrated experts, w_k times their temperature T_k, towards one another.

    Args:
        experts: on n held-out rows.
        labels: integers [n].
        shrink: how many rows the prior is worth; 0 for none.

    Raises:
        CalibrationError: the rows are too few, the labels do not fit, or the experts say no more than chance.

    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 3, 2000)
    >>> good, poor = (np.eye(3)[labels] * size + rng.normal(size=(2000, 3)) for size in (2.0, 0.0))
    >>> pool = fit_pool(Experts.of([good, poor], ["good", "poor"]), labels)
    >>> [round(one.value, 1) for one in pool.weights]
    [1.9, 0.0]
    """
    labels = check_labels(labels, experts)
    if len(labels) < _FEWEST:
        raise CalibrationError(f"labels: expected at least {_FEWEST} held-out rows, got {len(labels)}")
    every = np.arange(0, len(labels), max(1, len(labels) // _ALONE))
    alone = [_fit(experts.only(k).select(every), labels[every], np.ones(1), 0.0) for k in range(len(experts))]
    # 1 / T of each expert; 0 where the labels would be noise to it.
    inverse = np.array([one.weights[0] if one.rho < 0.99 * _MOST_NOISE else 0.0 for one in alone])
    chance = "labels: the experts say no more than chance about them; check the order of the classes"
    if (inverse * _spread(experts)).max() < _NOTHING:
        raise CalibrationError(chance)
    scale = np.maximum(inverse, _NOTHING / _spread(experts))
    weights = scale * 2 / (len(scale) + 1)  # between those of experts that err together, and apart
    fit = _fit(experts, labels, scale, shrink, weights)
    if not fit.weights.any():
        raise CalibrationError(chance)
    error = np.sqrt(np.linalg.pinv(fit.information).diagonal().clip(0))
    found = tuple(_estimate(w, e, len(labels)) for w, e in zip(fit.weights, error, strict=False))
    return Pool(
        names=experts.names,
        weights=found,
        temperatures=1 / scale,
        rho=_noise_estimate(fit, float(error[-1]), experts.classes),
        classes=experts.classes,
        n=len(labels),
        shrinkage=fit.shrinkage,
    )


class _Fit(NamedTuple):
    weights: Floats  # [K]
    rho: float
    at_label: Floats  # [n], the pool's probability of each label
    information: Floats  # [K + 1, K + 1], of the weights and rho
    shrinkage: float


class _Likelihood(NamedTuple):
    """What the summed negative log-likelihood depends on, and its derivatives in the weights and rho."""

    at_label: Floats  # [n], the pool's probability of each label
    slope: Floats  # [K + 1], rho last
    information: Floats  # [K + 1, K + 1], the second derivative
    safe: Floats  # [K + 1, K + 1], never negative: as if it were known which labels are meant


def _fit(
    experts: Experts, labels: NDArray[np.int64], scale: Floats, shrink: float, start: Floats | None = None
) -> _Fit:
    """Fit on ever more rows; the prior counts for less the more there are."""
    k, n, rows = len(experts), len(labels), _FIRST_FIT
    spread = _spread(experts)
    bound = np.outer(spread, spread) / _WIDEST**2  # where every row is right, no finite weights are best
    penalty = shrink * (np.eye(k) - 1 / k) / np.outer(scale, scale) + bound
    weights, rho = 5 / spread if start is None else start, 0.01
    while rows < n // 2:
        every = np.arange(0, n, n // rows)
        weights, rho, _ = _climb(experts.select(every), labels[every], weights, rho, penalty * len(every) / n, _ROUGHLY)
        rows *= 5
    weights, rho, at = _climb(experts, labels, weights, rho, penalty, _PRECISION)
    if k == 1:
        return _Fit(weights, rho, at.at_label, at.information, 0.0)
    free = np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1]  # directions in which weights differ
    known = float(np.trace(free.T @ (at.safe[:k, :k] * np.outer(scale, scale)) @ free)) / (k - 1)
    information = at.information.copy()
    information[:k, :k] += penalty
    return _Fit(weights, rho, at.at_label, information, shrink / (shrink + known) if shrink else 0.0)


def _climb(
    experts: Experts, labels: NDArray[np.int64], weights: Floats, rho: float, penalty: Floats, precision: float
) -> tuple[Floats, float, _Likelihood]:
    """Maximise over weights and rho by Newton's method, all of them 0 or more."""
    at = _likelihood(experts, labels, weights, rho)
    k, point = len(weights), np.append(weights, rho)
    penalties = np.zeros((k + 1, k + 1))
    penalties[:k, :k] = penalty
    for _ in range(_STEPS):
        point, at = _with_best_noise(experts, labels, point, at)
        curvature = at.information + penalties
        sizes = _sizes(curvature)
        if np.linalg.eigvalsh(curvature / np.outer(sizes, sizes)).min() < 1e-6:
            curvature = at.safe + penalties
        aim = _least_quadratic(point, at.slope + penalties @ point, curvature)
        aim[k] = min(aim[k], _MOST_NOISE)
        step = aim - point
        near = np.abs(step).max() <= _NEAR * aim[:k].max()
        if near or float(step @ curvature @ step) <= precision**2:
            point = aim
            break
        most = _loss(at.at_label, point[k], experts.classes) + 0.5 * float(point @ penalties @ point)
        for _ in range(_HALVINGS):
            moved = point + step
            at = _likelihood(experts, labels, moved[:k], float(moved[k]))
            loss = _loss(at.at_label, moved[k], experts.classes) + 0.5 * float(moved @ penalties @ moved)
            if loss <= most * (1 + 1e-9):
                break
            step /= 2
        point = moved
    return point[:k], float(point[k]), at


def _with_best_noise(
    experts: Experts, labels: NDArray[np.int64], point: Floats, at: _Likelihood
) -> tuple[Floats, _Likelihood]:
    """Move rho alone where that gains much: near 0, it is far from quadratic."""
    rho = _noise(at.at_label, experts.classes)
    if _loss(at.at_label, point[-1], experts.classes) - _loss(at.at_label, rho, experts.classes) <= _MUCH:
        return point, at
    return np.append(point[:-1], rho), _likelihood(experts, labels, point[:-1], rho)


def _noise(at_label: Floats, classes: int) -> float:
    """Return the rho in [0, 0.9] that maximises the mean of log((1 - rho) p + rho / classes), which is concave."""
    low, high, gain = 0.0, _MOST_NOISE, 1 / classes - at_label
    for _ in range(_HALVINGS):
        rho = (low + high) / 2
        if float((gain / (at_label + rho * gain + _TINY)).sum()) > 0:
            low = rho
        else:
            high = rho
    return low


def _loss(at_label: Floats, rho: float, classes: int) -> float:
    """Return the summed negative log-likelihood."""
    return -float(np.log((1 - rho) * at_label + (rho / classes or _TINY)).sum())


def _least_quadratic(point: Floats, slope: Floats, curvature: Floats) -> Floats:
    """Return the point >= 0 that minimises the quadratic with this slope and curvature at `point`."""
    size = _sizes(curvature)
    scaled = curvature / np.outer(size, size) + 1e-9 * np.eye(len(size))
    root = np.linalg.cholesky(scaled).T
    aim = np.linalg.solve(root.T, scaled @ (point * size) - slope / size)
    found: Floats = nnls(root, aim)[0] / size
    return found


def _sizes(curvature: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(curvature.diagonal(), _TINY)))


def _likelihood(experts: Experts, labels: NDArray[np.int64], weights: Floats, rho: float) -> _Likelihood:
    k, classes = len(weights), experts.classes
    slope, safe, information = np.zeros(k + 1), np.zeros((k + 1, k + 1)), np.zeros((k + 1, k + 1))
    probabilities = np.empty(len(labels))
    for part, block in experts.chunks():
        truth, rows = labels[part], np.arange(part.stop - part.start)
        chosen = block[:, rows, truth].astype(np.float64)
        if chosen.min() <= ABSENT:
            row = part.start + int(np.flatnonzero((chosen <= ABSENT).any(axis=0))[0])
            raise CalibrationError(f"labels: expected options that the row has, got one that is -inf in row {row}")
        p = _combine(block, weights)
        np.exp(p, out=p)
        right = p[rows, truth].astype(np.float64)
        total = np.einsum("ij->i", p).astype(np.float64)
        right /= total
        whole = (1 - rho) * right + (rho / classes or _TINY)
        meant = (1 - rho) * right / whole
        p *= (meant / total).astype(np.float32)[:, None]
        weighted = block * p
        mean = np.einsum("kij->ki", weighted).astype(np.float64)  # times `meant`
        second = _products(weighted.reshape(k, -1), block.reshape(k, -1))
        away = chosen * meant - mean
        covariance = second - (mean / np.maximum(meant, 1e-30)) @ mean.T
        apart = away / np.maximum(meant, 1e-30)
        probabilities[part] = right
        ratio = (1 / classes - right) / whole
        slope -= np.append(away.sum(axis=1), ratio.sum())
        safe[:k, :k] += covariance
        information[:k, :k] += covariance - (away * (1 - meant)) @ apart.T
        information[k, :k] += apart @ (right / whole**2) / classes
        information[k, k] += float((ratio**2).sum())
    information[:k, k] = information[k, :k]
    safe[k, k] = information[k, k]
    return _Likelihood(probabilities, slope, information, safe)


def _products(one: NDArray[np.float32], other: NDArray[np.float32]) -> Floats:
    """Return one @ other.T of few long rows, in pieces for which BLAS starts no threads: they would cost too much."""
    found = np.zeros((len(one), len(other)))
    piece = max(1, _UNTHREADED // found.size)
    for start in range(0, one.shape[1], piece):
        part = slice(start, start + piece)
        found += one[:, part] @ other[:, part].T
    return found


def _combine(block: NDArray[np.float32], weights: Floats) -> NDArray[np.float32]:
    """Return sum_k w_k z_k less the largest of each row, float32 [m, classes]; absent options stay absent."""
    some = np.maximum(weights, _LEAST_WEIGHT).astype(np.float32)
    pooled: NDArray[np.float32] = block[0] * some[0]
    part = np.empty_like(pooled)
    for one, weight in zip(block[1:], some[1:], strict=True):
        pooled += np.multiply(one, weight, out=part)
    pooled -= pooled.max(axis=1, keepdims=True)
    return pooled


def _spread(experts: Experts) -> Floats:
    """Return the mean distance of the scores from the largest, [K]."""
    rows = np.arange(0, experts.n, max(1, experts.n // _FIRST_LOOK))
    sums, count = np.zeros(len(experts)), 0
    for _, block in experts.chunks(rows):
        block[block <= ABSENT] = 0
        sums += block.sum(axis=(1, 2), dtype=np.float64)
        count += block[0].size
    if not sums.all():
        raise CalibrationError(f"{experts.names[0]}: every row is constant, so it says nothing about any label")
    return -sums / count


def _estimate(value: float, error: float, n: int) -> Estimate:
    return Estimate(float(value), max(0.0, float(value - _Z * error)), float(value + _Z * error), n)


def _noise_estimate(fit: _Fit, error: float, classes: int) -> Estimate:
    """Return rho with the interval of the likelihood ratio, which is skewed: few labels tell how large rho is.

    The ratio is that at the fitted weights. The logarithm is divided by how much larger the variance of rho is because
    the weights are fitted too.
    """
    p = fit.at_label
    best = _noise(p, classes)
    known = float((((1 / classes - p) / ((1 - best) * p + (best / classes or _TINY))) ** 2).sum())
    cut = _loss(p, best, classes) + 0.5 * _Z**2 * max(1.0, known * error**2)
    ends = []
    for outer in (0.0, 1.0):
        inner = best
        if _loss(p, outer, classes) > cut:
            for _ in range(_HALVINGS):
                middle = (inner + outer) / 2
                inner, outer = (inner, middle) if _loss(p, middle, classes) > cut else (middle, outer)
        ends.append(outer)
    return Estimate(float(fit.rho), min(ends[0], float(fit.rho)), max(ends[1], float(fit.rho)), len(p))
