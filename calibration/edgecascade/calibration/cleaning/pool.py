"""The pool: several experts combined into one calibrated judge of labels.

The logarithmic opinion pool softmax(sum_k w_k z_k) with weights w >= 0 (Genest and Zidek, Statistical Science 1, 1986),
fitted by likelihood on held-out labelled rows. It is temperature scaling for K experts: convex in w, aware that experts
err together, and a weak expert gets a weight near 0. Some of the held-out labels are wrong too: with probability rho,
a label is taken for one drawn from all classes alike, so that wrong labels do not blunt the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from edgecascade.calibration.cleaning.experts import ABSENT, Experts, check_labels
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate

__all__ = ["Pool", "fit_pool"]

_FEWEST = 10  # rows
_FIRST_LOOK = 1000  # rows of the first fit, whose optimum starts the fit on eight times as many
_SHRINK = 10.0  # rows that the prior of equal weights is worth
_NOTICED = 0.1  # share of the weights' differences that the prior takes away, from which on it is said
_STEPS = 50
_PRECISION = 1e-3  # of the weights, relative to the largest: Newton's method squares the error
_MOST_NOISE = 0.9
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
        few = f"; shrunk towards equal weights, as {self.n} held-out rows are few" if self.shrunk else ""
        return f"pool of {len(self.names)} experts on {self.n} held-out rows, weights: {parts}{few}"

    @property
    def shrunk(self) -> bool:
        """Whether the held-out rows are so few that the weights are notably closer to equal than the rows say."""
        return len(self.names) > 1 and self.shrinkage > _NOTICED

    def scores(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the pool's log-probabilities, float32 [m, classes], of experts' scores [K, m, classes]."""
        pooled = _combine(block, np.array([one.value for one in self.weights]))
        pooled -= np.log(np.exp(pooled).sum(axis=1, keepdims=True))
        return pooled


def fit_pool(experts: Experts, labels: NDArray[Any], *, shrink: float = _SHRINK) -> Pool:
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
    alone = [_fit(experts.only(k), labels, np.ones(1), 0.0) for k in range(len(experts))]
    inverse = np.array([one.weights[0] for one in alone])  # 1 / T of each expert
    if not inverse.any():
        raise CalibrationError("labels: the experts say no more than chance about them; check the order of the classes")
    scale = np.where(inverse > 0, inverse, inverse[inverse > 0].min() * 1e-2)
    fit = _fit(experts, labels, scale, shrink) if len(experts) > 1 else alone[0]
    error = np.sqrt(np.linalg.pinv(fit.information).diagonal().clip(0))
    weights = tuple(_estimate(w, e, len(labels)) for w, e in zip(fit.weights, error, strict=False))
    return Pool(
        names=experts.names,
        weights=weights,
        temperatures=1 / scale,
        rho=_estimate(fit.rho, float(error[-1]), len(labels), most=1.0),
        classes=experts.classes,
        n=len(labels),
        shrinkage=fit.shrinkage,
    )


class _Fit(NamedTuple):
    weights: Floats  # [K]
    rho: float
    information: Floats  # [K + 1, K + 1], of the weights and rho
    shrinkage: float


class _Likelihood(NamedTuple):
    """The summed negative log-likelihood, and its derivatives in the weights [K] and rho."""

    loss: float
    at_label: Floats  # [n], the pool's probability of each label
    slope: Floats  # [K]
    curvature: Floats  # [K, K], never negative: that of labels known to be meant
    information: Floats  # [K + 1, K + 1], the exact second derivative, rho last


def _fit(experts: Experts, labels: NDArray[np.int64], scale: Floats, shrink: float) -> _Fit:
    """Fit on ever more rows; the prior counts for less the more there are."""
    k, n, rows = len(experts), len(labels), _FIRST_LOOK
    penalty = shrink * (np.eye(k) - 1 / k) / np.outer(scale, scale)
    weights, rho = scale / k, 0.01
    if k == 1:
        weights = 1 / _spread(experts)
    while rows < n // 4:
        every = np.arange(0, n, n // rows)
        weights, rho, _ = _climb(experts.select(every), labels[every], weights, rho, penalty * len(every) / n, 0.03)
        rows *= 8
    weights, rho, at = _climb(experts, labels, weights, rho, penalty, _PRECISION)
    if k == 1:
        return _Fit(weights, rho, at.information, 0.0)
    free = np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1]  # directions in which weights differ
    known = float(np.trace(free.T @ (at.curvature * np.outer(scale, scale)) @ free)) / (k - 1)
    information = at.information.copy()
    information[:k, :k] += penalty
    return _Fit(weights, rho, information, shrink / (shrink + known) if shrink else 0.0)


def _climb(
    experts: Experts, labels: NDArray[np.int64], weights: Floats, rho: float, penalty: Floats, precision: float
) -> tuple[Floats, float, _Likelihood]:
    """Maximise over the weights by Newton's method within w >= 0, and over rho between its steps."""
    at = _likelihood(experts, labels, weights, rho)
    for _ in range(_STEPS):
        loss = at.loss + 0.5 * float(weights @ penalty @ weights)
        target = _least_quadratic(weights, at.slope + penalty @ weights, at.curvature + penalty)
        step = target - weights
        for halving in range(30):
            moved = weights + step * 0.5**halving
            new = _likelihood(experts, labels, moved, rho)
            if new.loss + 0.5 * float(moved @ penalty @ moved) <= loss + 1e-9 * abs(loss):
                break
        else:
            return weights, rho, at
        change = float(np.abs(moved - weights).max() / max(float(np.abs(moved).max()), 1e-30))
        weights, before, rho = moved, rho, _noise(new.at_label, experts.classes)
        at = new
        if change <= precision and abs(rho - before) <= precision:
            break
        if abs(rho - before) > 1e-4:
            at = _likelihood(experts, labels, weights, rho)
    return weights, rho, at


def _least_quadratic(weights: Floats, slope: Floats, curvature: Floats) -> Floats:
    """Return the w >= 0 that minimises the quadratic with this slope and curvature at `weights`."""
    size = np.sqrt(np.maximum(curvature.diagonal(), 1e-30))
    scaled = curvature / np.outer(size, size) + 1e-9 * np.eye(len(size))
    root = np.linalg.cholesky(scaled).T
    aim = np.linalg.solve(root.T, scaled @ (weights * size) - slope / size)
    found: Floats = nnls(root, aim)[0] / size
    return found


def _likelihood(experts: Experts, labels: NDArray[np.int64], weights: Floats, rho: float) -> _Likelihood:
    k, loss = len(weights), 0.0
    slope, curvature, information = np.zeros(k), np.zeros((k, k)), np.zeros((k + 1, k + 1))
    probabilities = np.empty(len(labels))
    for part, block in experts.chunks():
        truth = labels[part]
        chosen = block[:, np.arange(len(truth)), truth]
        if chosen.min() <= ABSENT:
            row = part.start + int(np.flatnonzero((chosen <= ABSENT).any(axis=0))[0])
            raise CalibrationError(f"labels: expected options that the row has, got one that is -inf in row {row}")
        p = _combine(block, weights)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        right = p[np.arange(len(truth)), truth].astype(np.float64)
        whole = (1 - rho) * right + rho / p.shape[1]
        meant = (1 - rho) * right / whole
        mean = np.einsum("kmc,mc->km", block, p).astype(np.float64)
        away = chosen - mean
        p *= meant[:, None].astype(np.float32)
        flat = block.reshape(k, -1)
        second = (flat * p.reshape(-1)) @ flat.T
        covariance = second.astype(np.float64) - (mean * meant) @ mean.T
        probabilities[part] = right
        loss -= float(np.log(whole).sum())
        slope -= away @ meant
        curvature += covariance
        information[:k, :k] += covariance - (away * (meant * (1 - meant))) @ away.T
        information[k, :k] += away @ (right / whole**2) / p.shape[1]
        information[k, k] += float((((1 / p.shape[1] - right) / whole) ** 2).sum())
    information[:k, k] = information[k, :k]
    return _Likelihood(loss, probabilities, slope, curvature, information)


def _combine(block: NDArray[np.float32], weights: Floats) -> NDArray[np.float32]:
    """Return sum_k w_k z_k less the largest of each row, float32 [m, classes]."""
    pooled: NDArray[np.float32] = block[0] * np.float32(weights[0])
    for one, weight in zip(block[1:], weights[1:], strict=True):
        if weight > 0:
            pooled += one * np.float32(weight)
    pooled -= pooled.max(axis=1, keepdims=True)
    return pooled


def _noise(at_label: Floats, classes: int) -> float:
    """Return the rho in [0, 0.9] that maximises the mean of log((1 - rho) p + rho / classes), which is concave."""
    low, high = 0.0, _MOST_NOISE
    gain = 1 / classes - at_label
    for _ in range(40):
        rho = (low + high) / 2
        if float((gain / (at_label + rho * gain + 1e-300)).sum()) > 0:
            low = rho
        else:
            high = rho
        if high < 1e-6:
            return 0.0
    return (low + high) / 2


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


def _estimate(value: float, error: float, n: int, most: float = np.inf) -> Estimate:
    return Estimate(float(value), max(0.0, float(value - _Z * error)), min(most, float(value + _Z * error)), n)
