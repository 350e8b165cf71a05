"""Write the messages that ask a generative model for a label: the template, the labels in it, and images as data."""

from __future__ import annotations

import base64
import re
import string
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from edgecascade.types.document import Template
from edgecascade.types.errors import ArgumentError, UnsendableInput

__all__ = ["Messages", "Prompt", "letters", "messages_for", "template_of", "with_examples"]

Prompt: TypeAlias = Template | Callable[[Any], str | list[dict[str, Any]]]
"""A template, or a function from one input to a text or to messages."""

Messages: TypeAlias = Callable[[Any], list[dict[str, Any]]]
"""A function from one input to the messages of a request."""

_QUESTION = "Which label fits the input best? {labels}\n\nInput: {input}\n\nAnswer with the {form} alone."
_PLACE = re.compile(r"(\{labels\}|\{input\})")
_IMAGES = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"))
_LIGHT = 1  # compression of pixels, which may be a camera's


def letters(labels: Sequence[str]) -> list[str]:
    """Return A, B, C, ..., each of which is one token in any tokenizer.

    Raises:
        ArgumentError: there are more labels than letters.
    """
    if len(labels) > len(string.ascii_uppercase):
        raise ArgumentError(
            f"labels: expected at most 26 for answers in one letter, got {len(labels)}; use answer='label'"
        )
    return list(string.ascii_uppercase[: len(labels)])


def template_of(prompt: Prompt | None, answer: str) -> Template | None:
    """Return the template of a prompt, the default one of None; None of a function.

    Raises:
        ArgumentError: it is neither, or does not contain {input}.
    """
    if prompt is None:
        return _QUESTION.replace("{form}", "letter" if answer == "letter" else "label")
    if callable(prompt):
        return None
    written = [prompt] if isinstance(prompt, str) else [_content(message) for message in prompt]
    if not any("{input}" in text for text in written):
        raise ArgumentError(f"prompt: expected a text with {{input}}, got {str(prompt)[:80]!r}")
    return prompt


def with_examples(
    prompt: Template | None, answer: str, labels: Sequence[str], examples: Sequence[tuple[str, int]]
) -> Template:
    """Return messages with answered questions before the question.

    Args:
        prompt: a text with {input}; None for the default one.
        answer: the form of the answer.
        labels: in order.
        examples: texts, each with the number of its label.

    Raises:
        ArgumentError: the prompt is not a text with {input}, or an example has a placeholder in it.
    """
    question = template_of(prompt, answer)
    if not isinstance(question, str):
        raise ArgumentError(f"prompt: expected a text, before which examples can stand, got {str(prompt)[:80]!r}")
    if strange := [text for text, _ in examples if _PLACE.search(text)]:
        raise ArgumentError(f"examples: expected texts without {{labels}} and {{input}}, got {strange[0][:80]!r}")
    said = letters(labels) if answer == "letter" else labels
    turns = [
        [*_user(question.replace("{input}", text)), {"role": "assistant", "content": said[number]}]
        for text, number in examples
    ]
    return [*(message for turn in turns for message in turn), *_user(question)]


def messages_for(prompt: Prompt | None, answer: str, labels: Sequence[str]) -> Messages:
    """Return a function from one input to the messages of a request.

    Raises:
        ArgumentError: the prompt does not contain {input}.
    """
    template = template_of(prompt, answer)
    if template is None:
        assert callable(prompt)
        return _written_by(prompt)
    listed = ", ".join(labels)
    if answer == "letter":
        listed = "".join(f"\n{letter}. {label}" for letter, label in zip(letters(labels), labels, strict=True))
    messages = _user(template) if isinstance(template, str) else [dict(message) for message in template]
    contents = [_PLACE.split(_content(message)) for message in messages]
    shows = max(at for at, parts in enumerate(contents) if "{input}" in parts)  # the message that an image belongs to

    def filled(one: Any) -> list[dict[str, Any]]:
        one = _png(one) if _is_image(one) else one
        if not isinstance(one, str | bytes):
            kind = getattr(one, "dtype", type(one).__name__)
            raise UnsendableInput(
                f"remote: expected a text, got {kind}; pass a function as `prompt` that describes it in text"
            )
        said = {"{labels}": listed, "{input}": "the image" if isinstance(one, bytes) else one}
        # Replaced in one pass, so that braces in an input or a label have no meaning.
        texts = ["".join(said.get(part, part) for part in parts) for parts in contents]
        asked = [{**message, "content": text} for message, text in zip(messages, texts, strict=True)]
        if isinstance(one, bytes):
            asked[shows]["content"] = [{"type": "text", "text": texts[shows]}, _image(one)]
        return asked

    return filled


def _written_by(prompt: Callable[[Any], str | list[dict[str, Any]]]) -> Messages:
    def messages(one: Any) -> list[dict[str, Any]]:
        written = prompt(one)
        if not isinstance(written, str | list):
            raise UnsendableInput(
                f"prompt: expected a function that returns text or messages, got {type(written).__name__} from it"
            )
        return _user(written) if isinstance(written, str) else written

    return messages


def _content(message: Any) -> str:
    """Return the text of a message of a template."""
    if isinstance(message, Mapping) and isinstance(message.get("content"), str) and "role" in message:
        return str(message["content"])
    raise ArgumentError(f"prompt: expected messages with a role and a text as content, got {str(message)[:80]!r}")


def _user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def _is_image(one: Any) -> bool:
    """Return whether an input is the pixels of an RGB image, uint8 [height, width, 3]."""
    return isinstance(one, np.ndarray) and one.dtype == np.uint8 and one.ndim == 3 and one.shape[2] == 3


def _image(file: bytes) -> dict[str, Any]:
    kinds = [kind for start, kind in _IMAGES if file.startswith(start)]
    if not kinds:
        raise UnsendableInput("remote: expected the bytes of a JPEG, PNG, GIF or WebP file, got other bytes")
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/{kinds[0]};base64,{base64.b64encode(file).decode()}"},
    }


def _png(pixels: Any) -> bytes:
    """Return pixels uint8 [height, width, 3] as a PNG file, whose rows begin with the number of a filter: none."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = b"".join(side.to_bytes(4, "big") for side in (width, height)) + b"\x08\x02\x00\x00\x00"
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), _LIGHT)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
        for name, content in parts
    )
