"""A `result.json` read back: of schema 2, and of schema 1, which was kept before it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from edgecascade.benchmarks.document import KIND, SCHEMA
from edgecascade.types.errors import BenchmarkError

__all__ = ["read_result"]

_LARGEST = 64 << 20  # bytes


def read_result(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The document; what schema 1 kept of an offload run at the top is under `offload`, as in schema 2.

    Raises:
        BenchmarkError: no such file, or not a benchmark's result.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise BenchmarkError(f"{path}: expected a result of at most {_LARGEST >> 20} MiB")
        document = json.loads(content)
    except OSError as error:
        raise BenchmarkError(f"{path}: expected a result.json, got: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"{path}: expected JSON, got: {str(error)[:100]}") from error
    if not isinstance(document, dict) or not isinstance(document.get("environment"), dict):
        raise BenchmarkError(f"{path}: expected the result.json of a benchmark, got other JSON")
    schema = document.get("schema")
    if schema == 1 and not isinstance(schema, bool):
        return _as_newer(document)
    if schema != SCHEMA or document.get("kind") != KIND:
        raise BenchmarkError(f"{path}: expected a benchmark's result of schema 1 or {SCHEMA}, got schema {schema!r}")
    return document


def _as_newer(document: dict[str, Any]) -> dict[str, Any]:
    if not {"strategies", "served"} <= document.keys():
        return document
    common = ("schema", "environment")
    return {
        **{name: document[name] for name in common},
        "offload": {name: value for name, value in document.items() if name not in common},
    }
