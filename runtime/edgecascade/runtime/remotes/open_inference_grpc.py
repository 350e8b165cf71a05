"""A remote that speaks the Open Inference Protocol v2 over gRPC: Triton, KServe, MLServer and others.

Inputs travel as raw bytes; replies are read both as raw bytes and as protobuf's numbers, which some servers send.

The few messages that a client needs are described here and made at run time, in a descriptor pool of their own:
generated modules tie the user to protobuf versions near the generator's, and clash with those of any other client of
the protocol in the same process. Unused fields are left out, since protobuf skips what it does not know. Source: the
protocol's `grpc_predict_v2.proto`, package `inference`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, size
from edgecascade.runtime.bounded_json import Pace
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.protobuf import fields, varint
from edgecascade.runtime.recipe import Remade
from edgecascade.runtime.remotes.http import Proxy
from edgecascade.runtime.remotes.open_inference import read_address
from edgecascade.runtime.remotes.remote import ReplyBound, Traffic, hiding_secrets, shown, without_secrets
from edgecascade.runtime.remotes.tensors import (
    Described,
    Origin,
    Signature,
    SignatureOnDemand,
    Tensor,
    as_table,
    chained,
    check,
    contents,
    from_bytes,
    from_numbers,
    stacked_rows,
    texts_from_bytes,
    texts_from_list,
)
from edgecascade.types.errors import ArgumentError, InvalidReply, RemoteRefusal, RemoteUnreachable
from edgecascade.types.extras import naming_extras

__all__ = ["OpenInferenceGrpc", "make_messages"]

_SERVICE = "/inference.GRPCInferenceService"
_RAW_INPUT = bytes([7 << 3 | 2])  # the tag of the field `raw_input_contents`; its length and bytes follow
_FIELDS = {  # the field with the numbers of each type
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **{kind: f"{kind.lower()}_contents" for kind in ("INT64", "UINT64", "FP32", "FP64")},
}
_LARGEST_MESSAGE = 64 << 20  # bytes
_LARGEST_METADATA = 1 << 18  # bytes
_MOST_TOGETHER = 32  # inputs in a request of a cascade, by which the size of its messages is bounded
_MOST_SIDES = 17  # of a shape that is looked at
_MOST_TENSORS = 256  # in one message
_OPTIONS = (
    ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ("grpc.enable_retries", 0),
    # After a failure to connect, calls fail at once until the next attempt: by default for minutes, here for a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Servers reject more frequent pings. None is sent in practice, since only calls under way are probed; but these
    # options also set the timeout by which the system gives up a connection that acknowledges nothing.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
# message > field: number, type, and * if it is repeated
_MESSAGES = {
    "ModelMetadataRequest": "name:1 string, version:2 string",
    "TensorMetadata": "name:1 string, datatype:2 string, shape:3 int64*",
    "ModelMetadataResponse": "inputs:4 TensorMetadata*, outputs:5 TensorMetadata*",
    "InferTensorContents": (
        "bool_contents:1 bool*, int_contents:2 int32*, int64_contents:3 int64*, uint_contents:4 uint32*, "
        "uint64_contents:5 uint64*, fp32_contents:6 float*, fp64_contents:7 double*, bytes_contents:8 bytes*"
    ),
    "InferInputTensor": "name:1 string, datatype:2 string, shape:3 int64*",
    "InferRequestedOutputTensor": "name:1 string",
    "ModelInferRequest": (
        "model_name:1 string, model_version:2 string, id:3 string, inputs:5 InferInputTensor*, "
        "outputs:6 InferRequestedOutputTensor*, raw_input_contents:7 bytes*"
    ),
    "InferOutputTensor": "name:1 string, datatype:2 string, shape:3 int64*, contents:5 InferTensorContents",
    "ModelInferResponse": (
        "model_name:1 string, model_version:2 string, id:3 string, outputs:5 InferOutputTensor*, "
        "raw_output_contents:6 bytes*"
    ),
}
_FilePath = str | os.PathLike[str] | None


class OpenInferenceGrpc(Remade):
    """One model on one server. It opens no connection before the first request.

    Args:
        url: `grpc[s]://host[:port]/v2/models/NAME[/versions/VERSION]`.
        headers: sent with every call as metadata, such as `Authorization`.
        input: the model's input name; by default the one that the server declares. With it, a server need not
            describe the model.
        output: the output with the logits; by default `logits`, or the only floating one of shape [n, classes].
        proxy: `http://[user:password@]host[:port]`, an HTTP proxy to connect through. Environment variables such as
            `HTTPS_PROXY` are not read.
        root_certificate: PEM file of the certificates that may sign the server's, for grpcs; by default gRPC's own.
        client_key: PEM file of the client's private key, for servers that ask for a client certificate.
        client_certificate: PEM file of the client's certificate.
        encoded: the model takes image files as they are, as BYTES [n].

    Raises:
        ArgumentError: the address has another form, or a file cannot be read.
        ModuleNotFoundError: the `grpc` extra is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        input: str | None = None,
        output: str | None = None,
        proxy: str | None = None,
        root_certificate: _FilePath = None,
        client_key: _FilePath = None,
        client_certificate: _FilePath = None,
        encoded: bool = False,
    ) -> None:
        address = read_address(url, "grpc")
        if address.prefix or address.query:
            what = "a query" if address.query else "a path before /v2/models"
            raise ArgumentError(f"remote: expected an address without {what} for gRPC, got {shown(url)!r}")
        files = (root_certificate, client_key, client_certificate)
        if not address.secure and any(files):
            raise ArgumentError(f"remote: expected a grpcs:// address with certificates, got {shown(url)!r}")
        by = [] if proxy is None else [("Proxy-Authorization", Proxy.at(proxy).authorization)]
        self._proxied = (("grpc.enable_http_proxy", int(proxy is not None)), ("grpc.http_proxy", proxy or ""))
        with naming_extras():
            import grpc

        self._grpc = grpc
        self.encoded = encoded
        self._messages = make_messages()
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._target = f"{host}:{address.port}"
        self._certificates = tuple(map(_pem, files)) if address.secure else None  # root, private key, chain
        self._lacks_certificate = address.secure and client_certificate is None
        self._metadata = tuple((name.lower(), value) for name, value in (headers or {}).items())
        self._secrets = [*self._metadata, *by]
        self._name, self._version = address.name, address.version
        self._input, self._output = input, output
        self._signature = SignatureOnDemand(self._ask_signature)
        self._origin = Origin(address.name, address.version)
        self._classes: int | None = None
        self._names: tuple[str, ...] | None = None  # of the outputs for a general task
        self._lock = Lock()
        self._channel: Any = None
        self._calls: dict[str, Any] = {}
        self._traffic = Traffic()

    @property
    def traffic(self) -> Traffic:
        """Calls so far, and bytes of their messages."""
        with self._lock:
            return self._traffic

    def infer(self, inputs: Batch, deadline: Deadline) -> Any:
        """Return logits [n, classes] of inputs [n, ...]; named ones go to the server's inputs of these names.

        After `expect_outputs`, return the arrays of each input by name instead; text comes as `bytes`.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made, or it broke; not worth a retry if TLS is the cause.
            UnsendableInput: the inputs are not of the types that the model takes.
            RemoteRefusal: the server replied with an error.
            InvalidReply: its reply is not an answer.
        """
        check(inputs)
        with hiding_secrets(self._secrets):
            if self._names is not None:
                named = partial(self._named, names=self._names, deadline=deadline)
                return self._signature.use(named, inputs, deadline, partial(chained, most=size(inputs)))
            scores = partial(self._scores, deadline=deadline)
            return self._signature.use(scores, inputs, deadline, partial(stacked_rows, most=size(inputs)))

    def expect(self, labels: Sequence[str]) -> None:
        """Bound messages by what scores of these classes for 32 inputs need, if it is called before the first call."""
        self._classes = max(len(labels), self._classes or 0)

    def expect_outputs(self, names: Sequence[str]) -> None:
        """Answer with these outputs from now on, or with all; called before the first call, as messages are bounded."""
        self._names = tuple(names)

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        with self._lock:
            channel, self._channel, self._calls = self._channel, None, {}
        if channel is not None:
            channel.close()

    def _scores(self, inputs: Batch, signature: Signature, *, deadline: Deadline) -> NDArray[Any]:
        bound = ReplyBound.of(size(inputs), self._classes)
        asked = [] if signature.output is None else [signature.output]
        reply = self._infer(signature.tensors(inputs), asked, bound, deadline)
        name = signature.chosen(_outputs_of(reply))
        return as_table(_array(reply, name, Pace(deadline), text=False))

    def _named(
        self, inputs: Batch, signature: Signature, *, names: Sequence[str], deadline: Deadline
    ) -> list[dict[str, NDArray[Any]]]:
        asked, pace = signature.wanted(names), Pace(deadline)
        bound = ReplyBound.of_outputs(size(inputs), signature.sides(asked))
        reply = self._infer(signature.tensors(inputs), asked, bound, deadline)
        found = {name: _array(reply, name, pace, text=True) for name in signature.among(_outputs_of(reply), names)}
        return signature.by_input(found, size(inputs))

    def _infer(self, tensors: Iterable[Tensor], outputs: Iterable[str], bound: ReplyBound, deadline: Deadline) -> Any:
        """Send tensors; return the reply, which is that of the model to this request."""
        id = self._origin.new_id()
        reply = self._call("ModelInfer", self._request(tensors, outputs, id), bound.bytes, deadline)
        self._origin.check(id, model=reply.model_name, version=reply.model_version, id=reply.id)
        return reply

    def _ask_signature(self, deadline: Deadline) -> Signature:
        request = self._messages["ModelMetadataRequest"](name=self._name, version=self._version)
        try:
            declared = self._call("ModelMetadata", request.SerializeToString(), _LARGEST_METADATA, deadline)
        except RemoteRefusal as error:
            if self._input and error.status in ("UNIMPLEMENTED", "NOT_FOUND"):
                return Signature.of({}, {}, input=self._input, output=self._output)
            raise
        return Signature.of(
            _described(declared.inputs), _described(declared.outputs), input=self._input, output=self._output
        )

    def _request(self, tensors: Iterable[Tensor], outputs: Iterable[str], id: str) -> bytes:
        message = self._messages["ModelInferRequest"](model_name=self._name, model_version=self._version, id=id)
        parts: list[bytes | memoryview] = [b""]
        for one in tensors:
            message.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
            raw = contents(one.array)
            parts += [_RAW_INPUT, varint(len(raw)), raw]  # appended to the message, which saves two copies
        for output in outputs:
            message.outputs.add(name=output)
        parts[0] = message.SerializeToString()
        return b"".join(parts)

    def _call(self, name: str, message: bytes, largest: int, deadline: Deadline) -> Any:
        """Send a serialized message; return the parsed reply, if it is not larger than this many bytes."""
        seconds = deadline.remaining()
        if seconds <= 0:
            raise TimeoutError("the deadline has passed")
        reply = b""
        try:
            method = self._method(f"{_SERVICE}/{name}")
            reply = bytes(method(message, timeout=seconds, metadata=self._metadata))
        except self._grpc.RpcError as error:
            raise self._as_remote_error(error) from error
        except ValueError as error:  # another thread has closed the channel
            raise RemoteUnreachable(f"cannot reach {self._target}: {error}") from error
        finally:
            with self._lock:
                before = self._traffic
                self._traffic = Traffic(before.requests + 1, before.sent + len(message), before.received + len(reply))
        if len(reply) > largest:
            raise InvalidReply(f"remote: the response is larger than {largest} bytes, more than an answer can need")
        try:
            _check_fields(reply)
            return self._messages[f"{name}Response"].FromString(reply)
        except Exception as error:  # its class differs among protobuf's implementations
            raise InvalidReply("remote: the response is not a valid message of the protocol") from error

    def _method(self, path: str) -> Any:
        with self._lock:
            if self._channel is None:
                self._channel = self._open()
            if path not in self._calls:
                self._calls[path] = self._channel.unary_unary(path)
            return self._calls[path]

    def _open(self) -> Any:
        options = (*_OPTIONS, ("grpc.max_receive_message_length", self._largest), *self._proxied)
        if self._certificates is None:
            return self._grpc.insecure_channel(self._target, options)
        credentials = self._grpc.ssl_channel_credentials(*self._certificates)
        return self._grpc.secure_channel(self._target, credentials, options)

    @property
    def _largest(self) -> int:
        """The bytes of the largest reply that the channel takes."""
        return ReplyBound.of(_MOST_TOGETHER, self._classes if self._names is None else None).bytes

    def _as_remote_error(self, error: Any) -> Exception:
        code, said = error.code(), " ".join((error.details() or "no explanation").split())
        said = without_secrets(said, self._secrets)  # before it is cut
        status = self._grpc.StatusCode
        if code is status.DEADLINE_EXCEEDED:
            return TimeoutError("the deadline has passed")
        if code is status.CANCELLED:
            return RemoteUnreachable(f"cannot reach {self._target}: the call was cancelled: {said[:200]}")
        if code is status.UNAVAILABLE:
            why = said.rpartition("last error: ")[2][:300]
            # In TLS 1.3 the server refuses a client after the client's handshake: gRPC only sees that it hangs up.
            if self._lacks_certificate and not self.traffic.received and _has(why, "closed", "reset"):
                why += ", as servers do that ask for a client certificate"
            of_tls = _has(why, "handshake", "certificate", "hostname verification", "ssl")
            return RemoteUnreachable(f"cannot reach {self._target}: {why}", retry=not of_tls)
        too_large = code is status.RESOURCE_EXHAUSTED and _has(said, "larger than max", "exceeds maximum", "too large")
        # A server says the same of a request. Where gRPC does not name the side, the limit tells which one it is.
        of_reply = _has(said, "client: received", "decompressed", f"vs. {self._largest})")
        if too_large and of_reply and not _has(said, "server: ", "sent message"):
            return InvalidReply(f"remote: the response is more than an answer can need: {said[:200]}")
        worth = code is status.RESOURCE_EXHAUSTED and not too_large
        return RemoteRefusal(
            f"remote: gRPC {code.name}: {said[:200]}",
            status=code.name,
            retry=worth,
            retry_after=_pushback(error.trailing_metadata()),
        )


def make_messages() -> dict[str, Any]:
    """Return a class for each message of the protocol, by name.

    Raises:
        ModuleNotFoundError: the `grpc` extra is not installed.
    """
    with naming_extras():
        from google.protobuf.descriptor_pb2 import FileDescriptorProto
        from google.protobuf.descriptor_pool import DescriptorPool
        from google.protobuf.message_factory import GetMessageClass

    file = FileDescriptorProto(name="edgecascade.proto", package="inference", syntax="proto3")
    for message, listed in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for field in listed.split(", "):
            place, kind = field.split(" ")
            name, number = place.split(":")
            _describe(described.field.add(name=name, number=int(number)), kind.rstrip("*"), kind.endswith("*"))
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in _MESSAGES}


def _describe(field: Any, kind: str, repeated: bool) -> None:
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind in _MESSAGES:
        field.type, field.type_name = field.TYPE_MESSAGE, f".inference.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")


def _outputs_of(reply: Any) -> Described:
    described = _described(reply.outputs)
    if len(described) < len(reply.outputs):
        raise InvalidReply("remote: the response is malformed: it has two outputs of one name")
    return described


def _array(reply: Any, name: str, pace: Pace, *, text: bool) -> NDArray[Any]:
    """Return the array of one output, which may be text or not.

    Raises:
        InvalidReply: its values do not fit its datatype and shape.
    """
    at, chosen = next((i, one) for i, one in enumerate(reply.outputs) if one.name == name)
    text = text and chosen.datatype == "BYTES"
    try:
        if reply.raw_output_contents:
            raw = reply.raw_output_contents[at]
            return texts_from_bytes(raw, chosen.shape) if text else from_bytes(raw, chosen.datatype, chosen.shape)
        if chosen.datatype not in _FIELDS or (chosen.datatype == "BYTES" and not text):
            raise ValueError(f"its output {name!r} has the type {chosen.datatype!r:.40}, and no bytes")
        values = getattr(chosen.contents, _FIELDS[chosen.datatype])
        if text:
            return texts_from_list(list(values), chosen.shape)
        return from_numbers(values, chosen.datatype, chosen.shape, pace)
    except (ValueError, TypeError, IndexError) as error:
        raise InvalidReply(f"remote: the response is malformed: {error}") from error


def _check_fields(message: bytes) -> None:
    """Raise a `ValueError` if a message has more than a few hundred fields, which protobuf would decode in one step."""
    if any(n >= 2 * _MOST_TENSORS for n, _ in enumerate(fields(memoryview(message)))):
        raise ValueError(f"expected at most {_MOST_TENSORS} tensors in a message")


def _described(tensors: Any) -> Described:
    return {one.name: (one.datatype, tuple(one.shape[:_MOST_SIDES])) for one in tensors}


def _pushback(metadata: Any) -> float | None:
    """Return for how many seconds the server asks not to be called again (gRPC's retry design, A6)."""
    for key, value in metadata or ():
        if key == "grpc-retry-pushback-ms" and isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value) / 1000
    return None


def _has(text: str, *words: str) -> bool:
    return any(word in text.lower() for word in words)


def _pem(path: _FilePath) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise ArgumentError(f"remote: cannot read the certificate or key {os.fspath(path or '')!r}: {error}") from error
