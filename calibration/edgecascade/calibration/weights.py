"""Sample weights: how much each labelled input counts, and the weights that stand for other class frequencies.

Weights say that the labelled inputs are not drawn as the device's inputs are: an input of weight 2 stands for twice as
many of them as one of weight 1 (importance weighting; Shimodaira, Journal of Statistical Planning and Inference 90,
2000). They are probabilities of sampling, inverted, and not numbers of repetitions: n weighted inputs are worth fewer
than n, never more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.types.errors import CalibrationError

__all__ = ["class_weights", "effective_size", "normalised", "scaled_losses", "weighted_mean"]

_SMALLEST_SHARE = 1e-100  # of the largest weight: its square is a float


def normalised(weight: ArrayLike | None, n: int) -> NDArray[np.float64] | None:
    """Return weights float64 [n] with a mean of 1, or None where all are equal.

    Args:
        weight: numbers [n] above 0, on any scale; or None, for equal weights.
        n: number of inputs.

    Raises:
        CalibrationError: another shape or type, or a weight that is not a finite number above 0, or
            is less than 1e-100 of the largest.

    >>> normalised([1, 3], 2)
    array([0.5, 1.5])
    >>> normalised([7.0, 7.0], 2) is None
    True
    """
    if weight is None:
        return None
    given = np.asarray(weight)
    if given.shape != (n,) or given.dtype.kind not in "iuf":
        kind = {"U": "text", "S": "bytes", "O": "objects"}.get(given.dtype.kind, given.dtype)
        raise CalibrationError(f"weight: expected numbers [{n}], one per input, got {kind} {list(given.shape)}")
    wide = given.astype(np.float64)
    usable = np.isfinite(wide) & (wide > 0)
    if not usable.all():
        row = int(np.flatnonzero(~usable)[0])
        raise CalibrationError(f"weight: expected finite numbers above 0, got {given[row]} in row {row}")
    if n == 0 or (wide == wide[0]).all():
        return None
    share = wide / wide.max()  # their sum is finite
    if share.min() < _SMALLEST_SHARE:
        row = int(share.argmin())
        expected = f"at least {_SMALLEST_SHARE:g} of the largest, {wide.max():g}"
        raise CalibrationError(f"weight: expected {expected}, got {given[row]} in row {row}")
    scaled: NDArray[np.float64] = share / share.mean()
    return scaled


def effective_size(weight: NDArray[np.float64] | None, n: int) -> float:
    """Return the number of equally weighted inputs that a weighted mean is about as certain as.

    Kish, Survey Sampling (1965), section 11.7: the squared sum of the weights over the sum of their squares.

    Args:
        weight: float64 [n], or None for equal weights.
        n: number of inputs.

    >>> effective_size(np.array([0.5, 1.5]), 2)
    1.6
    """
    return float(n) if weight is None else float(weight.sum() ** 2 / np.sum(weight**2))


def weighted_mean(values: NDArray[Any], weight: NDArray[np.float64] | None) -> float:
    """Return the mean of values [n] under weights float64 [n]; None weighs all alike."""
    return float(values.mean() if weight is None else weight @ values / weight.sum())


def class_weights(
    labels: NDArray[np.integer],
    prior: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    names: Sequence[str] = (),
) -> NDArray[np.float64] | None:
    """Return the weights under which the classes are as frequent as on the device.

    Each input gets the frequency of its class on the device, divided by that among the labelled inputs. This is the
    importance weight under label shift (Saerens, Latinne and Decaestecker, Neural Computation 14, 2002): the classes
    change their frequencies, and each class looks as before. The models' probabilities are left as they are.

    Args:
        labels: integer [n], in 0..classes - 1.
        prior: numbers [classes], 0 or more, that are proportional to the frequencies on the device.
        weight: weights [n] that the inputs have already, as in `normalised`.
        names: class names, for error messages.

    Returns:
        Weights float64 [n] with a mean of 1, or None where all are equal.

    Raises:
        CalibrationError: the prior is not of this kind, a class that it expects has no input, or an input belongs to
            a class that it does not expect.

    >>> class_weights(np.array([0, 0, 0, 1]), [0.5, 0.5])
    array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    """
    expected = np.asarray(prior, np.float64)
    if expected.ndim != 1 or not (np.isfinite(expected) & (expected >= 0)).all() or not expected.sum() > 0:
        raise CalibrationError(f"prior: expected one frequency of 0 or more per class, got {expected.tolist()}")
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= len(expected):
        raise CalibrationError(
            f"prior: expected one frequency per class, and the labels reach {labels.max()}, got {len(expected)}"
        )
    given = normalised(weight, len(labels))
    before = np.ones(len(labels)) if given is None else given
    seen = np.bincount(labels, before, len(expected))
    for label in np.flatnonzero((seen > 0) != (expected > 0)).tolist():
        name = names[label] if label < len(names) else label
        share = expected[label] / expected.sum()
        raise CalibrationError(
            f"prior: expected labelled inputs of class {name}, whose frequency is {share:.3g}, got none"
            if share > 0
            else f"prior: expected a frequency above 0 for class {name}, which has labelled inputs, got 0; "
            "leave its inputs out"
        )
    ratio = np.divide(expected, seen, out=np.zeros(len(expected)), where=seen > 0)
    return normalised(before * ratio[labels], len(labels))


def scaled_losses(losses: NDArray[np.float64], bound: float, weight: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return losses whose plain mean is at most `bound` exactly where the weighted mean of the given ones is.

    Each loss moves toward the bound by the ratio of its weight to the largest, so the losses stay in their range and a
    test for bounded losses applies as it is. The largest weight is taken as the largest that there is.

    Args:
        losses: float64 [n].
        bound: e.
        weight: float64 [n], or None for equal weights.

    >>> scaled_losses(np.array([1.0, 0.0]), 0.5, np.array([1.5, 0.5])).round(3)
    array([1.   , 0.333])
    """
    return losses if weight is None else bound + weight / weight.max() * (losses - bound)
