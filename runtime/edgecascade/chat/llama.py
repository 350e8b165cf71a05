"""Serve a GGUF file in this process with llama.cpp, by the package xllamacpp."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from edgecascade.types.errors import ArgumentError, ModelFileError, first_line, no_file

__all__ = ["LlamaServer"]

_ERRORS = 1  # of llama.cpp's levels of verbosity
_CLOSED = {
    "cors_origins": "",
    "cors_origins_explicit": True,
    "cors_credentials": False,
    "endpoint_slots": False,
    "endpoint_props": False,
    "endpoint_metrics": False,
    "ui": False,
}


class LlamaServer:
    """llama.cpp's server in this process, at a free port of this machine only.

    It answers only requests with a random key, which are those with its `headers`, and no page of a browser. It logs
    errors only.

    Args:
        path: a GGUF file.
        context: tokens of prompt and reply together, for each of the requests at once.
        parallel: requests at once.
        threads: threads that compute; None takes one per core.

    Attributes:
        headers: what requests must have.

    Raises:
        ModelFileError: the file is missing, or llama.cpp cannot load it.
        ArgumentError: xllamacpp is not installed.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, context: int = 4096, parallel: int = 2, threads: int | None = None
    ) -> None:
        if not Path(path).is_file():
            raise ModelFileError(no_file(path))
        try:
            import xllamacpp
        except ImportError as error:
            raise ArgumentError(
                f"local: {os.fspath(path)} is a GGUF file, which needs llama.cpp: pip install xllamacpp, or give the "
                "address of a server that has it loaded"
            ) from error
        parameters = xllamacpp.CommonParams()
        parameters.model.path = os.fspath(path)
        parameters.hostnames = ["127.0.0.1"]
        parameters.port, parameters.verbosity = 0, _ERRORS
        key = secrets.token_urlsafe(32)
        self.headers = {"Authorization": f"Bearer {key}"}
        parameters.api_keys = [key]
        for name, value in _CLOSED.items():
            if hasattr(parameters, name):  # older versions have fewer; all of them ask for the key
                setattr(parameters, name, value)
        parameters.n_ctx, parameters.n_parallel = context * parallel, parallel
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads or os.cpu_count() or 1
        try:
            self._server: Any = xllamacpp.Server(parameters)
        except Exception as error:  # what llama.cpp raises is not documented
            raise ModelFileError(f"{os.fspath(path)}: llama.cpp cannot load it: {first_line(error)}") from error

    @property
    def url(self) -> str:
        """The address of its OpenAI-compatible API."""
        return f"{self._server.listening_address}/v1"
