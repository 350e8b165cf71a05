"""Read HTTP/1.1 responses from a stream of bytes, within bounds (RFC 9112).

`http.client` does so too, and spends more time on the headers of a small reply than all the rest of a forward takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgecascade.runtime.remotes.compression import decoded
from edgecascade.types.errors import RemoteError

__all__ = ["LARGEST_RESPONSE", "Response", "ResponseReader"]

LARGEST_RESPONSE = 64 << 20  # bytes
_LARGEST_HEAD = 64 << 10  # bytes
_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: .*)?")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(;.*)?")


@dataclass(frozen=True)
class Response:
    """Status, headers by lower-case name, and the whole body without its content codings."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ResponseReader:
    """Responses, one after another, of one connection.

    Args:
        receive: gives the next bytes that come, and none at the end of the stream.

    Attributes:
        begun: whether a byte of the response that is being read has come.
        reusable: whether another response may follow the last one.
    """

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self.begun = self.reusable = False
        self._receive = receive
        self._buffer = bytearray()

    def read(self) -> Response:
        """The next response.

        Raises:
            ConnectionResetError: the stream ended in the middle of it, or before.
            RemoteError: it is not HTTP, or larger than `LARGEST_RESPONSE` bytes.
        """
        self.begun = self.reusable = False
        status, minor, headers = self._head()
        while 100 <= status < 200:  # says that the response is still to come
            status, minor, headers = self._head()
        body, ends = self._body(status, headers)
        keeps = "close" not in headers.get("connection", "keep-alive" if minor == b"1" else "close").lower()
        self.reusable = ends and keeps and not self._buffer
        return Response(status, headers, _content(body, headers))

    def _head(self) -> tuple[int, bytes, dict[str, str]]:
        while len(self._buffer) < 5:
            self._more("without a response")
        if not self._buffer.startswith(b"HTTP/"):
            raise _not_http(f"it began with {bytes(self._buffer[:40])!r}")
        first, *lines = bytes(self._until(b"\r\n\r\n")).split(b"\r\n")
        match = _STATUS.fullmatch(first)
        if match is None:
            raise _not_http(f"it began with {first[:40]!r}")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                raise _not_http(f"a header without a colon, {line[:40]!r}")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return int(match[2]), match[1], headers

    def _body(self, status: int, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        """The body, and whether its end is not that of the connection."""
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if status in (204, 304):
            return b"", True
        if coding is not None:
            if coding.lower() != "chunked":
                raise RemoteError(f"remote: a response in {coding[:40]!r} cannot be read")
            return self._chunks(), True
        if length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 16):
                raise _not_http(f"a Content-Length of {length[:40]!r}")
            return self._take(int(length)), True
        while data := self._receive():
            self._buffer += data
            _bound(len(self._buffer))
        return self._take(len(self._buffer)), False

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            line = bytes(self._until(b"\r\n"))
            match = _SIZE.fullmatch(line)
            if match is None:
                raise _not_http(f"a chunk of size {line[:40]!r}")
            size = int(match[1], 16)
            if not size:
                break
            _bound(len(body) + size)
            body += self._take(size)
            if self._take(2) != b"\r\n":
                raise _not_http("a chunk longer than its size")
        while self._until(b"\r\n"):  # trailers, of which none is of interest
            pass
        return bytes(body)

    def _take(self, size: int) -> bytes:
        _bound(size)
        while len(self._buffer) < size:
            self._more(f"after {len(self._buffer)} of {size} bytes")
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken

    def _until(self, end: bytes) -> bytearray:
        """What comes before `end`, which is taken too."""
        searched = 0
        while (found := self._buffer.find(end, searched)) < 0:
            if len(self._buffer) > _LARGEST_HEAD:
                raise _not_http(f"no end of its headers within {_LARGEST_HEAD} bytes")
            searched = max(0, len(self._buffer) - len(end) + 1)
            self._more("in the middle of a response")
        taken = self._buffer[:found]
        del self._buffer[: found + len(end)]
        return taken

    def _more(self, when: str) -> None:
        data = self._receive()
        if not data:
            raise ConnectionResetError(f"the server closed it {when}")
        self.begun = True
        self._buffer += data


def _content(body: bytes, headers: Mapping[str, str]) -> bytes:
    codings = headers.get("content-encoding")
    if not codings or not body:
        return body
    try:
        return decoded(body, codings, LARGEST_RESPONSE)
    except OverflowError as error:
        raise _too_large() from error
    except ValueError as error:
        raise RemoteError(f"remote: {error}") from error


def _bound(size: int) -> None:
    if size > LARGEST_RESPONSE:
        raise _too_large()


def _too_large() -> RemoteError:
    return RemoteError(f"remote: the response is larger than {LARGEST_RESPONSE} bytes")


def _not_http(found: str) -> RemoteError:
    return RemoteError(f"remote: the response is not HTTP: {found}")
