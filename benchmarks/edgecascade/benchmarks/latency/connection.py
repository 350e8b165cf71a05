"""What a network profile really did to the remote's connection: measured through the very proxy, and beside it."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.network import Profile
from edgecascade.benchmarks.network.probe import Measured, probe
from edgecascade.calibration import quantile
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["NetworkFound", "RoundTrips", "measure_network", "round_trips"]

_PINGS = 40
_PATIENCE = 30.0  # seconds for one answer: longer than any outage of a profile
_TRANSFER = 2.0  # seconds of each transfer of the probe


@dataclass(frozen=True)
class RoundTrips:
    """Small requests to the remote itself, each the one after the last on a connection that is kept.

    Attributes:
        bare: seconds without the network; the median.
        shaped: seconds through it; the median.
        failed: requests through it that got no answer: resets, refusals, outages.
    """

    bare: Estimate
    shaped: Estimate
    failed: int

    @property
    def added(self) -> float:
        """Seconds that the network adds to a round trip."""
        return self.shaped.value - self.bare.value


@dataclass(frozen=True)
class NetworkFound:
    """A network between the device and the remote.

    Attributes:
        name: of the profile.
        profile: what it promises.
        remote: requests to the remote itself; None where it does not speak HTTP, or hardly answered.
        probed: rates, resets and round trips between a client and a server of the probe's own, by the same profile;
            None where that takes minutes, as with outages.
    """

    name: str
    profile: Profile
    remote: RoundTrips | None
    probed: Measured | None


def measure_network(profile: Profile, direct: str, shaped: str) -> NetworkFound:
    """Measure a profile, in some seconds to a minute.

    Args:
        profile: of the network.
        direct: the remote's own address.
        shaped: its address behind the proxy.
    """
    probed = None if profile.outage_share else probe(profile, pings=_PINGS, seconds=_TRANSFER, connections=40)
    return NetworkFound(profile.name, profile, round_trips(direct, shaped), probed)


def round_trips(direct: str, shaped: str, n: int = _PINGS) -> RoundTrips | None:
    """Ask the model's description n times each way, at `http://HOST:PORT/v2/models/NAME`.

    Returns:
        None if the address is no HTTP, or fewer than half of the requests were answered.
    """
    if not direct.startswith("http://"):
        return None
    (bare, _), (slow, failed) = (_seconds(address, n) for address in (direct, shaped))
    if len(bare) < n / 2 or len(slow) < n / 2:
        return None
    return RoundTrips(quantile(bare, 0.5), quantile(slow, 0.5), failed)


def _seconds(address: str, n: int) -> tuple[NDArray[Any], int]:
    """Seconds of requests on a connection that stands; one that breaks is replaced, and the first is not counted."""
    parts = urlsplit(address)
    if parts.hostname is None:
        raise BenchmarkError(f"remote: expected http://HOST:PORT/v2/models/NAME, got {address}")
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_PATIENCE)
    found: list[float] = []
    failed = 0
    for _ in range(2 * n):
        stands = connection.sock is not None
        started = time.perf_counter()
        try:
            connection.request("GET", parts.path)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
            failed += 1
            continue
        if stands:
            found.append(time.perf_counter() - started)
        if len(found) == n:
            break
    connection.close()
    return np.array(found), failed
