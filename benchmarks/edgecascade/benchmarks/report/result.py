"""The document in `result.json`: written here from dataclasses, and read here.

A field whose metadata is `HIGHER` or `LOWER` says which way is better; the estimates in it carry that as `better`.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from edgecascade.benchmarks.device.environment import Environment
from edgecascade.benchmarks.report.contents import Report
from edgecascade.types.errors import BenchmarkError

__all__ = [
    "HIGHER",
    "KIND",
    "LOWER",
    "SCHEMA",
    "json_text",
    "plain",
    "read_result",
    "result_document",
    "result_schema",
]

HIGHER = {"better": "higher"}
LOWER = {"better": "lower"}
KIND = "edgecascade benchmark"
SCHEMA = 3
_RESERVED = ("schema", "kind", "title", "command", "method", "environment")
_DEEPEST = 50
_LARGEST = 64 << 20  # bytes


def result_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the documents that are written."""
    text = files("edgecascade.benchmarks.report").joinpath("result.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def result_document(report: Report, environment: Environment) -> dict[str, Any]:
    """Return what `result.json` holds.

    Raises:
        BenchmarkError: The name of a kind is reserved or malformed, or a value cannot be written as JSON.
    """
    for kind, found in report.found.items():
        if kind in _RESERVED or not re.fullmatch("[a-z][a-z0-9_]*", kind):
            raise BenchmarkError(f"found: expected a kind such as 'offload', not one of {_RESERVED}, got {kind!r}")
        if not isinstance(found, Mapping) and not (is_dataclass(found) and not isinstance(found, type)):
            raise BenchmarkError(f"found[{kind!r}]: expected a mapping or a dataclass, got {type(found).__name__}")
    return {
        "schema": SCHEMA,
        "kind": KIND,
        "title": report.title,
        "command": report.command,
        "method": list(report.method),
        "environment": plain(environment, "environment"),
        **{kind: plain(found, kind) for kind, found in report.found.items()},
    }


def json_text(document: Any) -> str:
    """Return strict JSON, indented, with each innermost object or list on one line."""
    text = json.dumps(document, indent=1, allow_nan=False)
    return re.sub(r"[{\[][^{}\[\]]*[}\]]", lambda found: re.sub(r"\n *", " ", found[0]), text)


def plain(value: Any, name: str = "value") -> Any:
    """Return dataclasses, mappings, sequences, enums and numpy values as JSON values; numbers not finite as None.

    Args:
        value: The value, nested at most 50 deep.
        name: The name of the value in an error.

    Raises:
        BenchmarkError: Something in it is none of these; the message says where.
    """
    return _plain(value, name, _DEEPEST, None)


def _plain(value: Any, name: str, deeper: int, better: str | None) -> Any:
    if deeper == 0:
        raise BenchmarkError(f"{name[:60]}...: expected at most {_DEEPEST} levels")
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        written = {
            f.name: _plain(getattr(value, f.name), f"{name}.{f.name}", deeper - 1, f.metadata.get("better", better))
            for f in fields(value)
        }
        return {**written, "better": better} if better and written.keys() == {"value", "low", "high", "n"} else written
    if isinstance(value, Mapping):
        return {_key(key, name): _plain(one, f"{name}[{key!r}]", deeper - 1, better) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{name}[{index}]", deeper - 1, better) for index, one in enumerate(value)]
    raise BenchmarkError(f"{name}: expected a JSON value, a dataclass or an array, got {type(value).__name__}")


def _key(key: Any, name: str) -> str:
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str | int | float | np.number) and not isinstance(key, bool):
        return str(key)
    raise BenchmarkError(f"{name}: expected keys that are text or numbers, got {key!r}")


def read_result(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a `result.json`.

    Raises:
        BenchmarkError: There is no such file, or it is not the result of a benchmark in this schema.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise BenchmarkError(f"{path}: expected a result of at most {_LARGEST >> 20} MiB")
        document = json.loads(content)
    except OSError as error:
        raise BenchmarkError(f"{path}: expected a result.json: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"{path}: is not valid JSON: {str(error)[:100]}") from error
    if not isinstance(document, dict) or not isinstance(document.get("environment"), dict):
        raise BenchmarkError(f"{path}: expected the result.json of a benchmark, got other JSON")
    schema = document.get("schema")
    if isinstance(schema, bool) or schema != SCHEMA or document.get("kind") != KIND:
        raise BenchmarkError(
            f"{path}: expected a benchmark's result of schema {SCHEMA}, got schema {schema!r}; measure it again"
        )
    return document
