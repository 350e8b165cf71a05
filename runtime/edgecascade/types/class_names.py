"""Class names: where the metadata of a model has them, and how the classes of two lists are matched by name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from edgecascade.types.document import KEY, LABELS_KEY
from edgecascade.types.errors import InvalidReply

__all__ = ["columns_for", "names_in", "numbers_in", "positions", "read_names", "some_names"]

_KEYS = (LABELS_KEY, "names", "class_names", "classes", "labels", "id2label")  # Ultralytics and others
_LONGEST = 1 << 20  # characters
_NUMBERED = re.compile(r"(?:LABEL_)?([0-9]{1,9})")  # Hugging Face calls classes without names LABEL_0, LABEL_1, ...
_ITEM = re.compile(r"""\s*(?:([0-9]{1,9})\s*:\s*)?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*(?:,|$)""", re.DOTALL)
_SHOWN = 20


def names_in(properties: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names in the metadata of an ONNX file or of a served model; none if it has none.

    They are the labels of a cascade model, the list `edgecascade.labels`, or a list or an object by class number under
    `names`, `class_names`, `classes`, `labels` or `id2label`, as a value or as JSON. Anything else there is ignored.
    """
    document = _parsed(properties.get(KEY))
    if isinstance(document, dict) and (found := read_names(document.get("labels"))):
        return found
    return next((found for key in _KEYS if (found := read_names(_parsed(properties.get(key))))), ())


def read_names(value: Any) -> tuple[str, ...]:
    """Return the class names in a list, or in an object by class number; none if it is something else."""
    if isinstance(value, dict):
        by_number = {str(number): name for number, name in value.items()}
        value = [by_number.get(str(number)) for number in range(len(value))]
    if not isinstance(value, list) or not all(isinstance(one, (str, int)) for one in value):
        return ()
    return tuple(map(str, value))


def numbers_in(names: Sequence[str], classes: int) -> list[int] | None:
    """Return the class numbers that names such as `3` or `LABEL_3` stand for, or None if they are other names."""
    found = [int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name))]
    plain = len(found) == len(names) == len(set(found)) and all(number < classes for number in found)
    return found if plain else None


def positions(names: Sequence[str], among: Sequence[str]) -> list[int] | None:
    """Return the position of each name in another list, or None if one of them is not there exactly once.

    Names that differ only in case, in punctuation or in the Unicode form of a letter are the same if that leaves all
    names distinct: a folder cannot be called `T-shirt/top`.

    >>> positions(["bee", "T-shirt_top"], ["T-shirt/top", "Ant", "Bee"])
    [2, 0]
    """
    if list(names) == list(among):
        return list(range(len(names)))
    forms: tuple[Callable[[str], str], ...] = (str, _loosely)
    for form in forms:
        ours, once = [form(name) for name in names], _once([form(name) for name in among])
        if len(set(ours)) == len(ours) and all(name in once for name in ours):
            return [once[name] for name in ours]
    return None


@lru_cache(maxsize=8)
def columns_for(
    labels: tuple[str, ...], names: tuple[str, ...], columns: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """Return the column of a remote's scores for each class, or None if they are in the order of the classes.

    Args:
        labels: names of the classes in order.
        names: the remote's class names in the order of its scores, if it tells them.
        columns: those that were found when the cascade was calibrated, which hold if either has no names.

    Raises:
        InvalidReply: the remote has other classes; the message lists both.
    """
    unnamed = any(numbers_in(some, len(some)) == list(range(len(some))) for some in (labels, names))
    if unnamed or len(labels) != len(names):  # another number is refused by the shape of the scores
        return columns
    found = positions(labels, names)
    if found is None:
        raise InvalidReply(f"remote: expected the classes {some_names(labels)}, got {some_names(names)}")
    return None if found == list(range(len(found))) else tuple(found)


def some_names(names: Sequence[str]) -> str:
    """Return names for an error message: all of them, or the first twenty and the number of the others."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _once(names: Sequence[str]) -> dict[str, int]:
    """Return the positions of the names that are there once."""
    first: dict[str, int] = {}
    twice = {name for at, name in enumerate(names) if first.setdefault(name, at) != at}
    return {name: at for name, at in first.items() if name not in twice}


def _loosely(name: str) -> str:
    """Return a name in lower case and without punctuation; a name without letters stays as it is."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\W_]+", "", plain) if any(map(str.isalpha, plain)) else name


def _parsed(text: Any) -> Any:
    """Return the value of JSON, or of a list or dict of strings as Python prints them; None of other text."""
    if not isinstance(text, str):
        return text
    if not text or len(text) > _LONGEST or text[0] not in "[{":
        return None
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _printed(text[1:-1]) if text[-1] in "]}" else None


def _printed(inside: str) -> list[str] | dict[str, str] | None:
    """Return the strings between the brackets of a list or dict that Python printed, as in Ultralytics files."""
    items: list[tuple[str, str]] = []
    at = 0
    while at < len(inside):
        found = _ITEM.match(inside, at)
        if found is None:
            return None
        items.append((found[1] or "", re.sub(r"\\(.)", r"\1", found[2][1:-1])))
        at = found.end()
    numbered = [number for number, _ in items if number]
    if not numbered:
        return [name for _, name in items]
    return dict(items) if len(set(numbered)) == len(items) else None
