"""One request through both endpoints: ask the local one, decide, and give the client one voice.

Nothing of a reply is given away before the decision. From then on the reply is the chosen side's alone: the tokens that
the local endpoint has already generated and those that follow, or the bytes of the remote as they come.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from edgecascade.chat.answer import ChatReason, Verdict
from edgecascade.chat.counts import ChatTally
from edgecascade.chat.decision import UNDECIDED, ChatDecision, ChatRule, same_model, unlike_calibration
from edgecascade.chat.endpoint import Endpoint
from edgecascade.chat.open_reply import (
    Asked,
    OpenReply,
    kept_stream,
    kept_whole,
    passed_stream,
    passed_whole,
    to_json,
)
from edgecascade.chat.reply import LocalReply
from edgecascade.runtime.budget import Budget
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.request import allows
from edgecascade.runtime.watch.alarms import Alarm
from edgecascade.types.answer import Source
from edgecascade.types.document import ChatDocument
from edgecascade.types.errors import CircuitOpen, NoReply, RemoteError, RemoteRefusal, RemoteUnreachable

__all__ = ["Router"]

_LOG = logging.getLogger("edgecascade")
_CONTEXT = re.compile(r"(?i)context.{0,20}(size|length|window)|(maximum|available) context|too many tokens")
_Make: TypeAlias = Callable[[Verdict], OpenReply]


@dataclass
class _Judged:
    """What is known of the local side of a request.

    Attributes:
        reply: the local reply as far as it has been read; None if it failed, or was not asked.
        error: why the local side failed; None if it did not.
        unscored: what keeps the reply from being scored, in a word; empty if it was scored.
        detail: the same in a sentence.
        decision: about the reply.
        remote_model: its name, once the remote has reported it.
    """

    reply: LocalReply | None = None
    error: Exception | None = None
    unscored: str = ""
    detail: str = ""
    decision: ChatDecision = UNDECIDED
    remote_model: str = ""

    @property
    def reason(self) -> tuple[ChatReason, str]:
        """Why one of the sides is asked for the answer, and a sentence where something is amiss."""
        if self.unscored:
            return ChatReason.UNSCORED, self.detail
        if self.error is not None:
            return ChatReason.LOCAL_ERROR, _sentence(self.error)
        return (ChatReason.OFFLOADED if self.decision.forward else ChatReason.CONFIDENT), ""


class _FailedError(Exception):
    """A side does not answer: why, in a reason and a sentence, and the error behind it."""

    def __init__(self, reason: ChatReason, detail: str, error: Exception | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.error = reason, detail, error


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
        on_alarm: called with each alarm about drift.

    Attributes:
        tally: the counts.
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
        on_alarm: Callable[[Alarm], None] | None,
    ) -> None:
        self._document, self._local, self._remote = document, local, remote
        self._rule = ChatRule(document, threshold)
        self._unscored, self._budget, self._egress = unscored, budget, egress
        self._deadline, self._fill = deadline, fill
        self.tally = ChatTally(document, threshold, on_alarm)

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
        asked = Asked({**self._document.fields, **request} if self._fill else request, annotate)
        judged = await self._judged(asked)
        try:
            verdict, make = await self._chosen(asked, judged)
        except BaseException as error:
            if judged.reply is not None:
                judged.reply.close()
                self.tally.used({Source.LOCAL: judged.reply.used})
            if isinstance(error, NoReply):
                self.tally.ended("unanswered")
            raise
        self.tally.begun(verdict, judged.unscored, time.monotonic() - started)
        return make(verdict)

    async def _judged(self, asked: Asked) -> _Judged:
        """Ask the local side, and decide."""
        if asked.fields.get("n") not in (None, 1):
            return _Judged(unscored="n", detail="several replies to one request (n) are not scored")
        deadline = Deadline.after(self._deadline)
        stream = asked.stream or self._may_decide_early(asked)
        try:
            exchange = await self._local.ask(self._scored_request(asked, stream), deadline, stream=stream)
        except RemoteRefusal as error:
            if "logprob" in str(error):
                return _Judged(unscored="refused", detail=str(error))
            if _CONTEXT.search(str(error)):
                return _Judged(error=error, unscored="context", detail=str(error))
            return _Judged(error=error)
        except (RemoteError, TimeoutError) as error:
            return _Judged(error=error)
        return await self._scored(LocalReply(exchange, stream=stream), deadline)

    def _may_decide_early(self, asked: Asked) -> bool:
        """Return whether a whole reply may be decided about before its end, if the local side streams it."""
        if asked.fields.get("tools") or asked.fields.get("functions"):  # llama.cpp streams these without probabilities
            return False
        limits = [asked.fields.get(name) for name in ("max_tokens", "max_completion_tokens")]
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
        decision = self._rule(reply.logprobs)
        self.tally.decided(decision)
        return _Judged(reply, decision=decision)

    async def _chosen(self, asked: Asked, judged: _Judged) -> tuple[Verdict, _Make]:
        """Return who answers, and a function that makes the reply.

        Raises:
            NoReply: neither side answers.
        """
        reason, detail = judged.reason
        remote_first = reason in (ChatReason.OFFLOADED, ChatReason.LOCAL_ERROR) or (
            reason is ChatReason.UNSCORED and self._unscored is Source.REMOTE
        )
        failures: dict[Source, _FailedError] = {}
        for side in (Source.REMOTE, Source.LOCAL) if remote_first else (Source.LOCAL, Source.REMOTE):
            try:
                make = await (self._from_remote if side is Source.REMOTE else self._from_local)(asked, judged)
            except _FailedError as failed:
                failures[side] = failed
                reason, detail = failed.reason, failed.detail
            else:
                unlike = (*unlike_calibration(self._document, asked.fields), *self._other_models(judged))
                return Verdict(side, reason, judged.decision, unlike, detail), make
        raise _no_reply(failures)

    def _other_models(self, judged: _Judged) -> Iterator[str]:
        """Yield `local model` and `remote model` where a server reports another than in the calibration."""
        near, far = self._document.local.reported, self._document.remote.reported
        if judged.reply is not None and not same_model(judged.reply.model, near):
            yield "local model"
        if not same_model(judged.remote_model, far):
            yield "remote model"

    async def _from_local(self, asked: Asked, judged: _Judged) -> _Make:
        """Return what makes the local reply.

        Raises:
            _FailedError: the local side failed.
        """
        reply = judged.reply
        if reply is None:
            if judged.error is not None:
                raise _FailedError(ChatReason.LOCAL_ERROR, _sentence(judged.error), judged.error)
            return await self._passed(Source.LOCAL, asked, judged)  # without log-probabilities
        if asked.stream:
            return lambda verdict: kept_stream(verdict, reply, asked, self.tally)
        try:
            whole = await reply.completion()
        except RemoteError as error:
            raise _FailedError(ChatReason.LOCAL_ERROR, _sentence(error), error) from error
        return lambda verdict: kept_whole(verdict, reply, whole, asked, self.tally)

    async def _from_remote(self, asked: Asked, judged: _Judged) -> _Make:
        """Return what makes the remote's reply; meanwhile the local one is read on, in case the remote fails.

        Raises:
            _FailedError: the request may not be sent, or the remote failed before its first byte.
        """
        if not self._may_leave(asked):
            raise _FailedError(ChatReason.EGRESS, "remote: the application does not let this request leave the device")
        size, decision = len(to_json(asked.fields)), judged.decision
        if self._budget is not None and not self._budget.admits(decision.advantage, decision.confidence, size):
            raise _FailedError(ChatReason.BUDGET, "remote: the budget for forwards is short")
        reading = None if judged.reply is None else asyncio.ensure_future(_read_on(judged.reply))
        try:
            return await self._passed(Source.REMOTE, asked, judged)
        except _FailedError as failed:
            if self._budget is not None and failed.reason in (ChatReason.CIRCUIT_OPEN, ChatReason.OFFLINE):
                self._budget.refund(size)  # nothing was sent
            raise
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait([reading])

    async def _passed(self, side: Source, asked: Asked, judged: _Judged) -> _Make:
        """Return what makes a reply whose bytes pass as they are.

        Raises:
            _FailedError: the endpoint failed before its first byte, or before the end of a whole reply.
        """
        remote = side is Source.REMOTE
        endpoint, described = (self._remote if remote else self._local), self._document
        body = to_json(_for_model(asked.fields, (described.remote if remote else described.local).model))
        exchange = None
        try:
            exchange = await endpoint.ask(body, Deadline.after(self._deadline), stream=asked.stream)
            whole = None if asked.stream else await exchange.whole()
        except (RemoteError, TimeoutError) as error:
            if exchange is not None:
                exchange.close()
            reason = _reason_of(error) if remote else ChatReason.LOCAL_ERROR
            raise _FailedError(reason, _sentence(error), error) from error
        except BaseException:
            if exchange is not None:
                exchange.close()
            raise
        judged.remote_model = exchange.model if remote else ""
        opened, local = exchange, judged.reply
        if whole is None:
            return lambda verdict: passed_stream(verdict, opened, local, asked, self.tally)
        exchange.close()
        return lambda verdict: passed_whole(verdict, *whole, local, asked, self.tally)

    def _scored_request(self, asked: Asked, stream: bool) -> bytes:
        """Return the request to the local side, with log-probabilities."""
        found = {**_for_model(asked.fields, self._document.local.model), "stream": stream, "logprobs": True}
        if not asked.logprobs:
            found["top_logprobs"] = 1  # llama.cpp lists 20 by default, and none at all for 0
        if stream:
            options = found.get("stream_options")
            found["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        else:
            found.pop("stream_options", None)
        return to_json(found)

    def _may_leave(self, asked: Asked) -> bool:
        if self._egress is None:
            return True
        try:
            return allows(self._egress, asked.fields)
        except Exception as error:  # what the application's own function raises must not let the request leave
            _LOG.warning("egress raised %s: the request stays on the device", type(error).__name__)
            return False


async def _read_on(reply: LocalReply) -> None:
    with suppress(RemoteError):  # who needs the reply sees the error again
        await reply.finish()


def _reason_of(error: Exception) -> ChatReason:
    if isinstance(error, TimeoutError):
        return ChatReason.DEADLINE
    if isinstance(error, CircuitOpen):
        return ChatReason.CIRCUIT_OPEN
    return ChatReason.OFFLINE if isinstance(error, RemoteUnreachable) else ChatReason.REMOTE_ERROR


def _no_reply(failures: Mapping[Source, _FailedError]) -> NoReply:
    errors = [failures[side].error for side in (Source.REMOTE, Source.LOCAL)]
    statuses = [error.status for error in errors if isinstance(error, RemoteRefusal) and error.about_input]
    blamed = len(statuses) == len(errors) and statuses[0].startswith("4")  # both say that it is the request
    waits = [error.retry_after for error in errors if isinstance(error, RemoteError) and error.retry_after]
    return NoReply(
        local=failures[Source.LOCAL].detail,
        remote=failures[Source.REMOTE].detail,
        status=int(statuses[0]) if blamed else 503,
        retry_after=max(waits, default=None),
    )


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__


def _for_model(fields: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Return a request for one of a server's models; None leaves the choice to the server."""
    found = {name: value for name, value in fields.items() if name != "model"}
    return found if model is None else {"model": model, **found}
