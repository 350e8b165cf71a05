"""The metadata of a cascade file: its keys, and how the JSON of a document is read, whatever its format version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from edgecascade.types.errors import ArgumentError, ModelFileError

__all__ = [
    "BATCH_KEY",
    "CHAT_FORMAT",
    "DAMAGE",
    "FORMAT",
    "GOLDEN_KEY",
    "KEY",
    "LABELS_KEY",
    "MOVED_KEY",
    "PREPROCESSING_KEY",
    "PROMPT_KEY",
    "TASK_FORMAT",
    "WEIGHTS_KEY",
    "body_names",
    "parsed",
]

FORMAT = 1  # of a classifier's file
TASK_FORMAT = 2  # of the file of any other task
CHAT_FORMAT = 3  # of the JSON file of two chat endpoints
KEY = "edgecascade"
BATCH_KEY = f"{KEY}.batch"  # the first sides of the body's inputs, where the file takes one input at a time
GOLDEN_KEY = f"{KEY}.golden"  # inputs with the decisions that they must get
LABELS_KEY = f"{KEY}.labels"  # the class names of a body
MOVED_KEY = f"{KEY}.moved"  # names in the body that were changed to make room for ours, old to new
PREPROCESSING_KEY = f"{KEY}.preprocessing"  # what happens to an input before the body
PROMPT_KEY = f"{KEY}.prompt"  # prompt and answers of a language model, for people to read
WEIGHTS_KEY = f"{KEY}.weights"  # name and hash of the file with the weights, where they are not in the model file
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, OverflowError)
_LARGEST = 1 << 24  # characters: far above any real document, far below a device's memory
_KINDS = {FORMAT: "a classifier", TASK_FORMAT: "a general task", CHAT_FORMAT: "two chat endpoints"}

_Document = TypeVar("_Document")


def body_names(properties: Mapping[str, str], where: str) -> dict[str, str]:
    """Return the names in the body of tensors that have another name in the cascade file, by their name in the file.

    Args:
        properties: the metadata of the file, by key.
        where: the file's name, for error messages.

    Raises:
        ModelFileError: they are damaged.
    """
    try:
        return {str(new): str(old) for old, new in json.loads(properties.get(MOVED_KEY, "{}")).items()}
    except DAMAGE as error:
        raise ModelFileError(f"{where}: its `{MOVED_KEY}` metadata is damaged: {error!r}") from error


def parsed(text: str, where: str, readers: Mapping[int, Callable[[Mapping[str, Any]], _Document]]) -> _Document:
    """Read the JSON under the metadata key `edgecascade`.

    Args:
        text: JSON.
        where: the file's name, for error messages.
        readers: from the JSON object to the document, by format version.

    Raises:
        ModelFileError: the text is too long, damaged, or of a format that has no reader.
    """
    if len(text) > _LARGEST:
        raise ModelFileError(f"{where}: its `{KEY}` metadata has {len(text)} characters, over the limit {_LARGEST}")
    try:
        found = json.loads(text)
        version = found["format"]
    except DAMAGE as error:
        raise ModelFileError(f"{where}: its `{KEY}` metadata is damaged ({type(error).__name__})") from error
    if isinstance(version, bool) or not isinstance(version, int) or version not in _KINDS:
        raise ModelFileError(
            f"{where}: its format version is {version}, this edgecascade knows versions "
            f"{', '.join(map(str, _KINDS))}; install a newer edgecascade, or write the file again"
        )
    if version not in readers:
        wanted = " or ".join(_KINDS[known] for known in readers)
        raise ModelFileError(f"{where}: expected the cascade file of {wanted}, got that of {_KINDS[version]}")
    try:
        return readers[version](found)
    except DAMAGE as error:
        said = str(error) if isinstance(error, ArgumentError) else repr(error)
        raise ModelFileError(f"{where}: its `{KEY}` metadata is damaged: {said}") from error
