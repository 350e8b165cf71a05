"""One gRPC channel that is kept, whose calls end by their deadlines and are counted, and whose errors are ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.http import Traffic
from edgecascade.types.errors import RemoteError, RemoteUnreachable

__all__ = ["Certificates", "GrpcChannel"]

_LARGEST_MESSAGE = 64 << 20  # bytes
_OPTIONS = (
    ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # After a failure to connect, calls fail at once until the next attempt: minutes by default, here a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Servers take pings amiss that come more often. None is sent in practice, since only calls under way are probed;
    # but with them comes the timeout by which the system gives up a connection that acknowledges nothing.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


@dataclass(frozen=True)
class Certificates:
    """In PEM; what is None is the system's, or, of the client's own, nothing.

    Attributes:
        root: who may vouch for the server.
        key: the client's private key.
        chain: the client's certificate.
    """

    root: bytes | None = None
    key: bytes | None = None
    chain: bytes | None = None


class GrpcChannel:
    """Calls to one server. Nothing is opened before the first.

    Args:
        target: `host:port`.
        certificates: to speak TLS; None does not.
        metadata: sent with every call.

    Raises:
        ModuleNotFoundError: the `grpc` extra is not installed.
    """

    def __init__(self, target: str, certificates: Certificates | None, metadata: Mapping[str, str]) -> None:
        import grpc

        self._grpc = grpc
        self._target, self._certificates = target, certificates
        self._metadata = tuple((name.lower(), value) for name, value in metadata.items())
        self._lock = Lock()
        self._channel: Any = None
        self._calls: dict[str, Any] = {}
        self._traffic = Traffic()

    @property
    def traffic(self) -> Traffic:
        """Calls, and bytes of messages, so far."""
        with self._lock:
            return self._traffic

    def call(self, method: str, message: bytes, deadline: Deadline) -> bytes:
        """The serialized reply to a serialized message.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: there is no connection; not worth a retry if a certificate is to blame.
            RemoteError: the server refuses.
        """
        seconds = deadline.remaining()
        if seconds <= 0:
            raise TimeoutError("the deadline has passed")
        reply = b""
        try:
            reply = bytes(self._callable(method)(message, timeout=seconds, metadata=self._metadata))
            return reply
        except self._grpc.RpcError as error:
            raise self._as_remote_error(error) from error
        except ValueError as error:  # another thread has closed the channel
            raise RemoteUnreachable(f"cannot reach {self._target}: {error}") from error
        finally:
            with self._lock:
                before = self._traffic
                self._traffic = Traffic(before.requests + 1, before.sent + len(message), before.received + len(reply))

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        with self._lock:
            channel, self._channel, self._calls = self._channel, None, {}
        if channel is not None:
            channel.close()

    def _callable(self, method: str) -> Any:
        with self._lock:
            if self._channel is None:
                self._channel = self._open()
            if method not in self._calls:
                self._calls[method] = self._channel.unary_unary(method)
            return self._calls[method]

    def _open(self) -> Any:
        if self._certificates is None:
            return self._grpc.insecure_channel(self._target, _OPTIONS)
        given = self._certificates
        credentials = self._grpc.ssl_channel_credentials(given.root, given.key, given.chain)
        return self._grpc.secure_channel(self._target, credentials, _OPTIONS)

    def _as_remote_error(self, error: Any) -> Exception:
        code, said = error.code(), " ".join((error.details() or "no explanation").split())
        status = self._grpc.StatusCode
        if code is status.DEADLINE_EXCEEDED:
            return TimeoutError("the deadline has passed")
        if code is status.CANCELLED:
            return RemoteUnreachable(f"cannot reach {self._target}: the channel was closed")
        if code is status.UNAVAILABLE:
            why = said.rpartition("last error: ")[2][:300]
            if self._may_lack_certificate(why):
                why += ", as servers do that ask for a client's certificate"
            return RemoteUnreachable(f"cannot reach {self._target}: {why}", retry=not _is_of_tls(why))
        worth = code is status.RESOURCE_EXHAUSTED and "larger than max" not in said
        return RemoteError(
            f"remote: gRPC {code.name}: {said[:200]}", retry=worth, retry_after=_pushback(error.trailing_metadata())
        )

    def _may_lack_certificate(self, said: str) -> bool:
        # In TLS 1.3 the server refuses after the client's part of the handshake: gRPC only sees that it hangs up.
        alone = self._certificates is not None and self._certificates.chain is None
        return alone and not self.traffic.received and any(word in said.lower() for word in ("closed", "reset"))


def _is_of_tls(said: str) -> bool:
    return any(word in said.lower() for word in ("handshake", "certificate", "hostname verification", "ssl"))


def _pushback(metadata: Any) -> float | None:
    """Seconds that the server asks to be left alone, as gRPC's retry design (A6) has it."""
    for key, value in metadata or ():
        if key == "grpc-retry-pushback-ms" and isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value) / 1000
    return None
