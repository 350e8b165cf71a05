"""Read HTTP/1.1 responses from a stream within bounds (RFC 9112), decompress them, and interpret their status.

A response may not be larger than the caller says, and no error page larger than 64 KiB: what exceeds that is cut off.

`http.client` takes longer for the headers of a small reply than the rest of a forward takes.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from calendar import timegm
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate
from math import inf
from typing import Any

from edgecascade.runtime.bounded_json import Pace, read_json
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.remote import shown
from edgecascade.types.errors import InvalidReply, RemoteRefusal

__all__ = [
    "LARGEST_RESPONSE",
    "Response",
    "ResponseReader",
    "decompress",
    "message_in",
    "parse",
    "retry_after",
    "worth_a_retry",
]

LARGEST_RESPONSE = 64 << 20  # bytes
_LARGEST_HEAD = _LARGEST_PAGE = 64 << 10  # bytes
_MOST_HEADERS = 256
_MOST_INTERIM = 8  # responses before the final one
_SWITCHED = 101  # to another protocol: no further response of this one follows
_NO_DEADLINE = Deadline(inf)
_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: .*)?")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(;.*)?")
_GZIP = 31  # zlib's window bits also name the format
_PASSING = (429, 500, 502, 503, 504)
# Messages of servers with status 500 for a request that they could not read; Triton, KServe and MLServer differ.
_UNREADABLE = re.compile(
    rb"(?i)pars(e|ing)\b|decode|malformed|(invalid|unexpected|unsupported) (json|request|input|shape|dtype|data.?type)"
)


@dataclass(frozen=True)
class Response:
    """Status, headers by lower-case name, and the body: whole and decompressed if the status is 200."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def content(self) -> bytes:
        """Return the body of a successful response.

        Raises:
            RemoteRefusal: the status is not 200; its `retry` is whether a retry may succeed.
        """
        if self.status != 200:
            raise RemoteRefusal(
                f"remote: HTTP {self.status}: {self._explanation()}",
                status=str(self.status),
                retry=worth_a_retry(self.status, self.body),
                retry_after=retry_after(self.headers),
            )
        return self.body

    def json(self, *, values: int, deadline: Deadline) -> Any:
        """Return the JSON of a successful response, in steps between which other threads run.

        Args:
            values: the most values in it.
            deadline: when it is given up.

        Raises:
            RemoteRefusal: the status is not 200.
            InvalidReply: the body is not JSON, or has more values.
            TimeoutError: the deadline passed.
        """
        return parse(self.content(), values=values, pace=Pace(deadline))

    def _explanation(self) -> str:
        place = shown(self.headers.get("location", "")).partition("?")[0]  # user and query may hold a secret
        if 300 <= self.status < 400 and place:
            return f"redirects to {place[:200]}"
        if self.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            return "no explanation that is not compressed"
        try:
            explained = message_in(json.loads(self.body)) if len(self.body) <= 2048 else ""
        except (ValueError, RecursionError):
            explained = ""
        first = _line(self.body[:1000], 0)
        if first.startswith("Traceback"):  # MLServer may send a whole one
            first = _line(self.body[-1000:], -1)
        return (explained or first or "no explanation")[:200]


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

    def read(
        self, *, largest: int = LARGEST_RESPONSE, gzip: bool = False, deadline: Deadline = _NO_DEADLINE
    ) -> Response:
        """Return the next response.

        Args:
            largest: the most bytes in the body, compressed or not.
            gzip: whether the request allowed a body in gzip.
            deadline: when a long body is given up.

        Raises:
            ConnectionResetError: the stream ended before it, or in the middle of it.
            InvalidReply: it is not HTTP, its body is larger, or compressed although the request did not allow it.
            TimeoutError: the deadline passed.
        """
        self.begun = self.reusable = False
        status, minor, headers = self._head()
        for _ in range(_MOST_INTERIM):  # an interim response: the final one follows
            if not 100 <= status < 200 or status == _SWITCHED:
                break
            status, minor, headers = self._head()
        if not 200 <= status < 600:
            raise _not_http(f"its status is {status}")
        body, delimited = self._body(status, headers, largest, Pace(deadline))
        keeps = "close" not in headers.get("connection", "keep-alive" if minor == b"1" else "close").lower()
        self.reusable = delimited and keeps and not self._buffer
        if status == 200:
            body = decompress(body, headers.get("content-encoding", ""), largest=largest, gzip=gzip)
        return Response(status, headers, body)

    def read_status(self) -> int:
        """Return the status of a response without a body, such as that to CONNECT.

        Raises:
            ConnectionResetError: the stream ended.
            InvalidReply: it is not HTTP.
        """
        status, _, _ = self._head()
        self.begun = False
        return status

    def _head(self) -> tuple[int, bytes, dict[str, str]]:
        while len(self._buffer) < 5:
            self._more("without a response")
        if not self._buffer.startswith(b"HTTP/"):
            raise _not_http(f"it begins with {bytes(self._buffer[:40])!r}")
        first, *lines = bytes(self._until(b"\r\n\r\n")).split(b"\r\n")
        match = _STATUS.fullmatch(first)
        if match is None:
            raise _not_http(f"it begins with {first[:40]!r}")
        if len(lines) > _MOST_HEADERS:
            raise _not_http(f"it has more than {_MOST_HEADERS} headers")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                raise _not_http(f"a header has no colon: {line[:40]!r}")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return int(match[2]), match[1], headers

    def _body(self, status: int, headers: Mapping[str, str], largest: int, pace: Pace) -> tuple[bytes, bool]:
        """Return the body, and whether its end is marked without the end of the stream. An error page may be cut."""
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        cut = status != 200
        most = _LARGEST_PAGE if cut else largest
        if status in (204, 304):
            return b"", True
        if coding is not None:
            if coding.lower() != "chunked":
                raise InvalidReply(f"remote: the response has an unknown transfer coding, {coding[:40]!r}")
            return self._chunks(most, cut, pace)
        if length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 16):
                raise _not_http(f"its Content-Length is {length[:40]!r}")
            size = int(length)
            _bound(0 if cut else size, most)
            return self._take(min(size, most)), size <= most
        while len(self._buffer) <= most and (data := self._receive()):
            self._buffer += data
        _bound(0 if cut else len(self._buffer), most)
        return self._take(min(len(self._buffer), most)), False

    def _chunks(self, most: int, cut: bool, pace: Pace) -> tuple[bytes, bool]:
        body = bytearray()
        while True:
            pace.step()
            line = bytes(self._until(b"\r\n"))
            match = _SIZE.fullmatch(line)
            if match is None:
                raise _not_http(f"a chunk has the size {line[:40]!r}")
            size = int(match[1], 16)
            if not size:
                break
            if cut and len(body) + size > most:
                return bytes(body + self._take(most - len(body))), False
            _bound(len(body) + size, most)
            body += self._take(size)
            if self._take(2) != b"\r\n":
                raise _not_http("a chunk is longer than its size")
        for _ in range(_MOST_HEADERS):
            if not self._until(b"\r\n"):
                return bytes(body), True
        raise _not_http(f"it has more than {_MOST_HEADERS} trailers")

    def _take(self, size: int) -> bytes:
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


def decompress(body: bytes, coding: str, *, largest: int, gzip: bool) -> bytes:
    """Return the content of a body whose `Content-Encoding` is empty, `identity` or, if it was asked for, `gzip`.

    Args:
        body: the bytes as they came.
        coding: the value of that header.
        largest: the most bytes of the content.
        gzip: whether the request allowed gzip.

    Raises:
        InvalidReply: the content is larger or damaged, or the coding was not asked for.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return body
    if not (gzip and coding in ("gzip", "x-gzip")):
        raise InvalidReply(f"remote: the response is compressed ({coding[:40]!r}), which the request did not ask for")
    inflater = zlib.decompressobj(_GZIP)
    try:
        content = inflater.decompress(body, largest + 1)
    except zlib.error as error:
        raise InvalidReply(f"remote: the compressed response is damaged: {error}") from error
    _bound(len(content), largest)
    if not inflater.eof or inflater.unused_data:
        raise InvalidReply("remote: the compressed response is damaged: it ends too early or too late")
    return content


def parse(body: bytes, *, values: int, pace: Pace) -> Any:
    """Return the JSON of a body of at most this many values.

    Raises:
        InvalidReply: it is not JSON, or has more values.
        TimeoutError: the deadline passed.
    """
    try:
        return read_json(body, values=values, pace=pace)
    except ValueError as error:
        page = "expected JSON, got an HTML page, perhaps of a proxy or a login"
        found = page if body.lstrip()[:1] == b"<" else f"the response is not valid JSON: {error}"
        raise InvalidReply(f"remote: {found}") from error


def message_in(reply: Any) -> str:
    """Return the first line of the error that a server's JSON reply describes, or an empty text if it has none.

    Servers name it `error`, `message` or `detail`; OpenAI's API has `message` inside `error`.
    """
    if not isinstance(reply, dict):
        return ""
    while isinstance(reply, dict):
        reply = next((reply[name] for name in ("error", "message", "detail") if reply.get(name)), None)
    return "" if reply is None else str(reply)[:200].strip().partition("\n")[0]


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


def _line(page: bytes, at: int) -> str:
    """Return the first line of a page (0) or the last one (-1), or an empty text."""
    return (page.decode(errors="replace").strip().splitlines() or [""])[at]


def _bound(size: int, most: int) -> None:
    if size > most:
        raise InvalidReply(f"remote: the response is larger than {most} bytes, more than an answer can need")


def _not_http(found: str) -> InvalidReply:
    return InvalidReply(f"remote: the response is not HTTP: {found}")
