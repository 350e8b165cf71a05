"""Read prompts with references: JSON lines, or a table."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecascade.export.chat.replies import prompt_digest
from edgecascade.export.data.tables import read_rows
from edgecascade.types.errors import ExportError, first_line, no_file

__all__ = ["ChatPrompt", "prompts_digest", "read_prompts"]

_KNOWN = ("messages", "prompt", "reference", "options")
_MOST_OPTIONS = 26


@dataclass(frozen=True)
class ChatPrompt:
    """One prompt with the reply that it should get.

    Attributes:
        messages: as chat completions take them, each with a `role`, the last one of the user.
        reference: as the judge takes it: text, a list of texts of which any is right, a number, or an option.
        options: the texts of the options that the prompt lists, in order; empty if it lists none.
        other: further fields, such as a group or a weight, by name.
    """

    messages: tuple[Mapping[str, Any], ...]
    reference: Any
    options: tuple[str, ...] = ()
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The SHA-256 of the messages, in hexadecimal."""
        return prompt_digest(self.messages)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the messages in order."""
        return tuple(str(message["role"]) for message in self.messages)

    @property
    def choice(self) -> Any:
        """The reference as the judge `choice` takes it: with the options, if they are known."""
        return {"answer": self.reference, "options": list(self.options)} if self.options else self.reference


def prompts_digest(prompts: Sequence[ChatPrompt]) -> str:
    """Return the SHA-256 of prompts and references, in hexadecimal."""
    found = hashlib.sha256()
    for one in prompts:
        known = json.dumps([one.reference, list(one.options)], sort_keys=True, separators=(",", ":"), default=str)
        found.update(f"{one.digest} {known}\n".encode())
    return found.hexdigest()


def read_prompts(path: str | os.PathLike[str]) -> list[ChatPrompt]:
    """Return the prompts of a file.

    Each line, or row of a table, has these fields:

    - `messages`, a list of objects with `role` and `content`; or `prompt`, the text of one message of the user.
    - `reference`: what the judge compares replies with.
    - `options`, if the prompt lists options: their texts in order.
    - any others, which can be weights and groups.

    Args:
        path: `.jsonl` (or another ending that is no table's), `.csv`, `.parquet` or `.arrow`.

    Raises:
        ExportError: the file cannot be read, is empty, or a line is not as above. The message names the line.
        ModuleNotFoundError: the file is a table, and pyarrow is not installed.
    """
    where = Path(path)
    if not where.is_file():
        raise ExportError(f"prompts: {no_file(path)}")
    prompts = [_prompt(found, place) for place, found in read_rows(where)]
    if not prompts:
        raise ExportError(f"{path}: expected at least one prompt, got none")
    return prompts


def _prompt(found: Mapping[str, Any], place: str) -> ChatPrompt:
    if ("messages" in found) == ("prompt" in found):
        got = "both" if "prompt" in found else ", ".join(map(str, list(found)[:8])) or "an empty object"
        raise ExportError(f"{place}: expected `messages` or `prompt`, got {got}")
    if found.get("reference") is None:
        raise ExportError(f"{place}: expected a `reference`, by which replies are judged, got none")
    return ChatPrompt(
        messages=_messages(found, place),
        reference=found["reference"],
        options=_options(found.get("options"), place),
        other={name: value for name, value in found.items() if name not in _KNOWN},
    )


def _messages(found: Mapping[str, Any], place: str) -> tuple[Mapping[str, Any], ...]:
    if "prompt" in found:
        text = found["prompt"]
        if not isinstance(text, str) or not text.strip():
            raise ExportError(f"{place}: expected text as the `prompt`, got {_shown(text)}")
        return ({"role": "user", "content": text},)
    messages = found["messages"]
    if isinstance(messages, str):  # in a table
        try:
            messages = json.loads(messages)
        except ValueError as error:
            raise ExportError(f"{place}: messages: expected a list, got text: {first_line(error)}") from error
    if not isinstance(messages, list) or not messages:
        raise ExportError(f"{place}: messages: expected a list of objects with `role`, got {_shown(messages)}")
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ExportError(f"{place}: messages[{at}]: expected an object with a `role`, got {_shown(message)}")
        if not isinstance(message.get("content"), str | list) and "tool_calls" not in message:
            raise ExportError(
                f"{place}: messages[{at}]: expected text or a list of parts as `content`, "
                f"got {_shown(message.get('content'))}"
            )
    if messages[-1]["role"] not in ("user", "tool"):
        raise ExportError(
            f"{place}: messages: expected a last one of the user, to which there is a reply, got one of the "
            f"{messages[-1]['role']}"
        )
    return tuple(messages)


def _options(found: Any, place: str) -> tuple[str, ...]:
    if found is None:
        return ()
    if not isinstance(found, list) or not 2 <= len(found) <= _MOST_OPTIONS:
        raise ExportError(f"{place}: options: expected a list of 2 to {_MOST_OPTIONS} texts, got {_shown(found)}")
    if strange := [one for one in found if not isinstance(one, str | int | float)]:
        raise ExportError(f"{place}: options: expected texts, got {_shown(strange[0])}")
    return tuple(map(str, found))


def _shown(value: Any) -> str:
    return "none" if value is None else f"a {type(value).__name__}: {' '.join(repr(value).split())[:60]}"
