"""A remote that speaks the Open Inference Protocol v2 over REST: Triton, KServe, MLServer and others.

Tensors travel as binary where the server can read them (the binary tensor data extension), else as JSON. Servers
advertise that extension unreliably, so the first request tries it, and the outcome is remembered.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.http import HttpClient, Response
from edgecascade.runtime.remotes.http_response import worth_a_retry
from edgecascade.runtime.remotes.remote import Traffic
from edgecascade.runtime.remotes.tensors import NUMPY, Signature, Tensor, as_table, check, contents, from_bytes
from edgecascade.types.errors import ArgumentError, InvalidReply

__all__ = ["Gzip", "ModelAddress", "OpenInference", "read_address"]

_REFUSALS = (400, 415, 422, 500, 501)  # statuses for a body in a form that the server cannot read
_HEADER_LENGTH = "Inference-Header-Content-Length"
_PATH = re.compile(r"(?P<prefix>.*)/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/?")
_QUOTED = re.compile(r"[\x00-\x20\x7f-\U0010ffff]+")  # characters that a path cannot hold as they are
_GZIP = 31  # zlib's window bits also name the format


class OpenInference:
    """One model on one server. It opens no connection before the first request.

    Args:
        url: `http[s]://host[:port]/v2/models/NAME[/versions/VERSION]`.
        headers: sent with every request, such as `Authorization`.
        input: the model's input name; by default the one that the server declares.
        output: the output with the logits; by default `logits`, or the only floating one of shape [n, classes].
        context: TLS settings for https, such as another root certificate or a client certificate; by default the
            system's certificates.
        compress: send bodies above 1 KiB in gzip if that makes them smaller by a tenth and the server reads it.
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
        compress: bool = False,
        encoded: bool = False,
    ) -> None:
        address = read_address(url, "http")
        self.encoded = encoded
        self._client = HttpClient(
            address.host, address.port, (context or ssl.create_default_context()) if address.secure else None
        )
        self._path = address.path
        self._headers = {**(headers or {}), "Content-Type": "application/json"}
        self._input, self._output = input, output
        self._signature: Signature | None = None
        self._binary: bool | None = None  # None until the server has shown it
        self._gzip = Gzip() if compress else None

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._client.traffic

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[Any]:
        """Return logits [n, classes] of inputs [n, ...]; named ones go to the server's inputs of these names.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made.
            RemoteError: the server's reply is not a valid answer.
        """
        check(inputs)
        if self._signature is None:
            self._signature = self._ask_signature(deadline)
        signature, tensors = self._signature, self._signature.tensors(inputs)
        if self._binary is not None:
            return _logits(self._post(tensors, self._binary, deadline), signature)
        response = self._post(tensors, True, deadline)
        binary = response.status not in _REFUSALS
        passing = worth_a_retry(
            response.status, response.body
        )  # the cause is not the form, so the outcome is not remembered
        if not binary:
            response = self._post(tensors, False, deadline)
        scores = _logits(response, signature)
        self._binary = binary or (None if passing else False)
        return scores

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    def _ask_signature(self, deadline: Deadline) -> Signature:
        declared = _json(self._client.request("GET", self._path, None, self._headers, deadline).content())
        try:
            inputs, outputs = _described(declared.get("inputs")), _described(declared.get("outputs"))
        except (TypeError, KeyError, AttributeError) as error:
            raise InvalidReply(f"remote: the model's metadata is malformed: {error!r}") from error
        return Signature.of(inputs, outputs, input=self._input, output=self._output)

    def _post(self, tensors: Sequence[Tensor], binary: bool, deadline: Deadline) -> Response:
        assert self._signature is not None
        raw = [contents(one.array) for one in tensors] if binary else []
        inputs = [
            {
                "name": one.name,
                "shape": one.shape,
                "datatype": one.datatype,
                **({"parameters": {"binary_data_size": len(raw[i])}} if binary else _json_data(one.array)),
            }
            for i, one in enumerate(tensors)
        ]
        request: dict[str, Any] = {"inputs": inputs}
        if self._signature.output:
            request["outputs"] = [{"name": self._signature.output, "parameters": {"binary_data": binary}}]
        head = json.dumps(request, separators=(",", ":")).encode()
        headers = self._headers
        if binary:
            headers = {**headers, _HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        return self._send([head, *raw], headers, deadline)

    def _send(self, parts: Sequence[bytes | memoryview], headers: Mapping[str, str], deadline: Deadline) -> Response:
        path, gzip = f"{self._path}/infer", self._gzip
        packed = gzip.pack(b"".join(parts)) if gzip else None
        if gzip is None or packed is None:
            return self._client.request("POST", path, parts, headers, deadline)
        coded = {**headers, "Content-Encoding": "gzip"}
        response = self._client.request("POST", path, packed, coded, deadline)
        if gzip.accepted or response.status not in _REFUSALS:
            gzip.accepted = gzip.accepted or response.status == 200
            return response
        response = self._client.request("POST", path, parts, headers, deadline)
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
        prefix: the part of that path before `/v2`.
        name: the model's name.
        version: its version, or empty.
    """

    secure: bool
    host: str
    port: int
    path: str
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
    if not host or match is None or parts.scheme not in (scheme, f"{scheme}s"):
        raise ArgumentError(f"remote: expected {scheme}[s]://host[:port]/v2/models/NAME, got {url!r}")
    secure = parts.scheme != scheme
    path = _QUOTED.sub(lambda found: quote(found[0]), parts.path.removesuffix("/"))
    version = unquote(match["version"] or "")
    return ModelAddress(
        secure, host, port or (443 if secure else 80), path, match["prefix"], unquote(match["name"]), version
    )


def _described(tensors: Sequence[Mapping[str, Any]] | None) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {str(one["name"]): (str(one.get("datatype", "")), tuple(one.get("shape") or ())) for one in tensors or ()}


def _json_data(array: NDArray[Any]) -> dict[str, Any]:
    """Return the fields that hold values in JSON; bytes, which JSON lacks, as declared base64, as MLServer reads it."""
    values = array.ravel().tolist()
    if not any(isinstance(value, bytes) for value in values):
        return {"data": values}
    return {"parameters": {"content_type": "base64"}, "data": [base64.b64encode(value).decode() for value in values]}


def _logits(response: Response, signature: Signature) -> NDArray[Any]:
    body = response.content()
    try:
        split = int(response.headers.get(_HEADER_LENGTH.lower(), len(body)))
        outputs = {str(one["name"]): one for one in _json(body[:split])["outputs"]}
        at, places = split, {}
        for name, output in outputs.items():
            size = (output.get("parameters") or {}).get("binary_data_size")
            if size is not None:
                places[name] = slice(at, at := at + size)
        chosen = outputs[name := signature.chosen(_described(list(outputs.values())))]
        if name in places:
            return as_table(from_bytes(body[places[name]], chosen["datatype"], chosen["shape"]))
        return as_table(np.array(chosen["data"], NUMPY[chosen["datatype"]]).reshape(chosen["shape"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidReply(f"remote: the response is malformed: {error!r}") from error


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidReply("remote: the response is not valid JSON") from error
