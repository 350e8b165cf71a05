"""The costs of the gateway between two chat endpoints: its CPU time, and the delay of a kept reply's first token."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from edgecascade.benchmarks.report import LOWER, write_study
from edgecascade.calibration import quantile
from edgecascade.types.document import ChatDocument, ChatScore, ChatSide, PolicyRecord, ScoreCalibration
from edgecascade.types.estimate import Estimate, OperatingPoint
from edgecascade.types.platt import Platt

__all__ = ["CPU_GOAL", "DELAY_GOAL", "GatewayCosts", "main", "measure_gateway_costs"]

CPU_GOAL, DELAY_GOAL = 3.0, 2.0  # ms
_TOKENS = 64  # of a reply; all of them are scored
_PAUSE = 0.001  # seconds from one token to the next, where each comes alone, as from a real endpoint
_START = "import sys; from edgecascade.cli import main; sys.exit(main())"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class GatewayCosts:
    """What was measured, with replies of 64 tokens.

    Attributes:
        cpu: CPU time of the gateway's process for a request whose tokens come together, in ms, by kind of reply: the
            median over rounds.
        token: what is added by each token that comes alone, in ms.
        delay: from the moment that the local endpoint sends the token that decides to the first byte at the client, in
            ms: the median.
        late: the same, 95th percentile.
        unchanged: whether every byte of the remote's streams came as it was sent.
    """

    cpu: dict[str, Estimate] = field(metadata=LOWER)
    token: dict[str, Estimate] = field(metadata=LOWER)
    delay: Estimate = field(metadata=LOWER)
    late: Estimate
    unchanged: bool

    def __str__(self) -> str:
        """Return one line of text for each."""
        lines = [
            f"CPU of the gateway, {kind}: {one.value:.2f} ms ({one.low:.2f} to {one.high:.2f}) for a request; "
            f"{_said(one.value, CPU_GOAL)}; and {1e3 * self.token[kind].value:.0f} us for each token that comes alone"
            for kind, one in self.cpu.items()
        ]
        delay, late = self.delay, self.late
        lines.append(
            f"first token of a kept reply after the decision: median {delay.value:.2f} ms ({delay.low:.2f} to "
            f"{delay.high:.2f}), 95th percentile {late.value:.2f} ms, n = {delay.n}; {_said(delay.value, DELAY_GOAL)}"
        )
        return "\n".join([*lines, f"bytes of the remote's streams unchanged: {'yes' if self.unchanged else 'NO'}"])


def measure_gateway_costs(*, rounds: int = 15, requests: int = 40) -> GatewayCosts:
    """Measure a gateway in a process of its own, between two endpoints that reply at once.

    Args:
        rounds: measurements of each kind of reply, with tokens that come together and with tokens that come alone.
        requests: requests in each, one after the other.
    """
    kinds = {f"{kept}, {how}": (kept, how) for kept in ("kept", "forwarded") for how in ("whole", "streamed")}
    cpu: dict[str, list[float]] = {kind: [] for kind in kinds}
    token: dict[str, list[float]] = {kind: [] for kind in kinds}
    near, far = _Endpoint(_events("local", -0.1)), _Endpoint(_events("remote", None))
    unchanged, delays = True, list[float]()
    with near.serving() as local, far.serving() as remote, _gateway(local, remote) as (address, process):
        for at in range(rounds + 1):  # the first warms up
            for kind, (kept, how) in kinds.items():
                spent = []
                for near.pause in (0.0, _PAUSE):
                    far.pause, before = near.pause, _cpu(process)
                    for _ in range(requests):
                        first, body = _ask(address, unsure=kept == "forwarded", stream=how == "streamed")
                        if kind == "kept, streamed" and at:
                            delays.append(1e3 * (first - near.decided))
                        if kind == "forwarded, streamed":
                            unchanged = unchanged and body == b"".join(far.events)
                    spent.append(1e3 * (_cpu(process) - before) / requests)
                if at:
                    cpu[kind].append(spent[0])
                    token[kind].append((spent[1] - spent[0]) / _TOKENS)
    return GatewayCosts(
        cpu={kind: quantile(np.array(some), 0.5) for kind, some in cpu.items()},
        token={kind: quantile(np.array(some), 0.5) for kind, some in token.items()},
        delay=quantile(np.array(delays), 0.5),
        late=quantile(np.array(delays), 0.95),
        unchanged=unchanged,
    )


def _events(name: str, logprob: float | None) -> list[bytes]:
    """Return the events of a stream as llama.cpp writes them."""
    base = {"created": 1, "id": f"chatcmpl-{name}", "model": name, "object": "chat.completion.chunk"}

    def event(delta: dict[str, str], finish: str | None = None, **more: Any) -> bytes:
        choice = {"finish_reason": finish, "index": 0, "delta": delta, **more}
        return b"data: " + json.dumps({"choices": [choice], **base}).encode() + b"\n\n"

    found = [event({"role": "assistant"})]
    for at in range(_TOKENS):
        token = {"id": at, "token": f" w{at}", "bytes": list(f" w{at}".encode()), "logprob": logprob}
        content = [{**token, "top_logprobs": [token]}]
        listed: dict[str, Any] = {} if logprob is None else {"logprobs": {"content": content}}
        found.append(event({"content": f" w{at}"}, **listed))
    return [*found, event({}, "stop"), b"data: [DONE]\n\n"]


class _Endpoint:
    """An endpoint whose reply is always the same; to prompts that say `unsure`, its tokens are unlikely.

    Attributes:
        events: of its reply.
        pause: seconds before each token; without one, all come together.
        decided: when it last sent the end of a stream, by which the gateway decides.
    """

    def __init__(self, events: list[bytes]) -> None:
        self.events, self.pause, self.decided = events, 0.0, 0.0
        self._unsure = [one.replace(b'"logprob": -0.1', b'"logprob": -9.1') for one in events]

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve until the end of the context; gives the address."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            Thread(target=self._accept, args=(listener,), daemon=True).start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            finally:
                listener.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as incoming:
            while incoming.readline():
                headers = dict(line.split(": ", 1) for line in iter(lambda: incoming.readline().decode().strip(), ""))
                body = incoming.read(int(headers["Content-Length"]))
                events = self._unsure if b"unsure" in body else self.events
                if json.loads(body).get("stream"):
                    self._stream(connection, [b"%x\r\n%b\r\n" % (len(one), one) for one in events])
                else:
                    whole = _whole(events)
                    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    connection.sendall(head % len(whole) + whole)

    def _stream(self, connection: socket.socket, chunks: list[bytes]) -> None:
        *tokens, end = chunks
        connection.sendall(_STREAM)
        for one in tokens if self.pause else [b"".join(tokens)]:
            time.sleep(self.pause)
            connection.sendall(one)
        self.decided = time.monotonic()  # a reply of 64 tokens is decided about at its end
        connection.sendall(end + b"0\r\n\r\n")


def _whole(events: Sequence[bytes]) -> bytes:
    from edgecascade.chat.events import assembled

    return json.dumps(assembled(json.loads(one[6:]) for one in events[:-1])).encode()


@contextmanager
def _gateway(local: str, remote: str) -> Iterator[tuple[tuple[str, int], int]]:
    """Run a gateway; gives its address and its process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chat.json"
        path.write_text(_document(local, remote).to_json())
        command = [sys.executable, "-c", _START, "gateway", str(path), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            try:
                port = int(process.stdout.readline().strip().removesuffix("/v1").rpartition(":")[2])
                yield ("127.0.0.1", port), process.pid
            finally:
                process.terminate()


def _document(local: str, remote: str) -> ChatDocument:
    """Return a document that keeps replies whose mean log-probability is -1 or more, and scores 64 tokens whole."""
    some, point = Estimate(0.5, 0.4, 0.6, 100), OperatingPoint(0.0, 0.3, 0.7, (0, 1), (0, 1), (0, 1), 100)
    policy = PolicyRecord(
        *("mean", "replace", "monotone", "none", 0.0, point, (), 2),
        *((-1.0,), (-0.25, 0.125), (50, 50), ((-0.3, -0.2), (0.1, 0.2)), ()),
    )
    return ChatDocument(
        written_by="edgecascade",
        local=ChatSide(local, "local", "local"),
        remote=ChatSide(remote, "remote", "remote"),
        judge="exact",
        score=ChatScore("mean", whole=_TOKENS),
        fields={},
        turns=(("user",),),
        calibration=ScoreCalibration(Platt(1.0, 1.0), 100, some, some),
        remote_value=some,
        policy=policy,
        operating_curve=(point,),
        certificate=None,
        data_sha256="0" * 64,
    )


def _ask(address: tuple[str, int], *, unsure: bool, stream: bool) -> tuple[float, bytes]:
    """Return when the first byte of the reply came, and its body without the chunks of HTTP."""
    said = "unsure" if unsure else "sure"
    body = json.dumps({"messages": [{"role": "user", "content": said}], "stream": stream}).encode()
    with socket.create_connection(address, timeout=20) as connection:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)
        received = connection.recv(1 << 16)
        first = time.monotonic()
        while more := connection.recv(1 << 16):
            received += more
    headers, _, rest = received.partition(b"\r\n\r\n")
    return first, _unchunked(rest) if b"chunked" in headers.lower() else rest


def _unchunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        found, body = found + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return found


def _cpu(process: int) -> float:
    """Return the seconds of CPU time that all threads of a process have used (Linux)."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks) / 1e9


def _said(value: float, goal: float) -> str:
    return f"goal at most {goal:g} ms: {'met' if value <= goal else 'MISSED'}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the result; return 1 if a goal is missed."""
    parser = ArgumentParser(prog="python -m studies.gateway_costs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="Measurements of each kind (default: 15).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    found = measure_gateway_costs(rounds=asked.rounds)
    command = f"python -m studies.gateway_costs --rounds {asked.rounds}"
    write_study(asked.out, "gateway", found, command=command, summary=str(found))
    print(found)
    missed = any(one.value > CPU_GOAL for one in found.cpu.values()) or found.delay.value > DELAY_GOAL
    return int(missed or not found.unchanged)


if __name__ == "__main__":
    raise SystemExit(main())
