"""The moment until which a caller waits."""

from __future__ import annotations

import time
from typing import NamedTuple

__all__ = ["Deadline"]


class Deadline(NamedTuple):
    """A point on the monotonic clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline this many seconds from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Return the seconds left; 0 once it has passed."""
        return max(0.0, self.at - time.monotonic())
