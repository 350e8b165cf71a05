"""The metadata document against its published schema, which lies beside the runtime that reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from edgecascade.export.errors import ExportError

__all__ = ["check_document", "schema"]


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of format 1."""
    text = files("edgecascade.runtime").joinpath("cascade-model.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def check_document(document: Mapping[str, Any], where: str) -> None:
    """Refuse a document that is not as the schema says.

    Args:
        document: as it is or will be in a file.
        where: what to call it in a refusal.

    Raises:
        ExportError: with the place and what is wrong there, of the first thing that is.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema()).iter_errors(json.loads(json.dumps(document, allow_nan=False))))
    if error is not None:
        place = "/".join(str(step) for step in error.absolute_path) or "the document"
        said = error.message if len(error.message) <= 200 else f"{error.message[:200]}..."
        raise ExportError(f"{where}: its metadata is not as the schema says, at {place}: {said}")
