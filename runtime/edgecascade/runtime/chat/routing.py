"""One request through both endpoints: ask the local one, decide, and give the client one voice.

Nothing of a reply is given away before the decision. From then on the reply is the chosen side's alone: the tokens that
the local endpoint has already generated and those that follow, or the bytes of the remote as they come.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from edgecascade.runtime.budget import Budget
from edgecascade.runtime.chat.answer import ChatReason, Verdict
from edgecascade.runtime.chat.counts import ChatTally
from edgecascade.runtime.chat.decision import UNDECIDED, ChatDecision, ChatRule, unlike_calibration
from edgecascade.runtime.chat.endpoint import Endpoint, Exchange
from edgecascade.runtime.chat.reply import LocalReply, Usage, usage_in
from edgecascade.runtime.deadline import Deadline
from edgecascade.types.answer import Source
from edgecascade.types.document import ChatDocument
from edgecascade.types.errors import CircuitOpen, NoReply, RemoteError, RemoteRefusal, RemoteUnreachable

__all__ = ["OpenReply", "Pieces", "Router"]

Pieces: TypeAlias = AsyncGenerator[bytes, None]
"""The bytes of a reply for the client, as they come."""

_LOG = logging.getLogger("edgecascade")
_CONTEXT = re.compile(r"(?i)context.{0,20}(size|length|window)|(maximum|available) context|too many tokens")
_TAIL = 8192  # bytes at the end of a stream in which its usage and its end are looked for
_ENDS = re.compile(rb'\[DONE\]|"finish_reason"\s*:\s*"')
_CHARACTERS_PER_TOKEN = 4


@dataclass
class _Judged:
    """What is known of the local side of a request.

    Attributes:
        reply: the local reply as far as it has been read; None if it failed, or was not asked.
        error: why the local side failed; None if it did not.
        unscored: what keeps the reply from being scored, in a word; empty if it was scored.
        detail: the same in a sentence.
        decision: about the reply.
    """

    reply: LocalReply | None = None
    error: Exception | None = None
    unscored: str = ""
    detail: str = ""
    decision: ChatDecision = UNDECIDED

    def usage(self) -> Usage | None:
        """Return the tokens that the local side has used; None if it was not asked, or failed."""
        if self.reply is None:
            return None
        return self.reply.usage or Usage(0, len(self.reply.logprobs), estimated=True)

    def close(self) -> None:
        """End the local reply."""
        if self.reply is not None:
            self.reply.close()


class _FailedError(Exception):
    """A side does not answer: why, in a reason and a sentence, and the error behind it."""

    def __init__(self, reason: ChatReason, detail: str, error: Exception | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.error = reason, detail, error


class OpenReply:
    """The reply of one side, from its first byte on. It must be closed.

    Attributes:
        verdict: who answers, and why.
        content_type: of the bytes.
        cost: what both sides' tokens cost; known once it is closed.
        usage: the tokens of each side; known once it is closed.
    """

    def __init__(
        self,
        verdict: Verdict,
        content_type: str,
        pieces: Pieces,
        judged: _Judged,
        tally: ChatTally,
    ) -> None:
        self.verdict, self.content_type = verdict, content_type
        self.cost, self.usage = 0.0, dict[Source, Usage]()
        self._pieces, self._judged, self._tally = pieces, judged, tally
        self._closed = False
        self.exchange: Exchange | None = None  # of bytes that pass as they are
        self.passed: Callable[[], Usage] | None = None  # returns the tokens of a reply that passes as it is

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
        self._judged.close()
        if self.exchange is not None:
            self.exchange.close()
        local = self._judged.usage()
        if local is not None:
            self.usage[Source.LOCAL] = local
        if self.passed is not None:
            self.usage[self.verdict.source] = self.passed()
        self.cost = self._tally.used(self.usage)


class Router:
    """Sends requests to the endpoints, as a calibrated document says.

    Args:
        document: the calibrated pair.
        local: asked first.
        remote: asked where the local reply is at a disadvantage.
        unscored: the side that answers where the local reply cannot be scored.
        budget: limits forwards.
        egress: returns whether a request may leave the device.
        threshold: replies whose advantage is below it are forwarded; None takes the document's.
        deadline: seconds for the local side to be decided about, and again for the remote to begin its reply.
        fill: whether requests get the fields of the calibration that they leave out.
    """

    def __init__(
        self,
        document: ChatDocument,
        local: Endpoint,
        remote: Endpoint,
        *,
        unscored: Source,
        budget: Budget | None,
        egress: Callable[[Mapping[str, Any]], bool] | None,
        threshold: float | None,
        deadline: float,
        fill: bool,
    ) -> None:
        self._document, self._local, self._remote = document, local, remote
        self._rule = ChatRule(document, threshold)
        self._unscored, self._budget, self._egress = unscored, budget, egress
        self._deadline, self._fill = deadline, fill
        self.tally = ChatTally(document)

    async def open(self, request: Mapping[str, Any], *, annotate: bool = True) -> OpenReply:
        """Return the reply to a request, once it is clear who gives it.

        Args:
            request: the fields of a chat completion request.
            annotate: whether replies hold the verdict as the object `edgecascade`. Streams that pass byte by byte do
                not.

        Raises:
            NoReply: neither side answered.
        """
        started = time.monotonic()
        if self._fill:
            request = {**self._document.fields, **request}
        uncalibrated = unlike_calibration(self._document, request)
        judged = await self._judged(request)
        try:
            verdict, make = await self._chosen(request, judged, uncalibrated)
        except BaseException as error:
            judged.close()
            used = judged.usage()
            self.tally.used({} if used is None else {Source.LOCAL: used})
            if isinstance(error, Exception):
                self.tally.ended("unanswered")
            raise
        self.tally.begun(verdict, judged.unscored, time.monotonic() - started)
        return make(verdict, annotate)

    async def _judged(self, request: Mapping[str, Any]) -> _Judged:
        """Ask the local side, and decide."""
        if request.get("n") not in (None, 1):
            return _Judged(unscored="n", detail="several replies to one request (n) are not scored")
        deadline = Deadline.after(self._deadline)
        stream = bool(request.get("stream")) or self._may_decide_early(request)
        try:
            exchange = await self._local.ask(self._scored_request(request, stream), deadline, stream=stream)
        except RemoteRefusal as error:
            if "logprob" in str(error):
                return _Judged(unscored="refused", detail=str(error))
            if _CONTEXT.search(str(error)):
                return _Judged(error=error, unscored="context", detail=str(error))
            return _Judged(error=error)
        except (RemoteError, TimeoutError) as error:
            return _Judged(error=error)
        return await self._scored(LocalReply(exchange, stream=stream), deadline)

    def _may_decide_early(self, request: Mapping[str, Any]) -> bool:
        """Return whether a whole reply may be decided about before its end, if the local side streams it."""
        if request.get("tools") or request.get("functions"):  # llama.cpp streams these without log-probabilities
            return False
        limits = [request.get(name) for name in ("max_tokens", "max_completion_tokens")]
        return not any(isinstance(limit, int) and limit <= self._document.score.whole for limit in limits)

    async def _scored(self, reply: LocalReply, deadline: Deadline) -> _Judged:
        try:
            await asyncio.wait_for(reply.until(self._document.score.whole), deadline.remaining())
        except (asyncio.TimeoutError, TimeoutError):
            return _Judged(reply, TimeoutError("local: too few tokens by the deadline for a decision"))
        except RemoteError as error:
            reply.close()
            return _Judged(error=error)
        except BaseException:
            reply.close()
            raise
        if reply.unscored:
            why = "omitted" if "omits" in reply.unscored else "unusable"
            return _Judged(reply, unscored=why, detail=f"local: {reply.unscored}")
        return _Judged(reply, decision=self._rule(reply.logprobs))

    async def _chosen(
        self, request: Mapping[str, Any], judged: _Judged, uncalibrated: tuple[str, ...]
    ) -> tuple[Verdict, Callable[[Verdict, bool], OpenReply]]:
        """Return who answers, and a function that makes the reply.

        Raises:
            NoReply: neither side answers.
        """
        reason, detail = self._reason(judged)
        remote_first = reason in (ChatReason.OFFLOADED, ChatReason.LOCAL_ERROR) or (
            reason is ChatReason.UNSCORED and self._unscored is Source.REMOTE
        )
        sides = (Source.REMOTE, Source.LOCAL) if remote_first else (Source.LOCAL, Source.REMOTE)
        failures: dict[Source, _FailedError] = {}
        for side in sides:
            ask = self._from_remote if side is Source.REMOTE else self._from_local
            try:
                make = await ask(request, judged)
                return Verdict(side, reason, judged.decision, uncalibrated, detail), make
            except _FailedError as failed:
                failures[side] = failed
                reason, detail = failed.reason, failed.detail
        raise _no_reply(failures)

    def _reason(self, judged: _Judged) -> tuple[ChatReason, str]:
        if judged.unscored:
            return ChatReason.UNSCORED, judged.detail
        if judged.error is not None:
            return ChatReason.LOCAL_ERROR, _sentence(judged.error)
        return (ChatReason.OFFLOADED if judged.decision.forward else ChatReason.CONFIDENT), ""

    async def _from_local(self, request: Mapping[str, Any], judged: _Judged) -> Callable[[Verdict, bool], OpenReply]:
        """Return what makes the local reply.

        Raises:
            _FailedError: the local side failed.
        """
        reply = judged.reply
        if reply is None:
            if judged.error is not None:
                raise _FailedError(ChatReason.LOCAL_ERROR, _sentence(judged.error), judged.error)
            return await self._passed(self._local, Source.LOCAL, request, judged)
        if request.get("stream"):
            asked = _Asked.of(request)
            return lambda verdict, annotate: OpenReply(
                verdict,
                "text/event-stream",
                self._local_stream(reply, asked, verdict if annotate else None),
                judged,
                self.tally,
            )
        try:
            whole = await reply.completion()
        except RemoteError as error:
            raise _FailedError(ChatReason.LOCAL_ERROR, _sentence(error), error) from error
        if not request.get("logprobs"):
            whole = {**whole, "choices": [_without_logprobs(choice) for choice in whole["choices"]]}
        return lambda verdict, annotate: OpenReply(
            verdict,
            "application/json",
            _once(_json({**whole, "edgecascade": verdict.to_dict()} if annotate else whole)),
            judged,
            self.tally,
        )

    async def _from_remote(self, request: Mapping[str, Any], judged: _Judged) -> Callable[[Verdict, bool], OpenReply]:
        """Return what makes the remote's reply; meanwhile the local one is read on, in case the remote fails.

        Raises:
            _FailedError: the request may not be sent, or the remote failed before its first byte.
        """
        if not self._may_leave(request):
            raise _FailedError(ChatReason.EGRESS, "the application does not let this request leave the device")
        size = len(_json(request))
        decision = judged.decision
        if self._budget is not None and not self._budget.admits(decision.advantage, decision.confidence, size):
            raise _FailedError(ChatReason.BUDGET, "the budget for forwards is short")
        reading = None
        if judged.reply is not None and not judged.reply.ended:
            reading = asyncio.create_task(_read_on(judged.reply))
        try:
            return await self._passed(self._remote, Source.REMOTE, request, judged)
        except _FailedError as failed:
            if self._budget is not None and failed.reason in (ChatReason.CIRCUIT_OPEN, ChatReason.OFFLINE):
                self._budget.refund(size)
            raise
        finally:
            if reading is not None:
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading

    async def _passed(
        self, endpoint: Endpoint, side: Source, request: Mapping[str, Any], judged: _Judged
    ) -> Callable[[Verdict, bool], OpenReply]:
        """Return what makes a reply whose bytes pass as they are.

        Raises:
            _FailedError: the endpoint failed before its first byte, or before the end of a whole reply.
        """
        stream = bool(request.get("stream"))
        name = (self._document.remote if side is Source.REMOTE else self._document.local).model
        body = _json(_for_model(request, name))
        exchange: Exchange | None = None
        try:
            exchange = await endpoint.ask(body, Deadline.after(self._deadline), stream=stream)
            if stream:
                opened = exchange
                return lambda verdict, _: self._passing(opened, verdict, request, judged)
            whole, completion = await exchange.whole()
        except (RemoteError, TimeoutError) as error:
            if exchange is not None:
                exchange.close()
            reason = _reason_of(error) if side is Source.REMOTE else ChatReason.LOCAL_ERROR
            raise _FailedError(reason, _sentence(error), error) from error
        except BaseException:
            if exchange is not None:
                exchange.close()
            raise

        def make(verdict: Verdict, annotate: bool) -> OpenReply:
            body = _spliced(whole, verdict) if annotate else whole
            reply = OpenReply(verdict, "application/json", _once(body), judged, self.tally)
            usage = usage_in(completion) or Usage(_prompt_tokens(request, judged), 0, estimated=True)
            reply.passed = lambda: usage
            return reply

        return make

    def _passing(self, exchange: Exchange, verdict: Verdict, request: Mapping[str, Any], judged: _Judged) -> OpenReply:
        """Return a stream that passes byte by byte."""
        seen = _Seen()

        async def pieces() -> Pieces:
            try:
                while data := await exchange.piece():
                    seen.add(data)
                    yield data
                if not seen.ended:
                    raise RemoteError(f"{verdict.source.value}: the stream ended before the reply")
            except RemoteError as error:
                self.tally.broke(verdict.source)
                yield (b"" if seen.tail.endswith(b"\n\n") else b"\n\n") + _error_event(error)

        reply = OpenReply(verdict, exchange.content_type, pieces(), judged, self.tally)
        reply.exchange, reply.passed = exchange, lambda: seen.usage(_prompt_tokens(request, judged))
        judged.close()
        return reply

    async def _local_stream(self, reply: LocalReply, asked: _Asked, verdict: Verdict | None) -> Pieces:
        """Yield the local stream as the client asked for it: first, at once, all that came before the decision."""
        try:
            async for chunks in reply.chunks():
                data = b""
                for chunk in chunks:
                    if not chunk["choices"] and not asked.usage:
                        continue
                    if not asked.logprobs:
                        for choice in chunk["choices"]:
                            choice.pop("logprobs", None)
                    if verdict is not None:
                        chunk["edgecascade"], verdict = verdict.to_dict(), None
                    data += b"data: " + _json(chunk) + b"\n\n"
                if data:
                    yield data
            yield b"data: [DONE]\n\n"
        except RemoteError as error:
            self.tally.broke(Source.LOCAL)
            yield _error_event(error)

    def _scored_request(self, request: Mapping[str, Any], stream: bool) -> bytes:
        """Return the request to the local side, with log-probabilities."""
        found = {**_for_model(request, self._document.local.model), "stream": stream, "logprobs": True}
        if not request.get("logprobs"):
            found["top_logprobs"] = 1  # llama.cpp lists 20 by default, and none at all for 0
        if stream:
            options = request.get("stream_options")
            found["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        else:
            found.pop("stream_options", None)
        return _json(found)

    def _may_leave(self, request: Mapping[str, Any]) -> bool:
        if self._egress is None:
            return True
        try:
            return bool(self._egress(request))
        except Exception as error:  # what the application's own function raises must not let the request leave
            _LOG.warning("egress raised %s: the request stays on the device", type(error).__name__)
            return False


@dataclass(frozen=True)
class _Asked:
    """What a client wants to see of a stream.

    Attributes:
        logprobs: whether log-probabilities.
        usage: whether the usage, at the end.
    """

    logprobs: bool
    usage: bool

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> _Asked:
        options = request.get("stream_options")
        usage = bool(options.get("include_usage")) if isinstance(options, dict) else False
        return cls(bool(request.get("logprobs")), usage)


async def _read_on(reply: LocalReply) -> None:
    with suppress(RemoteError):  # whoever needs the reply sees it again
        await reply.finish()


def _reason_of(error: Exception) -> ChatReason:
    if isinstance(error, TimeoutError):
        return ChatReason.DEADLINE
    if isinstance(error, CircuitOpen):
        return ChatReason.CIRCUIT_OPEN
    return ChatReason.OFFLINE if isinstance(error, RemoteUnreachable) else ChatReason.REMOTE_ERROR


def _no_reply(failures: Mapping[Source, _FailedError]) -> NoReply:
    errors = [failed.error for failed in failures.values()]
    blamed = all(isinstance(error, RemoteRefusal) and error.about_input for error in errors)
    last = errors[0] if blamed and isinstance(errors[0], RemoteRefusal) else None
    waits = [error.retry_after for error in errors if isinstance(error, RemoteError) and error.retry_after]
    return NoReply(
        local=failures[Source.LOCAL].detail,
        remote=failures[Source.REMOTE].detail,
        status=503 if last is None or not last.status.startswith("4") else int(last.status),
        retry_after=max(waits, default=None),
    )


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__


def _for_model(request: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Return a request for one of a server's models; None leaves the choice to the server."""
    found = {name: value for name, value in request.items() if name != "model"}
    return found if model is None else {"model": model, **found}


def _json(found: Any) -> bytes:
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _without_logprobs(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in choice.items() if name != "logprobs"}


def _spliced(body: bytes, verdict: Verdict) -> bytes:
    """Return the JSON object with the verdict as its last field, and otherwise byte for byte as it was."""
    end = body.rindex(b"}")
    return b'%b,"edgecascade":%b%b' % (body[:end], _json(verdict.to_dict()), body[end:])


async def _once(body: bytes) -> Pieces:
    yield body


def _error_event(error: Exception) -> bytes:
    said = {"message": _sentence(error), "type": "server_error", "param": None, "code": "stream_broken"}
    return b"data: " + _json({"error": said}) + b"\n\n"


def _prompt_tokens(request: Mapping[str, Any], judged: _Judged) -> int:
    """Return about how many tokens the prompt has, by the local side's count or by its length."""
    counted = judged.usage()
    if counted is not None and counted.prompt:
        return counted.prompt
    return len(_json(request.get("messages"))) // _CHARACTERS_PER_TOKEN


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
