"""Wrong labels planted on purpose: uniform, to the next class, and where a model that is not asked is unsure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import softmax

__all__ = ["KINDS", "planted"]

Labels = NDArray[np.int64]
_FLATTENING = 2.0  # the temperature of the rival: without it, nearly all plants would be its own errors


def planted(kind: str, labels: Labels, rival: NDArray[np.floating], share: float, rng: np.random.Generator) -> Labels:
    """Return labels of which a share is wrong: round(share * n) rows, at least one, chosen without replacement.

    Args:
        kind: One of `KINDS`. `symmetric`: any row, any other class. `pair`: any row, the next class. `instance`: rows
            in proportion to the chance that the rival gives to other classes than the right one, and one of these in
            proportion to its chance (as in Xia et al. 2020, NeurIPS 33, the chance depends on the input).
        labels: int64 [n], the right labels.
        rival: [n, classes], logits of a model that did not see these rows and that is not one of the experts.
        share: The share of wrong labels.
        rng: The source of chance.

    >>> planted("pair", np.array([0, 1, 2]), np.zeros((3, 3)), 1.0, np.random.default_rng(0))
    array([1, 2, 0])
    """
    n = len(labels)
    wrong = softmax(rival / _FLATTENING).astype(np.float64)
    wrong[np.arange(n), labels] = 0
    chances = wrong.sum(axis=1)
    by_row = chances / chances.sum() if kind == "instance" else None
    rows = rng.choice(n, max(1, round(share * n)), replace=False, p=by_row)
    changed = labels.copy()
    changed[rows] = KINDS[kind](labels[rows], wrong[rows], rng)
    return changed


def _symmetric(labels: Labels, wrong: NDArray[np.float64], rng: np.random.Generator) -> Labels:
    classes = wrong.shape[1]
    return np.asarray((labels + rng.integers(1, classes, len(labels))) % classes, np.int64)


def _pair(labels: Labels, wrong: NDArray[np.float64], _: np.random.Generator) -> Labels:
    return np.asarray((labels + 1) % wrong.shape[1], np.int64)


def _instance(_: Labels, wrong: NDArray[np.float64], rng: np.random.Generator) -> Labels:
    totals = np.cumsum(wrong, axis=1)
    drawn = rng.random(len(wrong)) * totals[:, -1]
    return np.asarray((totals <= drawn[:, None]).sum(axis=1), np.int64)


KINDS: dict[str, Callable[[Labels, NDArray[np.float64], np.random.Generator], Labels]] = {
    "symmetric": _symmetric,
    "pair": _pair,
    "instance": _instance,
}
