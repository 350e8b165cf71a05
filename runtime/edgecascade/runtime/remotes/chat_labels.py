"""Labels in generated text: which one it names, and how likely each one was to be named.

A generated answer is one path through a tree of tokens. The server lists the likeliest branches at every token of
the path, so the probability that the answer begins with a label is the sum, over the branches that do, of the
probability of the path to them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.remotes.chat_reply import Position, Reply, Token
from edgecascade.types.errors import ArgumentError, RemoteError

__all__ = ["Labels", "label_probabilities"]

# What may stand before a label: spaces (two tokenizers' own among them), emphasis, quotes, brackets.
_BEFORE = " \t\r\n▁Ġ*_`\"'“‘«([{"
_TELLING = 3  # bytes: a shorter beginning of a label, such as I of Insect, may as well be another word
_LEAST = 1e-9


class Labels:
    """Labels as they appear in text: in any case, behind spaces, quotes or brackets.

    Args:
        names: two or more.

    Raises:
        ArgumentError: too few, an empty one, or two that differ in nothing but what is overlooked.
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
        """The label that the text begins with, or else the only one that it has anywhere, as a whole word.

        Raises:
            RemoteError: it names no label, or several.
        """
        text = _plain(reply.text)
        first = self._said(text)
        if first is not None:
            return first
        found = sorted(set(self._any.findall(text)))
        if len(found) != 1:
            how_many = "several" if found else "none"
            cut_off = ", which max_tokens cut off" if reply.cut_off else ""
            raise RemoteError(f"remote: the reply names {how_many} of the labels: {reply.text[:80]!r}{cut_off}")
        return self.plain.index(found[0])

    def begun(self, text: str) -> list[int]:
        """Labels that plain text is the beginning of; else the one that it begins with."""
        longer = [at for at, label in enumerate(self.plain) if text and label.startswith(text)]
        if longer:
            return longer
        said = self._said(text)
        return [] if said is None else [said]

    def _said(self, text: str) -> int | None:
        """The longest label that plain text begins with."""
        said = [
            label
            for label in self.plain
            if text.startswith(label) and not re.match(r"\w", text[len(label) : len(label) + 1])
        ]
        return self.plain.index(max(said, key=len)) if said else None


def label_probabilities(reply: Reply, labels: Labels, *, coverage: float) -> NDArray[np.float64]:
    """Probabilities float64 [labels], each above 0, that the reply is a label, given that it is one.

    Tokens that differ in case, or in spaces or quotes before the label, count together. A branch that was not taken
    and fits several labels counts for each in equal parts. A label in no listed branch gets an equal part of what the
    list leaves at the last token of the path, but never more than the least likely token listed there, nor than a
    label that is listed.

    Args:
        reply: with the likeliest tokens at every position.
        labels: what it may say.
        coverage: the least probability that the reply is any of the labels.

    Raises:
        RemoteError: the server lists no tokens, or the labels have less than `coverage` among them.
    """
    masses = np.zeros(len(labels.plain))
    path, before = 1.0, b""
    for at, position in enumerate(reply.positions, 1):
        if not position.alternatives:
            raise RemoteError("remote: the reply lacks top_logprobs; the server does not list likely tokens")
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
        raise RemoteError(
            f"remote: the reply names none of the labels: they have {covered:.1%} of its probability, "
            f"and it begins {reply.text[:80]!r}"
        )
    unseen = masses == 0
    if unseen.any():
        masses[unseen] = min(path * _unlisted(position, int(unseen.sum())), masses[~unseen].min())
    masses = np.maximum(masses, _LEAST)
    return np.asarray(masses / masses.sum())


def _is_open(labels: Labels, before: bytes, sampled: Token) -> bool:
    """Whether the next token can still tell labels apart, or from other words."""
    text = _text(before + sampled.text)
    if not sampled.text:
        return False
    return not text or any(len(labels.plain[one]) > len(text) for one in labels.begun(text))


def _possible(labels: Labels, before: bytes, token: Token) -> list[int]:
    """Labels that the text may be if it goes on with this token, and nothing is known of what follows."""
    text = _text(before + token.text)
    possible = labels.begun(text)
    if not token.text:  # the end
        return [one for one in possible if labels.plain[one] == text]
    telling = len(text.encode()) >= _TELLING
    return [one for one in possible if telling or len(labels.plain[one]) <= len(text)]


def _unlisted(position: Position, labels: int) -> float:
    """The probability of each of this many labels that are not listed."""
    listed = np.exp([token.logprob for token in (position.sampled, *position.others)])
    return float(min(max(0.0, 1 - listed.sum()) / labels, listed.min()))


def _text(raw: bytes) -> str:
    return _plain(raw.decode(errors="ignore"))


def _plain(text: str) -> str:
    return text.lstrip(_BEFORE).casefold()
