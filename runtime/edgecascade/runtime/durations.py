"""How long things took, as a histogram tells it at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

__all__ = ["Durations"]


@dataclass(frozen=True)
class Durations:
    """A snapshot of a histogram.

    Attributes:
        buckets: how many fell into each bucket of `histogram.BOUNDS`, and above the last.
        sum: of all of them, in seconds.
    """

    buckets: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.buckets)

    @property
    def cumulative(self) -> list[int]:
        """How many took at most each bound, and at last how many there were."""
        return list(accumulate(self.buckets))
