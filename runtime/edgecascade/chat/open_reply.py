"""The reply of one side as a client gets it: a stream of events or a whole completion, with the verdict in it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from edgecascade.chat.answer import Verdict
from edgecascade.chat.counts import ChatTally
from edgecascade.chat.endpoint import Exchange
from edgecascade.chat.reply import LocalReply, Usage, usage_in
from edgecascade.types.answer import Source
from edgecascade.types.errors import RemoteError

__all__ = ["Asked", "OpenReply", "Pieces", "kept_stream", "kept_whole", "passed_stream", "passed_whole", "to_json"]

Pieces: TypeAlias = AsyncGenerator[bytes, None]
"""The bytes of a reply for the client, as they come."""

_TAIL = 8192  # bytes at the end of a stream in which its usage and its end are looked for
_ENDS = re.compile(rb'\[DONE\]|"finish_reason"\s*:\s*"')
_CHARACTERS_PER_TOKEN = 4
# `json.dumps` makes an encoder for each call.
_UTF8, _ASCII = (json.JSONEncoder(ensure_ascii=plain, separators=(",", ":")) for plain in (False, True))


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        fields: as the client sent them.
        annotate: whether the reply is to hold the verdict.
    """

    fields: Mapping[str, Any]
    annotate: bool

    @property
    def stream(self) -> bool:
        """Whether the reply is to be streamed."""
        return bool(self.fields.get("stream"))

    @property
    def logprobs(self) -> bool:
        """Whether the client wants to see log-probabilities."""
        return bool(self.fields.get("logprobs"))

    @property
    def usage(self) -> bool:
        """Whether the client wants the usage at the end of a stream."""
        options = self.fields.get("stream_options")
        return bool(options.get("include_usage")) if isinstance(options, dict) else False


class OpenReply:
    """The reply of one side, from its first byte on. It must be closed.

    Attributes:
        verdict: who answers, and why.
        content_type: of the bytes.
        usage: the tokens of each side; known once it is closed.
        cost: what they cost; likewise.
    """

    def __init__(
        self,
        verdict: Verdict,
        content_type: str,
        pieces: Pieces,
        tally: ChatTally,
        local: LocalReply | None,
        *,
        exchange: Exchange | None = None,
        passed: Callable[[], Usage] | None = None,
    ) -> None:
        self.verdict, self.content_type = verdict, content_type
        self.usage, self.cost = dict[Source, Usage](), 0.0
        self._pieces, self._tally, self._local = pieces, tally, local
        self._exchange, self._passed = exchange, passed  # of a reply that passes as it is
        self._closed = False

    def pieces(self) -> Pieces:
        """Return an iterator over the bytes for the client; a whole reply is one piece.

        A stream that breaks ends with an event that holds an error in OpenAI's form.
        """
        return self._pieces

    def close(self) -> None:
        """End what is under way at both sides, and count their tokens."""
        if self._closed:
            return
        self._closed = True
        if self._exchange is not None:
            self._exchange.close()
        if self._local is not None:
            self._local.close()
            self.usage[Source.LOCAL] = self._local.used
        if self._passed is not None:
            self.usage[self.verdict.source] = self._passed()
        self.cost = self._tally.used(self.usage)


def kept_stream(verdict: Verdict, reply: LocalReply, asked: Asked, tally: ChatTally) -> OpenReply:
    """Return the local stream as the client asked for it: first, at once, all that came before the decision."""

    async def pieces() -> Pieces:
        said: Verdict | None = verdict if asked.annotate else None
        shows_usage, shows_logprobs = asked.usage, asked.logprobs
        try:
            async for chunks in reply.chunks():
                data = []
                for chunk in chunks:
                    if not chunk["choices"] and not shows_usage:
                        continue
                    if not shows_logprobs:
                        for choice in chunk["choices"]:
                            choice.pop("logprobs", None)
                    if said is not None:
                        chunk["edgecascade"], said = said.to_dict(), None
                    data.append(b"data: %b\n\n" % to_json(chunk))
                if data:
                    yield b"".join(data)
            yield b"data: [DONE]\n\n"
        except RemoteError as error:
            tally.broke(Source.LOCAL)
            yield _error_event(error)

    return OpenReply(verdict, "text/event-stream", pieces(), tally, reply)


def kept_whole(
    verdict: Verdict, reply: LocalReply, whole: Mapping[str, Any], asked: Asked, tally: ChatTally
) -> OpenReply:
    """Return a whole local completion as the client asked for it."""
    found = dict(whole)
    if not asked.logprobs:
        found["choices"] = [
            {name: value for name, value in choice.items() if name != "logprobs"} for choice in whole["choices"]
        ]
    if asked.annotate:
        found["edgecascade"] = verdict.to_dict()
    return OpenReply(verdict, "application/json", _once(to_json(found)), tally, reply)


def passed_stream(
    verdict: Verdict, exchange: Exchange, local: LocalReply | None, asked: Asked, tally: ChatTally
) -> OpenReply:
    """Return a stream of either side that passes byte by byte. The local reply is not needed any more, and ends."""
    seen = _Seen()

    async def pieces() -> Pieces:
        try:
            while data := await exchange.piece():
                seen.add(data)
                yield data
            if not seen.ended:
                raise RemoteError(f"{verdict.source.value}: the stream ended before the reply")
        except RemoteError as error:
            tally.broke(verdict.source)
            yield (b"" if seen.tail.endswith(b"\n\n") else b"\n\n") + _error_event(error)

    def used() -> Usage:
        return seen.usage(_prompt_tokens(asked, local))

    if local is not None:
        local.close()
    return OpenReply(verdict, exchange.content_type, pieces(), tally, local, exchange=exchange, passed=used)


def passed_whole(
    verdict: Verdict,
    body: bytes,
    completion: Mapping[str, Any],
    local: LocalReply | None,
    asked: Asked,
    tally: ChatTally,
) -> OpenReply:
    """Return a whole completion of either side, whose bytes stay; the verdict becomes its last field."""
    if asked.annotate:
        end = body.rindex(b"}")
        body = b'%b,"edgecascade":%b%b' % (body[:end], to_json(verdict.to_dict()), body[end:])
    usage = usage_in(completion) or Usage(_prompt_tokens(asked, local), 0, estimated=True)
    return OpenReply(verdict, "application/json", _once(body), tally, local, passed=lambda: usage)


def to_json(found: Any) -> bytes:
    """Return JSON without spaces, in UTF-8; halves of characters, which UTF-8 does not have, stay escapes."""
    try:
        return _UTF8.encode(found).encode()
    except UnicodeEncodeError:
        return _ASCII.encode(found).encode()


async def _once(body: bytes) -> Pieces:
    yield body


def _error_event(error: RemoteError) -> bytes:
    said = {"message": str(error), "type": "server_error", "param": None, "code": "stream_broken"}
    return b"data: %b\n\n" % to_json({"error": said})


def _prompt_tokens(asked: Asked, local: LocalReply | None) -> int:
    """Return about how many tokens the prompt has, by the local side's count or by its length."""
    if local is not None and local.used.prompt:
        return local.used.prompt
    return len(to_json(asked.fields.get("messages"))) // _CHARACTERS_PER_TOKEN


class _Seen:
    """What can be told of a stream whose bytes pass.

    Attributes:
        tail: its last bytes.
    """

    def __init__(self) -> None:
        self.tail = b""
        self._events = 0

    def add(self, data: bytes) -> None:
        """Note the next bytes."""
        self._events += data.count(b"data:")
        self.tail = (self.tail + data)[-_TAIL:]

    @property
    def ended(self) -> bool:
        """Whether the reply has come to its end."""
        return _ENDS.search(self.tail) is not None

    def usage(self, prompt: int) -> Usage:
        """Return the usage that its last events tell, or else that of so many prompt tokens, and a token an event."""
        for event in reversed(self.tail.replace(b"\r\n", b"\n").split(b"\n\n")):
            if b'"usage"' in event and b"data:" in event:
                with suppress(ValueError, RecursionError):
                    found = json.loads(event[event.index(b"data:") + 5 :])
                    said = usage_in(found) if isinstance(found, dict) else None
                    if said is not None:
                        return said
        return Usage(prompt, max(0, self._events - 2), estimated=True)
