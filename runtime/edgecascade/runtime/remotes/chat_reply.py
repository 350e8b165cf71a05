"""Read the reply of a chat server: its text, the log-probabilities of its tokens, and the labels that it names.

A generated answer is one path through a tree of tokens. The server lists the likeliest branches at every token of
the path, so the probability that the answer begins with a label is the sum, over the branches that do, of the
probability of the path to them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.remotes.http_response import message_in
from edgecascade.types.errors import ArgumentError, InvalidReply, RemoteRefusal

__all__ = [
    "LabelMatcher",
    "Position",
    "Reply",
    "Token",
    "UnreadReply",
    "UnscoredReply",
    "label_probabilities",
    "read_reply",
    "text_confidence",
    "token_logprobs",
]

_ROUNDING = 1e-3  # of a log-probability in half precision
_MOST = 1.01  # largest sum of rounded probabilities of different tokens at one place
# Characters that may stand before a label: spaces (including two tokenizers' own), emphasis, quotes, brackets.
_BEFORE = " \t\r\n▁Ġ*_`\"'“‘«([{"
_TELLING = 3  # bytes: a shorter beginning of a label, such as I of Insect, may begin another word
_LEAST = 1e-9  # the least probability of a label
_UNLIKELY = -9999.0  # what servers write where a probability is 0 or not known
_LONGEST = 200  # characters of a model's name
_FOLDERS = re.compile(r"^(/|[A-Za-z]:\\).*[/\\]")  # of a model file: some servers call a model by its path


class UnreadReply(InvalidReply):
    """A model replied, and its reply names no label, or several."""

    @property
    def about_input(self) -> bool:
        """True: it may name a label for another input."""
        return True


class UnscoredReply(InvalidReply):
    """The reply lacks the log-probabilities that were asked for."""


@dataclass(frozen=True)
class Token:
    """A token that was, or could have been, generated.

    Attributes:
        text: its bytes, which need not be whole characters; empty at the end of the text.
        logprob: natural logarithm of its probability, given the tokens before it.
    """

    text: bytes
    logprob: float


@dataclass(frozen=True)
class Position:
    """One place in the generated text.

    Attributes:
        sampled: the token at this place.
        others: the likeliest other tokens, if the server lists them.
        alternatives: whether the server lists them.
    """

    sampled: Token
    others: tuple[Token, ...]
    alternatives: bool


@dataclass(frozen=True)
class Reply:
    """The generated text.

    Attributes:
        text: the text; empty if the server declined to answer.
        positions: its tokens in order; none if no log-probabilities were asked for.
        cut_off: whether it ended because `max_tokens` were generated.
        model: the name of the model in the reply, of a path the file alone; empty if there is none.
    """

    text: str
    positions: tuple[Position, ...]
    cut_off: bool
    model: str = ""

    @property
    def mean_logprob(self) -> float:
        """Mean log-probability of the tokens, including the end of the text if the server lists it; NaN of none."""
        if not self.positions:
            return math.nan
        return math.fsum(position.sampled.logprob for position in self.positions) / len(self.positions)


def read_reply(reply: Any, *, scored: bool = True) -> Reply:
    """Return the first choice of a chat completion, the decoded JSON of OpenAI's `POST /v1/chat/completions`.

    Args:
        reply: the JSON.
        scored: whether to read log-probabilities.

    Raises:
        RemoteRefusal: it is an error.
        UnscoredReply: it has no log-probabilities.
        InvalidReply: it lacks another field, or has an invalid log-probability.
    """
    if isinstance(reply, dict) and reply.get("error") and "choices" not in reply:
        raise RemoteRefusal(f"remote: the server says: {message_in(reply) or 'no explanation'}", status="200")
    content = _at(reply, "choices", 0, "message", "content")
    model = reply.get("model")
    return Reply(
        content if isinstance(content, str) else "",
        tuple(_position(token) for token in _tokens(reply)) if scored else (),
        reply["choices"][0].get("finish_reason") == "length",
        _FOLDERS.sub("", model)[:_LONGEST] if isinstance(model, str) else "",
    )


def _tokens(reply: Any) -> list[Any]:
    try:
        tokens = _at(reply, "choices", 0, "logprobs", "content")
    except InvalidReply as error:
        raise UnscoredReply(str(error)) from error
    if not isinstance(tokens, list) or not tokens:
        raise UnscoredReply("remote: the reply has no tokens in choices[0].logprobs.content")
    for token in tokens:
        logprob = token.get("logprob", 0) if isinstance(token, dict) else 0
        if logprob is None or logprob == _UNLIKELY:
            raise UnscoredReply(f"remote: logprob: expected a number, at most 0, got {logprob} for a generated token")
    return tokens


def token_logprobs(listed: Any) -> tuple[float, ...]:
    """Return the log-probabilities of generated tokens, by which a reply is scored.

    The end of the text, an entry without text and bytes, does not count: llama.cpp lists it in whole replies, but not
    in streams, and both must get the same score.

    Args:
        listed: the decoded `choices[0].logprobs.content` of a reply, or of a part of a stream.

    Raises:
        InvalidReply: it is no list of tokens, or a token has no log-probability, or -9999 or less, which servers write
            in place of an unknown one. The message says which.

    >>> token_logprobs([{"token": "Par", "logprob": -0.1}, {"token": "is", "logprob": 0}, {"token": "", "logprob": -2}])
    (-0.1, 0.0)
    """
    if not isinstance(listed, list) or not listed:
        raise InvalidReply("remote: the reply has no log-probabilities of its tokens")
    found = []
    for at, entry in enumerate(listed):
        logprob = entry.get("logprob") if isinstance(entry, dict) else None
        number = _number(logprob)
        if not _UNLIKELY < number <= _ROUNDING:
            raise InvalidReply(
                f"remote: logprob: expected a number, at most 0, for token {at}, got {repr(logprob)[:40]}"
            )
        if entry.get("token") or entry.get("bytes"):
            found.append(min(0.0, number))
    return tuple(found)


def _position(entry: Any) -> Position:
    sampled = _token(entry)
    if not math.isfinite(sampled.logprob):
        raise InvalidReply("remote: logprob: expected a finite number for a generated token, got probability 0")
    listed = entry.get("top_logprobs")
    if not isinstance(listed, list | None):
        raise InvalidReply(f"remote: top_logprobs: expected a list, got {type(listed).__name__}")
    # Some servers list tokens without a probability, such as those that a grammar forbids.
    known = (one for one in listed or () if not (isinstance(one, dict) and one.get("logprob", 0) is None))
    others = tuple(token for token in map(_token, known) if token.text != sampled.text)
    total = math.fsum(math.exp(token.logprob) for token in (sampled, *others))
    if total > _MOST:
        raise InvalidReply(f"remote: top_logprobs: expected probabilities that sum to at most 1, got {total:.3f}")
    return Position(sampled, others, bool(listed))


def _token(entry: Any) -> Token:
    text, logprob, raw = _at(entry, "token"), _at(entry, "logprob"), entry.get("bytes") or []
    if not isinstance(text, str):
        raise InvalidReply(f"remote: token: expected a string, got {repr(text)[:40]}")
    if not _number(logprob) <= _ROUNDING:
        raise InvalidReply(f"remote: logprob: expected a number, at most 0, got {repr(logprob)[:40]}")
    try:
        exact = bytes(raw if isinstance(raw, list) else [raw]) or text.encode(errors="replace")
    except (TypeError, ValueError) as error:
        raise InvalidReply(f"remote: bytes: expected a list of bytes for a token, got {repr(raw)[:40]}") from error
    return Token(exact, min(0.0, _number(logprob)))


def _number(value: Any) -> float:
    """Return a number as a float, and anything else as NaN."""
    try:
        return math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, OverflowError):
        return math.nan


def _at(reply: Any, *path: str | int) -> Any:
    """Return the field at a path; an error names the part that is missing."""
    for depth, step in enumerate(path):
        try:
            reply = reply[step]
        except (TypeError, KeyError, IndexError) as error:
            named = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path[: depth + 1])
            raise InvalidReply(f"remote: the reply lacks {named[1:]}") from error
    return reply


class LabelMatcher:
    """Finds labels in text: in upper or lower case, and after spaces, quotes or brackets.

    Args:
        names: two or more labels.

    Attributes:
        plain: the labels in the form in which they are compared.

    Raises:
        ArgumentError: there are fewer than two, one is empty, or two are the same to the matcher.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if isinstance(names, str) or len(names) < 2 or not all(isinstance(name, str) for name in names):
            raise ArgumentError(f"labels: expected two or more names, got {names!r:.100}")
        self.plain = [_plain(name).rstrip() for name in names]
        for at, plain in enumerate(self.plain):
            if not plain:
                raise ArgumentError(f"labels: expected names, got {names[at]!r}")
            if plain in self.plain[:at]:
                raise ArgumentError(f"labels: {names[self.plain.index(plain)]!r} and {names[at]!r} look the same")
        longest_first = sorted(self.plain, key=len, reverse=True)
        self._any = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def named(self, reply: Reply) -> int:
        """Return the label at the beginning of the text, or else the only label in it, as a whole word.

        Raises:
            UnreadReply: the reply names no label, or several.
        """
        text = _plain(reply.text)
        first = self._first(text)
        if first is not None:
            return first
        found = sorted(set(self._any.findall(text)))
        if len(found) != 1:
            how_many = "several" if found else "no"
            cut_off = ", which max_tokens cut off" if reply.cut_off else ""
            raise UnreadReply(
                f"remote: expected a reply with one label, got {how_many} labels in {reply.text[:80]!r}{cut_off}"
            )
        return self.plain.index(found[0])

    def begun(self, text: str) -> list[int]:
        """Return the labels that begin with plain text; if there are none, the one at the beginning of the text."""
        longer = [at for at, label in enumerate(self.plain) if text and label.startswith(text)]
        if longer:
            return longer
        first = self._first(text)
        return [] if first is None else [first]

    def _first(self, text: str) -> int | None:
        """Return the longest label at the beginning of plain text."""
        found = [
            label
            for label in self.plain
            if text.startswith(label) and not re.match(r"\w", text[len(label) : len(label) + 1])
        ]
        return self.plain.index(max(found, key=len)) if found else None


def label_probabilities(reply: Reply, labels: LabelMatcher, *, coverage: float) -> NDArray[np.float64]:
    """Return probabilities float64 [labels], each above 0, that the reply is a label, given that it is one of them.

    Tokens that differ in case, or in spaces or quotes before the label, count together. A branch that was not taken
    and fits several labels counts for each in equal parts. A label in no listed branch gets an equal part of the
    unlisted probability at the last token of the path, but at most that of the least likely token listed there and of
    any listed label.

    Args:
        reply: a reply with the likeliest tokens at every position.
        labels: the possible answers.
        coverage: the least probability that the reply is any of the labels.

    Raises:
        UnscoredReply: the server lists no tokens.
        UnreadReply: all labels together have a probability below `coverage`.
    """
    masses = np.zeros(len(labels.plain))
    path, before = 1.0, b""
    for at, position in enumerate(reply.positions, 1):
        if not position.alternatives:
            raise UnscoredReply("remote: the reply lacks top_logprobs; the server does not list likely tokens")
        follow = at < len(reply.positions) and _is_open(labels, before, position.sampled)
        for token in position.others if follow else (position.sampled, *position.others):
            possible = _possible(labels, before, token)
            masses[possible] += path * math.exp(token.logprob) / max(1, len(possible))
        if not follow:
            break
        path *= math.exp(position.sampled.logprob)
        before += position.sampled.text
    covered = masses.sum()
    if not covered >= coverage:
        raise UnreadReply(
            f"remote: expected a reply that names a label; the labels have {covered:.1%} of its probability, "
            f"and the reply begins {reply.text[:80]!r}"
        )
    unseen = masses == 0
    if unseen.any():
        masses[unseen] = min(path * _unlisted(position, int(unseen.sum())), masses[~unseen].min())
    masses = np.maximum(masses, _LEAST)
    return np.asarray(masses / masses.sum())


def text_confidence(mean_logprob: float, scale: tuple[float, float] | None) -> float:
    """Return the confidence of a text whose tokens have this mean log-probability.

    Args:
        mean_logprob: natural; it may be NaN where the slope is 0.
        scale: slope and intercept of a logistic function; None takes the exponential of the mean.
    """
    if scale is None:
        return math.exp(mean_logprob)
    slope, intercept = scale
    log_odds = intercept if slope == 0 else slope * mean_logprob + intercept
    return 0.5 + 0.5 * math.tanh(log_odds / 2)


def _is_open(labels: LabelMatcher, before: bytes, sampled: Token) -> bool:
    """Return whether the next token can still tell labels apart, or tell a label from another word."""
    text = _text(before + sampled.text)
    if not sampled.text:
        return False
    return not text or any(len(labels.plain[one]) > len(text) for one in labels.begun(text))


def _possible(labels: LabelMatcher, before: bytes, token: Token) -> list[int]:
    """Return the labels that the text may be if this token is next and nothing more is known."""
    text = _text(before + token.text)
    possible = labels.begun(text)
    if not token.text:  # the end of the text
        return [one for one in possible if labels.plain[one] == text]
    telling = len(text.encode()) >= _TELLING
    return [one for one in possible if telling or len(labels.plain[one]) <= len(text)]


def _unlisted(position: Position, labels: int) -> float:
    """Return the probability of each of this many labels that are not listed."""
    listed = np.exp([token.logprob for token in (position.sampled, *position.others)])
    return float(min(max(0.0, 1 - listed.sum()) / labels, listed.min()))


def _text(raw: bytes) -> str:
    return _plain(raw.decode(errors="ignore"))


def _plain(text: str) -> str:
    return text.lstrip(_BEFORE).casefold()
