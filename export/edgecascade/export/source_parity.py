"""Proof that a body gives what its source gave: converters err silently, and with plausible numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import are_probabilities, softmax
from edgecascade.export.logits import logits_of
from edgecascade.types.errors import ExportError, ParityError

__all__ = ["check_source"]


def check_source(scores: NDArray[np.floating], kind: str, expected: NDArray[np.floating], tolerance: float) -> float:
    """Compare what the body gives with what its source gave for the same inputs; the largest difference.

    Both as probabilities if the source's are such; else logits less their row's mean, as a share of the largest.

    Args:
        scores: raw, from the body.
        kind: what they are, one of `KINDS`.
        expected: logits or probabilities of the source, [n, classes]; of a binary one [n] or [n, 1] will do.
        tolerance: on the difference.

    Raises:
        ParityError: showing the first difference.
        ExportError: there are not as many.
    """
    logits = logits_of(scores, kind)
    expected = np.asarray(expected)
    if expected.dtype.kind not in "fiu" or expected.ndim not in (1, 2) or len(expected) != len(logits):
        raise ExportError(
            f"expected: expected numbers {list(logits.shape)}, what the source gives for the data, "
            f"got {expected.dtype} {list(expected.shape)}"
        )
    if expected.ndim == 1 or expected.shape[1] == 1:
        chance = bool(((expected >= 0) & (expected <= 1)).all())
        wanted = logits_of(expected, "binary-probabilities" if chance else "binary-logits")
        probabilities = chance
    else:
        probabilities = are_probabilities(expected)
        wanted = logits_of(expected, "probabilities" if probabilities else "logits")
    if wanted.shape != logits.shape:
        raise ExportError(f"expected: expected {logits.shape[1]} classes, as the body has, got {wanted.shape[1]}")
    ours, theirs = (softmax(rows) if probabilities else _centred(rows) for rows in (logits, wanted))
    difference = np.abs(ours - theirs) / (1.0 if probabilities else max(1.0, float(np.abs(theirs).max())))
    wrong = ~(difference <= tolerance)
    if wrong.any():
        row, column = (int(index[0]) for index in np.nonzero(wrong))
        what = "probability" if probabilities else "logit (less the row's mean)"
        raise ParityError(
            f"parity with the source failed: the {what} of class {column} for input {row} is {ours[row, column]:.6g}, "
            f"expected {theirs[row, column]:.6g} ({int(wrong.any(axis=1).sum())} of {len(wrong)} inputs differ by more "
            f"than {tolerance:g}); nothing was written"
        )
    return float(difference.max())


def _centred(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    centred: NDArray[np.floating] = logits - logits.mean(axis=1, keepdims=True)
    return centred
