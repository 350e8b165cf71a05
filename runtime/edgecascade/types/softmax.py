"""Softmax with a temperature, in the arithmetic of the cascade graph; and how other scores than logits become logits.

The logarithms of probabilities are logits up to a constant per row. Probabilities that were rounded have zeros whose
logarithm is not known: `recognise` finds how they were rounded, and what such a zero stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SMALLEST",
    "Recognised",
    "are_probabilities",
    "in_unit_interval",
    "log_probabilities",
    "recognise",
    "resolution",
    "softmax",
    "two_columns",
]

SMALLEST = float(np.finfo(np.float32).tiny)  # the floor of probabilities that were not rounded

_SUM_TOLERANCE = 1e-2  # of softmaxes in any arithmetic
_SLACK = 1e-6  # of the range [0, 1]
_TOTALS = {100.0: "as percentages do", 255.0: "as 8-bit probabilities do", 256.0: "as 8-bit probabilities do"}
# 1 / steps of the grids that rounded probabilities lie on: votes and shares of up to 1024, and decimals beyond.
_STEPS = np.concatenate([np.arange(2, 1025), 10.0 ** np.arange(4, 10)])
_BLURRED = 0.13  # steps: with larger errors of stored numbers, a grid cannot be told
_COARSEST = 0.01  # the largest step whose rounding may change the sum of a row
_SAMPLE = 4096
_FEW = 30  # numbers between 0 and 1, of which fewer do not show how they were rounded
_FINEST = 1e-7  # a gap between 0 and this is rounding; a float32 softmax has smaller numbers before it has zeros


@dataclass(frozen=True)
class Recognised:
    """What scores [n, classes] are, judged by their values.

    Attributes:
        kind: `logits` or `probabilities`; or `unclear`, and `doubt` says why.
        rounding: how probabilities were rounded, such as `4 decimals` or `multiples of 1/255`; empty if they were not.
        floor: the number that smaller probabilities are raised to before the logarithm.
        zeros: number of probabilities that are 0.
        doubt: a phrase about values that are neither plausible logits nor probabilities; otherwise empty.
    """

    kind: str
    rounding: str = ""
    floor: float = SMALLEST
    zeros: int = 0
    doubt: str = ""

    def __str__(self) -> str:
        if self.kind != "probabilities":
            return f"the outputs are {self.doubt or self.kind}"
        rounded = f", rounded ({self.rounding})" if self.rounding else ""
        zeros = f"; {self.zeros} zeros count as {self.floor:.2g}" if self.zeros else ""
        return f"the outputs are probabilities{rounded}; their logarithms serve as logits{zeros}"


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float32]:
    """Return class probabilities of logits z [n, classes] at temperature T, softmax of z / T, computed in float32.

    A row that contains NaN or +inf, or only -inf, becomes NaN, as in ONNX Runtime. A single -inf is a masked class,
    with probability 0.

    >>> softmax(np.array([[2.0, 0.0]]), temperature=2.0).round(3)
    array([[0.731, 0.269]], dtype=float32)
    """
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.asarray(logits, np.float32) / np.float32(temperature)
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)


def log_probabilities(probabilities: NDArray[Any], floor: float = SMALLEST) -> NDArray[Any]:
    """Return the logarithm of probabilities, raised to `floor` at least: logits up to a constant per row.

    They are float32 at least, since float16 rounds the floor to 0.
    """
    wide = np.asarray(probabilities, np.result_type(probabilities, np.float32))
    logarithms: NDArray[Any] = np.log(np.maximum(wide, floor))
    return logarithms


def two_columns(scores: NDArray[Any], *, probabilities: bool) -> NDArray[Any]:
    """Return scores [n, 2] of a binary head's [n] or [n, 1], which are those of the second class.

    Beside a probability p stands 1 - p, and beside a logit 0.

    >>> two_columns(np.array([0.25, 1.0]), probabilities=True).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    second = scores.reshape(-1, 1)
    return np.concatenate([(1 if probabilities else second) - second, second], axis=1)


def are_probabilities(scores: NDArray[np.floating]) -> bool:
    """Return whether every row of scores [n, classes] is a probability distribution, as `recognise` judges it.

    >>> are_probabilities(np.array([[0.9, 0.1], [0.5, 0.5]])), are_probabilities(np.array([[2.0, -1.0]]))
    (True, False)
    """
    return recognise(scores).kind == "probabilities"


def in_unit_interval(scores: NDArray[Any]) -> bool:
    """Return whether all scores lie in [0, 1], up to rounding, as probabilities do."""
    return bool(((scores >= -_SLACK) & (scores <= 1 + _SUM_TOLERANCE)).all())


def recognise(scores: NDArray[Any]) -> Recognised:
    """Tell probabilities from logits by the values of scores [n, classes].

    Probabilities lie in [0, 1], and each row sums to 1 within 0.01, or within what rounding to the grid that all values
    lie on can change. Values in [0, 1] with other sums, as of independent sigmoids, are `unclear`; so are rows that sum
    to 100, 255 or 256. All else is logits.

    >>> rounded = np.random.default_rng(0).dirichlet([0.1] * 5, 100).round(3)
    >>> print(recognise(rounded))
    the outputs are probabilities, rounded (3 decimals); their logarithms serve as logits; 188 zeros count as 4.4e-05
    """
    if scores.size == 0:
        return Recognised("probabilities")
    least, most = float(scores.min()), float(scores.max())
    if not (least >= -_SLACK and most < np.inf):
        return Recognised("logits")
    error = scores.sum(axis=1, dtype=np.float64)
    for total, meaning in _TOTALS.items():
        off = min(0.1 * total, _SUM_TOLERANCE * total + scores.shape[1] / 2)  # rounding to whole numbers included
        if most > 1 + _SUM_TOLERANCE and (np.abs(error - total) <= off).all():
            return Recognised("unclear", doubt=f"rows that sum to {total:g}, {meaning}; divide them by {total:g}")
    error -= 1
    if most > 1 + _SUM_TOLERANCE:
        return Recognised("logits")
    wrong = ~(np.abs(error) <= _SUM_TOLERANCE)
    if wrong.any():
        steps = _grid(scores)
        if steps is not None and 1 / steps <= _COARSEST:
            positive = (scores > 0).sum(axis=1)
            wrong = (error * steps > positive / 2 + 1) | (-error * steps > scores.shape[1] / 2 + 1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        return Recognised(
            "unclear",
            doubt=f"numbers in [0, 1] whose rows do not sum to 1 (row {row} sums to {1 + error[row]:.4g}), "
            "as independent sigmoids give them and logits may",
        )
    return resolution(scores)


def resolution(probabilities: NDArray[Any]) -> Recognised:
    """Find how probabilities [n, classes] were rounded, and what their zeros stand for.

    The zeros of rounded probabilities are smaller than half a step. How much smaller is estimated from the values
    between 1/2 and 3/2 steps: if as many lie in every equal range of logarithms below, the zeros take up a range of
    L = ln(3) zeros / values, and their mean is (1 - exp(-L)) / L times half a step. That is the floor.

    Numbers on no grid are taken for rounded where there are zeros but nothing between 0 and 1e-7; the smallest of them
    then takes the place of half a step. For the softmax of a float32 engine the floor is `SMALLEST`; so it is for too
    few numbers between 0 and 1 to tell.
    """
    zeros = int(np.count_nonzero(probabilities <= 0))
    if np.count_nonzero((probabilities > 0) & (probabilities < 1)) < _FEW:
        return Recognised("probabilities", zeros=zeros)
    steps = _grid(probabilities)
    if steps is not None:
        decimals = round(float(np.log10(steps)))
        words = f"{decimals} decimals" if steps == 10**decimals else f"multiples of 1/{steps:g}"
        bound = 0.5 / steps
    elif (probabilities == probabilities.astype(np.float16)).all():
        words, bound = "float16", 0.5 * float(np.finfo(np.float16).smallest_subnormal)
    else:
        bound = float(probabilities[probabilities > 0].min())
        if not zeros or bound <= _FINEST:
            return Recognised("probabilities", zeros=zeros)
        words = f"nothing between 0 and {bound:.2g}"
    values = np.count_nonzero((probabilities >= bound) & (probabilities <= 3 * bound))
    spread = np.log(3.0) * zeros / max(1, int(values))
    floor = bound * (-np.expm1(-spread) / spread if zeros else 1.0)
    return Recognised("probabilities", words, max(float(floor), SMALLEST), zeros)


def _grid(probabilities: NDArray[Any]) -> float | None:
    """Return the smallest k for which all values are multiples of 1/k, up to the error of their type near 1."""
    inner = probabilities[(probabilities > 0) & (probabilities < 1)]
    if len(inner) < _FEW:
        return None
    narrow = inner.dtype == np.float64 and (inner == inner.astype(np.float32)).all()
    error = 2 * float(np.finfo(np.float32 if narrow else inner.dtype).epsneg)
    sample = np.unique(inner[:: max(1, len(inner) // _SAMPLE)]).astype(np.float64)
    for steps in _STEPS[_STEPS * error < _BLURRED]:
        if all(_on_grid(values, steps, steps * error) for values in (sample[:16], sample, inner)):
            return float(steps)
    return None


def _on_grid(values: NDArray[Any], steps: float, error: float) -> bool:
    multiples = values.astype(np.float64) * steps
    return bool((np.abs(multiples - np.maximum(1.0, np.rint(multiples))) <= error).all())
