"""Packed inputs are unpacked unchanged, and damaged ones raise an error."""

import json
import math
import struct
import zlib
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgecascade.runtime.outbox.packed import (
    PackedError,
    Packing,
    pack_prediction,
    prediction_size,
    unpack,
    unpack_prediction,
)
from edgecascade.runtime.remotes.tensors import DATATYPES
from edgecascade.types.answer import Prediction
from edgecascade.types.errors import InputError

SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4).map(lambda shape: (1, *shape))
ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
NUMBERS = st.sampled_from([np.dtype(name).newbyteorder(order) for name in DATATYPES for order in ORDERS]).flatmap(
    lambda dtype: npst.arrays(dtype, SHAPES)
)
TEXTS = npst.arrays(np.dtype("U7"), SHAPES, elements=st.text(max_size=7).filter(lambda text: not text.endswith("\0")))
FILES = st.binary(max_size=40).map(lambda one: as_objects([one]))
ARRAYS = NUMBERS | TEXTS | FILES
INPUTS = ARRAYS | st.dictionaries(st.text(max_size=5), ARRAYS, min_size=1, max_size=3)


def as_objects(items: list[Any]) -> Any:
    """Return an object array with each item unchanged."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def same(a: Any, b: Any) -> bool:
    """Return whether names and their order, types, shapes and bytes are equal."""
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return bool(a.tolist() == b.tolist() if a.dtype.kind == "O" else a.tobytes() == b.tobytes())


@given(INPUTS)
@example(np.zeros((1, 4), np.float32).T[:1])
@example(as_objects([b"zeros at the end\0\0"]))
@example({"": np.zeros((1, 0), np.int64), "größe": np.array(["ß", ""])[:1]})
@example(np.array(["\udcff lone surrogate"]))
@example(np.array([["2024-01-01"]], "M8[s]"))
@example(np.array([[1 + 2j]]))
@example(np.array([b"bytes"]))
def test_an_input_survives_a_round_trip(inputs: Any) -> None:
    """Cases are numbers of every type and byte order, strings, and bytes with zeros at the end, by name or alone."""
    assert same(unpack(Packing(inputs).data()), inputs)


def test_an_unpacked_input_is_writable() -> None:
    """A remote in this process may work in place."""
    back: Any = unpack(Packing(np.zeros((1, 3))).data())
    back += 1
    assert back.flags.aligned


@given(INPUTS, st.data())
def test_damaged_bytes_raise_one_error(inputs: Any, data: st.DataObject) -> None:
    """A changed byte, a truncation and an addition are all detected."""
    packed = bytes(Packing(inputs).data())
    place = data.draw(st.integers(0, len(packed) - 1))
    change = data.draw(st.integers(1, 255))
    damaged = (
        packed[:place],
        packed + bytes([change]),
        packed[:place] + bytes([packed[place] ^ change]) + packed[place + 1 :],
    )
    for one in damaged:
        with pytest.raises(PackedError):
            unpack(bytes(one))


def test_exchanged_words_are_detected() -> None:
    """A sum of words would not detect them."""
    packed = Packing(np.arange(4096, dtype=np.uint64)[None]).data()
    packed[8000:8008], packed[9000:9008] = packed[9000:9008], packed[8000:8008]
    with pytest.raises(PackedError):
        unpack(packed)


@given(INPUTS)
def test_the_size_is_known_before_packing(inputs: Any) -> None:
    """It is exact, because the bounds depend on it."""
    packing = Packing(inputs)
    assert packing.size == len(packing.data())


def sealed(header: Any, raw: bytes = b"") -> bytes:
    """Return bytes with a valid checksum and any description."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = struct.pack("<I", len(text)) + text + raw
    return struct.pack("<8sI", b"ecinput2", zlib.crc32(body)) + body


def test_the_valid_checksum_is_computed_as_here() -> None:
    """The next test depends on it."""
    assert same(unpack(sealed([["a", "|u1", [1, 2]]], b"\1\2")), {"a": np.array([[1, 2]], np.uint8)})


@pytest.mark.parametrize(
    "data",
    [
        sealed([[None, "|O", [1]]], b"\0" * 8),
        sealed([[None, "i4,O", [1]]], b"\0" * 16),
        sealed([[None, "f4,,", [1]]], b"\0" * 8),
        sealed([[None, "i4,(2,2", [1]]], b"\0" * 8),
        sealed([[None, "V8", [1]]], b"\0" * 8),
        sealed([[None, "(2,)i4", [1]]], b"\0" * 8),
        sealed([[None, "<f4", [1, 1 << 62]]], b"\0" * 8),
        sealed([[None, "<f4", [-1]]], b"\0" * 8),
        sealed([[None, "<f4", [1.0]]], b"\0" * 8),
        sealed([[None, "<f4", "1"]], b"\0" * 8),
        sealed([[None, "bytes", [1 << 62]]], b"\0" * 8),
        sealed([[None, "bytes", [1]]], b"\xff\xff\xff\xff"),
        sealed([[None, "bytes", [1, "x"]]], b"\0" * 8),
        sealed([[["unhashable"], "<f4", [1]]], b"\0" * 4),
        sealed([[None, "<f4", [1]]], b"\0" * 5),
        sealed([]),
        sealed({}),
        sealed(7),
        sealed(b"["),
        sealed(b"[" * 100_000),
        sealed(b"\xff"),
        sealed([["a"]]),
    ],
)
def test_a_malicious_description_runs_no_code(data: bytes) -> None:
    """With a valid checksum too, only plain types of the available size are read."""
    with pytest.raises(PackedError):
        unpack(data)


@given(st.binary(max_size=80))
def test_other_bytes_are_neither_input_nor_prediction(data: bytes) -> None:
    """Unpacking them raises an error."""
    for read in (unpack, unpack_prediction):
        with pytest.raises(PackedError):
            read(data)


@pytest.mark.parametrize(
    "inputs",
    [np.zeros((2, 3)), np.zeros(0), np.float32(1), {}, as_objects(["text"]), as_objects([b"", 1])[1:], [[1.0]]],
)
def test_an_input_that_cannot_be_packed_is_refused(inputs: Any) -> None:
    """The error is one of edgecascade."""
    with pytest.raises(InputError, match=r"^inputs: expected "):
        Packing(inputs)


def test_only_inputs_of_one_kind_are_sent_together() -> None:
    """Names, types and shapes are equal; strings may have any length."""
    kinds = [
        Packing(inputs).kind
        for inputs in (
            np.zeros((1, 3), np.float32),
            np.zeros((1, 4), np.float32),
            np.zeros((1, 3), np.float64),
            {"a": np.zeros((1, 3), np.float32)},
            {"b": np.zeros((1, 3), np.float32)},
            np.array(["text"]),
            as_objects([b"file"]),
        )
    ]
    assert len(set(kinds)) == len(kinds)
    assert Packing(np.array(["long text"])).kind == Packing(np.array(["text"])).kind
    assert Packing(as_objects([b"longer"])).kind == Packing(as_objects([b"file"])).kind


@given(st.integers(-(2**63), 2**63 - 1), st.floats(), npst.arrays(np.float32, st.integers(0, 5)))
def test_a_prediction_survives_a_round_trip(label: int, confidence: float, probabilities: Any) -> None:
    """This includes NaN."""
    packed = pack_prediction(Prediction(label, confidence, probabilities))
    assert prediction_size(Prediction(label, confidence, probabilities)) == len(packed)
    back = unpack_prediction(packed)
    assert back.label == label
    assert back.confidence == confidence or (math.isnan(back.confidence) and math.isnan(confidence))
    assert back.probabilities.dtype == np.float32
    assert back.probabilities.tobytes() == probabilities.tobytes()
    with pytest.raises(PackedError):
        unpack_prediction(packed[:-1])


@given(st.dictionaries(st.text(max_size=5), ARRAYS, min_size=1, max_size=3), st.data())
def test_outputs_survive_a_round_trip(outputs: dict[str, Any], data: st.DataObject) -> None:
    """They may have any shape; bytes that are cut off or changed are an error."""
    prediction = Prediction(-1, math.nan, np.zeros(0, np.float32), outputs, object())
    packed = pack_prediction(prediction)
    back = unpack_prediction(packed)
    assert same(dict(back.outputs), outputs)
    assert (back.label, back.result, len(back.probabilities)) == (-1, None, 0)
    at = data.draw(st.integers(0, len(packed) - 1))
    changed = bytearray(packed)
    changed[at] ^= data.draw(st.integers(1, 255))
    for damaged in (packed[:at], changed):
        with pytest.raises(PackedError):
            unpack_prediction(damaged)


def test_text_in_objects_is_packed_as_text() -> None:
    """So a model whose outputs are strings can answer late."""
    prediction = Prediction(-1, math.nan, np.zeros(0, np.float32), {"text": as_objects(["ein Wort", "zwei"])})
    assert unpack_prediction(pack_prediction(prediction)).outputs["text"].tolist() == ["ein Wort", "zwei"]
