"""When bytes arrive over a shaped network: arithmetic on times, without sockets or clocks.

Times are seconds since the network came up, on the caller's clock.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from edgecascade.benchmarks.network.profile import Profile

__all__ = ["Line", "Outages", "Path"]

_QUEUE = 0.05  # seconds of its rate that a line queues before it stops taking more


@dataclass(frozen=True)
class Outages:
    """Times at which a network is down: the last `share` of each period, in seconds."""

    period: float
    share: float

    def next_up(self, at: float) -> float:
        """Return the first moment at or after `at` when the network is up."""
        if self.share == 0 or at % self.period < self.period * (1 - self.share):
            return at
        return (at // self.period + 1) * self.period

    def next_down(self, at: float) -> float:
        """Return the first moment at or after `at` when the network is down; infinite if it never is."""
        if self.share == 0:
            return math.inf
        return max(at, at // self.period * self.period + self.period * (1 - self.share))


@dataclass
class Line:
    """One direction of the network, shared by its connections: a token bucket of depth 0.

    A bit takes its time even after a pause: nothing is saved up for a burst.

    Attributes:
        rate: bits per second.
        outages: when nothing leaves.
        free: time at which everything accepted so far has been sent.
    """

    rate: float
    outages: Outages
    free: float = 0.0

    @property
    def ready(self) -> float:
        """Time from which the line accepts more data, so that its queue stays short."""
        return self.free - _QUEUE

    @property
    def chunk(self) -> int:
        """Bytes to send at a time: about 5 ms of the rate, so that one connection does not delay the others."""
        return int(min(max(self.rate / 8 * 0.005, 1460), 65536))

    def send(self, size: int, now: float) -> float:
        """Return the time at which the last of `size` bytes sent now has left, after all those sent before."""
        self.free = self.outages.next_up(max(now, self.free)) + 8 * size / self.rate
        return self.free

    def held(self, latency: float, jitter: float) -> int:
        """Return the most chunks that one connection may have under way: enough to fill line, latency and queue."""
        return math.ceil(self.rate / 8 * (latency + 4 * jitter + _QUEUE) / self.chunk) + 16


@dataclass
class Path:
    """One direction of one connection, whose bytes arrive in order.

    Attributes:
        profile: of the network.
        line: shared with other connections.
        draws: random numbers.
        ready: time from which it accepts bytes; it accepts none before the connection is open or while it is stalled.
    """

    profile: Profile
    line: Line
    draws: random.Random
    ready: float
    _arrived: float = field(default=0.0, init=False)
    _until_stall: float = field(default=math.inf, init=False)  # seconds with something under way

    def __post_init__(self) -> None:
        self._until_stall = self._next_stall()

    def send(self, size: int, now: float) -> float:
        """Return the time at which `size` bytes sent now arrive; a loss delays them and stops the bytes behind them."""
        left = self.line.send(size, now)
        delay = max(0.0, self.draws.gauss(self.profile.latency, self.profile.jitter))
        arrives = max(left + delay, self._arrived)
        self._until_stall -= arrives - max(now, self._arrived)
        if self._until_stall <= 0:
            self._until_stall = self._next_stall()
            self.ready = left + self.profile.stall
            arrives += self.profile.stall
        self._arrived = arrives
        return arrives

    def _next_stall(self) -> float:
        return self.draws.expovariate(self.profile.stall_rate) if self.profile.stall_rate else math.inf
