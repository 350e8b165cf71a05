"""A remote that speaks the Open Inference Protocol v2 over REST: Triton, KServe, MLServer and others.

Tensors travel as binary where the server can read them (the binary tensor data extension), else as JSON. Servers
advertise that extension unreliably, so the first request tries it, and the outcome is remembered until a request in
that form is refused: the server may have been replaced.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, size
from edgecascade.runtime.bounded_json import Pace, read_json
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.recipe import Remade
from edgecascade.runtime.remotes.http import HttpClient, Response
from edgecascade.runtime.remotes.http_response import message_in, parse, worth_a_retry
from edgecascade.runtime.remotes.remote import ReplyBound, Traffic, hiding_secrets, refuse_user, shown
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
from edgecascade.types.class_names import columns_for, names_in
from edgecascade.types.errors import ArgumentError, InvalidReply, RemoteRefusal

__all__ = ["Gzip", "ModelAddress", "OpenInference", "json_request", "read_address"]

_UNDESCRIBED = (404, 405, 501)  # statuses of servers that do not describe a model, where it can be asked all the same
_LARGEST_METADATA = 4 << 20  # bytes: it may name tens of thousands of classes
_LONG = 2048  # characters
_REFUSALS = (400, 415, 422, 500, 501)  # statuses for a body in a form that the server cannot read
_HEADER_LENGTH = "Inference-Header-Content-Length"
_PATH = re.compile(r"(?P<prefix>.*)/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/?")
_QUOTED = re.compile(r"[\x00-\x20\x7f-\U0010ffff]+")  # characters that a path cannot hold as they are
_GZIP = 31  # zlib's window bits also name the format
_JSON = json.JSONEncoder(separators=(",", ":"))
_AT_ONCE = 2048  # values that are written as JSON in one step


class OpenInference(Remade):
    """One model on one server. It opens no connection before the first request.

    Args:
        url: `http[s]://host[:port]/v2/models/NAME[/versions/VERSION][?QUERY]`. The query is sent with every request.
        headers: sent with every request, such as `Authorization`.
        input: the model's input name; by default the one that the server declares. With it, a server need not
            describe the model.
        output: the output with the logits; by default `logits`, or the only floating one of shape [n, classes].
        context: TLS settings for https, such as another root certificate or a client certificate; by default the
            system's certificates.
        proxy: `http://[user:password@]host[:port]`, an HTTP proxy to connect through. Environment variables such as
            `HTTPS_PROXY` are not read.
        compress: send bodies above 1 KiB in gzip if that makes them smaller by a tenth and the server reads it; and
            accept replies in gzip.
        encoded: the model takes image files as they are, as BYTES [n].

    Raises:
        ArgumentError: the address has another form.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        input: str | None = None,
        output: str | None = None,
        context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        compress: bool = False,
        encoded: bool = False,
    ) -> None:
        address = read_address(url, "http")
        self.encoded = encoded
        context = (context or ssl.create_default_context()) if address.secure else None
        self._client = HttpClient(address.host, address.port, context, proxy=proxy)
        self._path, self._query = address.path, address.query
        self._headers = {
            **({"Accept-Encoding": "gzip"} if compress else {}),
            **(headers or {}),
            "Content-Type": "application/json",
        }
        self._secrets = [*self._headers.items(), *self._client.proxy_headers]
        self._input, self._output = input, output
        self.class_names: tuple[str, ...] = ()  # known once the server has described the model
        self._signature = SignatureOnDemand(self._ask_signature)
        self._origin = Origin(address.name, address.version)
        self._classes: int | None = None
        self._labels: tuple[str, ...] = ()
        self._names: tuple[str, ...] | None = None  # of the outputs for a general task
        self._binary: bool | None = None  # None until the server has shown it
        self._gzip = Gzip() if compress else None

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._client.traffic

    def infer(self, inputs: Batch, deadline: Deadline) -> Any:
        """Return logits [n, classes] of inputs [n, ...]; named ones go to the server's inputs of these names.

        After `expect_outputs`, return the arrays of each input by name instead; text comes as `bytes`.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made.
            UnsendableInput: the inputs are not of the types that the model takes.
            RemoteRefusal: the server replied with an error.
            InvalidReply: its reply is not an answer.
        """
        check(inputs)
        with hiding_secrets(self._secrets, self._query):
            if self._names is not None:
                named = partial(self._named, names=self._names, deadline=deadline)
                return self._signature.use(named, inputs, deadline, partial(chained, most=size(inputs)))
            scores = partial(self._scores, deadline=deadline)
            return self._signature.use(scores, inputs, deadline, partial(stacked_rows, most=size(inputs)))

    def expect(self, labels: Sequence[str]) -> None:
        """Bound replies by what scores of these classes need, and refuse a model that names others."""
        self._labels, self._classes = tuple(labels), max(len(labels), self._classes or 0)

    def expect_outputs(self, names: Sequence[str]) -> None:
        """Answer with these outputs from now on, or with all, and bound replies by the shapes that they declare."""
        self._names = tuple(names)

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    def _scores(self, inputs: Batch, signature: Signature, *, deadline: Deadline) -> NDArray[Any]:
        bound = ReplyBound.of(size(inputs), self._classes)

        def choose(described: Described) -> list[str]:
            return [signature.chosen(described)]

        asked = () if signature.output is None else (signature.output,)
        tensors = signature.tensors(inputs)
        ((_, logits),) = self._tensors(tensors, asked, choose, bound, deadline, text=False).items()
        return as_table(logits)

    def _named(
        self, inputs: Batch, signature: Signature, *, names: Sequence[str], deadline: Deadline
    ) -> list[dict[str, NDArray[Any]]]:
        asked = signature.wanted(names)
        bound = ReplyBound.of_outputs(size(inputs), signature.sides(asked))
        choose = partial(signature.among, names=names)
        found = self._tensors(signature.tensors(inputs), asked, choose, bound, deadline, text=True)
        return signature.by_input(found, size(inputs))

    def _tensors(
        self,
        tensors: Sequence[Tensor],
        outputs: Sequence[str],
        choose: Callable[[Described], Sequence[str]],
        bound: ReplyBound,
        deadline: Deadline,
        *,
        text: bool,
    ) -> dict[str, NDArray[Any]]:
        """Send tensors; return the outputs of the reply that `choose` chooses by their names, types and shapes."""

        def post(binary: bool) -> tuple[Response, str]:
            return self._post(tensors, outputs, binary, bound, deadline)

        def read(response: Response, sent: str) -> dict[str, NDArray[Any]]:
            return _outputs(response, choose, bound, deadline, partial(self._origin.check, sent), text=text)

        if self._binary is not None:
            response, sent = post(self._binary)
            if response.status in _REFUSALS and self._binary:
                self._binary = None
            return read(response, sent)
        response, sent = post(True)
        binary = response.status not in _REFUSALS
        # A cause that may pass is not the form, so the outcome is not remembered.
        passing = worth_a_retry(response.status, response.body)
        if not binary:
            response, sent = post(False)
        found = read(response, sent)
        self._binary = binary or (None if passing else False)
        return found

    def _ask_signature(self, deadline: Deadline) -> Signature:
        response = self._client.request(
            "GET", self._path + self._query, None, self._headers, deadline, largest=_LARGEST_METADATA
        )
        if self._input and response.status in _UNDESCRIBED:
            return Signature.of({}, {}, input=self._input, output=self._output)
        declared = response.json(values=_LARGEST_METADATA // 16, deadline=deadline)
        try:
            inputs, outputs = _described(declared.get("inputs")), _described(declared.get("outputs"))
            names = _class_names(declared, Pace(deadline))
        except (TypeError, KeyError, AttributeError) as error:
            raise InvalidReply(f"remote: the model's metadata is malformed: {error!r:.200}") from error
        columns_for(self._labels, names, None)  # raises, so that they are asked again, if they are of other classes
        self.class_names = names
        return Signature.of(inputs, outputs, input=self._input, output=self._output)

    def _post(
        self, tensors: Sequence[Tensor], outputs: Sequence[str], binary: bool, bound: ReplyBound, deadline: Deadline
    ) -> tuple[Response, str]:
        """Send tensors; return the response, and the id of the request."""
        id = self._origin.new_id()
        request: dict[str, Any] = {"id": id}
        if outputs:
            request["outputs"] = [{"name": one, "parameters": {"binary_data": binary}} for one in outputs]
        if not binary:
            return self._send(json_request(request, tensors, Pace(deadline)), self._headers, bound.bytes, deadline), id
        raw = [contents(one.array) for one in tensors]
        sizes = [{"parameters": {"binary_data_size": len(one)}} for one in raw]
        request["inputs"] = [{**_fields(one), **size} for one, size in zip(tensors, sizes, strict=True)]
        head = _JSON.encode(request).encode()
        headers = {**self._headers, _HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        return self._send([head, *raw], headers, bound.bytes, deadline), id

    def _send(
        self, parts: Sequence[bytes | memoryview], headers: Mapping[str, str], largest: int, deadline: Deadline
    ) -> Response:
        path, gzip = f"{self._path}/infer{self._query}", self._gzip
        packed = gzip.pack(b"".join(parts)) if gzip else None
        if gzip is None or packed is None:
            return self._client.request("POST", path, parts, headers, deadline, largest=largest)
        coded = {**headers, "Content-Encoding": "gzip"}
        response = self._client.request("POST", path, packed, coded, deadline, largest=largest)
        if gzip.accepted or response.status not in _REFUSALS:
            # After a refusal the next request tells whether the body was at fault, or another server has come.
            gzip.accepted = response.status == 200 or (gzip.accepted and response.status not in _REFUSALS)
            return response
        response = self._client.request("POST", path, parts, headers, deadline, largest=largest)
        gzip.refused = response.status == 200
        return response


class Gzip:
    """Compresses request bodies as long as that makes them smaller; several threads may use it.

    Raw pixels shrink and JPEG does not, and an application mostly sends one of them: after a body that does not
    shrink by a tenth, the next 31 are not compressed.

    Attributes:
        refused: whether the server is known not to read gzip.
        accepted: whether the server is known to read it.
    """

    def __init__(self) -> None:
        self.refused = self.accepted = False
        self._pause = 0

    def pack(self, body: bytes) -> bytes | None:
        """Return the compressed body, or None to send it as it is."""
        if self.refused or len(body) <= 1024:
            return None
        if self._pause > 0:
            self._pause -= 1
            return None
        compressor = zlib.compressobj(level=1, wbits=_GZIP)
        packed = compressor.compress(body) + compressor.flush()
        if len(packed) <= 0.9 * len(body):
            return packed
        self._pause = 31
        return None


@dataclass(frozen=True)
class ModelAddress:
    """The parts of a model's address.

    Attributes:
        secure: whether to speak TLS.
        host: name or address; an IPv6 address without brackets.
        port: TCP port.
        path: the model's HTTP path, percent-encoded.
        query: the query with its question mark, or empty.
        prefix: the part of that path before `/v2`.
        name: the model's name.
        version: its version, or empty.
    """

    secure: bool
    host: str
    port: int
    path: str
    query: str
    prefix: str
    name: str
    version: str


def read_address(url: str, scheme: str) -> ModelAddress:
    """Return the parts of `scheme[s]://host[:port]/v2/models/NAME[/versions/VERSION]`.

    The default port is 80, or 443 with TLS.

    Raises:
        ArgumentError: the address has another form.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    match = _PATH.fullmatch(parts.path) if host else None
    if not host or match is None or port == 0 or parts.scheme not in (scheme, f"{scheme}s"):
        chat = ", or http[s]://host[:port]/v1 of a chat model" if scheme == "http" else ""
        raise ArgumentError(f"remote: expected {scheme}[s]://host[:port]/v2/models/NAME{chat}, got {shown(url)!r}")
    refuse_user(url)
    secure = parts.scheme != scheme
    path = _QUOTED.sub(lambda found: quote(found[0]), parts.path.removesuffix("/"))
    query = _QUOTED.sub(lambda found: quote(found[0]), f"?{parts.query}") if parts.query else ""
    version, port = unquote(match["version"] or ""), port or (443 if secure else 80)
    return ModelAddress(secure, host, port, path, query, match["prefix"], unquote(match["name"]), version)


def _described(tensors: Sequence[Mapping[str, Any]] | None) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {str(one["name"]): (str(one.get("datatype", "")), _sides(one.get("shape"))) for one in tensors or ()}


def _sides(shape: Any) -> tuple[int, ...]:
    """Return a shape as the server has it, with -1 for a side that is no number."""
    return tuple(side if type(side) is int else -1 for side in shape) if isinstance(shape, list) else ()


def _class_names(declared: Mapping[str, Any], pace: Pace) -> tuple[str, ...]:
    """Return the class names in the properties of a model's metadata, or in the parameters of it or of an output."""
    parts = [one.get("parameters") for one in (*(declared.get("outputs") or ()), declared)]
    for part in (declared.get("properties"), *parts):
        if isinstance(part, dict):
            found = names_in({key: _value(text, pace) for key, text in part.items()})
            if found:
                return found
    return ()


def _value(text: Any, pace: Pace) -> Any:
    """Return the value of a long JSON text, decoded in steps; any other long text is no list of names."""
    if not isinstance(text, str) or len(text) < _LONG or text[0] not in "[{":
        return text
    try:
        return read_json(text.encode(errors="replace"), values=_LARGEST_METADATA // 16, pace=pace)
    except ValueError:
        return None


def _fields(one: Tensor) -> dict[str, Any]:
    return {"name": one.name, "shape": one.shape, "datatype": one.datatype}


def json_request(request: dict[str, Any], tensors: Sequence[Tensor], pace: Pace) -> list[bytes]:
    """Return a request as JSON, in parts, and let other threads run meanwhile: a large image takes a second.

    Bytes, which JSON lacks, are sent as declared base64, as MLServer reads it.

    Raises:
        TimeoutError: the deadline passed.
    """
    parts = [f'{_JSON.encode(request)[:-1]},"inputs":['.encode()]
    for i, one in enumerate(tensors):
        values = one.array.reshape(-1)
        coded = values.dtype.kind in "OS" and any(isinstance(value, bytes) for value in values.tolist())
        fields = {**_fields(one), **({"parameters": {"content_type": "base64"}} if coded else {})}
        parts.append(f'{"," if i else ""}{_JSON.encode(fields)[:-1]},"data":['.encode())
        for at in range(0, values.size, _AT_ONCE):
            some = values[at : at + _AT_ONCE].tolist()
            some = [base64.b64encode(value).decode() for value in some] if coded else some
            parts.append(f"{',' if at else ''}{_JSON.encode(some)[1:-1]}".encode())
            pace.step()
        parts.append(b"]}")
    return [*parts, b"]}"]


def _outputs(
    response: Response,
    choose: Callable[[Described], Sequence[str]],
    bound: ReplyBound,
    deadline: Deadline,
    check_origin: Callable[..., None],
    *,
    text: bool,
) -> dict[str, NDArray[Any]]:
    body, pace = response.content(), Pace(deadline)
    try:
        split = int(response.headers.get(_HEADER_LENGTH.lower(), len(body)))
        reply = parse(body[:split], values=bound.values, pace=pace)
        if not isinstance(reply, dict) or not isinstance(reply.get("outputs"), list):
            if said := message_in(reply):
                raise RemoteRefusal(f"remote: the server says: {said}", status="200")
            raise ValueError("it has no list of `outputs`")
        check_origin(model=reply.get("model_name"), version=reply.get("model_version"), id=reply.get("id"))
        outputs = {str(one["name"]): one for one in reply["outputs"]}
        if len(outputs) < len(reply["outputs"]):
            raise ValueError("it has two outputs of one name")
        at, places = split, {}
        for name, output in outputs.items():
            raw_size = (output.get("parameters") or {}).get("binary_data_size")
            if raw_size is not None:
                places[name] = slice(at, at := at + _bytes(raw_size))
        if at != len(body):
            raise ValueError(f"its tensors have {at - split} bytes, and {len(body) - split} came")
        found = {}
        for name in choose(_described(reply["outputs"])):
            raw = body[places[name]] if name in places else None
            found[name] = _array(outputs[name], raw, pace, text=text)
        return found
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidReply(f"remote: the response is malformed: {_said(error)}") from error


def _array(output: Mapping[str, Any], raw: bytes | memoryview | None, pace: Pace, *, text: bool) -> NDArray[Any]:
    """Return the array of one output, which may be text or not, from its bytes or, without them, from its `data`.

    Raises:
        ValueError: they do not fit its datatype and shape.
    """
    datatype: Any = output.get("datatype")
    shape: Any = output.get("shape")
    data: Any = output.get("data")
    if text and datatype == "BYTES":
        return texts_from_list(data, shape) if raw is None else texts_from_bytes(raw, shape)
    return from_numbers(data, datatype, shape, pace) if raw is None else from_bytes(raw, datatype, shape)


def _bytes(size: Any) -> int:
    if type(size) is not int or size < 0:
        raise ValueError("its `binary_data_size` is not a number of bytes")
    return size


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no `{error.args[0]}`"
    return str(error)[:200]
