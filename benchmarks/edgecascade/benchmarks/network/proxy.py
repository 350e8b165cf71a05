"""A TCP proxy on this machine that shapes the traffic to a local server by a profile, without the kernel's help.

The proxy runs in a process of its own, so that the measured process keeps its interpreter lock to itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import random
import selectors
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import asdict
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit

from edgecascade.benchmarks.network.path import Line, Outages, Path
from edgecascade.benchmarks.network.profile import Profile
from edgecascade.types.errors import BenchmarkError

__all__ = ["loopback", "shaped"]

_CONNECTIONS = 64  # at a time; others wait for their turn
_KERNEL_BUFFER = 128 * 1024  # bytes that the kernel takes from a sender while the proxy reads nothing
_PORTS = {"http": 80, "https": 443}
_NEVER = 1e9  # seconds
_OVERSLEEP = 200e-6  # seconds by which a sleep may be late
_HANDLING = 50e-6  # seconds that a pass takes at least beside its waits, which are shortened by it


def loopback(address: str) -> SplitResult:
    """Return the parts of `host:port`, whose scheme is then empty, or of a URL, on this machine.

    Raises:
        BenchmarkError: the address is neither, has no port, or is that of another machine.
    """
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        raise BenchmarkError(f"address: expected host:port or a URL, got {address!r}") from error
    if not _is_loopback(host) or "@" in parts.netloc:
        raise BenchmarkError(f"address: expected a server on this machine (localhost, 127.0.0.1, ::1), got {address!r}")
    if port is None:
        raise BenchmarkError(f"address: expected a port, got {address!r}")
    return parts._replace(netloc=_netloc(host, port))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def shaped(address: str, profile: Profile, seed: int = 0) -> Iterator[str]:
    """Yield an address at which a server of this machine answers as if the network were in between.

    The fate of a connection depends on the profile, the seed, its number and its traffic.

    Args:
        address: of the server: `host:port`, or a URL, whose path stays. Its host is localhost or a loopback address.
        profile: of the network, which comes up now.
        seed: of the random numbers.

    Raises:
        BenchmarkError: the address is not on this machine, or the proxy failed.
    """
    server = loopback(address)
    host = server.hostname or ""
    command = [sys.executable, "-m", "edgecascade.benchmarks.network.proxy", host, str(server.port)]
    command += [str(seed), json.dumps(asdict(profile))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise BenchmarkError(f"the shaping proxy did not start: {_last_line(process.stderr)}")
            yield server._replace(netloc=_netloc(host, int(line))).geturl().removeprefix("//")
        finally:
            process.stdin.close()  # which ends it
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode:
            raise BenchmarkError(f"the shaping proxy failed: {_last_line(process.stderr)}")


def _last_line(errors: IO[bytes]) -> str:
    return (errors.read().decode().strip().splitlines() or ["no message"])[-1]


class _Proxy:
    """Accepts connections and carries them to the target; times count from its start.

    Args:
        target: the server's host and port.
        profile: of the network.
        seed: of the random numbers.
    """

    def __init__(self, target: tuple[str, int], profile: Profile, seed: int) -> None:
        self._profile, self._seed = profile, seed
        found: list[Any] = socket.getaddrinfo(*target, type=socket.SOCK_STREAM)
        first = min(found, key=lambda one: one[0])  # IPv4 before IPv6
        self._family: int = first[0]
        self._target: tuple[Any, ...] = first[4]
        self._place = self._bound(0)  # never listens: it holds the port while the listener is closed
        self.port = int(self._place.getsockname()[1])
        self._listener = self._listening()
        self._outages = Outages(profile.outage_period, profile.outage_share)
        self._up, self._down = Line(profile.up, self._outages), Line(profile.down, self._outages)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    def _socket(self) -> socket.socket:
        made = socket.socket(self._family)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BUFFER)
        return made

    def _bound(self, port: int) -> socket.socket:
        made = self._socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((self._target[0], port))
        return made

    def _listening(self) -> socket.socket:
        made = self._bound(self.port)
        made.listen(_CONNECTIONS)
        return made

    async def run(self) -> None:
        """Carry connections until cancelled."""
        slots, carried, number = asyncio.Semaphore(_CONNECTIONS), set[asyncio.Task[None]](), 0
        try:
            while True:
                await slots.acquire()
                task = asyncio.create_task(self._carry(await self._accept(), number))
                number += 1
                carried.add(task)
                task.add_done_callback(carried.discard)
                task.add_done_callback(lambda _: slots.release())
        finally:
            self._listener.close()
            self._place.close()
            await _cancel(*carried)

    async def _accept(self) -> socket.socket:
        refuses = self._profile.outage_refuses
        while True:
            left = min(self._outages.next_down(self._now()) - self._now(), _NEVER) if refuses else None
            if left is not None and left <= 0:
                self._listener.close()
                await self._until(self._outages.next_up(self._now()))
                self._listener = self._listening()
                continue
            # Not asyncio.wait_for, which before Python 3.12 can swallow the cancellation that ends this process.
            accepting = asyncio.ensure_future(self._loop.sock_accept(self._listener))
            try:
                if (await asyncio.wait([accepting], timeout=left))[0]:
                    return accepting.result()[0]
            finally:
                await _cancel(accepting)

    async def _carry(self, client: socket.socket, number: int) -> None:
        """Carry one connection; an irregular end resets both sides."""
        server = self._socket()
        tasks: list[asyncio.Task[None]] = []
        try:
            stands = self._outages.next_up(self._now()) + self._profile.round_trip  # the hand-shake
            await self._until(stands)
            await self._loop.sock_connect(server, self._target)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tasks += [asyncio.create_task(one) for one in self._work(client, server, number, stands)]
            await asyncio.gather(*tasks)
        except (OSError, asyncio.CancelledError):
            await _cancel(*tasks)
            for side in (client, server):
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            client.close()
            server.close()

    def _work(
        self, client: socket.socket, server: socket.socket, number: int, stands: float
    ) -> Iterator[Coroutine[Any, Any, None]]:
        profile, name = self._profile, f"{self._seed}/{number}"
        resets = random.Random(name).random() < profile.reset_share
        for line, source, sink in ((self._up, client, server), (self._down, server, client)):
            path = Path(profile, line, random.Random(f"{name}/{'up' if sink is server else 'down'}"), stands)
            held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(line.held(profile.latency, profile.jitter))
            yield self._take(source, path, resets, held)
            yield self._give(sink, held)

    async def _take(
        self, source: socket.socket, path: Path, resets: bool, held: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        while True:
            await self._until(max(path.ready, path.line.ready))
            data = await self._loop.sock_recv(source, path.line.chunk)
            if data and resets:
                raise ConnectionResetError("by the profile")
            await held.put((path.send(len(data), self._now()), data))
            if not data:
                return

    async def _give(self, sink: socket.socket, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        while True:
            due, data = await held.get()
            await self._until(due - _HANDLING)
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            await self._loop.sock_sendall(sink, data)

    def _now(self) -> float:
        return self._loop.time() - self._began

    async def _until(self, at: float) -> None:
        while (left := at - self._now()) > 0:
            await asyncio.sleep(max(0, left - _OVERSLEEP))  # sleeps of nothing let the others go on


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(host: str, port: str, seed: str, profile: str) -> None:
    """Print the port, and serve until standard input ends, as it does when the parent process is gone."""
    proxy = _Proxy((host, int(port)), Profile(**json.loads(profile)), int(seed))
    running = asyncio.create_task(proxy.run())
    loop = asyncio.get_running_loop()

    def wait_for_end() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(running.cancel)

    threading.Thread(target=wait_for_end, daemon=True).start()
    print(proxy.port, flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    # Not epoll, whose waits are whole milliseconds: as long as some networks' round trips.
    events = asyncio.SelectorEventLoop(selectors.SelectSelector())
    events.run_until_complete(_serve(*sys.argv[1:]))
    events.close()
