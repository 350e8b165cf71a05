"""One connection that speaks HTTP/1.1, held to a deadline and with every byte counted.

The socket is given what is left until the deadline before each step, so that connecting, sending and reading
together end by it: bounds on each read alone are never exceeded by a server that drips one byte a second.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.http_response import Response, ResponseReader
from edgecascade.types.errors import RemoteError

__all__ = ["Body", "Connection"]

_PIECE = 64 << 10  # bytes, to send at once or to ask for

Body: TypeAlias = bytes | Sequence[bytes | memoryview] | None


class Connection:
    """An open connection.

    Args:
        host: name or address.
        port: TCP port.
        context: TLS settings; None speaks plain HTTP.
        deadline: until when it has to be open.

    Attributes:
        sent: bytes so far, before TLS.
        received: bytes so far, before TLS.

    Raises:
        TimeoutError: the deadline passed.
        ssl.SSLError: one side does not accept the other.
        OSError: it cannot be opened.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, deadline: Deadline) -> None:
        self.sent = self.received = 0
        self._reader = ResponseReader(self._receive)
        self._deadline = deadline
        bracketed = f"[{host}]" if ":" in host else host
        self._host = bracketed if port == (443 if context else 80) else f"{bracketed}:{port}"
        self._socket = socket.create_connection((host, port), _seconds_left(deadline))
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self._socket.settimeout(_seconds_left(deadline))
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
        except BaseException:
            self._socket.close()
            raise

    @property
    def answered(self) -> bool:
        """Whether a byte of the response to the last request has come."""
        return self._reader.begun

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow."""
        return self._reader.reusable

    def is_quiet(self) -> bool:
        """Whether nothing has come since the last response: neither its end nor a word about it."""
        if not hasattr(select, "poll"):  # Windows: the next exchange will show
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def exchange(self, method: str, path: str, body: Body, headers: Mapping[str, str], deadline: Deadline) -> Response:
        """Send a request, and read its response.

        Raises:
            TimeoutError: the deadline passed.
            OSError: the connection broke.
            RemoteError: what came is not HTTP, or too large; or what was to be sent is not HTTP.
        """
        self._deadline = deadline
        parts = [body] if isinstance(body, bytes) else body or []
        size = sum(len(part) for part in parts)
        head = self._head(method, path, headers, None if body is None else size)
        try:
            for part in [b"".join([head, *parts])] if size < _PIECE else [head, *parts]:
                self._socket.settimeout(_seconds_left(deadline))
                self._socket.sendall(part)
                self.sent += len(part)
        except TimeoutError:
            raise
        except OSError:
            if self.received:  # a kept connection, whose end is nothing special
                raise
            return self._last_word()
        return self._reader.read()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _last_word(self) -> Response:
        """What a server said before it hung up on a request: an early response, or what TLS has against this client."""
        response = self._reader.read()
        self._reader.reusable = False
        return response

    def _head(self, method: str, path: str, headers: Mapping[str, str], size: int | None) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        if size is not None:
            lines.append(f"Content-Length: {size}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines)
        if " " in path or not head.count("\n") == head.count("\r") == len(lines) - 1:
            raise RemoteError("remote: a space in the path, or a line break in it or in a header, is not HTTP")
        try:
            return f"{head}\r\n\r\n".encode("latin-1")
        except UnicodeEncodeError as error:
            raise RemoteError(f"remote: {head[error.start]!r} in the path or in a header is not HTTP") from error

    def _receive(self) -> bytes:
        self._socket.settimeout(_seconds_left(self._deadline))
        data = self._socket.recv(_PIECE)
        self.received += len(data)
        return data


def _seconds_left(deadline: Deadline) -> float:
    seconds = deadline.remaining()
    if seconds <= 0:
        raise TimeoutError("the deadline has passed")
    return seconds
