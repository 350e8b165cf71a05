"""Tensors of the Open Inference Protocol v2: bytes, shapes, and the selection of the logits."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from edgecascade.runtime import RemoteError
from edgecascade.runtime.remotes.tensors import DATATYPES, Signature, as_table, check, contents, from_bytes

NUMBERS = st.sampled_from(list(DATATYPES)).flatmap(
    lambda name: arrays(np.dtype(name), array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
)


@given(NUMBERS, st.sampled_from("<>"))
def test_numbers_survive_a_round_trip(array: NDArray[Any], order: str) -> None:
    """This holds for every type, byte order and layout."""
    for laid_out in (array, np.asfortranarray(array)):
        raw = contents(laid_out.astype(array.dtype.newbyteorder(order)))  # type: ignore[arg-type]
        assert len(raw) == array.nbytes
        found = from_bytes(raw, DATATYPES[array.dtype.name], array.shape)
        np.testing.assert_array_equal(found, array)


@given(st.lists(st.binary(max_size=20) | st.text(max_size=20), max_size=5))
def test_bytes_and_text_survive_a_round_trip(values: list[bytes | str]) -> None:
    """Each is its length followed by its bytes."""
    array = np.empty(len(values), object)
    array[:] = values
    raw, found = bytes(contents(array)), []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    assert found == [value.encode() if isinstance(value, str) else value for value in values]


@pytest.mark.parametrize("dtype", [complex, "datetime64[s]", "V3"])
def test_types_outside_the_protocol_are_refused(dtype: Any) -> None:
    """The error has one line, also for one array of several."""
    array = np.zeros(2, dtype)
    for batch in (array, {"a": np.zeros(2), "b": array}):
        with pytest.raises(RemoteError, match="expected a type of the Open Inference Protocol"):
            check(batch)


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        ({"logits": ("FP32", [2, 3]), "other": ("FP32", [2, 3])}, "logits"),
        ({"label": ("INT64", [2]), "scores": ("FP16", [2, 3])}, "scores"),
        ({"sure": ("FP32", [2, 1]), "scores": ("FP32", [2, 3])}, "scores"),
        ({"sure": ("FP32", [2]), "scores": ("FP32", [2, 1])}, "scores"),
        ({"scores": ("FP32", [2, 3]), "embedding": ("FP32", [2, 8])}, None),
        ({"label": ("INT64", [2, 3])}, None),
        ({}, None),
    ],
)
def test_the_output_with_logits_is_selected(outputs: Any, chosen: str | None) -> None:
    """It is called `logits` or is the only two-dimensional floating output; among several, [n, 1] does not count."""
    assert Signature.of({}, outputs, input=None, output=None).output == chosen
    unknown = Signature({}, None)
    if chosen:
        assert unknown.chosen(outputs) == chosen
    else:
        with pytest.raises(RemoteError, match="expected one output with logits, got"):
            unknown.chosen(outputs)


@pytest.mark.parametrize(
    ("declared", "given_shape", "sent"),
    [
        ([-1, 1], (5,), (5, 1)),
        ([-1], (5,), (5,)),
        ([-1, 3], (5, 3), (5, 3)),
        ([-1, 3, 1], (5, 3), (5, 3, 1)),
        ([-1, 3], (5,), (5,)),
        ([], (5,), (5,)),
    ],
)
def test_inputs_get_the_declared_shape(
    declared: list[int], given_shape: tuple[int, ...], sent: tuple[int, ...]
) -> None:
    """A last dimension of 1 is added where the model declares it; nothing else changes."""
    (tensor,) = Signature({"x": ("FP32", declared)}, None).tensors(np.zeros(given_shape, np.float32))
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", "FP32", sent)


@given(array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=3))
def test_a_two_dimensional_output_is_unchanged(shape: tuple[int, ...]) -> None:
    """Dimensions of 1 are removed only beyond two, and never the first."""
    found = as_table(np.zeros(shape))
    assert found.size == np.prod(shape)
    assert found.shape[0] == shape[0]
    assert found.ndim >= min(len(shape), 2)
    if len(shape) <= 2 or 1 not in shape[1:]:
        assert found.shape == shape


@pytest.mark.parametrize(
    ("declared", "n", "batches"),
    [
        ([-1, 3], 5, [[0, 1, 2, 3, 4]]),
        ([], 2, [[0, 1]]),
        ([1, 3], 3, [[0], [1], [2]]),
        ([2, 3], 3, [[0, 1], [2, 2]]),
        ([4, 3, 1], 2, [[0, 1, 1, 1]]),
        ([3], 2, [[0, 1]]),
        ([7, 7, 7, 3], 2, [[0, 1]]),
    ],
)
def test_inputs_are_sent_in_batches_of_the_declared_size(declared: list[int], n: int, batches: list[list[int]]) -> None:
    """The last is filled up with its last input; a declaration of another rank says nothing about the batch."""
    x = np.arange(n, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    for inputs in (x, {"x": x}):
        found = Signature({"x": ("FP32", declared)}, None).batches(inputs)
        arrays = [one["x"] if isinstance(one, dict) else one for one in found]
        assert [array[:, 0].tolist() for array in arrays] == batches  # type: ignore[index]
