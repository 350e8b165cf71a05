"""The connection to the remote: its addresses behind each network, and what the network really does to it."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.latency.plan import DIRECT
from edgecascade.benchmarks.network import PROFILES, Profile
from edgecascade.benchmarks.network.probe import Measured, probe
from edgecascade.benchmarks.network.proxy import loopback, shaped
from edgecascade.benchmarks.server import serving
from edgecascade.calibration import quantile
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["NetworkFound", "RoundTrips", "check_remote", "measure_network", "remote_addresses", "round_trips"]

_PINGS = 40
_PATIENCE = 30.0  # seconds for one answer: longer than any outage of a profile
_TRANSFER = 2.0  # seconds of each transfer of the probe


@dataclass(frozen=True)
class RoundTrips:
    """Small requests to the remote itself, one after the other on a connection that stays open.

    Attributes:
        bare: median seconds without the network.
        shaped: median seconds through it.
        failed: requests through it without an answer: resets, refusals, outages.
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
    """A network between the device and the remote, as specified and as measured.

    Attributes:
        name: name of the profile.
        profile: the specification.
        remote: requests to the remote itself; None if it does not speak HTTP, or rarely answered.
        probed: rates, resets and round trips between a client and a server of the probe's own; None for a profile with
            outages, where the probe would take minutes.
    """

    name: str
    profile: Profile
    remote: RoundTrips | None
    probed: Measured | None


def check_remote(remote: str | None, networks: tuple[str, ...]) -> None:
    """Check that these networks can lie before this remote.

    Raises:
        BenchmarkError: the file is missing, a profile is unknown, or another machine's traffic would be shaped.
    """
    unknown = [name for name in networks if name not in (DIRECT, *PROFILES)]
    if unknown:
        raise BenchmarkError(f"--network: expected {DIRECT} or one of {', '.join(PROFILES)}, got {unknown[0]}")
    between = [name for name in networks if name != DIRECT]
    if remote is None:
        if between:
            raise BenchmarkError(f"--network: expected --remote, which the network lies before, got {between[0]} alone")
        return
    if "://" not in remote:
        if not Path(remote).is_file():
            raise BenchmarkError(f"--remote: expected an address or an ONNX file, got {remote}")
        return
    if between:
        try:
            loopback(remote)
        except BenchmarkError as error:
            raise BenchmarkError(
                f"--network: expected a remote on this machine, whose traffic alone is shaped, got {remote}"
            ) from error


@contextmanager
def remote_addresses(remote: str | None, log: Path) -> Iterator[Callable[[str], str | None]]:
    """Yield a function from a network's name to the remote's address behind it; None without a remote.

    Servers and proxies are started by the first call that needs them, and end with the block.

    Args:
        remote: an address, or an ONNX file, which a second process then serves with as many threads as there are cores.
        log: log file of that process.
    """
    found: dict[str, str] = {}
    with ExitStack() as stack:

        def start(network: str, remote: str) -> str:
            if network != DIRECT:
                return stack.enter_context(shaped(address(DIRECT) or remote, PROFILES[network]))
            if "://" in remote:
                return remote
            log.parent.mkdir(parents=True, exist_ok=True)
            return stack.enter_context(serving(Path(remote), name="remote", threads=os.cpu_count() or 1, log=log))

        def address(network: str) -> str | None:
            if remote is not None and network not in found:
                found[network] = start(network, remote)
            return found.get(network)

        yield address


def measure_network(profile: Profile, direct: str, shaped: str) -> NetworkFound:
    """Measure a profile, in a few seconds to a minute.

    Args:
        profile: of the network.
        direct: the remote's own address.
        shaped: its address behind the proxy.
    """
    probed = None if profile.outage_share else probe(profile, pings=_PINGS, seconds=_TRANSFER, connections=40)
    return NetworkFound(profile.name, profile, round_trips(direct, shaped), probed)


def round_trips(direct: str, shaped: str, n: int = _PINGS) -> RoundTrips | None:
    """Request the model's description n times each way, at `http://HOST:PORT/v2/models/NAME`.

    Returns:
        None if the address is not HTTP, or if fewer than half of the requests were answered.
    """
    if not direct.startswith("http://"):
        return None
    (bare, _), (slow, failed) = (_seconds(address, n) for address in (direct, shaped))
    if len(bare) < n / 2 or len(slow) < n / 2:
        return None
    return RoundTrips(quantile(bare, 0.5), quantile(slow, 0.5), failed)


def _seconds(address: str, n: int) -> tuple[NDArray[Any], int]:
    """Return the seconds of n requests, and failures; the first request of each connection is not counted."""
    parts = urlsplit(address)
    if parts.hostname is None:
        raise BenchmarkError(f"remote: expected http://HOST:PORT/v2/models/NAME, got {address}")
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_PATIENCE)
    found: list[float] = []
    failed = 0
    for _ in range(2 * n):
        is_open = connection.sock is not None
        started = time.perf_counter()
        try:
            connection.request("GET", parts.path)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
            failed += 1
            continue
        if is_open:
            found.append(time.perf_counter() - started)
        if len(found) == n:
            break
    connection.close()
    return np.array(found), failed
