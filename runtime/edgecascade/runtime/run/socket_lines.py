"""Lines over a socket: whoever connects sends inputs, one a line, and reads answers, one a line, in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.run.given import Answered, Given, Refused
from edgecascade.runtime.run.line_input import LineInput
from edgecascade.runtime.run.line_splitter import LineSplitter
from edgecascade.runtime.run.listening import Address, open_listener
from edgecascade.runtime.run.live import answer_live
from edgecascade.runtime.run.stop import Stop

__all__ = ["MOST_CONNECTIONS", "answer_connections"]

MOST_CONNECTIONS = 16
_PIECE = 64 << 10  # bytes
_PATIENCE = 5.0  # seconds for clients to take their last answers, when it is time to end


async def answer_connections(
    cascade: Cascade,
    address: Address,
    reader: LineInput,
    line: Callable[[Answered | Refused], dict[str, Any]],
    *,
    stop: Stop,
    listening: Callable[[str], None],
) -> None:
    """Answer whoever connects, until it is time to end.

    Args:
        cascade: that answers.
        address: where to listen.
        reader: of lines.
        line: the fields of an answer's line.
        stop: when to end.
        listening: is told where, once it listens.

    Raises:
        ArgumentError: the address is taken, or not to be had.
    """
    connections = _Connections(cascade, reader, line, stop)
    listener = open_listener(address)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        if address.path:
            server = await asyncio.start_unix_server(connections.answer, sock=listener)
            listening(str(address))
        else:
            server = await asyncio.start_server(connections.answer, sock=listener)
            listening(str(Address(*listener.getsockname()[:2])))
        with stop.telling(lambda: loop.call_soon_threadsafe(ended.set)):
            await ended.wait()
        server.close()
        await connections.end()
    finally:
        listener.close()
        if address.path:
            Path(address.path).unlink(missing_ok=True)


class _Connections:
    """Those that are open."""

    def __init__(
        self, cascade: Cascade, reader: LineInput, line: Callable[[Answered | Refused], dict[str, Any]], stop: Stop
    ) -> None:
        self._cascade, self._reader, self._line, self._stop = cascade, reader, line, stop
        self._open: set[asyncio.Task[Any]] = set()

    async def answer(self, received: asyncio.StreamReader, sent: asyncio.StreamWriter) -> None:
        """Answer one that has just been made, until the other side ends it."""
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
                    await write({"error": f"there are {MOST_CONNECTIONS} connections, and no room for another"})
                    return
                self._open.add(task)
                await answer_live(self._cascade, self._items(received), answered, stop=self._stop)
            finally:
                self._open.discard(task)
                sent.close()
                await sent.wait_closed()

    async def end(self) -> None:
        """Let clients take their last answers."""
        if self._open:
            _, late = await asyncio.wait(self._open, timeout=_PATIENCE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _items(self, received: asyncio.StreamReader) -> AsyncIterator[Given | Refused]:
        splitter, number = LineSplitter(), 0
        while piece := await received.read(_PIECE):
            for line in splitter.feed(piece):
                number += 1
                item = self._reader.read(line, f"line {number}")
                if item is not None:
                    yield item
        for line in splitter.end():
            item = self._reader.read(line, f"line {number + 1}")
            if item is not None:
                yield item
