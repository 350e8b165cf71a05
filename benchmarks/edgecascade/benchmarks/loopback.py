"""Addresses of servers on this machine: the only ones whose traffic is anybody's to shape."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from edgecascade.types.errors import BenchmarkError

__all__ = ["LoopbackAddress"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class LoopbackAddress:
    """An address in parts, which `str` puts together again.

    Attributes:
        scheme: with its slashes; empty if the address is no URL.
        host: localhost or a loopback address.
        port: of the server.
        rest: path and query.
    """

    scheme: str
    host: str
    port: int
    rest: str

    @classmethod
    def parse(cls, address: str) -> LoopbackAddress:
        """Read `host:port` or a URL.

        Raises:
            BenchmarkError: it is neither, or of another machine.
        """
        scheme = address.partition("://")[0] + "://" if "://" in address else ""
        try:
            parts = urlsplit(address if scheme else f"//{address}")
            host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
        except ValueError as error:
            raise BenchmarkError(f"address: expected host:port or a URL, got {address!r}") from error
        if not _is_loopback(host) or "@" in parts.netloc:
            raise BenchmarkError(
                f"address: expected a server on this machine (localhost, 127.0.0.1, ::1), got {address!r}"
            )
        if port is None:
            raise BenchmarkError(f"address: expected a port, got {address!r}")
        return cls(scheme, host, port, address[len(scheme) + len(parts.netloc) :])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}{host}:{self.port}{self.rest}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
