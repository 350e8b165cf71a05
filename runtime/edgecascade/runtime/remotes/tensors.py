"""Tensors of the Open Inference Protocol v2, over REST or gRPC: their types, their bytes, and which hold the logits.

A client asks for the model's signature once. It asks again when a reply contradicts it, since the server may have
described another model, or changed its own since then.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from math import inf, prod
from operator import eq
from types import NoneType
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.bounded_json import Pace
from edgecascade.runtime.deadline import Deadline
from edgecascade.types.errors import InvalidReply, RemoteError, RemoteRefusal, UnsendableInput

__all__ = [
    "DATATYPES",
    "NUMPY",
    "Described",
    "Origin",
    "Signature",
    "SignatureOnDemand",
    "Tensor",
    "as_table",
    "chained",
    "check",
    "contents",
    "from_bytes",
    "from_numbers",
    "stacked_rows",
    "texts_from_bytes",
    "texts_from_list",
]

_UNDECLARED: tuple[str, tuple[int, ...]] = ("", ())
_MOST_SIDES = 16  # of a shape
_LARGEST_BATCH = 64  # that a model may declare; a larger one would have us send more than a few inputs
_STEP = 4096  # numbers that are converted at once
_CONFIRMED = 10.0  # seconds for which a signature that was asked again is not asked a third time
# Errors of a request that another signature may mend; gRPC has names, HTTP has numbers.
_CONTRADICTIONS = {"400", "404", "409", "422", "500", "501", "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL", "UNKNOWN"}
_CONTRADICTIONS |= {"FAILED_PRECONDITION", "UNIMPLEMENTED", "OUT_OF_RANGE"}

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
# kind of a numpy type -> types of its values in JSON, where null is NaN, or in protobuf
_TYPES: dict[str, set[type]] = {"f": {float, int, NoneType}, "b": {bool}, **{kind: {int, float} for kind in "iu"}}
_BY_TYPE = {np.dtype(name): protocol for name, protocol in DATATYPES.items()}

T = TypeVar("T")
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
    """The inputs and outputs of a model, and the output with the logits.

    Attributes:
        inputs: the datatype and shape declared for each input, by name; empty if they are not known.
        output: the output with the logits, or None to find it in each reply.
        datatype: the type declared for that output; empty if it is not known.
        outputs: the datatype and shape declared for each output, by name; empty if they are not known.
    """

    inputs: Described
    output: str | None
    datatype: str = ""
    outputs: Described = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Described, outputs: Described, *, input: str | None, output: str | None) -> Signature:
        """Return the signature that follows from the server's declaration and the names that the user gave."""
        chosen = {input: inputs.get(input, _UNDECLARED)} if input else inputs
        output = output or _logits_among(outputs)
        return cls(chosen, output, outputs.get(output or "", _UNDECLARED)[0], outputs)

    def tensors(self, inputs: Batch) -> list[Tensor]:
        """Return inputs [n, ...] as tensors for the model, in the types that it declares.

        Raises:
            UnsendableInput: they do not match the model's inputs, have no type in the protocol, or have values that
                the declared type cannot hold.
        """
        if not isinstance(inputs, Mapping):
            if len(self.inputs) != 1:
                raise UnsendableInput(
                    f"remote: expected a model with one input, got {len(self.inputs)}; name it with `input` "
                    "(--remote-input)"
                )
            inputs = {next(iter(self.inputs)): inputs}
        return [self._tensor(name, array) for name, array in inputs.items()]

    def batches(self, inputs: Batch) -> list[Batch]:
        """Return inputs [n, ...] in batches of the size that the model declares, the last one filled up.

        A model that declares no size takes any number.
        """
        n, declared = size(inputs), self._batch(inputs)
        if declared in (0, n):
            return [inputs]
        places = np.minimum(np.arange(-(-n // declared) * declared), n - 1)
        return [rows(inputs, part) for part in places.reshape(-1, declared)]

    def chosen(self, outputs: Described) -> str:
        """Return the name of the output with the logits among those of a reply.

        Its type may be wider or narrower than the declared one: some servers do not check what a user declares.

        Raises:
            InvalidReply: the output with the logits cannot be determined, or is of another kind than declared.
        """
        name = self.output or _logits_among(outputs)
        if name is None or name not in outputs:
            raise InvalidReply(
                f"remote: expected one output with logits, got {sorted(outputs)!s:.200}; name it with `output` "
                "(--remote-output)"
            )
        found = outputs[name][0]
        if self.datatype in NUMPY and found in NUMPY and NUMPY[found].kind != NUMPY[self.datatype].kind:
            raise InvalidReply(f"remote: expected {self.datatype} in {name!r:.80}, as the server declares, got {found}")
        return name

    def wanted(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the outputs to ask for: those given, or all that are declared; empty for all there are.

        Raises:
            InvalidReply: the server declares outputs, and lacks one.
        """
        missing = [name for name in names if self.outputs and name not in self.outputs]
        if missing:
            raise InvalidReply(
                f"remote: expected the outputs {', '.join(names)!s:.200}, the server declares "
                f"{', '.join(self.outputs)!s:.200}"
            )
        return tuple(names) or tuple(self.outputs)

    def sides(self, names: Iterable[str]) -> list[Sequence[int]]:
        """Return the shapes that outputs declare, without the batch axis; [-1] where any size may come."""
        declared = [self.outputs.get(name, _UNDECLARED) for name in names]
        return [shape[1:] if shape and datatype in NUMPY else (-1,) for datatype, shape in declared]

    def among(self, described: Described, names: Sequence[str]) -> list[str]:
        """Return the names of the wanted outputs among those of a reply: those given, or all.

        Types may be wider or narrower than the declared ones: some servers do not check what a user declares.

        Raises:
            InvalidReply: one is missing, or is of another kind than declared.
        """
        missing = [name for name in names if name not in described]
        if missing or not described:
            got = ", ".join(sorted(described)) or "none"
            raise InvalidReply(
                f"remote: expected the outputs {', '.join(names) or 'of a model'!s:.200}, got {got!s:.200}"
            )
        wanted = list(names) or list(described)
        for name in wanted:
            found, declared = described[name][0], self.outputs.get(name, _UNDECLARED)[0]
            if declared and _kind(found) != _kind(declared):
                raise InvalidReply(
                    f"remote: expected {declared} in {name!r:.80}, as the server declares, got {found!r:.40}"
                )
        return wanted

    def by_input(self, arrays: Mapping[str, NDArray[Any]], n: int) -> list[dict[str, NDArray[Any]]]:
        """Return the arrays of each of n inputs, without the batch axis.

        Where the server takes one input at a time, an output that declares another first side than 1 has no batch axis,
        such as the boxes in an image.

        Raises:
            InvalidReply: an array has not n rows.
        """
        singly = n == 1 and {shape[:1] for _, shape in self.inputs.values()} == {(1,)}
        found: list[dict[str, NDArray[Any]]] = [{} for _ in range(n)]
        for name, array in arrays.items():
            shape = self.outputs.get(name, _UNDECLARED)[1]
            if singly and shape and shape[0] != 1:
                found[0][name] = array
                continue
            if array.ndim == 0 or len(array) != n:
                raise InvalidReply(
                    f"remote: expected {n} rows in the output {name!r:.80}, one for each input, got "
                    f"{list(array.shape)!s:.80}"
                )
            for i, one in enumerate(found):
                one[name] = array[i, ...]
        return found

    def _batch(self, inputs: Batch) -> int:
        """Return the number of inputs that the model takes at once, or 0 for any."""
        arrays = inputs if isinstance(inputs, Mapping) else dict.fromkeys(self.inputs, inputs)
        for name, array in arrays.items():
            _, declared = self.inputs.get(name, _UNDECLARED)
            if len(declared) - array.ndim in (0, 1) and declared and 0 < declared[0] <= _LARGEST_BATCH:
                return declared[0]
        return 0

    def _tensor(self, name: str, array: NDArray[Any]) -> Tensor:
        datatype, declared = self.inputs.get(name, _UNDECLARED)
        array = _as_declared(name, array, datatype)
        # Servers that batch by themselves declare one value per input as [n, 1], and expect it so.
        added = len(declared) == array.ndim + 1 and declared[-1] == 1
        return Tensor(name, _datatype(array), (*array.shape, 1) if added else array.shape, array)


class SignatureOnDemand:
    """The signature of a model: asked for when it is needed, and again when a reply contradicts it.

    Args:
        ask: asks the server for the signature.
    """

    def __init__(self, ask: Callable[[Deadline], Signature]) -> None:
        self._ask = ask
        self._known: Signature | None = None
        self._confirmed = -inf  # when it was asked again, and was the same

    def use(
        self,
        request: Callable[[Batch, Signature], T],
        inputs: Batch,
        deadline: Deadline,
        joined: Callable[[Sequence[T]], T],
    ) -> T:
        """Return the reply to inputs [n, ...], from as many requests as the declared batch needs.

        They are repeated once if one of them fails and the server has another signature by then.

        Args:
            request: asks about one batch.
            inputs: [n, ...].
            deadline: for asking for the signature.
            joined: joins the replies to several batches; of the last one, which may be filled up, there may be more
                rows than inputs.
        """
        known = self._known
        if known is None:
            known = self._known = self._ask(deadline)
        try:
            return _in_batches(request, known, inputs, joined)
        except RemoteError as error:
            if not _contradicts(error) or time.monotonic() < self._confirmed + _CONFIRMED:
                raise
            renewed = known
            with suppress(RemoteError, TimeoutError):  # the first error says more
                renewed = self._ask(deadline)
            if renewed == known:
                self._confirmed = time.monotonic()
                raise
        self._known = renewed
        return _in_batches(request, renewed, inputs, joined)


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Origin:
    """Checks that a reply is that of the model that was asked, and to the request that was sent.

    Triton and MLServer send a request's id back, and some servers none. KServe's examples of own models make a UUID for
    each reply, so one that differs is an error only where the server has sent an id back before.

    Args:
        name: the name of the model.
        version: its version, or empty for any.
    """

    def __init__(self, name: str, version: str) -> None:
        self._name, self._version = name, version
        self._prefix = os.urandom(6).hex()
        self._numbers = count()
        self._echoed = False  # whether the server has sent a request's id back

    def new_id(self) -> str:
        """Return the id of a new request; all have the same length."""
        return f"{self._prefix}-{next(self._numbers) & 0xFFFFFFFF:08x}"

    def check(self, sent: str, *, model: Any, version: Any, id: Any) -> None:
        """Check what a reply says about itself; what it leaves out is not checked.

        Raises:
            InvalidReply: it is from another model or another version, or to another request.
        """
        if model and model != self._name:
            raise InvalidReply(f"remote: expected a reply from the model {self._name!r}, got one from {model!r:.80}")
        if version and self._version and version != self._version:
            raise InvalidReply(f"remote: expected a reply from version {self._version!r}, got one from {version!r:.80}")
        if id == sent:
            self._echoed = True
        elif id not in (None, "") and (self._echoed or not (isinstance(id, str) and _UUID.fullmatch(id))):
            raise InvalidReply("remote: expected the reply to this request, got the reply to another one")


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
        ValueError: the type is not numeric, or the shape has another size.
    """
    wanted = _numeric(datatype)
    _check_shape(shape)
    _check_size(len(raw) / wanted.itemsize, shape)
    return np.frombuffer(raw, wanted).reshape(shape)


def texts_from_bytes(raw: bytes | memoryview, shape: Sequence[int]) -> NDArray[Any]:
    """Return the array of `bytes` that was sent as these bytes, each with its length, uint32, before it.

    Raises:
        ValueError: the shape has another size, or a length is wrong.
    """
    _check_shape(shape)
    n, texts, at, view = prod(shape), list[bytes](), 0, memoryview(raw)
    while at + 4 <= len(view) and len(texts) <= n:
        end = at + 4 + int.from_bytes(view[at : at + 4], "little")
        texts.append(bytes(view[at + 4 : end]))
        at = end
    if at != len(view):
        raise ValueError("its BYTES have wrong lengths")
    return texts_from_list(texts, shape)


def texts_from_list(texts: Sequence[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return an array of `bytes` from texts, which become UTF-8, or bytes.

    Raises:
        ValueError: they are something else, or the shape has another size.
    """
    _check_shape(shape)
    if not isinstance(texts, Sequence) or not all(isinstance(one, (str, bytes)) for one in texts):
        raise ValueError("its `data` are BYTES, and hold other values")
    _check_size(len(texts), shape)
    array = np.empty(len(texts), object)
    array[:] = [one.encode() if isinstance(one, str) else one for one in texts]
    return array.reshape(shape)


def from_numbers(numbers: Sequence[Any], datatype: str, shape: Sequence[int], pace: Pace) -> NDArray[Any]:
    """Return the array that was sent as a list of numbers, which may be nested, pausing in between.

    Raises:
        ValueError: the type is not numeric, a value is not of the type, or the shape has another size.
        TimeoutError: the deadline passed.
    """
    wanted = _numeric(datatype)
    _check_shape(shape)
    if not isinstance(numbers, Sequence) or isinstance(numbers, str):
        raise ValueError(f"its `data` is not a list, but {type(numbers).__name__}")
    for _ in shape[1:]:
        if not numbers or not isinstance(numbers[0], list):
            break
        numbers = _joined(numbers, pace)
    _check_size(len(numbers), shape)
    flat = np.empty(len(numbers), wanted)
    for start in range(0, len(numbers), _STEP):
        pace.step()
        some = numbers[start : start + _STEP]
        if strange := {type(one) for one in some} - _TYPES[wanted.kind]:
            raise ValueError(f"its `data` are {datatype}, and hold {' and '.join(sorted(map(_named, strange)))}")
        try:
            with np.errstate(over="ignore"):  # the result is infinite
                flat[start : start + _STEP] = some
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"its `data` are not {datatype}: {error}") from error
        if wanted.kind in "iu" and not all(map(eq, some, flat[start : start + _STEP].tolist())):
            raise ValueError(f"its `data` are {datatype}, and hold fractions")
    return flat.reshape(shape)


def stacked_rows(replies: Sequence[NDArray[Any]], most: int) -> NDArray[Any]:
    """Return scores [n, classes] of several batches as one array of at most so many rows."""
    return np.concatenate(replies)[:most]


def chained(replies: Sequence[list[T]], most: int) -> list[T]:
    """Return the answers of several batches as one list of at most so many."""
    return [one for reply in replies for one in reply][:most]


def as_table(logits: NDArray[Any]) -> NDArray[Any]:
    """Return [n, 1, classes] or [n, classes, 1], as some servers reply, as [n, classes]."""
    if logits.ndim > 2:
        extra = tuple(axis for axis in range(1, logits.ndim) if logits.shape[axis] == 1)
        logits = logits.squeeze(extra[: logits.ndim - 2])
    return logits


def _kind(datatype: Any) -> str:
    """Return the kind of numbers of a datatype, or the datatype itself if it has none."""
    found = NUMPY.get(datatype) if isinstance(datatype, str) else None
    return str(datatype) if found is None else found.kind


def _datatype(array: NDArray[Any]) -> str:
    found = "BYTES" if array.dtype.kind in "OSU" else _BY_TYPE.get(array.dtype.newbyteorder("="))
    if found is None:
        raise UnsendableInput(f"remote: expected a type of the Open Inference Protocol, got an array of {array.dtype}")
    return found


def _as_declared(name: str, array: NDArray[Any], datatype: str) -> NDArray[Any]:
    """Return an array in the type that the model declares: rounded, as the model would do, but not otherwise changed.

    Raises:
        UnsendableInput: the type cannot hold it.
    """
    given = _datatype(array)
    if datatype == given or not (datatype in NUMPY or datatype in ("BYTES", "BF16")):  # the same, or not known
        return array
    if datatype not in NUMPY or given == "BYTES":
        raise UnsendableInput(
            f"remote: its input {name!r} is {datatype}, which an array of {array.dtype} cannot become"
        )
    wanted = NUMPY[datatype]
    if np.can_cast(array.dtype, wanted, "safe"):
        return array.astype(wanted)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(wanted)
        kept = np.isfinite(cast) | ~np.isfinite(array) if wanted.kind == "f" else cast == array
    if not kept.all():
        wrong = array[~kept][0]
        raise UnsendableInput(f"remote: its input {name!r} is {datatype}, which cannot hold {wrong} of {array.dtype}")
    return cast


def _in_batches(
    request: Callable[[Batch, Signature], T], signature: Signature, inputs: Batch, joined: Callable[[Sequence[T]], T]
) -> T:
    batches = signature.batches(inputs)
    if len(batches) == 1 and batches[0] is inputs:
        return request(inputs, signature)
    return joined([request(batch, signature) for batch in batches])


def _contradicts(error: RemoteError) -> bool:
    """Return whether an error may come from a signature that does not hold."""
    if isinstance(error, RemoteRefusal):
        return not error.retry and error.status in _CONTRADICTIONS
    return isinstance(error, InvalidReply | UnsendableInput)


def _named(kind: type) -> str:
    """Return what JSON calls the values of a Python type."""
    return {bool: "booleans", str: "text", list: "lists", dict: "objects", NoneType: "null"}.get(kind, "numbers")


def _numeric(datatype: Any) -> np.dtype[Any]:
    found = NUMPY.get(datatype) if isinstance(datatype, str) else None
    if found is None:
        raise ValueError(f"it has the type {datatype!r:.40}, and not numbers")
    return found


def _check_shape(shape: Any) -> None:
    if not isinstance(shape, Sequence) or len(shape) > _MOST_SIDES:
        raise ValueError("it has no shape, or one of too many sides")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"its shape is {list(shape)!r:.80}")


def _check_size(size: float, shape: Sequence[int]) -> None:
    if size != prod(shape):
        raise ValueError(f"it has {size:g} numbers, and the shape {list(shape)!r:.80}")


def _joined(lists: Sequence[Any], pace: Pace) -> list[Any]:
    numbers: list[Any] = []
    for one in lists:
        pace.step()
        if not isinstance(one, list):
            raise ValueError("its `data` are lists and numbers")
        numbers += one
    return numbers


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
