"""The messages that ask a generating model for a label."""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from edgecascade.types.errors import ArgumentError, RemoteError

__all__ = ["AnswerForm", "Prompt", "letters", "messages_for"]

AnswerForm: TypeAlias = Literal["letter", "label", "text"]
Prompt: TypeAlias = str | Callable[[Any], str | list[dict[str, Any]]]

_QUESTION = "Which label fits the input best? {labels}\n\nInput: {input}\n\nAnswer with the {form} alone."
_PLACE = re.compile(r"(\{labels\}|\{input\})")
_IMAGES = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"))


def letters(labels: Sequence[str]) -> list[str]:
    """A, B, C and so on: each is one token to any tokenizer.

    Raises:
        ArgumentError: there are more labels than letters.
    """
    if len(labels) > len(string.ascii_uppercase):
        raise ArgumentError(
            f"labels: expected at most 26 to be answered with a letter, got {len(labels)}; use answer='label'"
        )
    return list(string.ascii_uppercase[: len(labels)])


def messages_for(
    prompt: Prompt | None, answer: AnswerForm, labels: Sequence[str]
) -> Callable[[Any], list[dict[str, Any]]]:
    """A function from one input to the messages of a request.

    Raises:
        ArgumentError: the prompt has no place for the input.
    """
    if prompt is None:
        prompt = _QUESTION.replace("{form}", "letter" if answer == "letter" else "label")
    if not isinstance(prompt, str):
        return _written_by(prompt)
    if "{input}" not in prompt:
        raise ArgumentError(f"prompt: expected a text with {{input}}, got {prompt[:80]!r}")
    listed = ", ".join(labels)
    if answer == "letter":
        listed = "".join(f"\n{letter}. {label}" for letter, label in zip(letters(labels), labels, strict=True))
    # In one pass, so that braces in an input or a label are only braces.
    parts = [listed if part == "{labels}" else part for part in _PLACE.split(prompt)]
    places = [part == "{input}" for part in _PLACE.split(prompt)]

    def messages(one: Any) -> list[dict[str, Any]]:
        if not isinstance(one, str | bytes):
            kind = getattr(one, "dtype", type(one).__name__)
            raise RemoteError(f"remote: expected a text, got {kind}; give `prompt` a function that puts it in words")
        said = "the image" if isinstance(one, bytes) else one
        text = "".join(said if place else part for part, place in zip(parts, places, strict=True))
        return _user([{"type": "text", "text": text}, _image(one)] if isinstance(one, bytes) else text)

    return messages


def _written_by(prompt: Callable[[Any], str | list[dict[str, Any]]]) -> Callable[[Any], list[dict[str, Any]]]:
    def messages(one: Any) -> list[dict[str, Any]]:
        written = prompt(one)
        if not isinstance(written, str | list):
            raise RemoteError(f"remote: prompt: expected it to return text or messages, got {type(written).__name__}")
        return _user(written) if isinstance(written, str) else written

    return messages


def _user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def _image(file: bytes) -> dict[str, Any]:
    kinds = [kind for start, kind in _IMAGES if file.startswith(start)]
    if not kinds:
        raise RemoteError("remote: expected the bytes of a JPEG, PNG, GIF or WebP file")
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/{kinds[0]};base64,{base64.b64encode(file).decode()}"},
    }
