"""Temperature scaling: the one scalar T that makes softmax(z / T) as likely as it can be.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.errors import CalibrationError
from edgecascade.calibration.labelled_logits import check_labelled_logits

__all__ = ["fit_temperature", "negative_log_likelihood"]

_CHUNK_ELEMENTS = 1 << 18  # 2 MB of float64: stays in cache, and is all the memory that is needed
_MAX_STEPS = 200


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature T > 0 that minimises the negative log-likelihood of softmax(z / T).

    The likelihood is convex in b = 1 / T, so Newton's step on b, kept inside a shrinking bracket,
    always arrives. Works in chunks, so the logits may be memory-mapped.

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
    low, high = 0.0, np.inf
    inverse = 1.0 / spread
    for _ in range(_MAX_STEPS):
        slope, curvature = _slope_and_curvature(logits, labels, inverse)
        if slope > 0:
            high = inverse
        else:
            low = inverse
        newton = inverse - slope / curvature if curvature > 0 else np.inf
        if not low < newton < high:
            newton = (low + high) / 2 if np.isfinite(high) else 2 * inverse
        if abs(newton - inverse) <= 1e-13 * inverse or newton == inverse:
            break
        inverse = newton
    temperature = float(1.0 / inverse)
    as_it_was = negative_log_likelihood(logits, labels)
    return temperature if negative_log_likelihood(logits, labels, temperature) <= as_it_was else 1.0


def negative_log_likelihood(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float = 1.0
) -> float:
    """Mean of -log softmax(z / T)[label], in nats, from logits [n, classes] and labels [n]."""
    check_labelled_logits(logits, labels)
    total = 0.0
    for below, truth in _chunks(logits, labels):
        scaled = below / temperature
        total += float(np.sum(np.log(np.exp(scaled).sum(axis=1)) - _pick(scaled, truth)))
    return total / len(labels)


def _usable_spread(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Mean distance of a logit from its row's largest, once a finite optimum is known to exist."""
    any_wrong, slope_at_zero, spread = False, 0.0, 0.0
    for start, (below, truth) in enumerate(_chunks(logits, labels)):
        if np.isnan(below).any():
            raise CalibrationError(
                f"logits: expected finite numbers or -inf for a masked class, "
                f"got NaN or +inf in chunk {start} of the rows"
            )
        at_label = _pick(below, truth)
        if np.isneginf(at_label).any():
            raise CalibrationError("logits: the true class of a row is masked (-inf), so no T explains it")
        any_wrong |= bool((at_label < 0).any())
        finite = np.where(np.isneginf(below), 0.0, below)
        open_classes = np.isfinite(below).sum(axis=1)
        slope_at_zero += float(np.sum(finite.sum(axis=1) / open_classes - at_label))
        spread -= float(finite.sum()) / below.shape[1]
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


def _slope_and_curvature(
    logits: NDArray[np.floating], labels: NDArray[np.integer], inverse: float
) -> tuple[float, float]:
    """First and second derivative of the summed negative log-likelihood in b = 1 / T."""
    slope = curvature = 0.0
    for below, truth in _chunks(logits, labels):
        weight = np.exp(below * inverse)
        weight /= weight.sum(axis=1, keepdims=True)
        finite = np.where(np.isneginf(below), 0.0, below)
        mean = np.einsum("ij,ij->i", weight, finite)
        square = np.einsum("ij,ij,ij->i", weight, finite, finite)
        slope += float(np.sum(mean - _pick(below, truth)))
        curvature += float(np.sum(square - mean**2))
    return slope, curvature


def _chunks(
    logits: NDArray[np.floating], labels: NDArray[np.integer]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.integer]]]:
    """Rows in float64, each less its largest logit: at most 0, whatever came in."""
    rows = max(1, _CHUNK_ELEMENTS // logits.shape[1])
    for start in range(0, len(logits), rows):
        chunk = np.asarray(logits[start : start + rows], np.float64)
        with np.errstate(invalid="ignore"):
            yield chunk - chunk.max(axis=1, keepdims=True), labels[start : start + rows]


def _pick(rows: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    picked: NDArray[np.float64] = np.take_along_axis(rows, labels[:, None].astype(np.intp), axis=1)[:, 0]
    return picked
