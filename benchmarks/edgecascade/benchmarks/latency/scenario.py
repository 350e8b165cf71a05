"""MLPerf LoadGen's four ways of asking, and how much of one makes a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["STREAMS", "Load", "Scenario"]

STREAMS = 8  # samples in a query of multi stream, as MLPerf has it


class Scenario(str, Enum):
    """How queries come."""

    SINGLE_STREAM = "single-stream"  # the next one when the last is answered
    MULTI_STREAM = "multi-stream"  # eight inputs at once; the next eight when all are answered
    SERVER = "server"  # one by one, at moments of a Poisson process, whether or not the last is answered
    OFFLINE = "offline"  # all at once

    @property
    def words(self) -> str:
        """As it is read."""
        return self.value.replace("-", " ")


@dataclass(frozen=True)
class Load:
    """What LoadGen is asked for.

    Attributes:
        scenario: how queries come.
        seconds: at least so long.
        queries: at least so many queries; of offline, which has one query, samples.
        expected: seconds that a query may take at the least, or an input of offline: LoadGen draws queries by it before
            it starts, and ends early when they run out.
        qps: arrivals per second; of server only.
        target: seconds that 99 % of latencies must not exceed for LoadGen's verdict; of server only.
        most: queries at most.
    """

    scenario: Scenario
    seconds: float
    queries: int
    expected: float
    qps: float = 0.0
    target: float = 1.0
    most: int = 200_000
