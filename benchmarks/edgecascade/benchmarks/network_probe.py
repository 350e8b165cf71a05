"""What a shaped network really gives, against what its profile promises."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edgecascade.benchmarks.network import PROFILES, Profile
from edgecascade.benchmarks.probe_server import ORDER, RATE, probe_server, receive, receiving_rate
from edgecascade.benchmarks.shaping_proxy import shaped
from edgecascade.calibration.estimate import proportion, quantile
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["Measured", "probe"]

_TOLERANCE = 0.1
_MESSAGE = 32  # bytes of a ping
_PATIENCE = 60.0  # seconds that one answer may take


@dataclass(frozen=True)
class Measured:
    """A network as it was found.

    Attributes:
        profile: that it should follow.
        bare: seconds of the median round trip to the same server without the network.
        median: seconds of a small message's round trip.
        p95: seconds that 95 % of them do not exceed.
        up: bits per second of one long transfer to the server, as received, while the network is up.
        down: bits per second back.
        resets: share of connections that were reset before their first answer.
        time_down: share of time without an answer, over whole periods of outages; 0 if the profile has none.
    """

    profile: Profile
    bare: float
    median: Estimate
    p95: Estimate
    up: float
    down: float
    resets: Estimate
    time_down: float

    @property
    def errors(self) -> dict[str, float]:
        """How far each figure is from the promise, relative to it: round trip, up and down."""
        promised = self.bare + self.profile.round_trip + 8 * _MESSAGE * (1 / self.profile.up + 1 / self.profile.down)
        return {
            "round trip": self.median.value / promised - 1,
            "up": self.up / self.profile.goodput(up=True) - 1,
            "down": self.down / self.profile.goodput(up=False) - 1,
        }

    @property
    def met(self) -> bool:
        """Whether all of them are within 10 %, the promised share of resets in its interval, and the outages in time.

        Time down may be off by .1.
        """
        return (
            all(abs(error) <= _TOLERANCE for error in self.errors.values())
            and self.resets.low <= self.profile.reset_share <= self.resets.high
            and abs(self.time_down - self.profile.outage_share) <= _TOLERANCE
        )

    def __str__(self) -> str:
        """One line."""
        p, errors = self.profile, self.errors
        return (
            f"{p.name}: round trip {self.median.value * 1e3:.2f} ms ({self.median.low * 1e3:.2f} to "
            f"{self.median.high * 1e3:.2f}, n = {self.median.n}, {errors['round trip']:+.1%}), "
            f"p95 {self.p95.value * 1e3:.2f} ms; up {self.up / 1e6:.3g} Mbit/s ({errors['up']:+.1%}), "
            f"down {self.down / 1e6:.3g} Mbit/s ({errors['down']:+.1%}); "
            f"resets {self.resets.percent()} of {self.resets.n} (promised {p.reset_share:.1%}); "
            f"down {self.time_down:.0%} of the time (promised {p.outage_share:.0%}): {'met' if self.met else 'missed'}"
        )


def probe(
    profile: Profile, *, seed: int = 0, pings: int = 100, seconds: float | None = None, connections: int = 200
) -> Measured:
    """Measure a network from a client to a server of its own on this machine, which had better be idle.

    Args:
        profile: of the network.
        seed: of its chance.
        pings: small messages, one after the other, whose round trips are measured; more if they must fill two periods
            of outages.
        seconds: that each transfer should take; by default 3, and 20 where stalls need the time to average out.
        connections: that are opened to see how many are reset, if the profile resets any; else a tenth of them.
    """
    long = seconds or (20.0 if profile.stall_rate * profile.stall > 0.05 else 3.0)
    with probe_server() as direct, shaped(direct, profile, seed) as address:
        bare, _ = _pings(direct, pings, 0.0)
        found, elapsed = _pings(address, pings, 2 * profile.outage_period * (profile.outage_share > 0))
        rates = {}
        for order, up in ((b"r", True), (b"s", False)):
            if profile.outage_share:
                _wait_for_outage(address, profile)
            rates[up] = _transfer(address, order, int(profile.goodput(up=up) / 8 * long))
        n = connections if profile.reset_share else max(1, connections // 10)
        with ThreadPoolExecutor(8) as pool:
            reset = list(pool.map(_is_reset, [address] * n))
    waited = found - np.median(found)
    return Measured(
        profile=profile,
        bare=float(np.median(bare)),
        median=quantile(found, 0.5),
        p95=quantile(found, 0.95),
        up=rates[True],
        down=rates[False],
        resets=proportion(float(np.mean(reset)), n),
        time_down=float(waited[waited > _long_wait(profile)].sum() / elapsed) if profile.outage_share else 0.0,
    )


def _long_wait(profile: Profile) -> float:
    """Seconds that only an outage makes a ping wait: no stall and no jitter."""
    return profile.outage_period * profile.outage_share / 2


@contextlib.contextmanager
def _asking(address: str) -> Iterator[socket.socket]:
    with _connect(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def _connect(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    for _ in range(int(_PATIENCE / 0.05)):
        with contextlib.suppress(ConnectionRefusedError):  # as long as the network is down
            return socket.create_connection((host, int(port)), timeout=_PATIENCE)
        time.sleep(0.05)
    raise BenchmarkError(f"nothing answered at {address} for {_PATIENCE:g} s")


def _pings(address: str, n: int, at_least: float) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], float]:
    """Seconds [n or more] of round trips, and of all together; a connection that is reset is replaced, unmeasured."""
    found: list[float] = []
    began = time.perf_counter()
    while True:
        with contextlib.suppress(ConnectionError), _asking(address) as connection:
            _ping(connection)  # opens the connection
            while len(found) < n or time.perf_counter() - began < at_least:
                started = time.perf_counter()
                _ping(connection)
                found.append(time.perf_counter() - started)
            return np.array(found), time.perf_counter() - began


def _ping(connection: socket.socket) -> None:
    connection.sendall(ORDER.pack(b"e", _MESSAGE - ORDER.size) + bytes(_MESSAGE - ORDER.size))
    receive(connection, _MESSAGE)


def _wait_for_outage(address: str, profile: Profile) -> None:
    """Return as soon as an outage is over."""
    with _asking(address) as connection:
        waited = 0.0
        while waited < _long_wait(profile):
            started = time.perf_counter()
            _ping(connection)
            waited = time.perf_counter() - started


def _transfer(address: str, order: bytes, size: int) -> float:
    """Bits per second, as received; begun anew if it is reset."""
    for _ in range(20):
        with contextlib.suppress(ConnectionError), _asking(address) as connection:
            connection.sendall(ORDER.pack(order, size))
            if order == b"s":
                return receiving_rate(connection, size)
            connection.sendall(bytes(size))
            return float(RATE.unpack(receive(connection, RATE.size))[0])
    return float("nan")


def _is_reset(address: str) -> bool:
    try:
        with _asking(address) as connection:
            _ping(connection)
    except ConnectionError:
        return True
    return False


if __name__ == "__main__":
    for name in sys.argv[1:] or PROFILES:
        print(probe(PROFILES[name]), flush=True)
