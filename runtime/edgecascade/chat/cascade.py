"""Two chat endpoints as one, in Python: `ChatCascade`."""

from __future__ import annotations

import asyncio
import json
import os
import reprlib
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, TypeVar

from edgecascade.chat.answer import ChatAnswer
from edgecascade.chat.endpoint import Endpoint
from edgecascade.chat.events import END, EventReader
from edgecascade.chat.llama import LlamaServer
from edgecascade.chat.open_reply import OpenReply
from edgecascade.chat.routing import Router
from edgecascade.runtime.budget import Budget
from edgecascade.runtime.watch.alarms import Alarm
from edgecascade.types.answer import Source
from edgecascade.types.document import ChatDocument
from edgecascade.types.errors import ArgumentError, InvalidReply, ModelFileError, no_file

__all__ = ["ChatCascade"]

_T = TypeVar("_T")
_LONGEST = 86_400.0  # seconds
_SPEAK = ("system", "developer", "user")  # those of other roles may call tools instead


class ChatCascade:
    """A calibrated pair of chat endpoints. Make it with `load`; use it as a context manager.

    Threads and event loops may share it. The methods without `async` run in an event loop of their own, in a thread.

    Args:
        document: the calibrated pair.
        router: sends the requests.
        endpoints: both, to be closed.
        llama: a model in this process, which lives as long as the cascade.
    """

    def __init__(
        self,
        document: ChatDocument,
        router: Router,
        endpoints: tuple[Endpoint, Endpoint],
        budget: Budget | None = None,
        llama: LlamaServer | None = None,
    ) -> None:
        self._document, self._router, self._endpoints = document, router, endpoints
        self._budget, self._llama = budget, llama
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        local: str | os.PathLike[str] | None = None,
        remote: str | None = None,
        unscored: str = "remote",
        local_headers: Mapping[str, str] | None = None,
        remote_headers: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        budget: Budget | None = None,
        egress: Callable[[Mapping[str, Any]], bool] | None = None,
        threshold: float | None = None,
        deadline: float = 60.0,
        patience: float = 60.0,
        fill: bool = False,
        on_alarm: Callable[[Alarm], None] | None = None,
    ) -> ChatCascade:
        """Return the cascade that a file describes. Nothing is connected yet.

        Args:
            path: the JSON file that `calibrate-chat` writes.
            local: address of the local endpoint, up to `/v1`, in place of the one in the file; or a GGUF file, which
                llama.cpp then serves in this process (package xllamacpp).
            remote: address of the remote endpoint, likewise.
            unscored: `local` or `remote`, which answers where the local reply cannot be scored: with several replies to
                one request, without log-probabilities, or with a prompt beyond the local context.
            local_headers: sent to the local endpoint only, and not to llama.cpp in this process.
            remote_headers: sent to the remote endpoint only, such as `Authorization`.
            context: TLS settings for https; by default the system's certificates.
            proxy: `http://[user:password@]host[:port]`, an HTTP proxy to the remote.
            budget: limits forwards; the cascade closes it.
            egress: returns whether a request, a mapping of its fields, may leave the device.
            threshold: forward below this advantage, instead of the file's threshold.
            deadline: seconds until the local reply must be decided about, and as many again until the remote must have
                begun to reply; otherwise the other side answers.
            patience: seconds without a byte after which a reply counts as broken.
            fill: whether requests get the fields of the calibration that they leave out, such as `temperature`.
            on_alarm: called from a background thread with each alarm: `drift` if the scores of 1,000 replies, or of a
                tenth of them, are not distributed as in the calibration; `offload rate` if others are forwarded.

        Raises:
            ModelFileError: a file is missing or damaged.
            ArgumentError: another argument is invalid, or xllamacpp is not installed.
        """
        if unscored not in ("local", "remote"):
            raise ArgumentError(f"unscored: expected local or remote, got {unscored!r}")
        for name, seconds in (("deadline", deadline), ("patience", patience)):
            if not 0 < seconds <= _LONGEST:
                raise ArgumentError(f"{name}: expected seconds above 0, a day at most, got {seconds:g}")
        document = _read(path)
        address = document.local.url if local is None else os.fspath(local)
        llama = None if "://" in address else LlamaServer(address)
        if llama is not None:
            address, local_headers = llama.url, llama.headers
        options: dict[str, Any] = {"context": context, "patience": patience}
        endpoints = (
            Endpoint("local", address, headers=local_headers, attempts=2, **options),
            Endpoint("remote", remote or document.remote.url, headers=remote_headers, proxy=proxy, **options),
        )
        router = Router(
            document,
            *endpoints,
            unscored=Source(unscored),
            budget=budget,
            egress=egress,
            threshold=threshold,
            deadline=deadline,
            fill=fill,
            on_alarm=on_alarm,
        )
        return cls(document, router, endpoints, budget, llama)

    @property
    def document(self) -> ChatDocument:
        """The document in the file."""
        return self._document

    def complete(self, messages: Sequence[Mapping[str, Any]], **fields: Any) -> ChatAnswer:
        """Return the reply to messages.

        Args:
            messages: of the conversation, as OpenAI's API has them.
            fields: further fields of the request, such as `temperature` and `max_tokens`.

        Raises:
            ArgumentError: the messages are no messages; nothing was sent.
            NoReply: neither endpoint replied.
        """
        return self._run(self.complete_async(messages, **fields))

    async def complete_async(self, messages: Sequence[Mapping[str, Any]], **fields: Any) -> ChatAnswer:
        """Return the reply to messages, in the running event loop; as `complete`."""
        started = time.monotonic()
        reply = await self.open({"messages": messages, **fields, "stream": False}, annotate=False)
        try:
            body = b"".join([piece async for piece in reply.pieces()])
        finally:
            reply.close()
        completion = json.loads(body)
        message = completion["choices"][0].get("message") or {}
        text = message.get("content")
        return ChatAnswer(
            text=text if isinstance(text, str) else "",
            completion=completion,
            verdict=reply.verdict,
            usage=reply.usage,
            cost=reply.cost,
            elapsed=time.monotonic() - started,
        )

    def stream(self, messages: Sequence[Mapping[str, Any]], **fields: Any) -> Iterator[dict[str, Any]]:
        """Yield the chunks of the reply to messages, once it is clear who gives it.

        The first chunk of a local reply holds the verdict as the object `edgecascade`; `stream_async` tells it of every
        reply.

        Args:
            messages: of the conversation.
            fields: further fields of the request.

        Raises:
            ArgumentError: the messages are no messages; nothing was sent.
            NoReply: neither endpoint replied.
            InvalidReply: the stream broke.
        """
        chunks = self._chunks(messages, fields)
        try:
            while (chunk := self._run(_next(chunks))) is not None:
                yield chunk
        finally:
            self._run(chunks.aclose())

    @asynccontextmanager
    async def stream_async(self, messages: Sequence[Mapping[str, Any]], **fields: Any) -> AsyncIterator[OpenReply]:
        """Give the open reply to messages: its `verdict` and, from `pieces()`, the bytes of its events.

        Raises:
            ArgumentError: the messages are no messages; nothing was sent.
            NoReply: neither endpoint replied.
        """
        reply = await self.open({"messages": messages, **fields, "stream": True})
        try:
            yield reply
        finally:
            reply.close()

    async def open(self, request: Mapping[str, Any], *, annotate: bool = True) -> OpenReply:
        """Return the reply to a request once it is clear who gives it; the caller closes it.

        Args:
            request: the fields of a chat completion request.
            annotate: whether replies hold the verdict as the object `edgecascade`. Streams that pass byte by byte do
                not.

        Raises:
            ArgumentError: its messages are no messages; nothing was sent.
            NoReply: neither endpoint replied.
        """
        return await self._router.open({**request, "messages": _checked(request.get("messages"))}, annotate=annotate)

    def cancelled(self) -> None:
        """Count a request that its client gave up."""
        self._router.tally.ended("cancelled")

    def metrics(self) -> dict[str, Any]:
        """Return all counts so far as one dict of plain JSON types."""
        return self._router.tally.snapshot()

    def metrics_text(self) -> str:
        """Return all counts so far in Prometheus's text format."""
        levels = {} if self._budget is None else self._budget.levels
        return self._router.tally.text(self.circuits, levels)

    @property
    def circuits(self) -> dict[Source, str]:
        """The state of each side's circuit breaker: `closed`, `open` or `half-open`."""
        return {Source(one.side): one.state for one in self._endpoints}

    @property
    def shut_out(self) -> dict[Source, str]:
        """The sides whose last reply was 401, 403 or 404, and that status."""
        return {Source(one.side): one.shut_out for one in self._endpoints if one.shut_out}

    async def close_async(self) -> None:
        """Close the connections of the running event loop."""
        for endpoint in self._endpoints:
            await endpoint.close()

    def close(self) -> None:
        """Close the connections of the methods without `async`, and the budget."""
        with self._lock:
            loop, self._loop, self._closed = self._loop, None, True
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self.close_async(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
        if self._budget is not None:
            self._budget.close()

    def __enter__(self) -> ChatCascade:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> ChatCascade:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_async()
        self.close()

    async def _chunks(
        self, messages: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        async with self.stream_async(messages, **fields) as reply, aclosing(reply.pieces()) as pieces:
            events = EventReader()
            async for piece in pieces:
                for event in events.feed(piece):
                    if event == END:
                        return
                    chunk = json.loads(event)
                    if "error" in chunk and "choices" not in chunk:
                        raise InvalidReply(chunk["error"]["message"])
                    yield chunk

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        with self._lock:
            if self._closed:
                work.close()
                raise ArgumentError("cascade: expected an open cascade, got a closed one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                Thread(target=_run_forever, args=(self._loop,), name="edgecascade-chat", daemon=True).start()
            loop = self._loop
        waiting = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return waiting.result()
        except BaseException:
            waiting.cancel()
            raise


async def _next(chunks: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any] | None:
    return await anext(chunks, None)


def _run_forever(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _checked(messages: Any) -> list[Mapping[str, Any]]:
    """Return messages as a list.

    Raises:
        ArgumentError: they are something else.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise ArgumentError(f"messages: expected a list of one or more messages, got {reprlib.repr(messages)}")
    for one in messages:
        role = one.get("role") if isinstance(one, Mapping) else None
        if not isinstance(role, str) or (role in _SPEAK and one.get("content") is None):
            raise ArgumentError(f"messages: expected each with a `role` and a `content`, got {reprlib.repr(one)}")
    return list(messages)


def _read(path: str | os.PathLike[str]) -> ChatDocument:
    if not Path(path).is_file():
        raise ModelFileError(no_file(path))
    try:
        text = Path(path).read_text(encoding="utf-8")
    except ValueError as error:
        raise ModelFileError(f"{os.fspath(path)}: expected JSON, got something else") from error
    return ChatDocument.from_json(text, os.fspath(path))
