"""Chat endpoints in this process that reply as a function says, also with faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from edgecascade.export import ChatPrompt

__all__ = [
    "FakeEndpoint",
    "Raw",
    "Respond",
    "completion",
    "fake_endpoint",
    "large",
    "prompts_about",
    "refusal",
    "small",
    "streamed",
]


class Raw(NamedTuple):
    """A response as it is sent.

    Attributes:
        status: HTTP status.
        body: the bytes.
        headers: beside the length; without a type, JSON.
        whole: whether all of the body is sent, or half of it before the connection breaks.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})
    whole: bool = True


def completion(
    text: str,
    logprobs: Sequence[float | None] | None = None,
    *,
    model: str = "model-1",
    usage: tuple[int, int] | None = (10, 5),
    finish: str = "stop",
) -> dict[str, Any]:
    """Return a chat completion; `logprobs` are those of its tokens, or None for none at all."""
    tokens = None if logprobs is None else {"content": [{"token": "t", "logprob": one} for one in logprobs]}
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish, "logprobs": tokens}
    counts = {} if usage is None else {"usage": dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))}
    return {"object": "chat.completion", "model": model, "choices": [choice], **counts}


def refusal(status: int, message: str, **headers: str) -> Raw:
    """Return an error as OpenAI's API words it."""
    return Raw(status, json.dumps({"error": {"message": message}}).encode(), headers)


def streamed(found: dict[str, Any]) -> bytes:
    """Return a completion as a stream of an event for each token, and one that counts the tokens."""
    (choice,) = found["choices"]
    text, tokens = choice["message"]["content"], (choice["logprobs"] or {}).get("content") or []
    places = [len(text) * at // max(1, len(tokens)) for at in range(len(tokens) + 1)] if tokens else [0, len(text)]
    parts: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": None}, "finish_reason": None}]
    for at, (start, end) in enumerate(pairwise(places)):
        logprobs = {"content": [tokens[at]]} if tokens else None
        parts.append({"delta": {"content": text[start:end]}, "logprobs": logprobs, "finish_reason": None})
    parts.append({"delta": {}, "finish_reason": choice["finish_reason"]})
    common = {"object": "chat.completion.chunk", "model": found["model"]}
    events = [{**common, "choices": [{"index": 0, **part}]} for part in parts]
    if "usage" in found:
        events.append({**common, "choices": [], "usage": found["usage"]})
    return b"".join(f"data: {json.dumps(one)}\n\n".encode() for one in events) + b"data: [DONE]\n\n"


Respond: TypeAlias = Callable[[dict[str, Any]], "dict[str, Any] | Raw"]
"""From the decoded body of a request to a completion, which is streamed on request, or to any response."""


class FakeEndpoint:
    """A server that is running.

    Attributes:
        url: its address, up to `/v1`.
        requests: the decoded body of each request so far.
        headers: the headers of each request so far, by lower-case name.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    def asked(self) -> list[str]:
        """Return the last message of each request so far."""
        return [str(one["messages"][-1]["content"]) for one in self.requests]


@contextmanager
def fake_endpoint(reply: Respond) -> Iterator[FakeEndpoint]:
    """Serve what a function replies."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                server.requests.append(asked)
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
            found = reply(asked) if self.path.startswith("/v1/chat/completions") else refusal(404, "no such path")
            if isinstance(found, dict):
                body = streamed(found) if asked.get("stream") else json.dumps(found).encode()
                kind = "text/event-stream" if asked.get("stream") else "application/json"
                found = Raw(200, body, {"Content-Type": kind})
            self.send_response(found.status)
            for name, value in {"Content-Type": "application/json", **found.headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            with suppress(OSError):  # a client that was interrupted has gone
                self.wfile.write(found.body if found.whole else found.body[: len(found.body) // 2])
            self.close_connection = not found.whole

        def do_GET(self) -> None:
            body = json.dumps({"object": "list", "data": [{"id": "small-1"}, {"id": "large-1"}]}).encode()
            self.send_response(200 if self.path == "/v1/models" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        server = FakeEndpoint(f"http://127.0.0.1:{running.server_port}/v1")
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            running.shutdown()
            thread.join()


def prompts_about(n: int) -> list[ChatPrompt]:
    """Return prompts whose references are their own numbers."""
    messages = [({"role": "user", "content": f"Say {at}"},) for at in range(n)]
    return [
        ChatPrompt(one, str(at), (), {"half": "ab"[at % 2], "weight": 1 + at % 3}) for at, one in enumerate(messages)
    ]


def small(asked: dict[str, Any]) -> dict[str, Any]:
    """Reply as a small model does: right more often where its log-probabilities are high, by a draw for each prompt."""
    number = asked["messages"][-1]["content"].split()[-1]
    rng = np.random.default_rng(int(number))
    sure = rng.random()
    logprobs = np.log(np.clip(sure + rng.normal(0, 0.05, 3), 0.01, 1))
    right = rng.random() < sure
    return completion(f"It is {number if right else 'unknown'}.", logprobs.tolist(), model="small-1")


def large(asked: dict[str, Any]) -> dict[str, Any]:
    """Reply as a large model does: nearly always right."""
    number = asked["messages"][-1]["content"].split()[-1]
    right = np.random.default_rng(10**6 + int(number)).random() < 0.9
    return completion(f"{number if right else 'unknown'}", model="large-1", usage=(20, 10))
