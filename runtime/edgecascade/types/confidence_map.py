"""A monotone map from the probability of a label to the confidence in it, where no temperature makes the two agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecascade.types.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ConfidenceMap"]


@dataclass(frozen=True)
class ConfidenceMap:
    """A piecewise-linear function that never falls.

    Attributes:
        knots: scores, ascending: probabilities of the label, or raw scores on any scale.
        values: the confidence at each knot, in (0, 1], never falling. It is linear between knots, and constant below
            the first and above the last.

    Raises:
        ArgumentError: the knots and values are not as described.

    >>> ConfidenceMap((0.2, 0.6, 1.0), (0.3, 0.5, 0.9))(np.array([0.1, 0.4, 0.8, np.nan]))
    array([0.3, 0.4, 0.7, nan])
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.knots) != len(self.values) or not self.knots:
            raise ArgumentError(
                f"values: expected one per knot, and at least one, got {len(self.values)} and {len(self.knots)} knots"
            )
        if not np.isfinite(self.knots).all() or (np.diff(np.asarray(self.knots)) <= 0).any():
            raise ArgumentError(f"knots: expected ascending finite numbers, got {list(self.knots)[:5]}...")
        if not (self.values[0] > 0 and self.values[-1] <= 1 and (np.diff(self.values) >= 0).all()):
            raise ArgumentError(f"values: expected numbers in (0, 1] that never fall, got {list(self.values)[:5]}...")

    def __call__(self, score: NDArray[Any]) -> NDArray[np.float64]:
        """Return the confidence float64 [n] of scores [n]; NaN stays NaN."""
        found = np.interp(score, self.knots, self.values)  # with a single knot, NumPy gives NaN its value
        return np.where(np.isnan(score), np.nan, found)
