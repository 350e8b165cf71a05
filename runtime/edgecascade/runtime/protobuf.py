"""Walk the fields of a protobuf message without a description of it, and write the numbers in which it has lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

__all__ = ["fields", "read_varint", "varint"]

_VARINT, _BYTES = 0, 2  # wire types
_FIXED = {1: 8, 5: 4}  # bytes
_LONGEST = 64  # bits

Data: TypeAlias = bytes | memoryview


def fields(message: Data) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each field: an integer, or the bytes of anything else.

    Raises:
        ValueError: the message has a field of another wire type, or an integer of more than ten bytes.
        IndexError: it ends within a field's number, length or integer.
    """
    at = 0
    while at < len(message):
        key, at = read_varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = read_varint(message, at)
            yield key >> 3, value
            continue
        size = _FIXED.get(kind, 0)
        if kind == _BYTES:
            size, at = read_varint(message, at)
        elif not size:
            raise ValueError(f"expected a wire type of 0, 1, 2 or 5, got {kind}")
        yield key >> 3, message[at : at + size]
        at += size


def read_varint(data: Data, at: int) -> tuple[int, int]:
    """Return the unsigned integer that begins at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > _LONGEST:
            raise ValueError("expected an integer of at most ten bytes, got a longer one")


def varint(value: int) -> bytes:
    """Return an unsigned integer as protobuf encodes it: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
