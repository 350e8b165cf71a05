"""Tensors of the Open Inference Protocol v2, over REST or gRPC: their types, their bytes, and which hold the logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.types.errors import InvalidReply, UnsendableInput

__all__ = ["DATATYPES", "NUMPY", "Described", "Signature", "Tensor", "as_table", "check", "contents", "from_bytes"]

# numpy name -> protocol name
DATATYPES = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
# protocol name -> numpy type, in the byte order of the protocol
NUMPY = {protocol: np.dtype(name).newbyteorder("<") for name, protocol in DATATYPES.items()}
_BY_TYPE = {np.dtype(name): protocol for name, protocol in DATATYPES.items()}

Described: TypeAlias = Mapping[str, tuple[str, Sequence[int]]]
"""Datatype and shape of tensors, by name."""


@dataclass(frozen=True)
class Tensor:
    """An input as it is sent: the array, with name, type and shape in the protocol's terms."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: NDArray[Any]


@dataclass(frozen=True)
class Signature:
    """The inputs of a model, and the output with the logits.

    Attributes:
        inputs: the shape declared for each input, by name.
        output: the output with the logits, or None to find it in each reply.
    """

    inputs: Mapping[str, Sequence[int]]
    output: str | None

    @classmethod
    def of(cls, inputs: Described, outputs: Described, *, input: str | None, output: str | None) -> Signature:
        """Return the signature that follows from the server's declaration and the names that the user gave."""
        shapes = {name: shape for name, (_, shape) in inputs.items()}
        return cls({input: shapes.get(input, ())} if input else shapes, output or _logits_among(outputs))

    def tensors(self, inputs: Batch) -> list[Tensor]:
        """Return inputs [n, ...] as tensors for the model.

        Raises:
            UnsendableInput: they do not match the model's inputs, or have no type in the protocol.
        """
        if not isinstance(inputs, Mapping):
            if len(self.inputs) != 1:
                raise UnsendableInput(
                    f"remote: expected a model with one input, got {len(self.inputs)}; name it with `input`"
                )
            inputs = {next(iter(self.inputs)): inputs}
        return [Tensor(name, _datatype(array), self._shape(name, array), array) for name, array in inputs.items()]

    def chosen(self, outputs: Described) -> str:
        """Return the name of the output with the logits among those of a reply.

        Raises:
            InvalidReply: the output with the logits cannot be determined.
        """
        name = self.output or _logits_among(outputs)
        if name is None or name not in outputs:
            raise InvalidReply(f"remote: expected one output with logits, got {sorted(outputs)}; name it with `output`")
        return name

    def _shape(self, name: str, array: NDArray[Any]) -> tuple[int, ...]:
        # Servers that batch by themselves declare one value per input as [n, 1], and expect it so.
        declared = self.inputs.get(name, ())
        return (*array.shape, 1) if len(declared) == array.ndim + 1 and declared[-1] == 1 else array.shape


def check(inputs: Batch) -> None:
    """Raise an `UnsendableInput` if an array has no type in the protocol."""
    for array in inputs.values() if isinstance(inputs, Mapping) else [inputs]:
        _datatype(array)


def contents(array: NDArray[Any]) -> bytes | memoryview:
    """Return an array's values as they are sent: in C order and little-endian.

    Bytes and text are sent as their length, uint32, followed by the bytes or the UTF-8.
    """
    if array.dtype.kind not in "OSU":
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
        return flat.view(np.uint8).data
    values = [one if isinstance(one, bytes) else _utf8(one) for one in array.ravel().tolist()]
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def from_bytes(raw: bytes | memoryview, datatype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Return the array that was sent as these bytes.

    Raises:
        KeyError: the type is not numeric.
        ValueError: the shape has another size.
    """
    return np.frombuffer(raw, NUMPY[datatype]).reshape(shape)


def as_table(logits: NDArray[Any]) -> NDArray[Any]:
    """Return [n, 1, classes] or [n, classes, 1], as some servers reply, as [n, classes]."""
    if logits.ndim > 2:
        extra = tuple(axis for axis in range(1, logits.ndim) if logits.shape[axis] == 1)
        logits = logits.squeeze(extra[: logits.ndim - 2])
    return logits


def _datatype(array: NDArray[Any]) -> str:
    found = "BYTES" if array.dtype.kind in "OSU" else _BY_TYPE.get(array.dtype.newbyteorder("="))
    if found is None:
        raise UnsendableInput(f"remote: expected a type of the Open Inference Protocol, got an array of {array.dtype}")
    return found


def _logits_among(outputs: Described) -> str | None:
    if "logits" in outputs:
        return "logits"
    tables = [name for name, (kind, shape) in outputs.items() if kind.startswith("FP") and len(shape) == 2]
    if len(tables) > 1:  # an output of one dimension may be declared as [n, 1]
        tables = [name for name in tables if outputs[name][1][1] != 1]
    return tables[0] if len(tables) == 1 else None


def _utf8(value: Any) -> bytes:
    if not isinstance(value, str):
        raise UnsendableInput(f"remote: expected bytes or text in an array of objects, got {type(value).__name__}")
    return value.encode()
