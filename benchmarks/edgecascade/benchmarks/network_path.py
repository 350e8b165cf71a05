"""What a network does to bytes: pure arithmetic on times, without sockets or clocks.

Times are seconds since the network came up, on whatever clock the caller reads.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from edgecascade.benchmarks.network import Profile

__all__ = ["Budget", "Line", "Outages", "Path"]

_QUEUE = 0.05  # seconds of its rate that a line queues before it stops taking more


@dataclass(frozen=True)
class Outages:
    """When a network is down: the last `share` of each period."""

    period: float
    share: float

    def next_up(self, at: float) -> float:
        """The first moment from this one on at which the network is up."""
        if self.share == 0 or at % self.period < self.period * (1 - self.share):
            return at
        return (at // self.period + 1) * self.period

    def next_down(self, at: float) -> float:
        """The first moment from this one on at which it is down; infinite if never."""
        if self.share == 0:
            return math.inf
        return max(at, at // self.period * self.period + self.period * (1 - self.share))


@dataclass
class Line:
    """One direction of the network, which its connections share: a token bucket that is never more than empty.

    Nothing leaves at once after a pause, as from a bucket with a depth: a bit takes its time, whenever it comes.

    Attributes:
        rate: bits per second.
        outages: when nothing leaves.
        free: when it will have sent what it was given.
    """

    rate: float
    outages: Outages
    free: float = 0.0

    @property
    def ready(self) -> float:
        """From when on it takes more: once little enough is queued."""
        return self.free - _QUEUE

    @property
    def chunk(self) -> int:
        """Bytes to give it at a time: about 5 ms of its rate, so that one connection cannot hold up the others."""
        return int(min(max(self.rate / 8 * 0.005, 1460), 65536))

    def send(self, size: int, now: float) -> float:
        """When the last of so many bytes has left that were given now, after all those given before."""
        self.free = self.outages.next_up(max(now, self.free)) + 8 * size / self.rate
        return self.free

    def held(self, latency: float, jitter: float) -> int:
        """Chunks that one connection may have under way at most: what fills line, latency and queue."""
        return math.ceil(self.rate / 8 * (latency + 4 * jitter + _QUEUE) / self.chunk) + 16


@dataclass
class Path:
    """One direction of one connection: when its bytes arrive, in order.

    Attributes:
        profile: of the network.
        line: shared with other connections.
        draws: chance.
        ready: from when on it takes more bytes; until the connection stands, and while it is stalled, it takes none.
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
        """When so many bytes that were given now arrive; a loss on the way delays them and stops those behind them."""
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


class Budget:
    """What a connection may pass before it is reset.

    Attributes:
        left: bytes of both directions; infinite if it never is.
    """

    def __init__(self, profile: Profile, draws: random.Random) -> None:
        rate = profile.resets_per_megabyte / 1e6
        self.left = draws.expovariate(rate) if rate else math.inf
        if draws.random() < profile.reset_share:
            self.left = 0.0

    def spend(self, size: int) -> None:
        """Pass so many bytes.

        Raises:
            ConnectionResetError: they are too many.
        """
        self.left -= size
        if self.left < 0:
            raise ConnectionResetError("as the profile wants it")
