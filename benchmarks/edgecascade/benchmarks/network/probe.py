"""A probe of a shaped network: round trips, rates and resets between a client and a server of its own."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.network.profile import Profile
from edgecascade.benchmarks.network.proxy import shaped
from edgecascade.calibration import proportion, quantile
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["ORDER", "Measured", "probe", "probe_server", "receive"]

_MESSAGE = 32  # bytes of a ping
ORDER = struct.Struct("!cQ")  # to the server: e(cho), r(eceive) or s(end), and how many bytes
_RATE = struct.Struct("!d")  # from the server: bits per second of the bytes it received
_PATIENCE = 60.0  # seconds that one answer may take
_ATTEMPTS = 20  # at a transfer that is reset


@dataclass(frozen=True)
class Measured:
    """The measured properties of a shaped network.

    Attributes:
        profile: the profile that it should follow.
        bare: median seconds of a round trip to the same server without the network.
        median: median seconds of a small message's round trip.
        p95: seconds that 95 % of the round trips do not exceed.
        up: bits per second of one long transfer to the server, as received, while the network is up.
        down: bits per second back.
        resets: share of connections that were reset before their first answer.
    """

    profile: Profile
    bare: float
    median: Estimate
    p95: Estimate
    up: float
    down: float
    resets: Estimate


def probe(profile: Profile, *, pings: int = 100, seconds: float = 3.0, connections: int = 200) -> Measured:
    """Measure a network without outages, on this machine, which should be idle.

    Args:
        profile: of the network.
        pings: small messages, one after the other, whose round trips are measured.
        seconds: duration of each transfer, about.
        connections: connections opened to count the resets; a tenth of them if the profile resets none.
    """
    with probe_server() as direct, shaped(direct, profile) as address:
        bare, found = _ping_seconds(direct, pings), _ping_seconds(address, pings)
        up, down = (_transfer(address, up, int(profile.goodput(up=up) / 8 * seconds)) for up in (True, False))
        n = connections if profile.reset_share else max(1, connections // 10)
        with ThreadPoolExecutor(8) as pool:
            reset = list(pool.map(_is_reset, [address] * n))
    resets = proportion(float(np.mean(reset)), n)
    return Measured(profile, float(np.median(bare)), quantile(found, 0.5), quantile(found, 0.95), up, down, resets)


def _ping_seconds(address: str, n: int) -> NDArray[np.float64]:
    """Return the seconds of n round trips; a reset connection is replaced."""
    found: list[float] = []
    while True:
        with contextlib.suppress(ConnectionError), _connection(address) as connection:
            _ping(connection)  # opens the connection
            while len(found) < n:
                started = time.perf_counter()
                _ping(connection)
                found.append(time.perf_counter() - started)
            return np.array(found)


def receive(connection: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes.

    Raises:
        ConnectionAbortedError: the connection was closed before.
    """
    data = b""
    while len(data) < size:
        received = connection.recv(size - len(data))
        if not received:
            raise ConnectionAbortedError("closed")
        data += received
    return data


@contextlib.contextmanager
def probe_server() -> Iterator[str]:
    """Yield the address of a server that echoes, receives or sends, as each order tells it."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener, ThreadPoolExecutor(64) as pool:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    pool.submit(_obey, listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _obey(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            head = receive(connection, ORDER.size)
            order, size = ORDER.unpack(head)
            if order == b"e":
                connection.sendall(head + receive(connection, size))
            elif order == b"s":
                connection.sendall(bytes(size))
            else:
                connection.sendall(_RATE.pack(_receiving_rate(connection, size)))


def _receiving_rate(connection: socket.socket, size: int) -> float:
    """Return the bits per second at which `size` bytes arrive, counted from the first that are received."""
    first = done = len(connection.recv(65536))
    began = time.perf_counter()
    while done < size:
        received = len(connection.recv(65536))
        if not received:
            raise ConnectionAbortedError("closed")
        done += received
    return 8 * (done - first) / (time.perf_counter() - began)


@contextlib.contextmanager
def _connection(address: str) -> Iterator[socket.socket]:
    host, port = address.rsplit(":", 1)
    for _ in range(int(_PATIENCE / 0.05)):
        with contextlib.suppress(ConnectionRefusedError):  # while the network is down
            made = socket.create_connection((host, int(port)), timeout=_PATIENCE)
            break
        time.sleep(0.05)
    else:
        raise BenchmarkError(f"{address}: expected a server, got no answer for {_PATIENCE:g} s")
    with made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield made


def _ping(connection: socket.socket) -> None:
    connection.sendall(ORDER.pack(b"e", _MESSAGE - ORDER.size) + bytes(_MESSAGE - ORDER.size))
    receive(connection, _MESSAGE)


def _transfer(address: str, up: bool, size: int) -> float:
    """Return the bits per second of one transfer, as received; NaN if every attempt was reset."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(ConnectionError), _connection(address) as connection:
            connection.sendall(ORDER.pack(b"r" if up else b"s", size))
            if not up:
                return _receiving_rate(connection, size)
            connection.sendall(bytes(size))
            return float(_RATE.unpack(receive(connection, _RATE.size))[0])
    return float("nan")


def _is_reset(address: str) -> bool:
    try:
        with _connection(address) as connection:
            _ping(connection)
    except ConnectionError:
        return True
    return False
