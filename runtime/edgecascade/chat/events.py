"""The events of a streamed chat completion: split them, decode them, and add them up to the whole completion.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from edgecascade.runtime.remotes.http_response import message_in
from edgecascade.types.errors import InvalidReply, RemoteRefusal

__all__ = ["END", "EventReader", "assembled", "chunk_in"]

END = b"[DONE]"
"""The data of the event after the last one."""

_LARGEST = 1 << 20  # bytes of an event


class EventReader:
    r"""Splits a stream into the data of its events.

    >>> reader = EventReader()
    >>> reader.feed(b"data: 1\n\nda"), reader.feed(b"ta: 2\r\n\r\n: ping\n\n")
    ([b'1'], [b'2'])
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that these bytes complete.

        Raises:
            InvalidReply: an event is larger than a MiB.
        """
        rest = self._rest + data
        if b"\r" in rest:
            rest = rest.replace(b"\r\n", b"\n")
        *events, self._rest = rest.split(b"\n\n")
        if len(self._rest) > _LARGEST:
            raise InvalidReply("remote: an event of the stream is larger than a MiB")
        return [found for event in events if (found := _data(event))]


def _data(event: bytes) -> bytes:
    lines = (line[5:] for line in event.split(b"\n") if line.startswith(b"data:"))
    return b"\n".join(line.removeprefix(b" ") for line in lines)


def chunk_in(event: bytes) -> dict[str, Any]:
    """Return the chunk of a chat completion that an event holds.

    Raises:
        RemoteRefusal: it holds an error.
        InvalidReply: it holds something else.
    """
    try:
        chunk = json.loads(str(event, "utf-8"))  # for bytes, it would guess their encoding
    except (ValueError, RecursionError) as error:
        raise InvalidReply("remote: an event of the stream is not JSON") from error
    choices = chunk.get("choices") if isinstance(chunk, dict) else None
    if not isinstance(choices, list):
        said = message_in(chunk)
        if said:
            raise RemoteRefusal(f"remote: the server says: {said}", status="200")
        raise InvalidReply("remote: an event of the stream lacks choices")
    for choice in choices:
        if not isinstance(choice, dict) or not isinstance(choice.get("delta"), dict | None):
            raise InvalidReply("remote: an event of the stream has a choice of another form")
    return dict(chunk)


def assembled(chunks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the chat completion that the chunks of a stream add up to.

    >>> deltas = [{"role": "assistant", "content": "Par"}, {"content": "is"}]
    >>> found = assembled({"id": "1", "choices": [{"index": 0, "delta": delta}]} for delta in deltas)
    >>> found["id"], found["choices"][0]["message"]
    ('1', {'role': 'assistant', 'content': 'Paris'})
    """
    whole: dict[str, Any] = {"choices": []}
    for chunk in chunks:
        whole |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for part in chunk["choices"]:
            _add(whole["choices"], part)
    return {**whole, "object": "chat.completion"}


def _add(choices: list[dict[str, Any]], part: Mapping[str, Any]) -> None:
    """Add a choice of a chunk to the choices of the whole completion."""
    at = part.get("index", 0)
    choice = next((one for one in choices if one["index"] == at), None)
    if choice is None:
        choice = {"index": at, "message": {"role": "assistant", "content": None}, "finish_reason": None}
        choices.append(choice)
    _merge(choice["message"], part.get("delta") or {})
    if isinstance(part.get("logprobs"), dict):
        _merge(choice.setdefault("logprobs", {}), part["logprobs"])
    if part.get("finish_reason") is not None:
        choice["finish_reason"] = part["finish_reason"]


def _merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Merge a part of a message: text is joined, lists grow, and entries with an index are merged with their own."""
    for name, value in delta.items():
        before = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif isinstance(value, str) and isinstance(before, str) and name not in ("role", "id", "type"):
            into[name] = before + value
        elif isinstance(value, dict) and isinstance(before, dict):
            _merge(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            _extend(before, value)
        else:
            into[name] = value


def _extend(before: list[Any], more: Iterable[Any]) -> None:
    for entry in more:
        at = entry.get("index") if isinstance(entry, dict) else None
        same = next(
            (one for one in before if at is not None and isinstance(one, dict) and one.get("index") == at), None
        )
        if same is None:
            before.append(entry)
        else:
            _merge(same, entry)
