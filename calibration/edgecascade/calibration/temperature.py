"""Temperature scaling: the one scalar T that makes softmax(z / T) as likely as it can be.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.labelled_logits import check_labelled_logits
from edgecascade.types.errors import CalibrationError

__all__ = ["fit_temperature", "negative_log_likelihood", "row_losses"]

_CHUNK_ELEMENTS = 1 << 16  # 256 kB of float32: stays in cache, and is all the memory that is needed
_FIRST_LOOK = 1000  # rows; where they put the optimum, eight times as many start, until it is all of them
_MAX_STEPS = 400
_LARGEST_SPREAD = 1e150  # of which the square is still a float64
_NEWTON_STEPS = 8  # in a row; where they have not arrived, a longer stride may leave the flat that they creep on
_PRECISION = 3e-5  # relative, of the last step but one: Newton squares the error


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature T > 0 that minimises the negative log-likelihood of softmax(z / T).

    The likelihood is convex in b = 1 / T, so Newton's step on b, kept inside a shrinking bracket,
    always arrives. Works in chunks, so the logits may be memory-mapped. Exponentials are taken in float32
    unless the logits are float64; sums over rows are always float64.

    Args:
        logits: [n, classes], floating; -inf masks a class.
        labels: [n], integer, in 0..classes - 1.

    Raises:
        CalibrationError: when no finite T exists, with the reason.

    >>> logits = np.array([[4.0, 0.0]] * 10)          # always sure of class 0,
    >>> labels = np.array([0] * 9 + [1])              # and right nine times out of ten
    >>> round(fit_temperature(logits, labels), 3)     # softmax(4 / T) = 0.9
    1.82
    """
    check_labelled_logits(logits, labels)
    spread = _usable_spread(logits, labels)
    if spread > _LARGEST_SPREAD:
        raise CalibrationError(f"logits: expected distances below {_LARGEST_SPREAD:.0e}, got {spread:.0e} on average")
    if not 1e-15 < spread < 1e15:  # their squares are no float32
        logits = logits.astype(np.float64)
    start, rows = 1.0 / spread, _FIRST_LOOK
    while rows < len(logits) // 4:
        every = len(logits) // rows
        start = _minimise(logits[::every], labels[::every], start, precision=0.01) or start
        rows *= 8
    inverse = _minimise(logits, labels, start, _PRECISION)
    if inverse is None:
        raise CalibrationError("logits: no finite T was found for them; are some of them huge by mistake?")
    as_it_was = negative_log_likelihood(logits, labels)
    return 1.0 / inverse if negative_log_likelihood(logits, labels, 1.0 / inverse) <= as_it_was else 1.0


def negative_log_likelihood(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float = 1.0
) -> float:
    """Mean of -log softmax(z / T)[label], in nats, from logits [n, classes] and labels [n]."""
    return float(row_losses(logits, labels, temperature).mean())


def row_losses(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float = 1.0
) -> NDArray[np.float64]:
    """-log softmax(z / T)[label] of each row, float64 [n], in nats."""
    check_labelled_logits(logits, labels)
    losses = []
    for below, truth in _chunks(logits, labels):
        at_label = _pick(below, truth).astype(np.float64)
        below /= below.dtype.type(temperature)
        losses.append(np.log(np.exp(below, out=below).sum(axis=1, dtype=np.float64)) - at_label / temperature)
    return np.concatenate(losses)


@dataclass(frozen=True)
class _Derivatives:
    """First and second derivative of the summed negative log-likelihood in b = 1 / T."""

    slope: float
    curvature: float


def _minimise(
    logits: NDArray[np.floating], labels: NDArray[np.integer], start: float, precision: float
) -> float | None:
    """The b > 0 at which the slope is 0, or None if there is none between the smallest and largest floats."""
    low, high, stride = 0.0, np.inf, 2.0
    inverse = start
    for step in range(1, _MAX_STEPS + 1):
        at = _likelihood(logits, labels, inverse)
        if at.slope > 0:
            high = inverse
        else:
            low = inverse
        newton = inverse - at.slope / at.curvature if at.curvature > 0 else np.inf
        if abs(newton - inverse) <= precision * inverse:
            return newton
        if low < newton < high and step % _NEWTON_STEPS:
            inverse = newton
        elif low > 0 and high < np.inf:
            inverse = float(np.sqrt(low) * np.sqrt(high))
            if high - low <= 1e-15 * high:
                return inverse
        else:  # strides that grow cross all magnitudes of a float in a dozen steps
            inverse = inverse * stride if low == inverse else inverse / stride
            stride *= stride
        if not 0 < inverse < np.inf:
            return None
    return None


def _likelihood(logits: NDArray[np.floating], labels: NDArray[np.integer], inverse: float) -> _Derivatives:
    slope = curvature = 0.0
    weight: NDArray[np.floating] = np.empty(0)
    for below, truth in _chunks(logits, labels):
        if weight.shape != below.shape:
            weight = np.empty_like(below)
        np.multiply(below, below.dtype.type(inverse), out=weight)
        np.exp(weight, out=weight)
        _silence_masked(below)
        total = weight.sum(axis=1)
        weight *= below
        mean = weight.sum(axis=1) / total
        square = np.einsum("ij,ij->i", weight, below) / total
        slope += float(np.sum(mean - _pick(below, truth), dtype=np.float64))
        curvature += float(np.sum(square - mean**2, dtype=np.float64))
    return _Derivatives(slope, curvature)


def _usable_spread(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Mean distance of a logit from its row's largest, once a finite optimum is known to exist."""
    any_wrong, slope_at_zero, spread, done = False, 0.0, 0.0, 0
    for below, truth in _chunks(logits, labels):
        at_label = _pick(below, truth)
        classes = np.full(len(below), below.shape[1]) - _silence_masked(below)
        sums = below.sum(axis=1)
        if not np.isfinite(sums).all():
            row = done + int(np.flatnonzero(~np.isfinite(sums))[0])
            raise CalibrationError(
                f"logits: expected finite numbers or -inf for a masked class, got NaN or +inf in row {row}"
            )
        if np.isneginf(at_label).any():
            raise CalibrationError("logits: the true class of a row is masked (-inf), so no T explains it")
        any_wrong |= bool((at_label < 0).any())
        slope_at_zero += float(np.sum(sums / classes - at_label, dtype=np.float64))
        spread -= float(np.sum(sums, dtype=np.float64)) / below.shape[1]
        done += len(below)
    if spread == 0.0:
        raise CalibrationError("logits: every row is constant, so every temperature gives the same answer")
    if not any_wrong:
        raise CalibrationError(
            f"labels: the model is right on all {len(labels)} rows, so no finite T is best; "
            "calibrate on more, or harder, inputs"
        )
    if slope_at_zero >= 0:
        raise CalibrationError(
            "labels: the logits say no more than chance about them, so no finite T is best; "
            "check the order of the classes"
        )
    return spread / len(labels)


def _silence_masked(below: NDArray[np.floating]) -> NDArray[np.intp]:
    """Set -inf to 0, where its weight of 0 makes it count for nothing; how many there were per row."""
    if below.min() > -np.inf:
        return np.zeros(len(below), np.intp)
    masked = np.isneginf(below)
    below[masked] = 0
    per_row: NDArray[np.intp] = np.count_nonzero(masked, axis=1)
    return per_row


def _chunks(
    logits: NDArray[np.floating], labels: NDArray[np.integer]
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.integer]]]:
    """Rows as float32, or float64 if they are that, each less its largest logit: at most 0, whatever came in.

    The array is overwritten by the next chunk and may be by the caller.
    """
    dtype = np.float64 if logits.dtype.itemsize > 4 else np.float32
    rows = max(1, _CHUNK_ELEMENTS // logits.shape[1])
    buffer = np.empty((min(rows, len(logits)), logits.shape[1]), dtype)
    for start in range(0, len(logits), rows):
        chunk = np.asarray(logits[start : start + rows], dtype)
        below = buffer[: len(chunk)]
        with np.errstate(invalid="ignore"):
            np.subtract(chunk, chunk.max(axis=1, keepdims=True), out=below)
        yield below, labels[start : start + rows]


def _pick(rows: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.floating]:
    picked: NDArray[np.floating] = np.take_along_axis(rows, labels[:, None].astype(np.intp), axis=1)[:, 0]
    return picked
