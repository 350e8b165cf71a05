"""How long things took, in a few numbers however many there were."""

from __future__ import annotations

from _thread import allocate_lock  # what threading.Lock is; importing threading takes a millisecond
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecascade.runtime.durations import Durations

__all__ = ["BOUNDS", "Histogram"]

# Seconds, 10 us to a minute: the upper ends of the buckets, to which they belong.
BOUNDS = (
    *(1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4),
    *(1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class Histogram:
    """Counts durations from any thread."""

    __slots__ = ("_buckets", "_lock", "_sum")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration; one that is negative or no number counts as 0."""
        if not seconds >= 0.0:
            seconds = 0.0
        bucket = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._buckets[bucket] += 1
            self._sum += seconds

    def snapshot(self) -> Durations:
        """What was counted so far."""
        from edgecascade.runtime.durations import Durations  # for those who ask

        with self._lock:
            return Durations(tuple(self._buckets), self._sum)
