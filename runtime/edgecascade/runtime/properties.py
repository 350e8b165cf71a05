"""The texts that an ONNX file carries beside its graph."""

from __future__ import annotations

import os
from typing import Any

from edgecascade.runtime.errors import ModelFileError

__all__ = ["PREPROCESSING_KEY", "read_properties"]

PREPROCESSING_KEY = "edgecascade.preprocessing"  # how a caller's input becomes the model's


def read_properties(session: Any, path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of an open session, by key.

    Raises:
        ModelFileError: it is not UTF-8.
    """
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: its metadata is damaged: {error}") from error
