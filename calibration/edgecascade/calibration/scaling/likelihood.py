"""The likelihood of softmax(z b) on labelled logits, with its derivatives in the inverse temperature b, in chunks.

Exponentials are taken in float32 unless the logits are float64; sums over rows are always float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CHUNK_ELEMENTS",
    "Derivatives",
    "RowDerivatives",
    "chunks",
    "minimise",
    "pick",
    "row_likelihoods",
    "silence_masked",
    "total",
]

CHUNK_ELEMENTS = 1 << 16  # 256 kB of float32, which stays in cache
_MAX_STEPS = 400
_NEWTON_STEPS = 8  # in a row, before a longer stride is tried, which may leave a flat region


class Derivatives(NamedTuple):
    """The summed negative log-likelihood at b = 1 / T, and its first and second derivative in b."""

    loss: float
    slope: float
    curvature: float


class RowDerivatives(NamedTuple):
    """The negative log-likelihood of each row at b = 1 / T, and its first and second derivative in b."""

    loss: NDArray[np.float64]
    slope: NDArray[np.floating]
    curvature: NDArray[np.floating]


def minimise(at: Callable[[float], Derivatives], start: float, precision: float) -> float | None:
    """Return the b > 0 at which the slope is 0, or None if no float has it.

    Args:
        at: returns the loss and its derivatives at b.
        start: the first b.
        precision: relative, of the last step but one: Newton's method squares the error.
    """
    low, high, stride = 0.0, np.inf, 2.0
    inverse = start
    for step in range(1, _MAX_STEPS + 1):
        found = at(inverse)
        if found.slope > 0:
            high = inverse
        else:
            low = inverse
        newton = inverse - found.slope / found.curvature if found.curvature > 0 else np.inf
        if abs(newton - inverse) <= precision * inverse:
            return newton
        if low < newton < high and step % _NEWTON_STEPS:
            inverse = newton
        elif low > 0 and high < np.inf:
            inverse = float(np.sqrt(low) * np.sqrt(high))
            if high - low <= 1e-15 * high:
                return inverse
        else:  # growing strides cross all magnitudes of a float in a dozen steps
            inverse = inverse * stride if low == inverse else inverse / stride
            stride *= stride
        if not 0 < inverse < np.inf:
            return None
    return None


def row_likelihoods(
    logits: NDArray[np.floating], labels: NDArray[np.integer], weight: NDArray[np.float64] | None, inverse: float
) -> Iterator[tuple[RowDerivatives, NDArray[np.float64] | None, NDArray[np.intp]]]:
    """Yield, for some rows, the negative log-likelihoods at b with their derivatives, weights, and masked classes."""
    power: NDArray[np.floating] = np.empty(0)
    for below, truth, share in chunks(logits, labels, weight):
        if power.shape != below.shape:
            power = np.empty_like(below)
        with np.errstate(over="ignore"):  # a long stride may reach -inf, whose weight is 0
            np.multiply(below, below.dtype.type(min(inverse, float(np.finfo(below.dtype).max))), out=power)
        np.exp(power, out=power)
        masked = silence_masked(below)
        whole = power.sum(axis=1)
        power *= below
        mean = power.sum(axis=1) / whole
        square = np.einsum("ij,ij->i", power, below) / whole
        at_label = pick(below, truth)
        loss = np.log(whole, dtype=np.float64) - inverse * at_label.astype(np.float64)
        yield RowDerivatives(loss, mean - at_label, square - mean**2), share, masked


def silence_masked(below: NDArray[np.floating]) -> NDArray[np.intp]:
    """Set -inf to 0, which its weight of 0 cancels, and return how many there were per row."""
    if below.min() > -np.inf:
        return np.zeros(len(below), np.intp)
    masked = np.isneginf(below)
    below[masked] = 0
    per_row: NDArray[np.intp] = np.count_nonzero(masked, axis=1)
    return per_row


def chunks(
    logits: NDArray[np.floating], labels: NDArray[np.integer], weight: NDArray[np.float64] | None = None
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.integer], NDArray[np.float64] | None]]:
    """Yield rows less the largest logit of each, with their labels and weights.

    Rows are float32, or float64 if the logits are wider than that. The next chunk overwrites the array, and the
    caller may.
    """
    dtype = np.float64 if logits.dtype.itemsize > 4 else np.float32
    rows = max(1, CHUNK_ELEMENTS // logits.shape[1])
    buffer = np.empty((min(rows, len(logits)), logits.shape[1]), dtype)
    for start in range(0, len(logits), rows):
        chunk = np.asarray(logits[start : start + rows], dtype)
        below = buffer[: len(chunk)]
        with np.errstate(invalid="ignore"):
            np.subtract(chunk, chunk.max(axis=1, keepdims=True), out=below)
        part = slice(start, start + rows)
        yield below, labels[part], None if weight is None else weight[part]


def total(values: NDArray[np.floating], weight: NDArray[np.float64] | None) -> float:
    """Return the weighted sum of values [n] in float64."""
    return float(np.sum(values if weight is None else values * weight, dtype=np.float64))


def pick(rows: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.floating]:
    """Return the element of each row [n, classes] at its label [n]."""
    picked: NDArray[np.floating] = np.take_along_axis(rows, labels[:, None].astype(np.intp), axis=1)[:, 0]
    return picked
