"""A remote that speaks the Open Inference Protocol v2 over gRPC: Triton, KServe, MLServer and others.

Inputs travel as their own bytes; replies are read both so and as protobuf's numbers, which some servers prefer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.grpc_channel import Certificates, GrpcChannel
from edgecascade.runtime.remotes.http import Traffic
from edgecascade.runtime.remotes.model_address import read_address
from edgecascade.runtime.remotes.open_inference_messages import make_messages
from edgecascade.runtime.remotes.tensors import (
    NUMPY,
    Described,
    Signature,
    Tensor,
    as_table,
    check,
    contents,
    from_bytes,
)
from edgecascade.types.errors import ArgumentError, RemoteError

__all__ = ["OpenInferenceGrpc"]

_SERVICE = "/inference.GRPCInferenceService"
_RAW_INPUT = bytes([7 << 3 | 2])  # the tag of the field `raw_input_contents`, whose length and bytes follow
_FIELDS = {  # where protobuf has the numbers of each type
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **{kind: f"{kind.lower()}_contents" for kind in ("INT64", "UINT64", "FP32", "FP64")},
}
_PATH = str | os.PathLike[str] | None


class OpenInferenceGrpc:
    """One model on one server. Opens no connection until it is asked.

    Args:
        url: `grpc[s]://host[:port]/v2/models/NAME[/versions/VERSION]`.
        headers: sent with every call as its metadata, such as `Authorization`.
        input: the model's input name; by default the one it declares.
        output: the output that holds the logits; by default `logits`, or the only floating [n, classes].
        root_certificate: PEM file of who may vouch for the server, for grpcs; by default gRPC's own.
        client_key: PEM file of this client's private key, for servers that ask for one.
        client_certificate: PEM file of its certificate.
        encoded: the model takes image files as they are, as BYTES [n].

    Raises:
        ArgumentError: the address is of another form, or a file cannot be read.
        ModuleNotFoundError: the `grpc` extra is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        input: str | None = None,
        output: str | None = None,
        root_certificate: _PATH = None,
        client_key: _PATH = None,
        client_certificate: _PATH = None,
        encoded: bool = False,
    ) -> None:
        address = read_address(url, "grpc")
        if address.prefix:
            raise ArgumentError(f"remote: gRPC knows no path before /v2/models, got {url!r}")
        given = {"root": root_certificate, "key": client_key, "chain": client_certificate}
        if not address.secure and any(given.values()):
            raise ArgumentError(f"remote: certificates need a grpcs:// address, got {url!r}")
        certificates = Certificates(**{name: _pem(path) for name, path in given.items()}) if address.secure else None
        self.encoded = encoded
        self._messages = make_messages()
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._channel = GrpcChannel(f"{host}:{address.port}", certificates, headers or {})
        self._name, self._version = address.name, address.version
        self._input, self._output = input, output
        self._signature: Signature | None = None

    @property
    def traffic(self) -> Traffic:
        """Calls, and bytes of messages, so far."""
        return self._channel.traffic

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[Any]:
        """Logits [n, classes] of inputs [n, ...], which by name go to the server's inputs of these names.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made, or it broke.
            RemoteError: the server's answer is no answer.
        """
        check(inputs)
        if self._signature is None:
            self._signature = self._ask_signature(deadline)
        request = self._request(self._signature.tensors(inputs), self._signature.output)
        return self._logits(self._call("ModelInfer", request, deadline), self._signature)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _ask_signature(self, deadline: Deadline) -> Signature:
        request = self._messages["ModelMetadataRequest"](name=self._name, version=self._version)
        declared = self._call("ModelMetadata", request.SerializeToString(), deadline)
        return Signature.of(
            _described(declared.inputs), _described(declared.outputs), input=self._input, output=self._output
        )

    def _request(self, tensors: Iterable[Tensor], output: str | None) -> bytes:
        message = self._messages["ModelInferRequest"](model_name=self._name, model_version=self._version)
        parts: list[bytes | memoryview] = [b""]
        for one in tensors:
            message.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
            raw = contents(one.array)
            parts += [_RAW_INPUT, _varint(len(raw)), raw]  # appended to the message, which spares two copies of it
        if output:
            message.outputs.add(name=output)
        parts[0] = message.SerializeToString()
        return b"".join(parts)

    def _call(self, method: str, message: bytes, deadline: Deadline) -> Any:
        reply = self._channel.call(f"{_SERVICE}/{method}", message, deadline)
        try:
            return self._messages[f"{method}Response"].FromString(reply)
        except Exception as error:  # protobuf's own class for it is another in each of its implementations
            raise RemoteError("remote: the response is not the protocol's message") from error

    def _logits(self, reply: Any, signature: Signature) -> NDArray[Any]:
        name = signature.chosen(_described(reply.outputs))
        at, chosen = next((i, one) for i, one in enumerate(reply.outputs) if one.name == name)
        try:
            if reply.raw_output_contents:
                return as_table(from_bytes(reply.raw_output_contents[at], chosen.datatype, chosen.shape))
            values = getattr(chosen.contents, _FIELDS[chosen.datatype])
            return as_table(np.array(values, NUMPY[chosen.datatype]).reshape(chosen.shape))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise RemoteError(f"remote: the response is malformed: {error!r}") from error


def _described(tensors: Any) -> Described:
    return {one.name: (one.datatype, tuple(one.shape)) for one in tensors}


def _varint(value: int) -> bytes:
    """An unsigned number as protobuf writes it: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _pem(path: _PATH) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise ArgumentError(f"remote: cannot read the certificate or key {os.fspath(path or '')!r}: {error}") from error
