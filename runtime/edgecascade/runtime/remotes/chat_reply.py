"""What came back from a chat server: its text, and how likely the tokens of it were."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from edgecascade.types.errors import RemoteError

__all__ = ["Position", "Reply", "Token", "read_reply"]

_ROUNDING = 1e-3  # of a log-probability in half precision
_MOST = 1.01  # that the probabilities of different tokens at one place may sum to, rounded


@dataclass(frozen=True)
class Token:
    """A token that was, or could have been, generated.

    Attributes:
        text: its bytes, which need not be whole characters; none where the text ends.
        logprob: natural logarithm of its probability, given the tokens before it.
    """

    text: bytes
    logprob: float


@dataclass(frozen=True)
class Position:
    """One place in the generated text.

    Attributes:
        sampled: the token that is there.
        others: the likeliest of those that are not there, if the server told.
        alternatives: whether it told.
    """

    sampled: Token
    others: tuple[Token, ...]
    alternatives: bool


@dataclass(frozen=True)
class Reply:
    """The generated text.

    Attributes:
        text: as a string; empty if the server refused to say anything.
        positions: its tokens, in order; at least one.
        cut_off: whether it ended only because `max_tokens` were generated.
    """

    text: str
    positions: tuple[Position, ...]
    cut_off: bool

    @property
    def mean_logprob(self) -> float:
        """Mean log-probability of the tokens that are there, the end of the text included if the server lists it."""
        return math.fsum(position.sampled.logprob for position in self.positions) / len(self.positions)


def read_reply(body: bytes) -> Reply:
    """The first choice of a chat completion, the JSON of OpenAI's `POST /v1/chat/completions`.

    Raises:
        RemoteError: it is not JSON, lacks a field, or has a log-probability that is none.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RemoteError("remote: the reply is not JSON") from error
    if isinstance(reply, dict) and reply.get("error") and "choices" not in reply:
        raise RemoteError(f"remote: the server says: {_said(reply['error'])}")
    content = _at(reply, "choices", 0, "message", "content")
    tokens = _at(reply, "choices", 0, "logprobs", "content")
    if not isinstance(tokens, list) or not tokens:
        raise RemoteError("remote: the reply has no tokens in choices[0].logprobs.content")
    return Reply(
        content if isinstance(content, str) else "",
        tuple(_position(token) for token in tokens),
        reply["choices"][0].get("finish_reason") == "length",
    )


def _position(entry: Any) -> Position:
    sampled = _token(entry)
    if not math.isfinite(sampled.logprob):
        raise RemoteError("remote: a generated token has probability 0")
    listed = _listed(entry.get("top_logprobs"))
    others = tuple(token for token in listed if token.text != sampled.text)
    total = math.fsum(math.exp(token.logprob) for token in (sampled, *others))
    if total > _MOST:
        raise RemoteError(f"remote: the probabilities in top_logprobs sum to {total:.3f}")
    return Position(sampled, others, bool(listed))


def _listed(entries: Any) -> list[Token]:
    if not isinstance(entries, list | None):
        raise RemoteError(f"remote: top_logprobs: expected a list, got {type(entries).__name__}")
    return [_token(entry) for entry in entries or ()]


def _token(entry: Any) -> Token:
    text, logprob, raw = _at(entry, "token"), _at(entry, "logprob"), entry.get("bytes") or []
    if not isinstance(text, str):
        raise RemoteError(f"remote: token: expected a string, got {_short(text)}")
    if not _number(logprob) <= _ROUNDING:
        raise RemoteError(f"remote: logprob: expected a number, at most 0, got {_short(logprob)}")
    try:
        exact = bytes(raw if isinstance(raw, list) else [raw]) or text.encode(errors="replace")
    except (TypeError, ValueError) as error:
        raise RemoteError("remote: a token's bytes are no bytes") from error
    return Token(exact, min(0.0, _number(logprob)))


def _number(value: Any) -> float:
    """As it is, or NaN if it is none."""
    try:
        return math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, OverflowError):
        return math.nan


def _at(reply: Any, *path: str | int) -> Any:
    """The field at a path, which is named if it is missing."""
    for depth, step in enumerate(path):
        try:
            reply = reply[step]
        except (TypeError, KeyError, IndexError) as error:
            named = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path[: depth + 1])
            raise RemoteError(f"remote: the reply lacks {named[1:]}") from error
    return reply


def _said(error: Any) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    return str(said)[:200].strip().partition("\n")[0] or "no explanation"


def _short(value: Any) -> str:
    return repr(value)[:40]
