"""Read HTTP/1.1 responses from a stream within bounds (RFC 9112), decompress them, and interpret their status.

`http.client` takes longer for the headers of a small reply than the rest of a forward takes.
"""

from __future__ import annotations

import re
import time
import zlib
from calendar import timegm
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate

from edgecascade.types.errors import InvalidReply, RemoteRefusal

__all__ = ["LARGEST_RESPONSE", "Response", "ResponseReader", "decompress", "retry_after", "worth_a_retry"]

LARGEST_RESPONSE = 64 << 20  # bytes
_LARGEST_HEAD = 64 << 10  # bytes
_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: .*)?")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(;.*)?")
_GZIP_OR_ZLIB, _BARE = 47, -15  # zlib's window bits also name the format
_PASSING = (429, 500, 502, 503, 504)
# Messages of servers with status 500 for a request that they could not read; Triton, KServe and MLServer differ.
_UNREADABLE = re.compile(
    rb"(?i)pars(e|ing)\b|decode|malformed|(invalid|unexpected|unsupported) (json|request|input|shape|dtype|data.?type)"
)


@dataclass(frozen=True)
class Response:
    """Status, headers by lower-case name, and the whole body, decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def content(self) -> bytes:
        """Return the body of a successful response.

        Raises:
            RemoteRefusal: the status is not 200; its `retry` is whether a retry may succeed.
        """
        if self.status != 200:
            lines = self.body.decode(errors="replace").strip().splitlines() or ["no explanation"]
            said = lines[-1 if lines[0].startswith("Traceback") else 0][:200]  # MLServer may send a whole traceback
            raise RemoteRefusal(
                f"remote: HTTP {self.status}: {said}",
                status=str(self.status),
                retry=worth_a_retry(self.status, self.body),
                retry_after=retry_after(self.headers),
            )
        return self.body


class ResponseReader:
    """Reads the responses of one connection, one after another.

    Args:
        receive: returns the next bytes, or none at the end of the stream.

    Attributes:
        begun: whether a byte of the current response has arrived.
        reusable: whether another response may follow the last one.
    """

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self.begun = self.reusable = False
        self._receive = receive
        self._buffer = bytearray()

    def read(self) -> Response:
        """Return the next response.

        Raises:
            ConnectionResetError: the stream ended before it, or in the middle of it.
            InvalidReply: it is not HTTP, or larger than `LARGEST_RESPONSE` bytes.
        """
        self.begun = self.reusable = False
        status, minor, headers = self._head()
        while 100 <= status < 200:  # an interim response: the final one follows
            status, minor, headers = self._head()
        body, delimited = self._body(status, headers)
        keeps = "close" not in headers.get("connection", "keep-alive" if minor == b"1" else "close").lower()
        self.reusable = delimited and keeps and not self._buffer
        return Response(status, headers, decompress(body, headers.get("content-encoding", "")))

    def _head(self) -> tuple[int, bytes, dict[str, str]]:
        while len(self._buffer) < 5:
            self._more("without a response")
        if not self._buffer.startswith(b"HTTP/"):
            raise _not_http(f"it begins with {bytes(self._buffer[:40])!r}")
        first, *lines = bytes(self._until(b"\r\n\r\n")).split(b"\r\n")
        match = _STATUS.fullmatch(first)
        if match is None:
            raise _not_http(f"it begins with {first[:40]!r}")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                raise _not_http(f"a header has no colon: {line[:40]!r}")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return int(match[2]), match[1], headers

    def _body(self, status: int, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        """Return the body, and whether its end is marked without the end of the stream."""
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if status in (204, 304):
            return b"", True
        if coding is not None:
            if coding.lower() != "chunked":
                raise InvalidReply(f"remote: the response has an unknown transfer coding, {coding[:40]!r}")
            return self._chunks(), True
        if length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 16):
                raise _not_http(f"its Content-Length is {length[:40]!r}")
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
                raise _not_http(f"a chunk has the size {line[:40]!r}")
            size = int(match[1], 16)
            if not size:
                break
            _bound(len(body) + size)
            body += self._take(size)
            if self._take(2) != b"\r\n":
                raise _not_http("a chunk is longer than its size")
        while self._until(b"\r\n"):  # trailers
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
        """Take all bytes up to `end` and `end` itself; return those before it."""
        searched = 0
        while (found := self._buffer.find(end, searched)) < 0:
            if len(self._buffer) > _LARGEST_HEAD:
                raise _not_http(f"its headers do not end within {_LARGEST_HEAD} bytes")
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


def decompress(body: bytes, codings: str) -> bytes:
    """Undo the codings of a body, listed as `Content-Encoding` does (RFC 9110, section 8.4.1).

    Raises:
        InvalidReply: the content is larger than `LARGEST_RESPONSE` bytes or damaged, or a coding is not gzip or
            deflate.
    """
    for coding in reversed(codings.lower().split(",")) if body else ():
        if coding.strip() in ("gzip", "x-gzip", "deflate"):
            body = _inflated(body)
        elif coding.strip() not in ("", "identity"):
            raise InvalidReply(f"remote: the response has an unknown content coding, {coding.strip()!r}")
    return body


def _inflated(body: bytes) -> bytes:
    # By `deflate` HTTP means zlib's format, but some servers send bare deflate.
    bare = body[:2] != b"\x1f\x8b" and (len(body) < 2 or body[0] & 15 != 8 or int.from_bytes(body[:2], "big") % 31)
    inflater = zlib.decompressobj(_BARE if bare else _GZIP_OR_ZLIB)
    try:
        content = inflater.decompress(body, LARGEST_RESPONSE + 1)
    except zlib.error as error:
        raise InvalidReply(f"remote: the compressed response is damaged: {error}") from error
    _bound(len(content))
    if not inflater.eof or inflater.unused_data:
        raise InvalidReply("remote: the compressed response is damaged: it ends too early or too late")
    return content


def worth_a_retry(status: int, body: bytes) -> bool:
    """Return whether the same request may succeed later, after an HTTP status other than 200.

    Not every 500 is the server's fault: some servers send it, with an explanation, for a request that they cannot read.
    """
    said = body[:500] + body[-500:]  # a traceback ends with its message
    return status in _PASSING and not (status == 500 and _UNREADABLE.search(said))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds an HTTP response asks not to be called again, or None.

    A date counts from the response's own `Date` if there is one, since a device's clock may be wrong by years.

    Args:
        headers: by lower-case name.
    """
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    until = _moment(said)
    if until is None:
        return None
    now = _moment(headers.get("date", ""))
    return max(0.0, until - (time.time() if now is None else now))


def _moment(date: str) -> float | None:
    fields = parsedate(date)
    try:
        return None if fields is None else timegm(fields)  # every date in HTTP is in GMT
    except (ValueError, OverflowError):
        return None


def _bound(size: int) -> None:
    if size > LARGEST_RESPONSE:
        raise InvalidReply(f"remote: the response is larger than {LARGEST_RESPONSE} bytes")


def _not_http(found: str) -> InvalidReply:
    return InvalidReply(f"remote: the response is not HTTP: {found}")
