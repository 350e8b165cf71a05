"""Plants: labels changed on purpose, to measure how many wrong labels are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_seed
from edgecascade.calibration.cleaning.suspects import Suspects
from edgecascade.calibration.intervals import proportion
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate

__all__ = ["Planted", "detection", "plant"]


@dataclass(frozen=True)
class Planted:
    """Labels of which some were changed on purpose.

    Attributes:
        labels: int64 [n], with the changes.
        rows: int64, the rows that were changed, in order.
        original: int64, the labels that these rows had.
    """

    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    original: NDArray[np.int64]


def plant(
    labels: NDArray[Any], classes: int, share: float = 0.01, seed: int = 0, options: NDArray[np.bool_] | None = None
) -> Planted:
    """Return a copy of labels in which a random share is replaced by another class, each other class alike.

    Args:
        labels: integers [n], in 0..classes - 1.
        classes: number of classes, 2 or more.
        share: of the rows to change, above 0 and at most 0.5; at least one row is changed.
        seed: of the draw.
        options: bool [n, classes], which classes each row may have, as in multiple choice; None for all.

    Raises:
        CalibrationError: names the argument, what was expected and what came.

    >>> planted = plant(np.zeros(1000, np.int64), 10)
    >>> len(planted.rows), int((planted.labels > 0).sum())
    (10, 10)
    """
    labels = np.asarray(labels)
    check_seed(seed)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise CalibrationError(f"labels: expected integers [n], got {labels.dtype} {list(labels.shape)}")
    if classes < 2 or labels.min() < 0 or labels.max() >= classes:
        raise CalibrationError(
            f"labels: expected 0 to {classes - 1} of at least 2 classes, got {labels.min()} to {labels.max()}"
        )
    if not 0 < share <= 0.5:
        raise CalibrationError(f"share: expected a number above 0 and at most 0.5, got {share:g}")
    rng, count = np.random.default_rng(seed), max(1, round(share * len(labels)))
    changed = labels.astype(np.int64)
    if options is None or options.all():
        rows = np.sort(rng.choice(len(labels), count, replace=False)).astype(np.int64)
        original = changed[rows]
        changed[rows] = (original + rng.integers(1, classes, len(rows))) % classes
        return Planted(changed, rows, original)
    if options.shape != (len(labels), classes):
        raise CalibrationError(f"options: expected bool [{len(labels)}, {classes}], got {list(options.shape)}")
    choices = options.copy()
    choices[np.arange(len(labels)), changed] = False
    able = np.flatnonzero(choices.any(axis=1))
    if len(able) < count:
        raise CalibrationError(f"options: expected {count} rows with another class to plant, got {len(able)}")
    rows = np.sort(rng.choice(able, count, replace=False)).astype(np.int64)
    original = changed[rows]
    changed[rows] = [rng.choice(np.flatnonzero(choices[row])) for row in rows.tolist()]
    return Planted(changed, rows, original)


def detection(planted: Planted, suspects: Suspects) -> Estimate:
    """Return the share of the planted labels that are flagged, with its exact 95 % interval.

    Labels that were wrong before planting, and planted ones that happen to be right, are not counted in any way: the
    share is that of labels changed at random, and wrong labels that people make are often harder to find.

    Raises:
        CalibrationError: the suspects are those of another set of rows.
    """
    if suspects.n != len(planted.labels) or (planted.labels[suspects.row] != suspects.given).any():
        raise CalibrationError("planted: expected the labels that the suspects were found with, got others")
    found = np.isin(planted.rows, suspects.row[suspects.flagged])
    return proportion(float(found.mean()), len(planted.rows))
