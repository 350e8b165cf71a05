"""Answer lines over a socket: each client sends one input a line, and reads one answer a line, in order."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.commands.answering import Stop, answer_live
from edgecascade.runtime.commands.lines import Answered, Given, LineInput, NumberedLines, Refused
from edgecascade.runtime.commands.listening import is_loopback, listen_tcp
from edgecascade.types.errors import ArgumentError

__all__ = ["MOST_CONNECTIONS", "Address", "answer_connections", "read_address"]

MOST_CONNECTIONS = 16
_PIECE = 64 << 10  # bytes
_AT_ONCE = 256 << 10  # bytes of a line that is decoded in the event loop
_PATIENCE = 5.0  # seconds for clients to read their last answers after a signal


@dataclass(frozen=True)
class Address:
    """The address to listen at.

    Attributes:
        host: name or address; empty for a Unix socket.
        port: TCP port; 0 takes a free one.
        path: path of a Unix socket, or empty.
        anywhere: whether other machines can connect.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    anywhere: bool = False

    def __str__(self) -> str:
        """Return the address as it is given on the command line."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"tcp://{host}:{self.port}"


def read_address(text: str, *, anywhere: bool) -> Address:
    """Return the address in `tcp://HOST:PORT` or `unix:PATH`.

    Raises:
        ArgumentError: it has another form, or other machines can reach it and `anywhere` is false.
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
    local = is_loopback(host)
    if not local and not anywhere:
        raise ArgumentError(
            f"inputs: expected an address of this machine only, got {text}, which can be reached from other machines; "
            "allow it with --listen-anywhere"
        )
    return Address(host, port, anywhere=not local)


def _listen(address: Address) -> socket.socket:
    """Return a socket that listens. Only its owner can use a Unix socket, which replaces that of a dead process."""
    if not address.path:
        return listen_tcp("inputs", address.host, address.port)
    path, listener = Path(address.path), socket.socket(socket.AF_UNIX)
    try:
        _remove_left_over(path)
        listener.bind(address.path)
        path.chmod(0o600)  # before `listen` allows anyone to connect
        listener.listen()
    except OSError as error:
        listener.close()
        raise ArgumentError(f"inputs: cannot listen at {address}: {error.strerror or error}") from error
    return listener


def _remove_left_over(path: Path) -> None:
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)


async def answer_connections(
    cascade: Cascade,
    address: Address,
    line: Callable[[Answered | Refused], dict[str, Any]],
    stop: Stop,
    *,
    listening: Callable[[str], None],
) -> None:
    """Answer the lines of every client until `stop`.

    Args:
        cascade: gives the answers.
        address: the address to listen at.
        line: returns the fields of an answer's line.
        stop: ends the loop; clients then have 5 seconds to read their last answers.
        listening: is called with the address once clients can connect.

    Raises:
        ArgumentError: the address is in use, or does not belong to this machine.
    """
    connections = _Connections(cascade, LineInput(cascade.inputs, paths=not address.anywhere), line, stop)
    listener = _listen(address)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        if address.path:
            server = await asyncio.start_unix_server(connections.answer, sock=listener)
            listening(str(address))
        else:
            server = await asyncio.start_server(connections.answer, sock=listener)
            listening(str(Address(*listener.getsockname()[:2])))
        with stop.calling(lambda: loop.call_soon_threadsafe(ended.set)):
            await ended.wait()
        server.close()
        await connections.end()
    finally:
        listener.close()
        if address.path:
            Path(address.path).unlink(missing_ok=True)


class _Connections:
    def __init__(
        self, cascade: Cascade, reader: LineInput, line: Callable[[Answered | Refused], dict[str, Any]], stop: Stop
    ) -> None:
        self._cascade, self._reader, self._line, self._stop = cascade, reader, line, stop
        self._open: set[asyncio.Task[Any]] = set()

    async def answer(self, received: asyncio.StreamReader, sent: asyncio.StreamWriter) -> None:
        """Answer one client until it closes the connection."""
        task = asyncio.current_task()
        assert task is not None

        async def write(fields: dict[str, Any]) -> None:
            sent.write(json.dumps(fields).encode() + b"\n")
            await sent.drain()

        async def answered(one: Answered | Refused) -> None:
            await write(self._line(one))

        with suppress(ConnectionError):
            try:
                if len(self._open) >= MOST_CONNECTIONS:
                    await write({"error": f"expected at most {MOST_CONNECTIONS} connections, got one more"})
                    return
                self._open.add(task)
                await answer_live(self._cascade, self._items(received), answered, self._stop)
            finally:
                self._open.discard(task)
                sent.close()
                await sent.wait_closed()

    async def end(self) -> None:
        """Wait until clients have read their last answers, then close their connections."""
        if self._open:
            _, late = await asyncio.wait(self._open, timeout=_PATIENCE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _items(self, received: asyncio.StreamReader) -> AsyncIterator[Given | Refused]:
        lines = NumberedLines(self._reader, "line ")
        while piece := await received.read(_PIECE):
            long = lines.waiting > _AT_ONCE  # others are answered while a thread decodes it
            for item in await asyncio.to_thread(lines.feed, piece) if long else lines.feed(piece):
                yield item
        for item in lines.feed(b""):
            yield item
