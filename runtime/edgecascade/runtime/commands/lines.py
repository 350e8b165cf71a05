"""Lines in and lines out: bytes that arrive in pieces, the input in a line, and the JSON line of an answer."""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.bounded_json import Pace, read_json
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.engine import numpy_dtype
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.types.answer import Answer, LateAnswer, Source
from edgecascade.types.errors import InputError
from edgecascade.types.extras import naming_extras
from edgecascade.types.merge import merge

__all__ = [
    "Answered",
    "Given",
    "LineInput",
    "LineSplitter",
    "NumberedLines",
    "Refused",
    "answer_line",
    "as_numbers",
    "late_line",
    "plain",
    "probabilities_of",
]

_LONGEST_LINE = 16 << 20  # bytes
_LONG_LINE = 1 << 20  # bytes of JSON that are decoded in one step
_MOST_VALUES = 1 << 23  # in a line of JSON
_PATIENCE = 20.0  # seconds for decoding a line
_LONGEST_KEY = 256  # characters
_FEW = 8  # values of an output in a line, unless it was asked for
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can hold one alone, text cannot


class Given(NamedTuple):
    """An input as `Cascade.predict` takes it, the name of its source, and the key that the application gave it."""

    name: str
    x: Any
    key: str | None = None


class Refused(NamedTuple):
    """An input that cannot be answered, with the reason in one sentence."""

    name: str
    error: str
    key: str | None = None


class Answered(NamedTuple):
    """The answer to an input, which itself is not stored."""

    name: str
    key: str | None
    answer: Answer


class LineSplitter:
    """Splits bytes that arrive in pieces into lines. A line above `longest` bytes is dropped as it arrives."""

    def __init__(self, longest: int = _LONGEST_LINE) -> None:
        self._longest = longest
        self._line = bytearray()
        self._too_long = False

    @property
    def waiting(self) -> int:
        """The bytes of the line that is not complete."""
        return len(self._line)

    def feed(self, piece: bytes) -> list[bytes | None]:
        """Return the lines that are complete now, without their ends; None for each that was too long."""
        *ended, begun = piece.split(b"\n")
        lines = []
        for part in ended:
            self._grow(part)
            lines.append(self._take())
        self._grow(begun)
        return lines

    def end(self) -> list[bytes | None]:
        """Return the last line, if it had no end."""
        return [self._take()] if self._line or self._too_long else []

    def _grow(self, part: bytes) -> None:
        if self._too_long or len(self._line) + len(part) > self._longest:
            self._too_long, self._line = True, bytearray()
        else:
            self._line += part

    def _take(self) -> bytes | None:
        line = None if self._too_long else bytes(self._line).removesuffix(b"\r")
        self._too_long, self._line = False, bytearray()
        return line


class LineInput:
    """Reads the inputs of one model from lines.

    - A model of text takes a sentence, a model of images a path. Either can also be JSON, as all other inputs are.
    - JSON is an array for a model with one input, an object of arrays by name for a model with several, or
      `{"x": ..., "key": ...}`, where `x` is any of these and `key` returns with the answer. A sentence may be named
      `text` instead.
    - An image in JSON is a path, pixels [height, width, 3], or `{"b64": "..."}`, its file in base64.

    Args:
        inputs: what the model takes.
        paths: whether a line may name a file to open.
        only_json: whether a sentence must be in JSON, too: a string, or an object.

    Raises:
        ModuleNotFoundError: the model takes images, and the `images` extra (Pillow) is not installed.
    """

    def __init__(self, inputs: ModelInputs, *, paths: bool = True, only_json: bool = False) -> None:
        if inputs.images:
            with naming_extras():
                import PIL.Image  # noqa: F401  # not only when the first image comes
        self._inputs, self._paths, self._only_json = inputs, paths, only_json
        self._declared = {one.name: one for one in inputs.declared}

    def read(self, line: bytes | None, name: str) -> Given | Refused | None:
        """Return the input in a line under a name, or None for a blank line, unless the model takes text.

        A `line` of None stands for one that was too long.
        """
        if line is None:
            return Refused(name, f"expected a line of at most {_LONGEST_LINE >> 20} MiB, got a longer one")
        key = None
        try:
            if not line.strip() and self._inputs.text is None:
                return None
            value = self._value(line)
            if isinstance(value, Mapping) and self._is_wrapped(value):
                key = _key(value.get("key"))
                value = value["x"]
            return Given(name, self._input(value), key)
        except InputError as error:
            return Refused(name, str(error), key)

    def _value(self, line: bytes) -> Any:
        is_json = line.lstrip()[:1] in (b"{", b"[")
        if self._inputs.text is not None:
            return self._sentence(line, is_json)
        if self._inputs.images and not is_json:
            return os.fsdecode(line)
        try:
            return _decoded_json(line)
        except ValueError as error:
            raise InputError(f"the line is not valid JSON: {_where(error)}") from error
        except RecursionError as error:
            raise InputError("expected numbers in JSON, got too many levels of nesting") from error
        except TimeoutError as error:
            raise InputError(f"expected JSON that can be decoded within {_PATIENCE:.0f} s, got more") from error

    def _sentence(self, line: bytes, is_json: bool) -> Any:
        if is_json or self._only_json:  # elsewhere a sentence may look like JSON and is a sentence all the same
            try:
                value = _decoded_json(line)
            except (ValueError, RecursionError, TimeoutError) as error:
                if self._only_json:
                    raise InputError("expected a sentence in JSON, got a line that is not JSON") from error
                value = None
            if isinstance(value, Mapping) and "text" in value and "x" not in value:
                value = {"x" if name == "text" else name: one for name, one in value.items()}
            if isinstance(value, Mapping) and self._is_wrapped(value):
                if isinstance(value["x"], str):
                    return value
                if self._only_json or value["x"] is None or "key" in value:
                    raise InputError(f"x: expected a sentence, got {_kind(value['x'])}")
            if self._only_json:
                if isinstance(value, str):
                    return value
                raise InputError(f'expected a sentence, or an object with "text", got {_kind(value)}')
        return line.decode("utf-8", "replace")

    def _is_wrapped(self, value: Mapping[str, Any]) -> bool:
        return "x" in value and value.keys() <= {"x", "key"} and value.keys() != self._declared.keys()

    def _input(self, value: Any) -> Any:
        if self._inputs.text is not None and isinstance(value, str):
            return value
        if self._inputs.images and isinstance(value, str):
            return self._path(value)
        if self._inputs.images and isinstance(value, Mapping) and value.keys() == {"b64"}:
            return _decoded(value["b64"])
        if isinstance(value, Mapping):
            if value.keys() != self._declared.keys():
                names = ", ".join(self._declared)
                raise InputError(f'expected an array, or an object with {names} or "x", got one with other names')
            arrays = {name: as_numbers(each, self._dtype(name), name) for name, each in value.items()}
            return arrays if len(arrays) > 1 else next(iter(arrays.values()))
        if len(self._declared) != 1:
            raise InputError(f"expected an object with {', '.join(self._declared)}, got {_kind(value)}")
        return as_numbers(value, self._dtype(next(iter(self._declared))), "x")

    def _dtype(self, name: str) -> np.dtype[Any]:
        return numpy_dtype(self._declared[name].type)

    def _path(self, text: str) -> str:
        if not self._paths:
            raise InputError('x: expected pixels or {"b64": ...}, got a path, which is not opened for other machines')
        if "\0" in text:
            raise InputError("x: expected a path, got one with a null character")
        return text


class NumberedLines:
    """Reads inputs from bytes that arrive in pieces; their names are a prefix and the line's number, from 1."""

    def __init__(self, reader: LineInput, prefix: str) -> None:
        self._reader, self._prefix = reader, prefix
        self._splitter, self._number = LineSplitter(), 0

    @property
    def waiting(self) -> int:
        """The bytes of the line that is not complete."""
        return self._splitter.waiting

    def feed(self, piece: bytes) -> list[Given | Refused]:
        """Return the inputs in the lines that are complete now; an empty piece ends the last line."""
        found = []
        for line in self._splitter.feed(piece) if piece else self._splitter.end():
            self._number += 1
            item = self._reader.read(line, f"{self._prefix}{self._number}")
            if item is not None:
                found.append(item)
        return found


def answer_line(one: Answered | Refused, *, probabilities: bool = False, outputs: bool = False) -> dict[str, Any]:
    """Return the fields of an answer's line, plain types without NaN.

    Args:
        one: the answer, or the input that has none.
        probabilities: whether they include the probabilities behind the answer's label.
        outputs: whether outputs have all of their values, and stand beside a decoded result. A classifier's are those
            of the local model, whichever model answered.
    """
    named = {"input": one.name, **({} if one.key is None else {"key": one.key})}
    if isinstance(one, Refused):
        return {**named, "error": one.error}
    return {**named, **_fields(one.answer, probabilities, outputs)}


def late_line(late: LateAnswer, *, probabilities: bool = False, outputs: bool = False) -> dict[str, Any]:
    """Return the fields of a late answer's line, as `answer_line` does."""
    return {"late": True, "key": late.key, **_fields(late.answer, probabilities, outputs)}


def probabilities_of(answer: Answer) -> NDArray[np.float32]:
    """Return the calibrated probabilities float32 [classes] behind an answer's label."""
    if answer.remote is None or answer.source is Source.LOCAL:
        return answer.local.probabilities
    if answer.source is Source.REMOTE:
        return answer.remote.probabilities
    return merge("average", answer.local, answer.remote)[0].probabilities


def _fields(answer: Answer, probabilities: bool, outputs: bool) -> dict[str, Any]:
    labelled = {} if answer.label < 0 else {"label": answer.label, "name": answer.name}
    line: dict[str, Any] = {
        **labelled,
        "confidence": _number(answer.confidence),
        "source": answer.source.value,
        "reason": answer.reason.value,
        "advantage": _number(answer.advantage),
        "elapsed_ms": round(answer.elapsed * 1e3, 3),
    }
    if answer.result is not None:
        line["result"] = plain(answer.result)
    if outputs or answer.result is None:
        arrays, most = answer.local.outputs if labelled else answer.outputs, None if outputs else _FEW
        line |= {"outputs": {name: _described(array, most) for name, array in arrays.items()}} if arrays else {}
    if probabilities and labelled:
        line["probabilities"] = [_number(value) for value in probabilities_of(answer).tolist()]
    return line | {name: text for name, text in (("detail", answer.detail), ("queued", answer.queued)) if text}


def plain(value: Any) -> Any:
    """Return a decoded result as JSON has it: numbers of six digits, null for NaN, text, lists and objects.

    Arrays become lists, dataclasses and named tuples objects, and anything else its text.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, (str, int, type(None))):
        return value
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "replace")
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    return str(value)


def _described(array: NDArray[Any], most: int | None) -> dict[str, Any]:
    """Return type, shape and the first values of an output, at most so many."""
    return {"dtype": str(array.dtype), "shape": list(array.shape), "values": plain(array.reshape(-1)[:most])}


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _key(key: Any) -> str | None:
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= _LONGEST_KEY):
        raise InputError(f"key: expected a string of 1 to {_LONGEST_KEY} characters, got {_kind(key)}")
    if key is not None and _SURROGATE.search(key):
        raise InputError("key: expected Unicode text, got half of a surrogate pair")
    return key


def as_numbers(value: Any, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Return numbers from JSON in a model's type; they may lose digits, but not range. Infinity is out of range.

    Args:
        value: a number, or lists of equal lengths of numbers.
        dtype: the model's type, or bool for true and false.
        name: of the input, for error messages.

    Raises:
        InputError: there are other values, lists of different lengths, or numbers out of range.
    """
    wanted = "true and false" if dtype.kind == "b" else "numbers"
    flat, shape = _flat(value, name)
    kinds = set(map(type, flat))
    if not kinds <= ({bool} if dtype.kind == "b" else {int, float}):
        raise InputError(f"{name}: expected {wanted} in arrays of equal lengths, got other values")
    if dtype.kind in "iu" and kinds == {int}:  # numpy would make floats of large ones
        if min(flat) < np.iinfo(dtype).min or max(flat) > np.iinfo(dtype).max:
            raise InputError(f"{name}: expected numbers that fit {dtype}, got one out of range")
        return np.array(flat, dtype).reshape(shape)
    try:  # only now: numpy would pad strings to the longest one
        given = np.array(flat).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}: expected numbers in arrays of equal lengths, got other values") from error
    if given.size == 0:
        return given.astype(dtype)
    if given.dtype.kind not in "biuf":
        raise InputError(f"{name}: expected numbers that fit {dtype}, got one out of range")
    with np.errstate(over="ignore", invalid="ignore"):
        array = given.astype(dtype)
    # The decoder has made infinities of numbers beyond float64.
    if (array != given).any() if dtype.kind in "iu" else np.isinf(array).any():
        raise InputError(f"{name}: expected numbers that fit {dtype}, got one out of range")
    return array


def _flat(value: Any, name: str) -> tuple[list[Any], list[int]]:
    """Return the values inside nested lists in order, and the lengths of the lists at each level."""
    if not isinstance(value, list):
        return [value], []
    shape = [len(value)]
    while value and set(map(type, value)) == {list}:
        lengths = set(map(len, value))
        if len(lengths) != 1:
            raise InputError(f"{name}: expected numbers in arrays of equal lengths, got other values")
        shape.append(lengths.pop())
        value = list(chain.from_iterable(value))
    return value, shape


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise InputError("x: expected an image file in base64, got text that is not base64") from error


def _decoded_json(line: bytes) -> Any:
    """Return the value of a line; a long one is decoded in steps, between which other threads run."""
    if len(line) <= _LONG_LINE:
        return json.loads(line)
    return read_json(line, values=_MOST_VALUES, pace=Pace(Deadline.after(_PATIENCE)))


def _where(error: ValueError) -> str:
    """Return where a line stops being valid JSON, without quoting it."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "it is not UTF-8, or has too many values, levels or digits"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
