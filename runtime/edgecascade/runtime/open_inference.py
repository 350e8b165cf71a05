"""A remote that speaks the Open Inference Protocol v2 over REST: Triton, KServe, MLServer and others.

Tensors travel as binary where the server can (the binary tensor data extension), else as JSON. Servers
advertise that extension unreliably, so the first request tries it and the answer is remembered.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.errors import ArgumentError, RemoteError
from edgecascade.runtime.http import HttpClient, Response, Traffic

__all__ = ["DATATYPES", "OpenInference"]

# numpy name -> protocol name
DATATYPES = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
_NUMPY = {protocol: np.dtype(name) for name, protocol in DATATYPES.items()}
_ADDRESS = re.compile(r"(?P<model>.*/v2/models/[^/]+(/versions/[^/]+)?)/?")
_NO_BINARY = (400, 415, 422, 500, 501)  # what servers say to a binary body that they cannot read
_HEADER_LENGTH = "Inference-Header-Content-Length"


class OpenInference:
    """One model on one server. Opens no connection until it is asked.

    Args:
        url: `http[s]://host[:port]/v2/models/NAME[/versions/VERSION]`.
        headers: sent with every request, such as `Authorization`.
        input: the model's input name; by default the one it declares.
        output: the output that holds the logits; by default `logits`, or the only floating [n, classes].
        context: TLS settings for https; by default the system's certificates.

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
    ) -> None:
        parts = urlsplit(url)
        match = _ADDRESS.fullmatch(parts.path)
        if parts.scheme not in ("http", "https") or not parts.hostname or match is None:
            raise ArgumentError(f"remote: expected http[s]://host[:port]/v2/models/NAME, got {url!r}")
        secure = parts.scheme == "https"
        self._client = HttpClient(
            parts.hostname,
            parts.port or (443 if secure else 80),
            (context or ssl.create_default_context()) if secure else None,
        )
        self._path = match["model"]
        self._headers = {**(headers or {}), "Content-Type": "application/json"}
        self._input, self._output = input, output
        self._names: _Names | None = None
        self._binary: bool | None = None

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
        for array in inputs.values() if isinstance(inputs, Mapping) else [inputs]:
            if array.dtype.kind != "U" and array.dtype.name not in DATATYPES:
                raise RemoteError(f"remote: arrays of {array.dtype} have no type in the Open Inference Protocol")
        if self._names is None:
            self._names = self._ask_names(deadline)
        tensors = inputs if isinstance(inputs, Mapping) else {self._names.sole_input: inputs}
        if self._binary is not None:
            return self._decode(self._post(tensors, self._binary, deadline))
        response = self._post(tensors, True, deadline)
        binary = response.status not in _NO_BINARY
        if not binary:
            response = self._post(tensors, False, deadline)
        scores = self._decode(response)
        self._binary = binary
        return scores

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    def _ask_names(self, deadline: Deadline) -> _Names:
        response = self._client.request("GET", self._path, None, self._headers, deadline)
        declared = _json(_successful(response).body)
        try:
            inputs = [str(i["name"]) for i in declared.get("inputs") or []]
            outputs = {str(o["name"]): o for o in declared.get("outputs") or []}
        except (TypeError, KeyError, AttributeError) as error:
            raise RemoteError(f"remote: the model's metadata is malformed: {error!r}") from error
        return _Names([self._input] if self._input else inputs, self._output or _logits_among(outputs))

    def _post(self, inputs: Mapping[str, NDArray[Any]], binary: bool, deadline: Deadline) -> Response:
        assert self._names is not None
        tensors, raw = [], []
        for name, array in inputs.items():
            datatype = "BYTES" if array.dtype.kind == "U" else DATATYPES[array.dtype.name]
            tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype}
            if binary:
                raw.append(_strings(array) if datatype == "BYTES" else np.ascontiguousarray(array).tobytes())
                tensor["parameters"] = {"binary_data_size": len(raw[-1])}
            else:
                tensor["data"] = array.ravel().tolist()
            tensors.append(tensor)
        request: dict[str, Any] = {"inputs": tensors}
        if self._names.output:
            request["outputs"] = [{"name": self._names.output, "parameters": {"binary_data": binary}}]
        headers = dict(self._headers)
        head = json.dumps(request, separators=(",", ":")).encode()
        if binary:
            headers[_HEADER_LENGTH] = str(len(head))
            headers["Content-Type"] = "application/octet-stream"
        return self._client.request("POST", f"{self._path}/infer", b"".join([head, *raw]), headers, deadline)

    def _decode(self, response: Response) -> NDArray[Any]:
        body = _successful(response).body
        try:
            split = int(response.headers.get(_HEADER_LENGTH.lower(), len(body)))
            outputs = {str(o["name"]): o for o in _json(body[:split])["outputs"]}
            tensors, at = {}, split
            for name, output in outputs.items():
                size = (output.get("parameters") or {}).get("binary_data_size")
                dtype, shape = _NUMPY[output["datatype"]], output["shape"]
                if size is None:
                    tensors[name] = np.array(output["data"], dtype).reshape(shape)
                else:
                    tensors[name] = np.frombuffer(body[at : at + size], dtype).reshape(shape)
                    at += size
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RemoteError(f"remote: the response is malformed: {error!r}") from error
        assert self._names is not None
        chosen = self._names.output or _logits_among(outputs)
        if chosen not in tensors:
            raise RemoteError(
                f"remote: no output is known to hold logits among {sorted(tensors)}; name it with `output`"
            )
        return tensors[chosen]


@dataclass(frozen=True)
class _Names:
    inputs: list[str]
    output: str | None

    @property
    def sole_input(self) -> str:
        if len(self.inputs) != 1:
            raise RemoteError(f"remote: expected a model with one input, got {len(self.inputs)}; name it with `input`")
        return self.inputs[0]


def _logits_among(outputs: Mapping[str, Mapping[str, Any]]) -> str | None:
    if "logits" in outputs:
        return "logits"
    tables = [
        name
        for name, output in outputs.items()
        if str(output.get("datatype", "")).startswith("FP") and len(output.get("shape") or []) == 2
    ]
    return tables[0] if len(tables) == 1 else None


def _strings(array: NDArray[Any]) -> bytes:
    """Each as its length, uint32 little-endian, and its UTF-8, as the protocol has BYTES."""
    encoded = [text.encode() for text in array.ravel().tolist()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)


def _successful(response: Response) -> Response:
    if response.status != 200:
        said = response.body[:200].decode(errors="replace").strip().partition("\n")[0]
        raise RemoteError(f"remote: HTTP {response.status}: {said or 'no explanation'}")
    return response


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RemoteError("remote: the response is not JSON") from error
