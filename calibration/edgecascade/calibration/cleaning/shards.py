"""Suspects of the parts of a data set, found apart, as those of the whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecascade.calibration.cleaning.suspects import Suspects
from edgecascade.types.errors import CalibrationError

__all__ = ["join_suspects"]


def join_suspects(parts: Sequence[Suspects]) -> Suspects:
    """Join the suspects of consecutive parts of a data set; rows are numbered on from part to part.

    The scores of a part need the pool and its own rows, so that parts may be scored on different machines. With the
    rule `posterior` the confusions are those of each part: parts should be random and have some thousand rows. With
    the other rules the result is that of the whole in one go.

    Args:
        parts: of the same experts, found by the same rule and threshold.

    Raises:
        CalibrationError: there are no parts, or they do not belong together.

    >>> from edgecascade.calibration.cleaning import Experts, find_suspects, fit_pool
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 3, 3000)
    >>> experts = Experts.of([2 * np.eye(3)[labels] + rng.normal(size=(3000, 3))])
    >>> pool = fit_pool(experts, labels)
    >>> halves = np.split(np.arange(3000), 2)
    >>> def found(rows):
    ...     return find_suspects(experts.select(rows), labels[rows], pool, rule="pool")
    >>> joined, whole = join_suspects([found(half) for half in halves]), found(np.arange(3000))
    >>> bool((joined.row == whole.row).all())
    True
    """
    if not parts:
        raise CalibrationError("parts: expected suspects of at least one part, got none")
    first = parts[0]
    kinds = {(part.classes, part.rule, part.threshold, part.experts) for part in parts}
    if len(kinds) > 1:
        raise CalibrationError("parts: expected the same classes, experts, rule and threshold in each, got several")
    starts = np.cumsum([0, *(part.n for part in parts)])
    score = np.concatenate([part.score for part in parts])
    row = np.concatenate([part.row + start for part, start in zip(parts, starts[:-1], strict=True)])
    order = np.lexsort((row, -score))
    return Suspects(
        row=row[order],
        given=np.concatenate([part.given for part in parts])[order],
        suggested=np.concatenate([part.suggested for part in parts])[order],
        score=score[order],
        posterior=np.concatenate([part.posterior for part in parts])[order],
        confidences=np.concatenate([part.confidences for part in parts])[order],
        given_confidences=np.concatenate([part.given_confidences for part in parts])[order],
        flagged=np.concatenate([part.flagged for part in parts])[order],
        n=int(starts[-1]),
        classes=first.classes,
        rule=first.rule,
        threshold=first.threshold,
        experts=first.experts,
        expected_wrong=np.concatenate([part.expected_wrong for part in parts]),
    )
