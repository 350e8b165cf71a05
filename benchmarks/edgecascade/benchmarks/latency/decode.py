"""Dataclasses from the JSON that `dataclasses.asdict` makes of them."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["decode"]

T = TypeVar("T")


def decode(kind: type[T], value: Any) -> T:
    """The value as an instance of `kind`, whose fields say what is in them.

    Raises:
        KeyError: a field is missing.
        TypeError: a value is of another type than its field.
        ValueError: a value that its type does not have.
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
        return tuple(_decode(inner[0], one) for one in value)
    if origin in (dict, Mapping):
        return {_decode(inner[0], name): _decode(inner[1], one) for name, one in value.items()}
    if origin is not None:  # Literal: asdict wrote one of its values
        return value
    if issubclass(kind, Enum):
        return kind(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {value!r}")
    return value
