"""Read the reply of the local endpoint as far as it is needed: for the decision, or to its end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from edgecascade.chat.events import END, EventReader, assembled, chunk_in
from edgecascade.runtime.remotes.chat_reply import token_logprobs
from edgecascade.types.errors import InvalidReply, RemoteError

if TYPE_CHECKING:
    from edgecascade.chat.endpoint import Exchange

__all__ = ["LocalReply", "Usage", "usage_in"]

_ALL = 1 << 62  # tokens
_MAY_END = re.compile(rb'\[DONE\]|"finish_reason"\s*:\s*"|"error"')


class Usage(NamedTuple):
    """The tokens of one reply.

    Attributes:
        prompt: number of tokens of the prompt.
        completion: number of generated tokens.
        estimated: whether the server did not say, so that the numbers are counted from what came.
    """

    prompt: int = 0
    completion: int = 0
    estimated: bool = False


def usage_in(completion: Mapping[str, Any]) -> Usage | None:
    """Return what a completion, or an event of its stream, says about its tokens; None if it says nothing."""
    said = completion.get("usage")
    if not isinstance(said, dict):
        return None
    counts = [said.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, generated = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return Usage(prompt, generated)


class LocalReply:
    """A reply of the local endpoint that is read as far as it is needed. Cancelling a call loses nothing.

    Attributes:
        logprobs: of the tokens that have been read.
        ended: whether the whole reply has been read.
        unscored: why it cannot be scored, in a sentence; empty if it can.
        usage: what the server says of its tokens, or None.
        model: its name as the server reports it, or empty.
    """

    def __init__(self, exchange: Exchange, *, stream: bool) -> None:
        self._exchange, self._stream = exchange, stream
        self._events = EventReader()
        self._chunks: list[dict[str, Any]] = []  # that have been read, and not yielded
        self._whole: dict[str, Any] = {}
        self._broken: RemoteError | None = None
        self._finished = self._says_something = False
        self._without = 0  # chunks of text without log-probabilities
        self._undecoded: list[bytes] = []
        self._may_have = 0  # the most tokens in them
        self._at_end = not stream  # of the bytes
        self._settling: asyncio.Future[None] | None = None
        self.logprobs: list[float] = []
        self.ended = False
        self.unscored = ""
        self.usage: Usage | None = None
        self.model = ""

    @property
    def used(self) -> Usage:
        """The tokens so far: by what the server says at the end, and counted before."""
        return self.usage or Usage(0, len(self.logprobs), estimated=True)

    async def until(self, tokens: int) -> None:
        """Read until more than so many tokens have come, or the reply ended, or it is clear that it cannot be scored.

        Raises:
            RemoteError: the reply broke.
        """
        while not self.ended and not self.unscored and len(self.logprobs) <= tokens:
            await self._read(least=tokens + 1 - len(self.logprobs))
            if not self.logprobs and (self._without > tokens or (self.ended and self._says_something)):
                self.unscored = self.unscored or "the server omits log-probabilities"

    async def finish(self) -> None:
        """Read to the end.

        Raises:
            RemoteError: the reply broke.
        """
        while not self.ended:
            await self._read(least=_ALL)

    async def completion(self) -> dict[str, Any]:
        """Return the whole chat completion.

        Raises:
            RemoteError: the reply broke.
        """
        await self.finish()
        if self._stream and not self._whole:
            self._whole = assembled(self._chunks)
        return self._whole

    async def chunks(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield the chunks of a stream: first all that have been read, then those that come together.

        Raises:
            RemoteError: the reply broke.
        """
        while True:
            taken, self._chunks = self._chunks, []
            if taken:
                yield taken
            if self.ended:
                return
            await self._read()

    def close(self) -> None:
        """End the exchange; a server that still generates sees its client go."""
        if self._settling is not None:
            return
        if self.ended and not self._at_end:
            self._settling = asyncio.ensure_future(self._exchange.settle())
        else:
            self._exchange.close()

    async def _read(self, least: int = 1) -> None:
        """Read what comes next: of a stream, until so many tokens may have come, which are then decoded together."""
        if self._broken is not None:
            raise self._broken
        try:
            if self._stream:
                await self._read_pieces(least)
            else:
                await self._read_whole()
        except RemoteError as error:
            self._broken = self._exchange.named(error)
            raise

    async def _read_whole(self) -> None:
        _, self._whole = await self._exchange.whole()
        choice = self._whole["choices"][0]
        self._look(choice, choice.get("message"))
        self.ended, self.usage, self.model = True, usage_in(self._whole), str(self._whole.get("model") or "")

    async def _read_pieces(self, least: int) -> None:
        data = b"more"
        while self._may_have < least and data and not _MAY_END.search(data):
            data = await self._exchange.piece()
            self._undecoded.append(data)
            # each token has at least one, and there may be as many again among the likeliest tokens
            self._may_have += max(data.count(b'"logprob"'), data.count(b"data:"))
        taken, self._undecoded, self._may_have = b"".join(self._undecoded), [], 0
        for event in self._events.feed(taken):
            self._take(event)
        if not data:
            if not self._finished:
                raise RemoteError("local: the stream ended before the reply", retry=True)
            self.ended = self._at_end = True

    def _take(self, event: bytes) -> None:
        if event == END:
            self._finished = self.ended = True
            return
        chunk = chunk_in(event)
        self._chunks.append(chunk)
        for choice in chunk["choices"]:
            if choice.get("finish_reason") is not None:
                self._finished = True
            self._look(choice, choice.get("delta"))
        if "usage" in chunk:
            self.usage = usage_in(chunk) or self.usage
        if not self.model:
            self.model = str(chunk.get("model") or "")

    def _look(self, choice: Mapping[str, Any], said: Any) -> None:
        """Note the tokens of a choice, and whether it says something."""
        listed = choice.get("logprobs")
        if isinstance(said, dict) and (said.get("content") or said.get("tool_calls")):
            self._says_something = True
            self._without += not listed
        tokens = listed.get("content") if isinstance(listed, dict) else None
        if tokens and not self.unscored:
            try:
                self.logprobs += token_logprobs(tokens)
            except InvalidReply as error:
                self.unscored = str(error).removeprefix("remote: ")
