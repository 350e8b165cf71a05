"""Listen at a TCP port, and say who can connect."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from edgecascade.types.errors import ArgumentError

__all__ = ["is_loopback", "listen_tcp", "read_token"]


def listen_tcp(argument: str, host: str, port: int) -> socket.socket:
    """Return a socket that listens at a TCP port.

    Raises:
        ArgumentError: the port is in use, or the address is empty, or does not belong to this machine.
    """
    if not host:  # which would be every address of this machine
        raise ArgumentError(f"{argument}: expected an address to listen at, such as 127.0.0.1, got an empty one")
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # Connections inherit it. asyncio sets it only for sockets of another protocol number, and a reply in two pieces
        # would wait 40 ms for the client's acknowledgement of the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]  # what follows repeats the address
        raise ArgumentError(f"{argument}: cannot listen at {host}:{port}: {why}") from error


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: str | None) -> str | None:
    """Return the token in a file, which clients must send, or None without a file.

    Raises:
        ArgumentError: the file cannot be read, or does not hold one line of plain characters.
    """
    if path is None:
        return None
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise ArgumentError(f"--token-file: cannot read {path}: {error.strerror}") from error
    except ValueError:
        token = ""
    if not token or not token.isprintable() or " " in token:  # the text itself is a secret
        raise ArgumentError(f"--token-file: expected one line of plain characters in {path}, got something else")
    return token
