"""The document in `result.json`: what was measured, in plain values, with its schema's number on it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib.resources import files
from typing import Any

import numpy as np

from edgecascade.benchmarks.device.environment import Environment
from edgecascade.benchmarks.section import Report
from edgecascade.types.errors import BenchmarkError

__all__ = ["KIND", "SCHEMA", "plain", "result_document", "result_schema"]

KIND = "edgecascade benchmark"
SCHEMA = 2
_RESERVED = ("schema", "kind", "title", "command", "method", "environment")
_DEEPEST = 50


def result_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of schema 2."""
    text = files("edgecascade.benchmarks").joinpath("schema/result.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def result_document(report: Report, environment: Environment) -> dict[str, Any]:
    """What `result.json` holds.

    Raises:
        BenchmarkError: a kind's name is taken or no name, or something found is no JSON-like value.
    """
    for kind, found in report.found.items():
        if kind in _RESERVED or not re.fullmatch("[a-z][a-z0-9_]*", kind):
            raise BenchmarkError(f"found: expected a kind such as 'offload', and none of {_RESERVED}, got {kind!r}")
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


def plain(value: Any, name: str = "value") -> Any:
    """Dataclasses, mappings, sequences, enums and numpy values as what JSON can hold; what is not finite is None.

    Args:
        value: nested at most 50 deep.
        name: of the value, for an error.

    Raises:
        BenchmarkError: something in it is none of these; the message says where.
    """
    return _plain(value, name, _DEEPEST)


def _plain(value: Any, name: str, deeper: int) -> Any:
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
        return {f.name: _plain(getattr(value, f.name), f"{name}.{f.name}", deeper - 1) for f in fields(value)}
    if isinstance(value, Mapping):
        return {_key(key, name): _plain(one, f"{name}[{key!r}]", deeper - 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{name}[{index}]", deeper - 1) for index, one in enumerate(value)]
    raise BenchmarkError(f"{name}: expected what JSON can hold, a dataclass or an array, got {type(value).__name__}")


def _key(key: Any, name: str) -> str:
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str | int | np.integer) and not isinstance(key, bool):
        return str(key)
    raise BenchmarkError(f"{name}: expected keys that are text or whole numbers, got {key!r}")
