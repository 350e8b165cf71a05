"""A remote that speaks the Open Inference Protocol v2 over REST: Triton, KServe, MLServer and others.

Tensors travel as binary where the server can (the binary tensor data extension), else as JSON. Servers
advertise that extension unreliably, so the first request tries it and the answer is remembered.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.compression import Gzip
from edgecascade.runtime.remotes.http import HttpClient, Response, Traffic
from edgecascade.runtime.remotes.model_address import read_address
from edgecascade.runtime.remotes.retry import worth_a_retry
from edgecascade.runtime.remotes.successful import successful
from edgecascade.runtime.remotes.tensors import (
    DATATYPES,
    NUMPY,
    Signature,
    Tensor,
    as_table,
    check,
    contents,
    from_bytes,
)
from edgecascade.types.errors import RemoteError

__all__ = ["DATATYPES", "OpenInference"]

_REFUSALS = (400, 415, 422, 500, 501)  # what servers say to a body in a form that they cannot read
_HEADER_LENGTH = "Inference-Header-Content-Length"


class OpenInference:
    """One model on one server. Opens no connection until it is asked.

    Args:
        url: `http[s]://host[:port]/v2/models/NAME[/versions/VERSION]`.
        headers: sent with every request, such as `Authorization`.
        input: the model's input name; by default the one it declares.
        output: the output that holds the logits; by default `logits`, or the only floating [n, classes].
        context: TLS settings for https, such as another root certificate or this client's own; by default the
            system's certificates.
        compress: send bodies above 1 KiB in gzip if that makes them smaller by a tenth and the server reads it.
        encoded: the model takes image files as they are, as BYTES [n].

    Raises:
        ArgumentError: the address is of another form.
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
        self._binary: bool | None = None
        self._gzip = Gzip() if compress else None

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._client.traffic

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[Any]:
        """Logits [n, classes] of inputs [n, ...], which by name go to the server's inputs of these names.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made.
            RemoteError: the server's answer is no answer.
        """
        check(inputs)
        if self._signature is None:
            self._signature = self._ask_signature(deadline)
        signature, tensors = self._signature, self._signature.tensors(inputs)
        if self._binary is not None:
            return _logits(self._post(tensors, self._binary, deadline), signature)
        response = self._post(tensors, True, deadline)
        binary = response.status not in _REFUSALS
        passing = worth_a_retry(response.status, response.body)  # not for a reason in the body: nothing is learnt
        if not binary:
            response = self._post(tensors, False, deadline)
        scores = _logits(response, signature)
        self._binary = binary or (None if passing else False)
        return scores

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    def _ask_signature(self, deadline: Deadline) -> Signature:
        declared = _json(successful(self._client.request("GET", self._path, None, self._headers, deadline)).body)
        try:
            inputs, outputs = _described(declared.get("inputs")), _described(declared.get("outputs"))
        except (TypeError, KeyError, AttributeError) as error:
            raise RemoteError(f"remote: the model's metadata is malformed: {error!r}") from error
        return Signature.of(inputs, outputs, input=self._input, output=self._output)

    def _post(self, tensors: Sequence[Tensor], binary: bool, deadline: Deadline) -> Response:
        assert self._signature is not None
        raw = [contents(one.array) for one in tensors] if binary else []
        inputs = [
            _head(one, {"parameters": {"binary_data_size": len(raw[i])}} if binary else _data(one.array))
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


def _described(tensors: Sequence[Mapping[str, Any]] | None) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {str(one["name"]): (str(one.get("datatype", "")), tuple(one.get("shape") or ())) for one in tensors or ()}


def _head(tensor: Tensor, rest: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype, **rest}


def _data(array: NDArray[Any]) -> dict[str, Any]:
    """Values as JSON has them; bytes, which it has not, in base64 and said so, as MLServer reads them."""
    values = array.ravel().tolist()
    if not any(isinstance(value, bytes) for value in values):
        return {"data": values}
    return {"parameters": {"content_type": "base64"}, "data": [base64.b64encode(value).decode() for value in values]}


def _logits(response: Response, signature: Signature) -> NDArray[Any]:
    body = successful(response).body
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
        raise RemoteError(f"remote: the response is malformed: {error!r}") from error


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RemoteError("remote: the response is not JSON") from error
