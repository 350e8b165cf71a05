"""Chat endpoints that follow scripts, faults included, and a gateway in front of them."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from edgecascade.chat.cascade import ChatCascade
from edgecascade.chat.gateway import application

Script = Callable[[dict[str, Any]], Iterable[bytes | None]]

SURE, UNSURE = -0.125, -3.0


def event(found: Any) -> bytes:
    """Return one event of a stream."""
    return b"data: " + json.dumps(found).encode() + b"\n\n"


def chunked(data: bytes) -> bytes:
    """Return one chunk of an HTTP body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def answer(content: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """Return a whole HTTP response of JSON."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{lines}\r\n"
    return head.encode() + content


def refusal(status: str, message: str, **headers: str) -> bytes:
    """Return an error in OpenAI's form."""
    return answer(json.dumps({"error": {"message": message, "type": "some_error"}}).encode(), status, **headers)


def tokens_of(words: Iterable[str], logprob: float | None) -> list[dict[str, Any]]:
    """Return the list of tokens with one log-probability."""
    return [
        {"token": word, "logprob": logprob, "bytes": list(word.encode(errors="replace")), "top_logprobs": []}
        for word in words
    ]


def events_of(words: list[str], logprob: float | None = SURE, *, usage: bool = True) -> list[bytes]:
    """Return the events of a streamed reply, a word each, as llama.cpp sends them."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake"}

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        return event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]})

    found = [chunk({"role": "assistant", "content": None})]
    for word in words:
        listed: dict[str, Any] = {} if logprob is None else {"logprobs": {"content": tokens_of([word], logprob)}}
        found.append(chunk({"content": word}, **listed))
    found.append(chunk({}, "stop"))
    if usage:
        found.append(event({**base, "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(words)}}))
    return [*found, b"data: [DONE]\n\n"]


def whole_of(words: list[str], logprob: float | None = SURE) -> bytes:
    """Return a whole reply, as an HTTP response."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(words)},
        "finish_reason": "stop",
    }
    if logprob is not None:
        choice["logprobs"] = {"content": tokens_of(words, logprob)}
    usage = {"prompt_tokens": 7, "completion_tokens": len(words)}
    found = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake", "choices": [choice]}
    return answer(json.dumps({**found, "usage": usage}).encode())


def saying(words: list[str], logprob: float | None = SURE) -> Script:
    """Return the script of an endpoint that says these words, streamed where a stream is asked for."""

    def script(asked: dict[str, Any]) -> Iterator[bytes]:
        shown = logprob if asked.get("logprobs") else None
        if not asked.get("stream"):
            yield whole_of(words, shown)
            return
        usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        yield HEAD
        for one in events_of(words, shown, usage=usage):
            yield chunked(one)
        yield LAST

    return script


class Fake:
    """An endpoint that follows a script.

    Attributes:
        script: returns what to send for the fields of a request; None in between waits for `go_on`, and the end of an
            unfinished script for the client to disconnect.
        requests: headers and fields of those that came.
        go_on: lets a waiting script go on.
        left: is set once a client has disconnected in the middle of a reply.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.go_on, self.left = threading.Event(), threading.Event()
        self.url = ""

    def __call__(self, connection: socket.socket) -> None:
        """Serve one connection."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            headers, asked = self._read(connection)
            self.requests.append((headers, asked))
            for piece in self.script(asked):
                if piece is None:
                    self._wait(connection)
                elif not piece:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset
                    connection.close()
                    return
                else:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        self.left.set()
                        raise

    def _wait(self, connection: socket.socket) -> None:
        """Wait until the script may go on; a client that leaves meanwhile is noted."""
        connection.settimeout(0.02)
        try:
            while not self.go_on.wait(0.01):
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1):
                        self.left.set()
                        raise OSError("the client has left")
        except ConnectionError:
            self.left.set()
            raise
        finally:
            with contextlib.suppress(OSError):
                connection.settimeout(None)

    def _read(self, connection: socket.socket) -> tuple[dict[str, str], dict[str, Any]]:
        data = b""
        while b"\r\n\r\n" not in data:
            received = connection.recv(65536)
            if not received:
                raise OSError("closed")
            data += received
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")[1:]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
        return headers, json.loads(body)


class Got(NamedTuple):
    """A response as it came.

    Attributes:
        status: of HTTP.
        headers: by lower-case name.
        body: whole, without the chunks of HTTP.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """Return the decoded events of a stream, and `[DONE]` as it is."""
        data = [one.removeprefix(b"data: ") for one in self.body.split(b"\n\n") if one]
        return [one.decode() if one == b"[DONE]" else json.loads(one) for one in data]

    def text(self) -> str:
        """Return what the assistant says."""
        if self.headers["content-type"].startswith("application/json"):
            return str(self.json()["choices"][0]["message"]["content"])
        choices = [one["choices"][0] for one in self.events() if isinstance(one, dict) and one.get("choices")]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


class Gateway:
    """A gateway in a thread of this process.

    Attributes:
        patience: seconds to wait for a response.
        cascade: what it serves.
        port: where it listens.
    """

    patience = 20.0  # seconds

    def __init__(self, cascade: ChatCascade, **options: Any) -> None:
        self.cascade = cascade
        self._loop, started = asyncio.new_event_loop(), threading.Event()
        self._ended = asyncio.Event()

        async def serve() -> None:
            from aiohttp import web

            runner = web.AppRunner(
                application(cascade, "both", **options), handler_cancellation=True, access_log=None, shutdown_timeout=1
            )
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = int(runner.addresses[0][1])
            started.set()
            await self._ended.wait()
            await runner.cleanup()
            await cascade.close_async()

        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(serve()), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def ask(self, content: str = "Hi", *, headers: dict[str, str] | None = None, **fields: Any) -> Got:
        """Return the response to a chat completion request."""
        body = json.dumps({"messages": [{"role": "user", "content": content}], "temperature": 0, **fields})
        return self.request("POST", "/v1/chat/completions", body.encode(), headers or {})

    def request(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Got:
        """Return the response to any request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.patience)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a metric that have these labels."""
        total = 0.0
        for line in self.request("GET", "/metrics").body.decode().splitlines():
            found, _, value = line.rpartition(" ")
            if found.split("{")[0] == f"edgecascade_{name}" and all(f'{k}="{v}"' in found for k, v in labels.items()):
                total += float(value)
        return total

    def close(self) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        self.cascade.close()
        self._loop.close()
