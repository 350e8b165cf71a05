"""HTTP/1.1 to one host over connections that are kept: each exchange ends by its deadline, and is counted."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.http_connection import Body, Connection
from edgecascade.runtime.remotes.http_response import Response
from edgecascade.types.errors import RemoteError, RemoteUnreachable

__all__ = ["HttpClient", "Response", "Traffic"]

_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)  # the connection's failure, not TLS's


@dataclass(frozen=True)
class Traffic:
    """Requests, and bytes on the wire (before TLS), so far."""

    requests: int = 0
    sent: int = 0
    received: int = 0


class HttpClient:
    """Keep-alive connections to one host, opened when first needed.

    Args:
        host: name or address.
        port: TCP port.
        context: TLS settings; None speaks plain HTTP.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
        self._host, self._port, self._context = host, port, context
        self._idle: list[Connection] = []
        self._lock = Lock()
        self._closed = False
        self._traffic = Traffic()

    @property
    def traffic(self) -> Traffic:
        """What went over the wire so far."""
        with self._lock:
            return self._traffic

    def request(self, method: str, path: str, body: Body, headers: Mapping[str, str], deadline: Deadline) -> Response:
        """One exchange.

        Args:
            method: such as `POST`.
            path: what is asked for on this host.
            body: bytes, whole or in parts, or None.
            headers: beside `Host` and `Content-Length`.
            deadline: until when to wait.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made; not worth a retry if a certificate is to blame.
            RemoteError: the connection broke, or what came is not HTTP.
        """
        kept = self._take()
        if kept is not None:
            try:
                return self._exchange(kept, method, path, body, headers, deadline)
            except TimeoutError:
                raise
            except OSError as error:
                if kept.answered:
                    raise self._broken(error) from error
                # an idle connection that the server had closed: the request was never served
        fresh = self._connect(deadline)
        try:
            return self._exchange(fresh, method, path, body, headers, deadline)
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

    def _take(self) -> Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()

    def _connect(self, deadline: Deadline) -> Connection:
        try:
            return Connection(self._host, self._port, self._context, deadline)
        except TimeoutError:
            raise
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.rstrip(".").replace("\n", " ")
            raise RemoteUnreachable(f"cannot trust {self._host}:{self._port}: {why}", retry=False) from error
        except (OSError, UnicodeError) as error:  # the latter for a name that no host can have
            worth = not isinstance(error, ssl.SSLError) or isinstance(error, _CUT)
            raise RemoteUnreachable(
                f"cannot connect to {self._host}:{self._port}: {_said(error)}", retry=worth
            ) from error

    def _exchange(
        self,
        connection: Connection,
        method: str,
        path: str,
        body: Body,
        headers: Mapping[str, str],
        deadline: Deadline,
    ) -> Response:
        sent, received, reusable = connection.sent, connection.received, False
        try:
            response = connection.exchange(method, path, body, headers, deadline)
            reusable = connection.reusable
            return response
        finally:
            with self._lock:
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
            return RemoteError(f"{self._host}:{self._port} refused this client: {_said(error)}", retry=False)
        return RemoteError(f"the connection broke: {_said(error)}", retry=True)


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.replace('_', ' ').lower()}"
    return str(error) or type(error).__name__
