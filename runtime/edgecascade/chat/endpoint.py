"""Ask one OpenAI-compatible endpoint, in asyncio: one request, answered as a whole or piece by piece."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp

from edgecascade.chat.events import END, EventReader, assembled, chunk_in
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.circuit import Circuit, State
from edgecascade.runtime.remotes.http import HANDSHAKE, NO_TLS, Proxy
from edgecascade.runtime.remotes.http_response import Response, message_in
from edgecascade.runtime.remotes.remote import is_chat_path, refuse_user, shown, without_secrets
from edgecascade.runtime.remotes.retry import ExtraRequests, backoff
from edgecascade.types.errors import (
    ArgumentError,
    InvalidReply,
    RemoteError,
    RemoteRefusal,
    RemoteUnreachable,
    first_line,
)

__all__ = ["LARGEST_REPLY", "Endpoint", "Exchange"]

LARGEST_REPLY = 16 << 20  # bytes, of a whole reply or a stream
_LARGEST_PAGE = 64 << 10  # bytes of an error page
_LARGEST_EVENT = 1 << 20  # bytes of the first event of a stream
_KEPT = 4.0  # seconds that an idle connection is kept; llama.cpp closes it after five
_SETTLES = 0.2  # seconds for a connection to end its reply after the last event
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0  # seconds before a request is sent again
_EVENTS = "text/event-stream"
_SHUT_OUT = {"401": "--{}-header-file", "403": "--{}-header-file", "404": "--{} and the model in the file"}
_LOG = logging.getLogger("edgecascade")


class Endpoint:
    """An OpenAI-compatible server. Several event loops may use it at once.

    A request is sent again after a failure that may pass, as `Retrying` does, and not at all for a while after several
    failures in a row, as `CircuitBreaker` does it; never once a byte of the reply has come.

    Args:
        side: `local` or `remote`, with which errors begin.
        url: `http[s]://host[:port]/v1`, or the same with `/chat/completions` and a query.
        headers: sent with every request, such as `Authorization`.
        context: TLS settings for https; None takes the system's certificates.
        proxy: `http://[user:password@]host[:port]`, an HTTP proxy to connect through.
        attempts: the most requests for one call.
        patience: seconds without a byte after which a reply counts as broken.

    Attributes:
        side: as given.
        shut_out: the status of the last reply if it was 401, 403 or 404, which other requests get as well; or empty.
            The first is a warning in the log.

    Raises:
        ArgumentError: the address has another form.
    """

    def __init__(
        self,
        side: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        attempts: int = 3,
        patience: float = 60.0,
    ) -> None:
        self.side, self._url = side, _checked(side, url)
        self._headers = {**(headers or {}), "Content-Type": "application/json", "Accept-Encoding": "identity"}
        if proxy is not None:
            Proxy.at(proxy)  # for its errors
        self._context, self._proxy = context, proxy
        self._attempts, self._patience = attempts, patience
        self._circuit = Circuit()
        self._extras = ExtraRequests(0.2, saved=10)
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()
        self._exchanges: set[Exchange] = set()  # that are open
        self._warned = False
        self.shut_out = ""

    @property
    def state(self) -> State:
        """State of the circuit: `closed`, `open` or `half-open`."""
        return self._circuit.state

    async def ask(self, body: bytes, deadline: Deadline, *, stream: bool) -> Exchange:
        """Send a request, and return its reply once it has begun.

        Args:
            body: the request, JSON.
            deadline: when the reply must have begun.
            stream: whether a stream of events is expected, whose first event is then read and looked at.

        Raises:
            TimeoutError: the deadline passed.
            CircuitOpen: the endpoint failed so often that it is not asked for a while.
            RemoteUnreachable: no connection could be made.
            RemoteError: the endpoint refused, or replied with something else.
        """
        self._extras.earn()
        for attempt in range(self._attempts):
            try:
                began = self._circuit.enter(deadline)
                try:
                    exchange = await self._attempt(body, deadline, stream)
                except Exception as error:
                    self._circuit.leave(began, error)
                    raise
                self._circuit.leave(began, None)
                self.shut_out = ""
                return exchange
            except RemoteError as error:
                wait = backoff(attempt, first=_FIRST_WAIT, longest=_LONGEST_WAIT) + max(0.0, error.retry_after or 0.0)
                last = attempt + 1 == self._attempts or not error.retry or not wait < deadline.remaining()
                if last or not self._extras.spend():
                    raise self._told(self.named(error)) from error.__cause__
                await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        loop = asyncio.get_running_loop()
        for exchange in [one for one in self._exchanges if one.loop is loop]:
            exchange.close()
        session = self._sessions.pop(loop, None)
        if session is not None:
            await session.close()

    def named(self, error: RemoteError) -> RemoteError:
        """Return an error with the side's name and without secrets."""
        said = without_secrets(str(error), self._headers.items(), urlsplit(self._url).query)
        error.args = (f"{self.side}: {said.removeprefix(f'{self.side}: ').removeprefix('remote: ')}",)
        return error

    def _told(self, error: RemoteError) -> RemoteError:
        """Return an error; warn of the first that all requests will get, because a reply by the other side hides it."""
        status = error.status if isinstance(error, RemoteRefusal) else ""
        self.shut_out = status if status in _SHUT_OUT else ""
        if self.shut_out and not self._warned:
            self._warned = True
            check = _SHUT_OUT[status].format(self.side)
            _LOG.warning("%s; the %s endpoint answers nothing until that changes: check %s", error, self.side, check)
        return error

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        found = self._sessions.get(loop)
        if found is None or found.closed:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT, ssl=self._context or True)
            found = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=HANDSHAKE),
                auto_decompress=False,
                skip_auto_headers=("User-Agent",),
            )
            self._sessions[loop] = found
        return found

    async def _attempt(self, body: bytes, deadline: Deadline, stream: bool) -> Exchange:
        try:
            return await asyncio.wait_for(self._sent(body, stream), deadline.remaining())
        except aiohttp.ServerTimeoutError as error:
            hint = f", so perhaps {NO_TLS}" if self._url.startswith("https:") else ""
            raise RemoteUnreachable(f"remote: cannot connect: no reply within {HANDSHAKE:g} s{hint}") from error
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise TimeoutError(f"{self.side}: the deadline has passed") from error
        except RemoteError:
            raise
        except Exception as error:
            raise _meant(error) from error

    async def _sent(self, body: bytes, stream: bool) -> Exchange:
        response = await self._session().post(
            self._url, data=body, headers=self._headers, allow_redirects=False, proxy=self._proxy
        )
        exchange = Exchange(self, response, self._patience, self._exchanges.discard)
        self._exchanges.add(exchange)
        try:
            await exchange.begin(stream)
        except BaseException:
            exchange.close()
            raise
        return exchange


class Exchange:
    """A reply that has begun, with status 200.

    Attributes:
        loop: its event loop.
        content_type: as the server says it.
        model: its name in the first event of a stream, or in the whole reply once it has come; empty before.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        response: aiohttp.ClientResponse,
        patience: float,
        on_close: Callable[[Exchange], None],
    ) -> None:
        self._endpoint, self._response, self._on_close = endpoint, response, on_close
        self._first, self._body, self._size = b"", bytearray(), 0
        self.loop, self._patience = asyncio.get_running_loop(), patience
        self._waits_since: float | None = None
        self._stalled = False
        self._timer = self.loop.call_later(patience, self._check)  # one for all pieces: a timer for each costs more
        self.model = ""
        self.content_type = response.headers.get("Content-Type", "")

    async def begin(self, stream: bool) -> None:
        """Read the status and the beginning of the body.

        Raises:
            RemoteRefusal: the status is not 200, or the first event is an error.
            InvalidReply: no events come where a stream was expected.
        """
        content = self._response.content
        if self._response.status != 200:
            page = b""
            with suppress(aiohttp.ClientError):
                while len(page) < _LARGEST_PAGE and (more := await content.readany()):
                    page += more
            headers = {name.lower(): value for name, value in self._response.headers.items()}
            Response(self._response.status, headers, page[:_LARGEST_PAGE]).content()  # raises
        if self._response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            raise InvalidReply("remote: the response is compressed, which the request did not ask for")
        self._first = await content.readany()
        if not stream:
            return
        if self._response.content_type != _EVENTS:
            refused = _error_in(self._first)
            if refused:
                raise RemoteRefusal(f"remote: the server says: {refused}", status="200")
            raise InvalidReply(f"remote: expected a stream of events, got {self._response.content_type[:40]!r}")
        while not self._has_event():
            more = await content.readany()
            if not more:
                raise RemoteError("remote: the stream ended before its first event", retry=True)
            self._first += more
        self._look()

    async def piece(self) -> bytes:
        """Return the bytes of the body that come next, or none at its end. Nothing is lost if this is cancelled.

        Raises:
            RemoteError: the connection broke, no byte came for too long, or the body is too large.
        """
        first, self._first = self._first, b""
        if first:
            return first
        self._waits_since = self.loop.time()
        try:
            data = await self._response.content.readany()
        except Exception as error:
            stalled = RemoteError(f"remote: no byte came for {self._patience:g} s") if self._stalled else None
            raise self.named(stalled or _meant(error)) from error
        finally:
            self._waits_since = None
        self._size += len(data)
        if self._size > LARGEST_REPLY:
            raise self.named(InvalidReply(f"remote: the reply is larger than {LARGEST_REPLY} bytes"))
        return data

    async def whole(self) -> tuple[bytes, dict[str, Any]]:
        """Return the whole body, and the chat completion in it. Nothing is lost if this is cancelled.

        Raises:
            RemoteError: as for `piece`, or the body is not a chat completion.
        """
        while data := await self.piece():
            self._body += data
        try:
            if self._response.content_type == _EVENTS:  # transformers streams every reply
                events = EventReader().feed(bytes(self._body) + b"\n\n")
                found = assembled(chunk_in(event) for event in events if event != END)
                body = json.dumps(found).encode()
            else:
                body, found = bytes(self._body), _completion(self._body)
            self.model = str(found.get("model") or "")
            return body, found
        except RemoteError as error:
            raise self.named(error) from error.__cause__

    def named(self, error: RemoteError) -> RemoteError:
        """Return an error with the side's name and without secrets."""
        return self._endpoint.named(error)

    def close(self) -> None:
        """End the exchange; a server that still generates sees its client go."""
        self._timer.cancel()
        self._response.close()
        self._on_close(self)

    async def settle(self) -> None:
        """End an exchange whose reply is complete, so that its connection can be used again if it ends at once."""
        with suppress(aiohttp.ClientError, asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self._response.content.readany(), _SETTLES)
        self.close()

    def _check(self) -> None:
        """Break a reply of which no byte has come for too long."""
        now = self.loop.time()
        since = now if self._waits_since is None else self._waits_since
        if now - since >= self._patience:
            self._stalled = True
            self._response.close()
        else:
            self._timer = self.loop.call_at(since + self._patience, self._check)

    def _has_event(self) -> bool:
        """Return whether an event with data has come."""
        begins = self._first.find(b"data:")
        if len(self._first) > _LARGEST_EVENT:
            raise InvalidReply("remote: the stream has no event in its first MiB")
        ends = -1 if begins < 0 else self._first.replace(b"\r\n", b"\n").find(b"\n\n", begins)
        return ends >= 0

    def _look(self) -> None:
        """Check the first event.

        Raises:
            RemoteRefusal: it is an error.
            InvalidReply: it is not a chunk of a chat completion.
        """
        line = self._first[self._first.find(b"data:") + 5 :].partition(b"\n")[0].strip()
        self.model = "" if line == END else str(chunk_in(line).get("model") or "")


def _checked(side: str, url: str) -> str:
    """Return the address of chat completions.

    Raises:
        ArgumentError: the address has another form.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not is_chat_path(parts.path) or not url.isascii() or not url.isprintable() or " " in url:
        raise ArgumentError(f"{side}: expected http[s]://host[:port]/v1, got {shown(url)!r}")
    try:
        refuse_user(url)
    except ArgumentError as error:
        raise ArgumentError(f"{side}: {str(error).removeprefix('remote: ')}") from error
    path = parts.path.rstrip("/")
    path = path if path.endswith("/chat/completions") else f"{path}/chat/completions"
    return parts._replace(path=path, fragment="").geturl()


def _completion(body: bytes | bytearray) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        page = "an HTML page, perhaps of a proxy or a login" if body.lstrip()[:1] == b"<" else "something else"
        raise InvalidReply(f"remote: expected JSON, got {page}") from error
    if not isinstance(found, dict) or not isinstance(found.get("choices"), list) or not found["choices"]:
        said = message_in(found)
        if said:
            raise RemoteRefusal(f"remote: the server says: {said}", status="200")
        raise InvalidReply("remote: the reply lacks choices")
    if not all(isinstance(one, dict) and isinstance(one.get("message"), dict) for one in found["choices"]):
        raise InvalidReply("remote: the reply has a choice without a message")
    return found


def _error_in(text: bytes) -> str:
    """Return the message of the error that JSON describes, or an empty text."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict) or "choices" in found:
        return ""
    return message_in(found) if found.get("error") else ""


def _meant(error: Exception) -> RemoteError:
    """Return what an error of aiohttp means for a cascade."""
    if isinstance(error, aiohttp.ClientConnectorSSLError) and "WRONG_VERSION_NUMBER" in str(error):
        return RemoteUnreachable(f"remote: cannot connect: {NO_TLS}", retry=False)
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return RemoteUnreachable(f"remote: cannot trust the server: {first_line(error)[:200]}", retry=False)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientProxyConnectionError):
        why = error.os_error.strerror or first_line(error.os_error)
        return RemoteUnreachable(f"remote: cannot connect: {why[:200]}")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return RemoteUnreachable(f"remote: the proxy replied with HTTP {error.status}")
    if isinstance(error, aiohttp.ClientResponseError):
        return InvalidReply("remote: the response is not HTTP")
    if isinstance(error, aiohttp.ClientPayloadError):
        return RemoteError("remote: the connection broke before the end of the reply", retry=True)
    if isinstance(error, aiohttp.ClientError | OSError):
        return RemoteError(f"remote: the connection broke: {first_line(error)[:200]}", retry=True)
    return InvalidReply(f"remote: the response cannot be read: {type(error).__name__}")
