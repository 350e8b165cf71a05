"""Mutants: copies of a file or a message in which bytes, JSON values or protobuf fields are changed at random."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from onnx import ModelProto

__all__ = ["LARGEST", "Mutate", "mutate_bytes", "mutate_json", "mutate_message", "mutate_onnx", "mutate_packet", "pick"]

Mutate = Callable[[bytes, Random], bytes]

LARGEST = 4 << 20  # bytes of a mutant
_EDGES = (0, 1, 9, 10, 13, 32, 34, 44, 45, 48, 58, 91, 92, 93, 123, 125, 127, 128, 254, 255)  # of ASCII and of a byte
_WORDS = (
    *(b"null", b"NaN", b"Infinity", b"-1", b"1e999", b"0x10", b"9" * 400, b"18446744073709551616", b"[]", b"{}", b'""'),
    *(b"\xff\xfe", b"\xed\xa0\x80", b'"\\ud800"', b"\r\n", b"\r\n\r\n", b"\x1b[2J", b"\0" * 8, b"\xff" * 10),
    *(b"[" * 3000, b'{"a":' * 3000, b"," * 500, b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, 1e-320),
    *(float("nan"), float("inf"), float("-inf"), "", "a", "1", "\0", "\ud800", "\x1b[31m\r\n", "é" * 70_000),
)
_CONTAINERS: tuple[Callable[[], Any], ...] = (
    *(list, dict, lambda: [[]], lambda: [None] * 5000, lambda: [0.0] * 100_000, lambda: {"a": {"b": [{}]}}),
    lambda: {str(i): i for i in range(3000)},
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_LENGTH = re.compile(rb"(?i)(?<=\r\ncontent-length: )\d+")


def mutate_bytes(sample: bytes, rng: Random) -> bytes:
    """Return the bytes after one to four random changes."""
    content = bytearray(sample)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        rng.choice(_CHANGES)(content, rng)
    return bytes(content[:LARGEST])


def mutate_json(sample: bytes, rng: Random) -> bytes:
    """Return a JSON text in which one to three values are replaced, removed, repeated, nested or moved."""
    tree = [json.loads(sample)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holder, place = rng.choice(_places(tree))
        _change_value(holder, place, tree, rng)
    text = json.dumps(tree[0], ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
    return text[:LARGEST]


def mutate_message(message: Any, rng: Random) -> bytes:
    """Return a protobuf message, serialized, in which one to three fields are changed, removed or repeated."""
    changed = type(message)()
    changed.CopyFrom(message)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        fields = [(one, field) for one in _messages(changed) for field, _ in one.ListFields()]
        if fields:
            _change_field(*rng.choice(fields), rng)
    return bytes(changed.SerializeToString())


def mutate_onnx(sample: bytes, rng: Random) -> bytes:
    """Return an ONNX file in which bytes or fields are changed."""
    if rng.random() < 0.5:
        return mutate_bytes(sample, rng)
    return mutate_message(ModelProto.FromString(sample), rng)


def mutate_packet(sample: bytes, rng: Random, *, binary: bool = False) -> bytes:
    """Return an HTTP response in which any bytes, or values of its JSON body, are changed.

    In half of the mutants the header `Content-Length` fits the new body.

    Args:
        sample: The response.
        rng: The source of chance.
        binary: Whether tensors follow the JSON.
    """
    head, _, body = sample.partition(b"\r\n\r\n")
    which = rng.random()
    if which < 0.3:
        return mutate_bytes(sample, rng)
    changed = mutate_bytes(body, rng) if binary or which < 0.6 else mutate_json(body, rng)
    if rng.random() < 0.8:
        head = _LENGTH.sub(str(len(changed)).encode(), head)
    return head + b"\r\n\r\n" + changed


def _flip(content: bytearray, rng: Random) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _set(content: bytearray, rng: Random) -> None:
    if content:
        content[rng.randrange(len(content))] = rng.choice(_EDGES)


def _overwrite(content: bytearray, rng: Random) -> None:
    start, end = _run(content, rng)
    kind = rng.randrange(3)
    content[start:end] = rng.randbytes(end - start) if kind == 2 else bytes([255 * kind]) * (end - start)


def _remove(content: bytearray, rng: Random) -> None:
    start, end = _run(content, rng)
    del content[start:end]


def _insert(content: bytearray, rng: Random) -> None:
    at = rng.randint(0, len(content))
    content[at:at] = rng.choice(_WORDS) if rng.random() < 0.7 else rng.randbytes(rng.randint(1, 64))


def _repeat(content: bytearray, rng: Random) -> None:
    start, end = _run(content, rng)
    most = LARGEST // max(1, end - start)
    content[start:start] = content[start:end] * min(most, rng.choice((1, 1, 2, 10, 100, 3000, 30_000)))


def _copy(content: bytearray, rng: Random) -> None:
    start, end = _run(content, rng)
    to = rng.randint(0, len(content))
    content[to : to + end - start] = content[start:end]


def _cut(content: bytearray, rng: Random) -> None:
    del content[rng.randint(0, len(content)) :]


def _renumber(content: bytearray, rng: Random) -> None:
    found = list(_NUMBER.finditer(content[: 1 << 16]))
    if found:
        start, end = rng.choice(found).span()
        content[start:end] = rng.choice(
            (b"0", b"-1", b"1e999", b"1e308", b"4294967296", b"9" * 30, b"NaN", b"1.5", b"")
        )


def _run(content: bytearray, rng: Random) -> tuple[int, int]:
    start = rng.randint(0, len(content))
    return start, min(len(content), start + rng.choice((1, 2, 4, 8, 64, 512, 4096)))


_CHANGES = (_flip, _flip, _set, _set, _overwrite, _remove, _insert, _insert, _repeat, _copy, _cut, _renumber)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every value of a tree by its list or object, and its place in it."""
    found: list[tuple[Any, Any]] = []
    open_: list[Any] = [tree]
    while open_ and len(found) < 20_000:
        holder = open_.pop()
        for place in holder if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, place))
            if isinstance(holder[place], (dict, list)):
                open_.append(holder[place])
    return found


def _change_value(holder: Any, place: Any, tree: list[Any], rng: Random) -> None:
    value, how = holder[place], rng.random()
    if how < 0.55:
        holder[place] = rng.choice(_VALUES) if rng.random() < 0.75 else rng.choice(_CONTAINERS)()
    elif how < 0.65 and holder is not tree:
        del holder[place]
    elif how < 0.75:
        text = json.dumps(value)
        copies = rng.choice((0, 1, 2, 1000)) if len(text) < LARGEST // 1000 else 2
        holder[place] = [json.loads(text) for _ in range(copies)]  # else a further change would change all of them
    elif how < 0.8:
        for _ in range(rng.choice((1, 40, 100, 900))):
            value = [value]
        holder[place] = value
    elif how < 0.9 and isinstance(value, (int, float)):
        holder[place] = rng.choice((-value, value + 1, value * 1e9, str(value), int(value) if value == value else 0))
    else:
        other, there = rng.choice(_places(tree))
        holder[place] = json.loads(json.dumps(other[there]))


def _messages(message: Any) -> list[Any]:
    """Return a message and all messages within it."""
    found: list[Any] = []
    open_ = [message]
    while open_ and len(found) < 5000:
        found.append(one := open_.pop())
        for field, value in one.ListFields():
            if field.type == field.TYPE_MESSAGE:
                open_ += value if _repeated(one, field) else [value]
    return found


def _change_field(message: Any, field: Any, rng: Random) -> None:
    how = rng.random()
    if how < 0.15:
        message.ClearField(field.name)
    elif not _repeated(message, field):
        if field.type != field.TYPE_MESSAGE:
            setattr(message, field.name, _scalar(field, getattr(message, field.name), rng))
    else:
        values = getattr(message, field.name)
        at = rng.randrange(len(values))
        if how < 0.35:
            del values[at]
        elif how < 0.55 or field.type == field.TYPE_MESSAGE:
            values.extend([values[at]] * rng.choice((1, 1, 3, 300)))
        else:
            values[at] = _scalar(field, values[at], rng)


def _scalar(field: Any, value: Any, rng: Random) -> Any:
    """Return another value that the field can hold."""
    if field.type == field.TYPE_STRING:
        return rng.choice(("", "a", value + "x", value[:-1], "\0", "é" * 3000, "../../etc/passwd", "x" * 100_000))
    if field.type == field.TYPE_BYTES:
        return mutate_bytes(value, rng)[:LARGEST]
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30, -value))
    if field.type == field.TYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if field.type == field.TYPE_BOOL:
        return not value
    bits = 31 if field.type in (field.TYPE_INT32, field.TYPE_UINT32) else 63
    signed = field.type in (field.TYPE_INT32, field.TYPE_INT64)
    chosen = rng.choice((0, 1, value + 1, value - 1, 1 << 20, 1 << 31, (1 << bits) - 1, -1, -(1 << bits)))
    return min(max(chosen, -(1 << bits) if signed else 0), (1 << bits) - 1)


def _repeated(message: Any, field: Any) -> bool:
    value = getattr(message, field.name)
    return hasattr(value, "extend")


def pick(samples: Sequence[bytes], rng: Random) -> bytes:
    """Return one of the samples; one time in twenty, the beginning of one and the end of another."""
    one = rng.choice(samples)
    if rng.random() < 0.05:
        other = rng.choice(samples)
        return one[: rng.randint(0, len(one))] + other[rng.randint(0, len(other)) :]
    return one
