"""Decode JSON that a stranger sent: within bounds, and in steps between which other threads run.

`json.loads` holds the interpreter's lock until it is done: for hostile JSON up to 200 ns a byte, in which no other
thread can answer. Here a pause comes after every half millisecond, and the result is the same.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from edgecascade.runtime.deadline import Deadline

__all__ = ["Pace", "read_json"]

_AT_ONCE = 2048  # bytes that `json.loads` may decode in one step
_WINDOW = 4096  # bytes of numbers or of a string in one step
_DEEPEST = 64
_RUN, _REST = 500e-6, 50e-6  # seconds
_SHORT = 5e-3  # seconds of work, after which rests are long
_NODE = 4  # values that a list, an object or a text counts as, since it costs as much as they do

_SPACE = re.compile(rb"[ \t\r\n]{0,4096}")
_MARK = re.compile(rb'[\[\]{}"]')
_SCALAR = re.compile(rb"[-+.\w]{1,400}")
_PART = re.compile(rb'[^"\\]*(?:\\(?:u.{4}|[^u])[^"\\]*)*', re.DOTALL)  # of a string, no escape cut in two
_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Pace:
    """Pauses a long computation now and then, so that other threads run, and ends it at its deadline.

    Args:
        deadline: when the computation is of no more use.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._began = self._since = time.perf_counter()

    def step(self) -> None:
        """Pause if the last pause was more than half a millisecond ago.

        After five milliseconds in all, each pause is as long as the work before it.

        Raises:
            TimeoutError: the deadline passed.
        """
        now = time.perf_counter()
        if now - self._since > _RUN:
            if self._deadline.remaining() <= 0:
                raise TimeoutError("the deadline has passed")
            # A sleep of 0 would take the lock back before another thread wakes.
            time.sleep(_REST if now - self._began < _SHORT else _RUN)
            self._since = time.perf_counter()


def read_json(text: bytes, *, values: int, pace: Pace) -> Any:
    """Return the value of a JSON text in UTF-8, as `json.loads` does.

    Args:
        text: the JSON text.
        values: the most values in it; a list, an object and a text count as four, the names of members included.
        pace: pauses in between.

    Raises:
        ValueError: it is not valid JSON, has more values, or is nested more than 64 deep.
        TimeoutError: the deadline passed.
    """
    if len(text) <= _AT_ONCE:
        try:
            return json.loads(text)
        except RecursionError as error:
            raise ValueError(f"it is nested more than {_DEEPEST} deep") from error
    return _Reader(text, values, pace).document()


def _continues(text: bytes, at: int) -> bool:
    """Return whether a byte belongs to the character before it."""
    return at < len(text) and text[at] & 0xC0 == 0x80


class _Reader:
    def __init__(self, text: bytes, values: int, pace: Pace) -> None:
        self._text, self._most, self._left, self._pace = text, values, values, pace
        self._at = len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0

    def document(self) -> Any:
        value = self._value(0)
        if self._next():
            raise self._unexpected()
        return value

    def _value(self, depth: int) -> Any:
        mark = self._next()
        if mark == b"[":
            return self._array(depth + 1)
        if mark == b"{":
            return self._object(depth + 1)
        if mark == b'"':
            return self._string()
        found = _SCALAR.match(self._text, self._at)
        if found is None:
            raise self._unexpected()
        self._count(1)
        self._at = found.end()
        return json.loads(found[0])

    def _string(self) -> str:
        self._count(_NODE)
        parts, start = [], self._at + 1
        while True:
            self._pace.step()
            found = _PART.match(self._text, start, start + _WINDOW)
            assert found is not None  # it may be empty
            end = found.end()
            closed = self._text[end : end + 1] == b'"'
            while not closed and end > start and _continues(self._text, end):
                end -= 1  # not within a character
            if not closed and end == start:
                raise self._unexpected()
            parts.append(json.loads(b'"%b"' % self._text[start:end]))
            if closed:
                self._at = end + 1
                break
            start = end
        whole = "".join(parts)
        if len(parts) > 1 and _HALVES.search(whole):  # of one character, in two parts
            return whole.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return whole

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self._open(depth)
        if self._next() == b"}":
            self._at += 1
            return members
        while True:
            if self._next() != b'"':
                raise self._unexpected()
            name = self._string()
            self._take(b":")
            members[name] = self._value(depth)
            if self._take(b",}") == b"}":
                return members

    def _array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self._open(depth)
        due = False  # whether a value must follow, after a comma
        while True:
            piece, mark = self._piece()
            if piece:
                if items and not due:
                    if not piece.startswith(b","):
                        raise self._unexpected()
                    piece, due = piece[1:].lstrip(), True
                if piece:
                    due = piece.endswith(b",")
                    some = json.loads(b"[%b]" % (piece[:-1] if due else piece))
                    if not some:
                        raise self._unexpected()
                    self._count(len(some))
                    items += some
            if mark == b"]" and not due:
                self._at += 1
                return items
            if mark and (mark in b"]}" or (items and not due)):
                raise self._unexpected()
            if mark:
                items.append(self._value(depth))
                due = False

    def _piece(self) -> tuple[bytes, bytes]:
        """Take numbers, names and commas up to the next mark, or as far as one step goes; return the mark too."""
        self._pace.step()
        start, end = self._at, self._at + _WINDOW
        found = _MARK.search(self._text, start, end)
        self._at = found.start() if found else self._text.rfind(b",", start, end) + 1
        if self._at <= start and not found:
            raise self._unexpected()
        return self._text[start : self._at].strip(b" \t\r\n"), found[0] if found else b""

    def _next(self) -> bytes:
        """Skip spaces; return the next byte, or none at the end."""
        self._pace.step()
        while (found := _SPACE.match(self._text, self._at)) and found[0]:
            self._at = found.end()
            self._pace.step()
        return self._text[self._at : self._at + 1]

    def _take(self, marks: bytes) -> bytes:
        mark = self._next()
        if not mark or mark not in marks:
            raise self._unexpected()
        self._at += 1
        return mark

    def _open(self, depth: int) -> None:
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        self._count(_NODE)
        self._at += 1

    def _count(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise ValueError(f"it has more than {self._most} values")

    def _unexpected(self) -> ValueError:
        near = self._text[self._at : self._at + 20]
        return ValueError(f"expected other characters at byte {self._at}, got {near!r}")
