"""Where to listen for lines: on this machine, unless somebody says otherwise."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edgecascade.types.errors import ArgumentError

__all__ = ["Address", "open_listener", "read_listening", "reason"]


@dataclass(frozen=True)
class Address:
    """A TCP port, or the path of a Unix socket.

    Attributes:
        host: name or address; empty for a path.
        port: TCP port; 0 takes a free one.
        path: of the Unix socket, or empty.
        anywhere: whether others than this machine can connect.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    anywhere: bool = False

    def __str__(self) -> str:
        """As it is written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"tcp://{host}:{self.port}"


def read_listening(text: str, *, anywhere: bool) -> Address:
    """The address in `tcp://HOST:PORT` or `unix:PATH`.

    Raises:
        ArgumentError: it is of another form, or not of this machine only, and `anywhere` is not said.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or not hasattr(socket, "AF_UNIX"):
            raise ArgumentError(f"inputs: expected unix:PATH, on a system that has such sockets, got {text}")
        return Address(path=path)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None or text.rpartition(":")[2] != str(port):
        raise ArgumentError(f"inputs: expected tcp://HOST:PORT, such as tcp://127.0.0.1:9000, got {text}")
    local = _is_loopback(host)
    if not local and not anywhere:
        raise ArgumentError(f"inputs: {text} can be reached from other machines; say --listen-anywhere if it is to be")
    return Address(host, port, anywhere=not local)


def open_listener(address: Address) -> socket.socket:
    """A socket that listens there.

    A Unix socket is open to this user only. One that is left over from a process that has ended is replaced.

    Raises:
        ArgumentError: the address is taken, or not to be had.
    """
    try:
        if not address.path:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            return socket.create_server((address.host, address.port), family=family)
        _remove_left_over(Path(address.path))
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(address.path)
            Path(address.path).chmod(0o600)  # before anybody can connect, which `listen` allows
            listener.listen()
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ArgumentError(f"inputs: cannot listen at {address}: {reason(error)}") from error
    return listener


def reason(error: OSError) -> str:
    """Why an address is not to be had, without the address."""
    return (error.strerror or str(error)).partition(" (while")[0]


def _remove_left_over(path: Path) -> None:
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
