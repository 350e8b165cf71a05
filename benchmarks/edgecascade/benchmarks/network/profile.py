"""Networks as a device meets them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgecascade.types.errors import ArgumentError

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True)
class Profile:
    """A network between a device and a server.

    Attributes:
        name: short name.
        why: source of the numbers, in one line.
        latency: seconds added to each direction.
        jitter: standard deviation of the latency in seconds, normal; at most half of it, so that it rarely reaches 0.
        up: bits per second from the device to the server, shared by all its connections.
        down: bits per second back.
        stall_rate: losses that TCP notices by a retransmission time-out, per second in which a connection's direction
            has data under way.
        stall: seconds that each of them delays the direction.
        reset_share: share of connections that are reset as soon as a byte passes.
        outage_period: seconds from one outage to the next; the network is up first.
        outage_share: share of each period that the network is down. Data under way waits until it is up again.
        outage_refuses: whether a new connection is then refused, as on a device that knows that it is offline; if not,
            it hangs like the others.

    Raises:
        ArgumentError: a value is out of range.
    """

    name: str
    why: str
    latency: float
    jitter: float
    up: float
    down: float
    stall_rate: float = 0.0
    stall: float = 0.0
    reset_share: float = 0.0
    outage_period: float = 0.0
    outage_share: float = 0.0
    outage_refuses: bool = False

    def __post_init__(self) -> None:
        for name in ("latency", "stall_rate", "stall", "outage_period"):
            _expect(0 <= getattr(self, name) < math.inf, name, "a number of 0 or more", getattr(self, name))
        for name in ("up", "down"):
            _expect(0 < getattr(self, name) < math.inf, name, "bits per second above 0", getattr(self, name))
        _expect(0 <= self.jitter <= self.latency / 2, "jitter", "0 to half of the latency", self.jitter)
        _expect(0 <= self.reset_share <= 1, "reset_share", "0 to 1", self.reset_share)
        _expect(0 <= self.outage_share < 1, "outage_share", "0 or more and below 1", self.outage_share)
        _expect(self.outage_period > 0 or not self.outage_share, "outage_period", "seconds above 0", 0)

    @property
    def round_trip(self) -> float:
        """Median seconds added to the round trip of a very small message."""
        return 2 * self.latency

    def goodput(self, *, up: bool) -> float:
        """Return the bits per second of one long transfer while the network is up: the rate, less the time stalled."""
        return (self.up if up else self.down) / (1 + self.stall_rate * self.stall)


def _expect(met: bool, name: str, expected: str, got: object) -> None:
    if not met:
        raise ArgumentError(f"{name}: expected {expected}, got {got}")


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "lan",
            "gigabit Ethernet through the switches and the firewall of a building: about a millisecond there and back",
            latency=0.5e-3,
            jitter=0.05e-3,
            up=1e9,
            down=1e9,
        ),
        Profile(
            "wifi",
            "802.11n in the same room: some ms to the access point, about half of a 72-150 Mbit/s link rate as payload",
            latency=2.5e-3,
            jitter=1e-3,
            up=40e6,
            down=50e6,
        ),
        Profile(
            "lte-good",
            "WebPageTest's LTE: 12 Mbit/s both ways, 70 ms round trip",
            latency=35e-3,
            jitter=5e-3,
            up=12e6,
            down=12e6,
        ),
        Profile(
            "lte-poor",
            "the edge of a cell: WebPageTest's 4G round trip (170 ms) at its 3G rates (1.6 down, .768 Mbit/s up)",
            latency=85e-3,
            jitter=20e-3,
            up=0.768e6,
            down=1.6e6,
            stall_rate=0.05,
            stall=0.4,
        ),
        Profile(
            "satellite",
            "geostationary: 4 x 35,786 km at the speed of light are 477 ms, the rest is scheduling; a 25/3 Mbit/s plan",
            latency=300e-3,
            jitter=10e-3,
            up=3e6,
            down=25e6,
        ),
        Profile(
            "lossy",
            "crowded Wi-Fi at the end of its range; a lost tail costs Linux's least time-out (200 ms) and a round trip",
            latency=20e-3,
            jitter=8e-3,
            up=5e6,
            down=10e6,
            stall_rate=0.5,
            stall=0.25,
            reset_share=0.02,
        ),
        Profile(
            "offline-half",
            "lte-good on a vehicle that is out of coverage every other ten seconds, and knows it",
            latency=35e-3,
            jitter=5e-3,
            up=12e6,
            down=12e6,
            outage_period=20.0,
            outage_share=0.5,
            outage_refuses=True,
        ),
    )
}
