"""Where a newcomer stands among the last few."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from random import Random

__all__ = ["RecentRanks"]

_Key = tuple[float, float]


class RecentRanks:
    """The last so many keys, in order. Not safe to share between threads.

    Args:
        recent: how many.
        seed: of the draws between equals.
    """

    def __init__(self, recent: int, seed: int | None = None) -> None:
        self._arrived: deque[_Key] = deque()
        self._sorted: list[_Key] = []
        self._recent = recent
        self._draw = Random(seed).random

    def add(self, key: _Key) -> float:
        """Its rank among them, in [0, 1), lowest first; it is one of them from now on.

        Equals share their places by lot, so that of keys from one distribution, be it continuous or of a few values,
        the share s ranks below s, for every s and from the first key on: the smoothed p-value of conformal
        prediction (Vovk et al., Algorithmic Learning in a Random World, section 2.2).
        """
        below = bisect_left(self._sorted, key)
        equal = bisect_right(self._sorted, key, lo=below) - below + 1
        rank = (below + self._draw() * equal) / (len(self._sorted) + 1)
        if len(self._arrived) == self._recent:
            del self._sorted[bisect_left(self._sorted, self._arrived.popleft())]
        self._arrived.append(key)
        insort(self._sorted, key)
        return rank
