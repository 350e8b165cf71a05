"""Pack inputs and predictions as bytes, and unpack them. Without pickle, so that the bytes cannot run code."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.types.answer import NO_OUTPUTS, Outputs, Prediction
from edgecascade.types.errors import EdgecascadeError, InputError

__all__ = ["Bytes", "PackedError", "Packing", "pack_prediction", "prediction_size", "unpack", "unpack_prediction"]

_SEAL = struct.Struct("<8sI")  # the kind of record, and the CRC-32 of all that follows
_INPUT, _PREDICTION, _NAMED = b"ecinput2", b"ecpredn2", b"ecnamed1"
_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<qd")  # label and confidence of a prediction
_PLAIN = "biufcSUmM"  # numpy's kinds whose values are their bytes
_ENCODED = "bytes"
_JSON = json.JSONEncoder(separators=(",", ":"))
Bytes: TypeAlias = bytes | bytearray | memoryview


class PackedError(EdgecascadeError, ValueError):
    """The bytes are damaged, or were not packed here."""


class Packing:
    """One input to pack as bytes: the constructor describes it, and `data` copies and packs it.

    Args:
        inputs: arrays [1, ...] of numbers, strings or, as objects, bytes; one, or one by name.

    Attributes:
        kind: text that is equal for inputs that can be sent in one request.
        size: number of bytes that `data` will return.

    Raises:
        InputError: it is not a single input, or has a type that cannot be packed.
    """

    def __init__(self, inputs: Batch) -> None:
        arrays = list(inputs.items()) if isinstance(inputs, Mapping) else [(None, inputs)]
        if not arrays:
            raise InputError("inputs: expected one array or more, got none")
        described: list[list[Any]] = []
        kinds: list[list[Any]] = []
        size = 0
        for name, array in arrays:
            if not isinstance(array, np.ndarray) or array.ndim < 1 or len(array) != 1:
                raise InputError(f"inputs: expected one input, as arrays [1, ...], got {_shown(array)}")
            dtype = _dtype(array)
            described.append([name, dtype, list(array.shape)])
            kinds.append([name, "text" if array.dtype.kind == "U" else dtype, list(array.shape)])
            size += sum(_LENGTH.size + len(one) for one in array.flat) if dtype == _ENCODED else array.nbytes
        self._arrays = [array for _, array in arrays]
        self._header = _JSON.encode(described).encode()
        self.kind = _JSON.encode(kinds)
        self.size = _SEAL.size + _LENGTH.size + len(self._header) + size

    def data(self) -> memoryview:
        """Return the input as bytes. Other threads run while they are copied."""
        return _sealed(_INPUT, _LENGTH.pack(len(self._header)), self._header, *map(_content, self._arrays))


def unpack(data: Bytes) -> Batch:
    """Return the input [1, ...] that was packed.

    Raises:
        PackedError: the bytes are damaged.
    """
    arrays = _arrays(_opened(_INPUT, data))
    return arrays.get(None, arrays)


def pack_prediction(prediction: Prediction) -> bytearray:
    """Return a prediction as bytes: label, confidence, and probabilities float32 [classes]; then the outputs, if any.

    The result is left out, since it may be any object.

    Raises:
        InputError: an output has a type that cannot be packed.
    """
    probabilities = np.ascontiguousarray(prediction.probabilities, "<f4")
    head = _HEAD.pack(prediction.label, prediction.confidence)
    if not prediction.outputs:
        return bytearray(_sealed(_PREDICTION, head, probabilities.tobytes()))
    arrays = [(name, _as_plain(array)) for name, array in prediction.outputs.items()]
    header = _JSON.encode([[name, _dtype(array), list(array.shape)] for name, array in arrays]).encode()
    parts = [_LENGTH.pack(len(header)), header, *(_content(array) for _, array in arrays)]
    return bytearray(_sealed(_NAMED, _LENGTH.pack(probabilities.nbytes), head, probabilities.tobytes(), *parts))


def prediction_size(prediction: Prediction) -> int:
    """Return the number of bytes of a packed prediction without outputs."""
    return _SEAL.size + _HEAD.size + 4 * len(prediction.probabilities)


def unpack_prediction(data: Bytes) -> Prediction:
    """Return the prediction that was packed.

    Raises:
        PackedError: the bytes are damaged.
    """
    outputs: Outputs = NO_OUTPUTS
    if bytes(memoryview(data)[: len(_NAMED)]) == _NAMED:
        body = _opened(_NAMED, data)
        if len(body) < _LENGTH.size:
            raise PackedError(f"packed prediction: expected {_LENGTH.size} bytes or more, got {len(body)}")
        end = _LENGTH.size + _HEAD.size + _LENGTH.unpack_from(body)[0]
        outputs = _arrays(body[end:])
        body = body[_LENGTH.size : end]
    else:
        body = _opened(_PREDICTION, data)
    if len(body) < _HEAD.size or (len(body) - _HEAD.size) % 4:
        raise PackedError(f"packed prediction: expected {_HEAD.size} bytes and 4 per class, got {len(body)}")
    label, confidence = _HEAD.unpack_from(body)
    probabilities = np.frombuffer(body[_HEAD.size :], "<f4").astype(np.float32)
    return Prediction(label, confidence, probabilities, outputs)


def _arrays(body: memoryview) -> dict[Any, NDArray[Any]]:
    """Return the arrays that are described by JSON before them, with its length.

    Raises:
        PackedError: the bytes are malformed.
    """
    try:
        start = _LENGTH.size + _LENGTH.unpack_from(body)[0]
        described = json.loads(bytes(body[_LENGTH.size : start]))
        arrays = {}
        for name, dtype, shape in described:
            arrays[name], start = _array(body, start, dtype, shape)
    except (ValueError, TypeError, KeyError, struct.error, RecursionError, MemoryError, OverflowError) as error:
        raise PackedError("packed: the description of the arrays is malformed") from error
    if start != len(body) or not arrays:
        raise PackedError(f"packed: expected {start} bytes by the description of the arrays, got {len(body)}")
    return arrays


def _as_plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of objects that are all text as one of text."""
    objects = array.dtype.kind == "O" and array.size and all(isinstance(one, str) for one in array.flat)
    return array.astype(np.str_) if objects else array


def _content(array: NDArray[Any]) -> Bytes:
    return _encoded(array) if array.dtype.kind == "O" else _bytes(array)


def _dtype(array: NDArray[Any]) -> str:
    if array.dtype.kind == "O" and all(type(one) is bytes for one in array.flat):
        return _ENCODED
    if array.dtype.kind not in _PLAIN or (array.dtype.kind in "mM" and np.datetime_data(array.dtype)[0] == "generic"):
        raise InputError(f"inputs: expected numbers, strings or bytes, got {_shown(array)}")
    return array.dtype.str


def _array(body: memoryview, start: int, dtype: str, shape: list[int]) -> tuple[NDArray[Any], int]:
    if dtype == _ENCODED:
        return _decoded(body, start, shape)
    if not isinstance(dtype, str) or "," in dtype:  # numpy evaluates a list of types
        raise ValueError(f"expected a plain type, got {dtype}")
    kind = np.dtype(dtype)
    if kind.kind not in _PLAIN or kind.hasobject or kind.subdtype is not None or kind.fields is not None:
        raise ValueError(f"expected a plain type, got {dtype}")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"expected a shape, got {shape}")
    array: NDArray[Any] = np.ndarray(shape, kind, body, start)
    return array.copy(), start + array.nbytes


def _bytes(array: NDArray[Any]) -> Bytes:
    """Return an array's own memory where that is possible, since a copy costs as much as the rest of packing it."""
    if not array.nbytes or not array.flags.c_contiguous:
        return array.tobytes()
    return array.reshape(-1).view(np.uint8).data


def _encoded(array: NDArray[Any]) -> bytes:
    """Return each item as its length and its bytes: numpy's own type for bytes would drop zeros at the end."""
    return b"".join(_LENGTH.pack(len(one)) + one for one in array.flat)


def _decoded(body: memoryview, start: int, shape: list[int]) -> tuple[NDArray[Any], int]:
    if int(np.prod(shape, dtype=object)) * _LENGTH.size > len(body):
        raise ValueError(f"expected a shape, got {shape}")
    array = np.empty(shape, object)
    for i in range(array.size):
        at, start = start + _LENGTH.size, start + _LENGTH.size + _LENGTH.unpack_from(body, start)[0]
        if start > len(body):
            raise ValueError("an item is longer than all bytes")
        array.flat[i] = bytes(body[at:start])
    return array, start


def _sealed(magic: bytes, *parts: Bytes) -> memoryview:
    data, at = np.empty(_SEAL.size + sum(map(len, parts)), np.uint8), _SEAL.size
    for part in parts:  # by numpy, which does not hold the interpreter meanwhile
        data[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    view = data.data
    _SEAL.pack_into(view, 0, magic, zlib.crc32(view[_SEAL.size :]))
    return view


def _opened(magic: bytes, data: Bytes) -> memoryview:
    view = memoryview(data)
    if len(view) < _SEAL.size:
        raise PackedError(f"packed: expected {_SEAL.size} bytes or more, got {len(view)}")
    found, checksum = _SEAL.unpack_from(view)
    if found != magic:
        raise PackedError(f"packed: expected {magic!r}, got {found!r}")
    if checksum != zlib.crc32(view[_SEAL.size :]):
        raise PackedError("packed: the bytes are damaged: their CRC-32 differs")
    return view[_SEAL.size :]


def _shown(array: Any) -> str:
    return f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
