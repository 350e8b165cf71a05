"""Listen for the clients of served models, drop the slow ones, and finish requests when a signal comes."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import h11
import uvicorn

from edgecascade.runtime.commands.listening import listen_tcp
from edgecascade.runtime.serving.endpoints import application
from edgecascade.runtime.serving.served import ServedModel

__all__ = ["serve"]

_GRACE = 30  # seconds for the model to answer requests under way after a signal
_LAST = 5.0  # seconds after a signal for a client to send the rest of a request, and to read a reply
_MOST_CONNECTIONS = 512  # above, those without a request are closed, the oldest first
_LONGEST_HEAD = 64 << 10  # bytes
_PATIENCE = {"head": 10.0, "body": 60.0, "reply": 60.0, "idle": 75.0}  # seconds that a client may take for each


def serve(
    models: Mapping[str, ServedModel],
    *,
    host: str,
    port: int,
    token: str | None = None,
    origins: Sequence[str] = (),
    ready: Callable[[list[str]], None],
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Serve models until SIGINT or SIGTERM; requests that are under way then are answered.

    The models then have 30 seconds for them, and a client 5 seconds to send the rest of its request.

    Args:
        models: what to serve, by the name in the address `/v2/models/NAME`.
        host: address to listen at.
        port: TCP port; 0 takes a free one.
        token: what clients must send, or None.
        origins: web pages whose scripts may read replies.
        ready: is called with the models' addresses once clients can connect.
        tick: is called some times a second while the event loop goes round.

    Raises:
        ArgumentError: the port is taken, or the host is not an address of this machine.
    """
    listener = listen_tcp("--host, --port", host, port)
    config = uvicorn.Config(
        application(models, token=token, origins=origins),
        loop="asyncio",
        http="h11",  # it bounds the head of a request
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(_PATIENCE["idle"]),
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
    )
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}/v2/models/"
    server = _Server(config, lambda: ready([address + quote(name) for name in models]), tick)
    with listener, _ended_by_signals():
        server.run([listener])


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ignore the signal that the server sends to itself once more when it ends, so that the caller can close."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, lambda *_: None) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


class _Server(uvicorn.Server):
    """uvicorn's server, which also drops clients that take too long."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], tick: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready, self._tick = ready, tick
        self._since: dict[Any, tuple[object, float]] = {}  # what each connection waits for, and since when
        self._patience = _PATIENCE

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        self._tick()
        if counter % 10 == 0 or len(self.server_state.connections) > _MOST_CONNECTIONS:
            self._drop_slow(time.monotonic())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: Any = None) -> None:
        self._since, self._patience = {}, dict.fromkeys(_PATIENCE, _LAST)
        ended = asyncio.create_task(super().shutdown(sockets))
        while not ended.done():
            self._drop_slow(time.monotonic())
            await asyncio.wait([ended], timeout=0.1)
        await ended

    def _drop_slow(self, now: float) -> None:
        since: dict[Any, tuple[object, float]] = {}
        idle = []
        for connection in list(self.server_state.connections):
            phase = _phase(connection)
            waits = (phase, id(getattr(connection, "cycle", None)))
            before = self._since.get(connection)
            began = before[1] if before is not None and before[0] == waits else now
            since[connection] = (waits, began)
            if now - began > self._patience.get(phase, math.inf):
                connection.transport.abort()
            elif phase in ("head", "idle"):
                idle.append((began, connection))
        self._since = since
        excess = len(self.server_state.connections) - _MOST_CONNECTIONS
        for _, connection in sorted(idle, key=lambda one: one[0])[: max(excess, 0)]:
            connection.transport.abort()


def _phase(connection: Any) -> str:
    """Return what a connection waits for: a part of the client's request, the client to read, or the model."""
    cycle = connection.cycle
    if connection.transport.get_write_buffer_size() > 0:
        return "reply"
    if cycle is None:
        return "head"
    if cycle.response_complete:
        if connection.conn.their_state is h11.SEND_BODY:
            return "body"
        return "head" if connection.conn.trailing_data[0] else "idle"
    return "body" if cycle.more_body else "work"
