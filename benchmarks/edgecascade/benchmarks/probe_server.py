"""The other end of a network probe: a server that echoes, receives or sends, as each order tells it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

__all__ = ["ORDER", "RATE", "probe_server", "receive", "receiving_rate"]

ORDER = struct.Struct("!cQ")  # e(cho), r(eceive) or s(end); and how many bytes
RATE = struct.Struct("!d")  # bits per second at which they were received


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes.

    Raises:
        ConnectionAbortedError: there are fewer.
    """
    data = b""
    while len(data) < size:
        received = connection.recv(size - len(data))
        if not received:
            raise ConnectionAbortedError("closed")
        data += received
    return data


def receiving_rate(connection: socket.socket, size: int) -> float:
    """Bits per second at which so many bytes come in: those after the first that are received, since then."""
    first = done = len(connection.recv(65536))
    began = time.perf_counter()
    while done < size:
        received = len(connection.recv(65536))
        if not received:
            raise ConnectionAbortedError("closed")
        done += received
    return 8 * (done - first) / (time.perf_counter() - began)


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
                connection.sendall(RATE.pack(receiving_rate(connection, size)))


@contextlib.contextmanager
def probe_server() -> Iterator[str]:
    """The address of a server that echoes, receives or sends, as it is told."""
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
