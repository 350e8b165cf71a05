"""Requests and replies of the Open Inference Protocol v2 over REST, with its binary tensor data extension."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.bounded_json import Pace, read_json
from edgecascade.runtime.commands.lines import as_numbers
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.tensors import DATATYPES, NUMPY, contents
from edgecascade.types.errors import InputError, first_line

__all__ = ["HEADER_LENGTH", "InferRequest", "read_request", "write_reply"]

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header with the number of bytes of JSON before the binary tensors."""

_MOST_TENSORS = 256
_MOST_AXES = 32
_MOST_VALUES = 1 << 22  # in JSON
_MOST_BYTES = 1 << 20  # elements of a tensor of BYTES
_PIECE = 4096  # numbers that are written as JSON at a time
_PATIENCE = 10.0  # seconds for decoding or writing JSON


class InferRequest(NamedTuple):
    """A request, decoded.

    Attributes:
        id: the client's name for it, which the reply repeats; or None.
        feeds: arrays by input name; BYTES are arrays of `bytes`, or of `str` where they came as JSON strings.
        outputs: names of the outputs that the client asks for; empty for all.
        binary: names of those that it wants as binary tensors.
        all_binary: whether it wants outputs as binary tensors that it does not name.
    """

    id: str | None
    feeds: dict[str, NDArray[Any]]
    outputs: tuple[str, ...]
    binary: frozenset[str]
    all_binary: bool


def read_request(body: bytes | bytearray, head: int | None) -> InferRequest:
    """Return the request in a body.

    Args:
        body: JSON, followed by the binary tensors.
        head: bytes of that JSON; None if all of it is JSON.

    Raises:
        InputError: the body is not a request, or a tensor's data contradict its shape or datatype.
    """
    if head is not None and head > len(body):
        raise InputError(f"{HEADER_LENGTH}: expected at most {len(body)}, the bytes of the body, got {head}")
    request = _json(body if head is None else body[:head], binary=head is not None)
    if not isinstance(request, dict):
        raise InputError("the body: expected a JSON object with `inputs`, got other JSON")
    raw = memoryview(body)[len(body) if head is None else head :]
    feeds: dict[str, NDArray[Any]] = {}
    for tensor in _objects(request, "inputs"):
        name = _name(tensor, "inputs")
        if name in feeds:
            raise InputError(f"inputs: expected each name once, got {name} twice")
        size = _parameters(tensor).get("binary_data_size")
        if size is None:
            feeds[name] = _from_json(name, tensor)
            continue
        if type(size) is not int or not 0 <= size <= len(raw):
            raise InputError(f"{name}: expected a binary_data_size within the body, got {size!r:.40}")
        feeds[name] = _from_bytes(name, tensor, raw[:size])
        raw = raw[size:]
    if len(raw):
        raise InputError(f"the body: expected no bytes after its tensors, got {len(raw)}")
    if not feeds:
        raise InputError("inputs: expected one input or more, got none")
    asked = {_name(one, "outputs"): _parameters(one).get("binary_data") for one in _objects(request, "outputs")}
    all_binary = _parameters(request).get("binary_data_output") is True
    binary = (name for name, wanted in asked.items() if wanted is True or (wanted is None and all_binary))
    given = request.get("id")
    return InferRequest(
        given if isinstance(given, str) else None, feeds, tuple(asked), frozenset(binary), all_binary and not asked
    )


def write_reply(model: str, request: InferRequest, outputs: Mapping[str, NDArray[Any]]) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of the reply.

    Args:
        model: name of the model.
        request: the request that it answers.
        outputs: arrays by name; objects are `bytes` or `str`.

    Raises:
        TimeoutError: there are too many numbers for JSON.
    """
    raw: list[bytes | memoryview] = []
    tensors: list[str] = []
    for name, array in outputs.items():
        datatype = DATATYPES.get(array.dtype.name, "BYTES")
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if request.all_binary or name in request.binary:
            raw.append(contents(array))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
            tensors.append(_dumps(tensor))
        else:
            tensors.append(f'{_dumps(tensor)[:-1]},"data":[{",".join(_values(array))}]}}')
    named = {"model_name": model} if request.id is None else {"model_name": model, "id": request.id}
    head = f'{_dumps(named)[:-1]},"outputs":[{",".join(tensors)}]}}'.encode()
    if not raw:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *raw]), {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def _values(array: NDArray[Any]) -> Iterator[str]:
    """Yield the values for JSON, which has no NaN and no bytes, in pieces, between which other threads run."""
    flat, pace = array.ravel(), Pace(Deadline.after(_PATIENCE))
    for start in range(0, len(flat), _PIECE):
        pace.step()
        piece: list[Any] = flat[start : start + _PIECE].tolist()
        if array.dtype.kind == "f":
            piece = [value if math.isfinite(value) else None for value in piece]
        elif array.dtype.kind == "O":
            piece = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in piece]
        yield _dumps(piece)[1:-1]


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _json(text: bytes | bytearray, *, binary: bool) -> Any:
    try:
        return read_json(bytes(text), values=_MOST_VALUES, pace=Pace(Deadline.after(_PATIENCE)))
    except ValueError as error:
        hint = "" if binary else f"; bytes that follow the JSON need the header {HEADER_LENGTH}"
        raise InputError(f"the body is not valid JSON: {first_line(error):.200}{hint}") from error
    except TimeoutError as error:
        raise InputError(f"the body: expected JSON that can be decoded within {_PATIENCE:.0f} s, got more") from error


def _objects(request: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    found = request.get(field) or ()
    if not isinstance(found, list | tuple) or not all(isinstance(one, dict) for one in found):
        raise InputError(f"{field}: expected an array of objects, got other JSON")
    if len(found) > _MOST_TENSORS:
        raise InputError(f"{field}: expected at most {_MOST_TENSORS}, got {len(found)}")
    return found


def _name(tensor: Mapping[str, Any], field: str) -> str:
    name = tensor.get("name")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 1024:
        raise InputError(f"{field}: expected objects with a printable `name`, got one without")
    return name


def _parameters(of: Mapping[str, Any]) -> Mapping[str, Any]:
    found = of.get("parameters")
    return found if isinstance(found, dict) else {}


def _described(name: str, tensor: Mapping[str, Any]) -> tuple[str, list[int]]:
    """Return datatype and shape of a tensor."""
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if datatype != "BYTES" and (not isinstance(datatype, str) or datatype not in NUMPY):
        raise InputError(f"{name}: expected a datatype among BYTES, {', '.join(NUMPY)}, got {datatype!r:.40}")
    if not isinstance(shape, list) or len(shape) > _MOST_AXES:
        raise InputError(f"{name}: expected a shape of at most {_MOST_AXES} whole numbers, got other JSON")
    if not all(type(side) is int and 0 <= side < 1 << 40 for side in shape):
        raise InputError(f"{name}: expected a shape of whole numbers from 0, got other values")
    return datatype, shape


def _from_bytes(name: str, tensor: Mapping[str, Any], raw: memoryview) -> NDArray[Any]:
    datatype, shape = _described(name, tensor)
    n = math.prod(shape)
    if datatype != "BYTES":
        if len(raw) != n * NUMPY[datatype].itemsize:
            wanted = n * NUMPY[datatype].itemsize
            raise InputError(f"{name}: expected {wanted} bytes for {datatype} {shape}, got {len(raw)}")
        array = np.frombuffer(raw, NUMPY[datatype]).reshape(shape)
        if datatype == "BOOL" and raw and np.frombuffer(raw, np.uint8).max() > 1:  # neither true nor false to a model
            raise InputError(f"{name}: expected bytes of 0 and 1 for BOOL, got others")
        return np.require(array, requirements="A")  # the tensor may begin anywhere
    if n > _MOST_BYTES:
        raise InputError(f"{name}: expected at most {_MOST_BYTES} elements of BYTES, got {n}")
    values: list[bytes] = []
    at = 0
    while at + 4 <= len(raw) and len(values) <= n:
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        values.append(bytes(raw[at + 4 : end]))
        at = end
    if at != len(raw) or len(values) != n:
        raise InputError(f"{name}: expected BYTES {shape} with the length of each before it, got other bytes")
    return _objects_array(values, shape)


def _from_json(name: str, tensor: Mapping[str, Any]) -> NDArray[Any]:
    datatype, shape = _described(name, tensor)
    data = tensor.get("data")
    if not isinstance(data, list):
        raise InputError(f"{name}: expected an array in `data`, or a binary_data_size, got neither")
    if datatype == "BYTES":
        return _objects_array(_strings(name, tensor, data, math.prod(shape)), shape)
    array = as_numbers(data, NUMPY[datatype], name)
    if array.size != math.prod(shape):
        raise InputError(f"{name}: expected {math.prod(shape)} numbers for the shape {shape}, got {array.size}")
    return array.reshape(shape)


def _strings(name: str, tensor: Mapping[str, Any], data: list[Any], n: int) -> list[Any]:
    while data and all(isinstance(one, list) for one in data):
        data = [one for several in data for one in several]
    if len(data) != n or not all(isinstance(one, str) for one in data):
        raise InputError(f"{name}: expected {n} strings in `data`, got other values")
    try:
        if _parameters(tensor).get("content_type") == "base64":
            return [base64.b64decode(one, validate=True) for one in data]
        for one in data:
            one.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name}: expected Unicode text, got half of a surrogate pair") from error
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name}: expected base64, as its content_type says, got other text") from error
    return data


def _objects_array(values: Sequence[Any], shape: Sequence[int]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)
