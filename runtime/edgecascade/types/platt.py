"""A logistic function from a raw score to the expected value of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Platt"]


@dataclass(frozen=True)
class Platt:
    """A logistic function of a score.

    Attributes:
        slope: log-odds per unit of the score; negative where lower scores were right more often.
        intercept: log-odds at score 0.
    """

    slope: float
    intercept: float

    def __call__(self, score: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probability float64 [n] that answers with these scores [n] are right; NaN stays NaN.

        >>> Platt(slope=2.0, intercept=1.0)(np.array([-0.5, 0.0, -np.inf])).round(3)
        array([0.5  , 0.731, 0.   ])
        """
        with np.errstate(over="ignore", invalid="ignore"):
            log_odds = self.slope * np.asarray(score, np.float64) + self.intercept
            return np.asarray(np.exp(-np.logaddexp(0.0, -log_odds)))
