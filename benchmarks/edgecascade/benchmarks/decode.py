"""Dataclasses, and tuples, lists and dictionaries of them, from the JSON that was made of them."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["decode"]

T = TypeVar("T")


def decode(kind: type[T], value: Any) -> T:
    """The value as an instance of `kind`, whose parameters or fields say what is in it; floats are exact.

    Args:
        kind: a dataclass; or a tuple, list or dictionary, such as `list[Ratio]`.
        value: as `json` reads it.

    Raises:
        KeyError: a field is missing.
        TypeError: a value is of another type than its field.
        ValueError: a value that its type does not have, or a tuple of another length.
    """
    found: T = _decode(kind, value)
    return found


def _decode(kind: Any, value: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{field.name: _decode(hints[field.name], value[field.name]) for field in fields(kind)})
    if origin in (Union, types.UnionType):
        return None if value is None else _decode(next(one for one in inner if one is not type(None)), value)
    if origin is tuple:
        kinds = inner if inner[-1] is not Ellipsis else inner[:1] * len(value)
        return tuple(_decode(each, one) for each, one in zip(kinds, _checked(list, value), strict=True))
    if origin is list:
        return [_decode(inner[0], one) for one in _checked(list, value)]
    if origin in (dict, Mapping):
        return {_key(inner[0], name): _decode(inner[1], one) for name, one in _checked(dict, value).items()}
    if origin is not None:  # Literal: asdict wrote one of its values
        return value
    if issubclass(kind, Enum):
        return kind(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _checked(kind, value)


def _checked(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {value!r}")
    return value


def _key(kind: Any, name: str) -> Any:
    """JSON's names are texts; a number was written as its `repr`."""
    return kind(name) if kind in (int, float) else _decode(kind, name)
