"""One line of text as one input: a sentence, a path to an image, or numbers in JSON."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.engine import numpy_dtype
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.runtime.run.given import Given, Refused
from edgecascade.runtime.run.line_splitter import LONGEST_LINE
from edgecascade.types.errors import InputError

__all__ = ["LineInput"]

_LONGEST_KEY = 256  # characters


class LineInput:
    """Reads lines for one model.

    - A model of text takes a sentence; one of images a path. Both, and everything else, can come as JSON.
    - JSON is an array for a model with one input, an object of arrays by name for one with several, and
      `{"x": ..., "key": ...}`, where `x` is any of these, and `key` is to come back with the answer.
    - An image as JSON is a path, pixels [height, width, 3], or `{"b64": "..."}`, its file in base64.

    Args:
        inputs: of the model.
        paths: whether files may be opened that a line names.
    """

    def __init__(self, inputs: ModelInputs, *, paths: bool = True) -> None:
        self._inputs, self._paths = inputs, paths
        self._declared = {one.name: one for one in inputs.declared}

    def read(self, line: bytes | None, name: str) -> Given | Refused | None:
        """What is in a line; None for one that is blank, unless it is a sentence.

        Args:
            line: without its end; None for one that was too long.
            name: says where it came from.
        """
        if line is None:
            return Refused(name, f"expected a line of at most {LONGEST_LINE >> 20} MiB, got a longer one")
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
            return json.loads(line)
        except ValueError as error:
            raise InputError(f"expected JSON, got a line that is none: {_where(error)}") from error
        except RecursionError as error:
            raise InputError("expected numbers in JSON, got too many levels of it") from error

    def _sentence(self, line: bytes, is_json: bool) -> Any:
        if is_json:  # a sentence may look like it, and is then still one
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, Mapping) and self._is_wrapped(value) and isinstance(value["x"], str):
                return value
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
            arrays = {name: _array(each, self._dtype(name), name) for name, each in value.items()}
            return arrays if len(arrays) > 1 else next(iter(arrays.values()))
        if len(self._declared) != 1:
            raise InputError(f"expected an object with {', '.join(self._declared)}, got {_kind(value)}")
        return _array(value, self._dtype(next(iter(self._declared))), "x")

    def _dtype(self, name: str) -> np.dtype[Any]:
        return numpy_dtype(self._declared[name].type)

    def _path(self, text: str) -> str:
        if not self._paths:
            raise InputError('x: expected pixels or {"b64": ...}, got a path, which is not opened for others')
        if "\0" in text:
            raise InputError("x: expected a path, got one with a zero in it")
        return text


def _key(key: Any) -> str | None:
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= _LONGEST_KEY):
        raise InputError(f"key: expected a string of 1 to {_LONGEST_KEY} characters, got {_kind(key)}")
    return key


def _array(value: Any, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Numbers in the model's own type, if that loses nothing but digits."""
    try:
        given = np.array(value)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}: expected numbers in arrays of equal lengths") from error
    if given.size == 0:
        return given.astype(dtype)
    if given.dtype.kind not in "biuf" or (given.dtype.kind == "b") != (dtype.kind == "b"):
        wanted = "true and false" if dtype.kind == "b" else "numbers"
        raise InputError(f"{name}: expected {wanted} in arrays of equal lengths, got {_kind(value)} of something else")
    with np.errstate(over="ignore", invalid="ignore"):
        array = given.astype(dtype)
    lost = (array != given).any() if dtype.kind in "iu" else (np.isinf(array) & np.isfinite(given)).any()
    if lost:
        raise InputError(f"{name}: expected numbers that fit {dtype}, got others")
    return array


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise InputError("x: expected an image file in base64, got something else") from error


def _where(error: ValueError) -> str:
    """Without a word of what is in the line."""
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "no UTF-8 or number"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
