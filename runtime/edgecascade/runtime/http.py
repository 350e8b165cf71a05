"""HTTP/1.1 from the standard library, held to a deadline and with every byte counted.

`http.client` bounds each read, not their sum: a server that drips one byte a second is never late. Here
the socket itself knows the deadline, so connecting, sending and reading together end by it.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.errors import RemoteError, RemoteUnreachable

__all__ = ["HttpClient", "Response", "Traffic"]

_LARGEST_RESPONSE = 64 << 20  # bytes
_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


@dataclass(frozen=True)
class Traffic:
    """Requests, and bytes on the wire (before TLS), so far."""

    requests: int = 0
    sent: int = 0
    received: int = 0


@dataclass(frozen=True)
class Response:
    """Status, headers and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Keep-alive connections to one host, opened when first needed.

    Args:
        host: name or address.
        port: TCP port.
        context: TLS settings; None speaks plain HTTP.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
        self._host, self._port, self._context = host, port, context
        self._idle: list[_Connection] = []
        self._lock = Lock()
        self._traffic = Traffic()

    @property
    def traffic(self) -> Traffic:
        """What went over the wire so far."""
        with self._lock:
            return self._traffic

    def request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], deadline: Deadline
    ) -> Response:
        """One exchange.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made.
            RemoteError: the connection broke, or what came is not HTTP.
        """
        reused = self._take()
        if reused is not None:
            try:
                return self._exchange(reused, method, path, body, headers, deadline)
            except _STALE:  # an idle connection that the server had closed: the request was never served
                pass
            except (OSError, http.client.HTTPException) as error:
                raise _as_remote_error(error) from error
        fresh = _Connection(self._host, self._port, self._context, deadline)
        try:
            fresh.connect()
        except TimeoutError:
            raise
        except OSError as error:
            raise RemoteUnreachable(f"cannot connect to {self._host}:{self._port}: {error}") from error
        try:
            return self._exchange(fresh, method, path, body, headers, deadline)
        except (OSError, http.client.HTTPException) as error:
            raise _as_remote_error(error) from error

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> _Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        deadline: Deadline,
    ) -> Response:
        connection.deadline = deadline
        reusable = False
        try:
            connection.request(method, path, body, dict(headers))
            with connection.getresponse() as response:
                content = response.read(_LARGEST_RESPONSE + 1)
                if len(content) > _LARGEST_RESPONSE:
                    raise RemoteError(f"the response is larger than {_LARGEST_RESPONSE} bytes")
                reusable = not response.will_close
                return Response(response.status, {k.lower(): v for k, v in response.getheaders()}, content)
        finally:
            with self._lock:
                self._traffic = Traffic(
                    self._traffic.requests + 1,
                    self._traffic.sent + connection.sent,
                    self._traffic.received + connection.received,
                )
                connection.sent = connection.received = 0
                if reusable:
                    self._idle.append(connection)
            if not reusable:
                connection.close()


class _Connection(http.client.HTTPConnection):
    """An `HTTPConnection` whose socket obeys `deadline` and counts its bytes."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, deadline: Deadline) -> None:
        super().__init__(host, port)
        self.deadline = deadline
        self.sent = self.received = 0
        self._context = context

    def connect(self) -> None:
        self.timeout = _seconds_left(self.deadline)
        super().connect()
        plain = self.sock
        if self._context is not None:
            plain = self._context.wrap_socket(plain, server_hostname=self.host)
        self.sock = _Socket(plain, self)  # the three methods that http.client uses


class _Socket:
    def __init__(self, sock: socket.socket, owner: _Connection) -> None:
        self._sock, self._owner = sock, owner

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_seconds_left(self._owner.deadline))
        self._sock.sendall(data)
        self._owner.sent += len(data)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002
        return io.BufferedReader(_Reader(self._sock, self._owner))

    def close(self) -> None:
        self._sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, owner: _Connection) -> None:
        self._sock, self._owner = sock, owner
        self._raw: Any = sock.makefile("rb", buffering=0)  # keeps the socket open until it is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_seconds_left(self._owner.deadline))
        count = int(self._raw.readinto(buffer))
        self._owner.received += count
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _seconds_left(deadline: Deadline) -> float:
    seconds = deadline.remaining()
    if seconds <= 0:
        raise TimeoutError("the deadline has passed")
    return seconds


def _as_remote_error(error: Exception) -> Exception:
    if isinstance(error, TimeoutError):
        return error
    return RemoteError(f"the connection broke: {error or type(error).__name__}")
