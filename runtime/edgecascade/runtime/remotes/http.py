"""An HTTP/1.1 client for one host, with keep-alive; each exchange ends by its deadline, and every byte is counted.

Before each step the socket is given the time left until the deadline, so that connecting, sending and reading
together end by it. A timeout for each read alone would never be exceeded by a server that sends one byte a second.
"""

from __future__ import annotations

import base64
import select
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.http_response import LARGEST_RESPONSE, Response, ResponseReader
from edgecascade.runtime.remotes.remote import Traffic, shown, without_secrets
from edgecascade.types.errors import ArgumentError, RemoteError, RemoteUnreachable, UnsendableInput

__all__ = ["HANDSHAKE", "NO_TLS", "Body", "HttpClient", "Proxy", "Response"]

HANDSHAKE = 10.0
"""Seconds for the handshake of TLS: a server of plain HTTP may wait for the end of its first line, and say nothing."""

NO_TLS = "it does not speak TLS; the address of a server of plain HTTP begins with http://"

_PIECE = 64 << 10  # bytes to send at once, or to ask for
_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)  # failures of the connection, not of TLS

_Address: TypeAlias = tuple[Any, ...] | None
Body: TypeAlias = bytes | Sequence[bytes | memoryview] | None


class HttpClient:
    """Keep-alive connections to one host, opened when first needed.

    Args:
        host: name or address.
        port: TCP port.
        context: TLS settings; None speaks plain HTTP.
        proxy: `http://[user:password@]host[:port]`, a proxy through which to connect; TLS passes through it. The
            environment is not asked for one.

    Raises:
        ArgumentError: the address of the proxy has another form.
    """

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext | None = None, *, proxy: str | None = None
    ) -> None:
        self._host, self._port, self._context = host, port, context
        self._place = _place(host, port)
        self._proxy = None if proxy is None else Proxy.at(proxy)
        self._address: _Address = None  # of the last connection
        self._idle: list[_Connection] = []
        self._lock = Lock()
        self._closed = self._aborted = False
        self._under_way: set[_Connection] = set()
        self._traffic = Traffic()

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        with self._lock:
            return self._traffic

    @property
    def proxy_headers(self) -> list[tuple[str, str]]:
        """The headers that are meant for the proxy."""
        return [("Proxy-Authorization", self._proxy.authorization)] if self._proxy else []

    def request(
        self,
        method: str,
        path: str,
        body: Body,
        headers: Mapping[str, str],
        deadline: Deadline,
        *,
        largest: int = LARGEST_RESPONSE,
    ) -> Response:
        """Send a request and return its response.

        A response in gzip is read if the headers have `Accept-Encoding: gzip`; by default no coding is accepted.

        Args:
            method: such as `POST`.
            path: path and query.
            body: bytes, whole or in parts, or None.
            headers: all but `Host` and `Content-Length`.
            deadline: when the exchange ends.
            largest: the most bytes in the response's body.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made; not worth a retry if a certificate is the cause.
            RemoteError: the connection broke, or the reply is not HTTP.
        """
        asked = _Request(method, path, body, headers, deadline, largest)
        idle = self._take()
        if idle is not None:
            try:
                return self._exchange(idle, asked)
            except TimeoutError:
                raise
            except OSError as error:
                if idle.answered:
                    raise self._broken(error) from error
                # the server had closed the idle connection: it never saw the request
        fresh = self._connect(deadline)
        try:
            return self._exchange(fresh, asked)
        except TimeoutError:
            raise
        except OSError as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def abort(self) -> None:
        """Close all connections, so that requests under way fail as if the connection broke; later ones do, too."""
        self.close()
        with self._lock:
            self._aborted = True
            for connection in self._under_way:
                connection.abort()

    def _take(self) -> _Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()

    def _connect(self, deadline: Deadline) -> _Connection:
        try:
            connection = _Connection(self._host, self._port, self._context, self._proxy, self._address, deadline)
            self._address = connection.address
            return connection
        except TimeoutError:
            raise
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.rstrip(".").replace("\n", " ")
            raise RemoteUnreachable(f"cannot trust {self._place}: {why}", retry=False) from error
        except (OSError, UnicodeError) as error:  # the latter for an invalid host name
            worth = not isinstance(error, ssl.SSLError) or isinstance(error, _CUT)
            by = "" if self._proxy is None else f" by the proxy {_place(*self._proxy[:2])}"
            raise RemoteUnreachable(f"cannot connect to {self._place}{by}: {_cause(error)}", retry=worth) from error

    def _exchange(self, connection: _Connection, asked: _Request) -> Response:
        sent, received, reusable = connection.sent, connection.received, False
        try:
            with self._lock:
                if self._aborted:
                    raise ConnectionAbortedError("the client was closed")
                self._under_way.add(connection)
            response = connection.exchange(asked)
            reusable = connection.reusable
            if response.status == 200:
                return response
            said = response.body.decode("latin-1")
            query = asked.path.partition("?")[2]
            headers = [*asked.headers.items(), *self.proxy_headers]
            return replace(response, body=without_secrets(said, headers, query).encode("latin-1"))
        finally:
            with self._lock:
                self._under_way.discard(connection)
                reusable = reusable and not self._closed
                self._traffic = Traffic(
                    self._traffic.requests + 1,
                    self._traffic.sent + connection.sent - sent,
                    self._traffic.received + connection.received - received,
                )
                if reusable:
                    self._idle.append(connection)
            if not reusable:
                connection.close()

    def _broken(self, error: OSError) -> RemoteError:
        if isinstance(error, ssl.SSLError) and not isinstance(error, _CUT):
            return RemoteError(f"{self._place} refused this client: {_cause(error)}", retry=False)
        return RemoteError(f"the connection broke: {_cause(error)}", retry=True)


class Proxy(NamedTuple):
    """An HTTP proxy.

    Attributes:
        host: name or address.
        port: TCP port.
        authorization: the value of `Proxy-Authorization`, or empty.
    """

    host: str
    port: int
    authorization: str

    @classmethod
    def at(cls, address: str) -> Proxy:
        """Return the proxy at `http://[user:password@]host[:port]`; the default port is 80.

        Raises:
            ArgumentError: the address has another form.
        """
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme != "http" or parts.path.strip("/") or parts.query:
            raise ArgumentError(f"proxy: expected http://[user:password@]host[:port], got {shown(address)!r}")
        authorization = ""
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
        return cls(host, port or 80, authorization)


class _Request(NamedTuple):
    method: str
    path: str
    body: Body
    headers: Mapping[str, str]
    deadline: Deadline
    largest: int  # bytes of the response's body


class _Connection:
    """An open connection.

    Attributes:
        sent: bytes so far, before TLS.
        received: bytes so far, before TLS.
        address: the one of the host's addresses, or the proxy's, that it is open to.

    Raises:
        TimeoutError: the deadline passed.
        ssl.SSLError: one side does not accept the other.
        OSError: the connection cannot be opened.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        proxy: Proxy | None,
        address: _Address,
        deadline: Deadline,
    ) -> None:
        self.sent = self.received = 0
        self._reader = ResponseReader(self._receive)
        self._deadline = deadline
        place = _place(host, port)
        self._host = place.rpartition(":")[0] if port == (443 if context else 80) else place
        self._relay = proxy if context is None else None  # a proxy that reads the requests
        self._socket, self.address = _opened(*(proxy[:2] if proxy else (host, port)), address, deadline)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if proxy and context is not None:
                self._tunnel(place, proxy)
            if context is not None:
                self._secure(context, host, deadline)
        except BaseException:
            self._socket.close()
            raise

    def _secure(self, context: ssl.SSLContext, host: str, deadline: Deadline) -> None:
        """Make the connection one of TLS."""
        self._socket.settimeout(min(HANDSHAKE, _seconds_left(deadline)))
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        except TimeoutError as error:
            if deadline.remaining() > 0:
                raise ConnectionAbortedError(f"no reply within {HANDSHAKE:g} s, so perhaps {NO_TLS}") from error
            raise

    @property
    def answered(self) -> bool:
        """Whether a byte of the response to the last request has arrived."""
        return self._reader.begun

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow."""
        return self._reader.reusable

    def is_quiet(self) -> bool:
        """Return whether nothing has arrived since the last response: neither bytes nor the end of the stream."""
        if not hasattr(select, "poll"):  # Windows: the next exchange finds out
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def exchange(self, asked: _Request) -> Response:
        """Send a request, and return its response.

        Raises:
            TimeoutError: the deadline passed.
            OSError: the connection broke.
            RemoteError: the request or the response is not HTTP, or the response is too large.
        """
        body, deadline = asked.body, asked.deadline
        self._deadline, self._reader.begun = deadline, False
        parts = [body] if isinstance(body, bytes) else body or []
        size = sum(len(part) for part in parts)
        head, gzip = self._head(asked, None if body is None else size)
        try:
            for part in [b"".join([head, *parts])] if size < _PIECE else [head, *parts]:
                self._send(part)
        except TimeoutError:
            raise
        except OSError:
            if self.received:  # an idle connection, which the server may close at any time
                raise
            # Read what the server sent before it closed the connection: an early response, or a TLS alert.
            response = self._reader.read(largest=asked.largest, gzip=gzip, deadline=deadline)
            self._reader.reusable = False
            return response
        return self._reader.read(largest=asked.largest, gzip=gzip, deadline=deadline)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def abort(self) -> None:
        """End the exchange that another thread waits for."""
        with suppress(OSError):  # it is not open any more
            self._socket.shutdown(socket.SHUT_RDWR)

    def _tunnel(self, place: str, proxy: Proxy) -> None:
        """Ask a proxy to connect to a place and to pass bytes on."""
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        self._socket.settimeout(_seconds_left(self._deadline))
        self._socket.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        status = self._reader.read_status()
        if not 200 <= status < 300:
            raise ConnectionRefusedError(f"it replied with HTTP {status}")

    def _head(self, asked: _Request, size: int | None) -> tuple[bytes, bool]:
        """Return the first line and the headers, and whether they allow a response in gzip."""
        place = f"http://{self._host}" if self._relay else ""
        lines = [f"{asked.method} {place}{asked.path} HTTP/1.1", f"Host: {self._host}"]
        if self._relay and self._relay.authorization:
            lines.append(f"Proxy-Authorization: {self._relay.authorization}")
        if size is not None:
            lines.append(f"Content-Length: {size}")
        accepted = next((value for name, value in asked.headers.items() if name.lower() == "accept-encoding"), None)
        if accepted is None:  # without this header a server may use any coding
            lines.append("Accept-Encoding: identity")
        lines += [f"{name}: {value}" for name, value in asked.headers.items()]
        head = "\r\n".join(lines)
        if " " in asked.path or not head.count("\n") == head.count("\r") == len(lines) - 1:
            raise UnsendableInput("remote: HTTP allows no space in the path, and no line break in the path or a header")
        try:
            return f"{head}\r\n\r\n".encode("latin-1"), "gzip" in (accepted or "").lower()
        except UnicodeEncodeError as error:
            raise UnsendableInput(
                f"remote: HTTP does not allow {head[error.start]!r} in the path or a header"
            ) from error

    def _send(self, part: bytes | memoryview) -> None:
        done = 0  # `sendall` of TLS would give each record its own time
        while done < len(part):
            self._socket.settimeout(_seconds_left(self._deadline))
            done += self._socket.send(memoryview(part)[done:])
        self.sent += len(part)

    def _receive(self) -> bytes:
        self._socket.settimeout(_seconds_left(self._deadline))
        data = self._socket.recv(_PIECE)
        self.received += len(data)
        return data


def _place(host: str, port: int) -> str:
    """Return host and port as an address has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _opened(host: str, port: int, first: _Address, deadline: Deadline) -> tuple[socket.socket, _Address]:
    """Return a connection to one of a host's addresses, and that address.

    Each address gets an equal part of the time that is left: one that does not answer, as where a network has no route
    for IPv6, costs neither the others nor more than the deadline.

    Args:
        host: name or address.
        port: TCP port.
        first: the address to begin with, such as that of the last connection.
        deadline: when it is given up.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found.sort(key=lambda one: one[4] != first)
    for left, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
        one = None
        try:
            one = socket.socket(family, kind, protocol)  # fails where the system has no IPv6
            one.settimeout(_seconds_left(deadline) / left)
            one.connect(address)
            return one, address
        except OSError:
            if one is not None:
                one.close()
            if left == 1:
                raise
    raise OSError("its name has no address")


def _seconds_left(deadline: Deadline) -> float:
    seconds = deadline.remaining()
    if seconds <= 0:
        raise TimeoutError("the deadline has passed")
    return seconds


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return NO_TLS
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.replace('_', ' ').lower()}"
    return str(error) or type(error).__name__
