"""The replies file: what both endpoints replied to each prompt, so that no reply is paid for twice.

It has one JSON object a line, and a line is added as soon as an endpoint has replied:

    {"prompt": "9f86d081...", "reference": "Paris", "local": {"text": "Paris.", "logprobs": [-0.02, -0.4], ...}}
    {"prompt": "9f86d081...", "reference": "Paris", "remote": {"text": "It is Paris.", "model": "large-2026", ...}}

| field | value |
|---|---|
| prompt | SHA-256, in hexadecimal, of the messages as JSON with sorted keys and without spaces, in UTF-8 |
| reference | as the file of prompts has it; null if it has none |
| local | the local endpoint's reply; a line has it, or `remote`, or both |
| remote | the remote endpoint's reply |

A reply has these fields:

| field | value |
|---|---|
| text | the generated text |
| model | the model's name as the server reports it |
| usage | `{"prompt_tokens": n, "completion_tokens": n}`, or null if the server does not count them |
| logprobs | natural logarithms of the probabilities of the generated tokens; null if there are no usable ones |
| unscored | why there are none: a sentence; absent where there are |
| cut_off | whether the reply ended because it reached the most tokens allowed |
| request | the first 16 digits of the SHA-256 of address, model and fields: a reply counts only for the same request |

Readers merge the lines of a prompt. If several hold a reply to the same request, the last one counts. Fields that a
reader does not know are left alone. A last line without its line feed was cut off, and does not count. The file holds
replies and references, but no secrets.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from edgecascade.chat.reply import Usage
from edgecascade.export.chat.lines import LineFile, read_lines
from edgecascade.types.errors import ExportError, no_file

__all__ = ["SIDES", "ChatReply", "Replies", "RepliesToPrompt", "prompt_digest", "read_replies"]

SIDES = ("local", "remote")
_COUNTS = ("prompt_tokens", "completion_tokens")


@dataclass(frozen=True)
class ChatReply:
    """What an endpoint replied to one prompt.

    Attributes:
        text: the generated text.
        model: the model's name as the server reports it.
        usage: the tokens of the exchange; None if the server does not count them.
        logprobs: natural logarithms of the probabilities of the generated tokens; None if there are no usable ones.
        unscored: why there are none; empty where there are.
        cut_off: whether it ended because it reached the most tokens allowed.
        request: identifies address, model and fields of the request.
    """

    text: str
    model: str
    usage: Usage | None = None
    logprobs: tuple[float, ...] | None = None
    unscored: str = ""
    cut_off: bool = False
    request: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the reply as the file has it."""
        usage = self.usage
        return {
            "text": self.text,
            "model": self.model,
            "usage": None if usage is None else dict(zip(_COUNTS, usage[:2], strict=True)),
            "logprobs": None if self.logprobs is None else list(self.logprobs),
            **({"unscored": self.unscored} if self.unscored else {}),
            "cut_off": self.cut_off,
            "request": self.request,
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> ChatReply:
        """Return the reply that an object of the file holds.

        Raises:
            KeyError, TypeError, ValueError: it holds something else.
        """
        usage, logprobs = found.get("usage"), found.get("logprobs")
        return cls(
            text=str(found["text"]),
            model=str(found.get("model", "")),
            usage=None if usage is None else Usage(int(usage[_COUNTS[0]]), int(usage[_COUNTS[1]])),
            logprobs=None if logprobs is None else tuple(map(float, logprobs)),
            unscored=str(found.get("unscored", "")),
            cut_off=bool(found.get("cut_off", False)),
            request=str(found.get("request", "")),
        )


class RepliesToPrompt(NamedTuple):
    """What the file has on one prompt.

    Attributes:
        prompt: the prompt's SHA-256.
        reference: as the file of prompts has it.
        local: the last reply of the local endpoint, or None.
        remote: the last reply of the remote endpoint, or None.
    """

    prompt: str
    reference: Any
    local: ChatReply | None
    remote: ChatReply | None


def prompt_digest(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of messages, in hexadecimal.

    >>> prompt_digest([{"role": "user", "content": "Hi"}])[:16]
    '557f6d9586f57ae7'
    """
    text = json.dumps(list(messages), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_replies(path: str | os.PathLike[str]) -> dict[str, RepliesToPrompt]:
    """Return what a replies file has on each prompt, by the prompt's SHA-256, in the order of the file.

    Raises:
        ExportError: there is no such file, or a line of it is damaged.
    """
    if not Path(path).is_file():
        raise ExportError(f"replies: {no_file(path)}")
    found: dict[str, RepliesToPrompt] = {}
    for prompt, reference, replies in _lines(Path(path)):
        before = found.get(prompt) or RepliesToPrompt(prompt, reference, None, None)
        local, remote = (replies.get(side) or getattr(before, side) for side in SIDES)
        found[prompt] = RepliesToPrompt(prompt, reference, local, remote)
    return found


class Replies:
    """A replies file that is added to. Thread-safe.

    Args:
        path: the file; it is made with the first reply. None keeps the replies in memory only.

    Raises:
        ExportError: a line is damaged, or the path is that of a folder. A last line without an end, as an interruption
            leaves it, is left out.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._file = None if path is None else LineFile(path)
        self._found: dict[tuple[str, str, str], ChatReply] = {}
        self._lock = Lock()
        if path is not None and Path(path).is_file():
            for prompt, _, replies in _lines(Path(path)):
                for side, reply in replies.items():
                    self._found[prompt, side, reply.request] = reply

    @property
    def path(self) -> Path | None:
        """The file; None if the replies are in memory only."""
        return None if self._file is None else self._file.path

    def get(self, prompt: str, side: str, request: str) -> ChatReply | None:
        """Return the reply of a side, `local` or `remote`, to a request about a prompt; None if there is none."""
        with self._lock:
            return self._found.get((prompt, side, request))

    def add(self, prompt: str, reference: Any, side: str, reply: ChatReply) -> None:
        """Add a reply, and write it at once.

        Raises:
            OSError: the file cannot be written.
        """
        with self._lock:
            self._found[prompt, side, reply.request] = reply
        if self._file is not None:
            self._file.add({"prompt": prompt, "reference": reference, side: reply.to_dict()})


def _lines(path: Path) -> Iterator[tuple[str, Any, dict[str, ChatReply]]]:
    """Yield the prompt, the reference and the replies of each line."""
    for place, found in read_lines(path):
        if "prompt" not in found or not any(side in found for side in SIDES):
            fields = ", ".join(found)[:80] or "no fields"
            raise ExportError(f"{place}: expected `prompt`, and `local` or `remote`, got {fields}")
        try:
            replies = {side: ChatReply.from_dict(found[side]) for side in SIDES if found.get(side) is not None}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportError(f"{place}: {error!r}") from error
        yield str(found["prompt"]), found.get("reference"), replies
