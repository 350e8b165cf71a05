"""Weights in a file beside a model file: for models beyond the 2 GiB that one ONNX file can hold.

The model file has the name and the SHA-256 of its weights in its metadata, so that neither comes without the other.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from edgecascade.runtime.protobuf import fields
from edgecascade.types.document.metadata import DAMAGE, WEIGHTS_KEY
from edgecascade.types.errors import ModelFileError

__all__ = ["check_weights"]

_METADATA, _KEY, _VALUE = 14, 1, 2  # fields of onnx.ModelProto and onnx.StringStringEntryProto
_CHUNK = 1 << 24  # bytes


def check_weights(path: str | os.PathLike[str]) -> Path | None:
    """Return the file with the weights of a model file, after checking its content; None if the model has no such file.

    Raises:
        ModelFileError: the weights are missing, or not those of the model file.
    """
    text = _metadata(path)
    if text is None:
        return None
    try:
        said = json.loads(text)
        name, sha256 = Path(said["file"]).name, str(said["sha256"])
    except DAMAGE as error:
        raise ModelFileError(f"{path}: its `{WEIGHTS_KEY}` metadata is damaged: {error!r}") from error
    file = Path(path).parent / name
    if not file.is_file():
        raise ModelFileError(f"{path}: expected its weights {name} in the same folder, got no such file")
    import hashlib  # with OpenSSL, which few files need

    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise ModelFileError(f"{path}: expected the weights that it was written with, got {name} with another SHA-256")
    return file


def _metadata(path: str | os.PathLike[str]) -> str | None:
    """Return what an ONNX file says about its weights; None if it says nothing, or cannot be read."""
    try:
        for field, entry in fields(np.memmap(path, np.uint8, "r").data):
            if field == _METADATA:
                said = dict(fields(entry))
                if bytes(said[_KEY]) == WEIGHTS_KEY.encode():
                    return bytes(said[_VALUE]).decode()
    except (OSError, ValueError, IndexError, KeyError, TypeError):  # the engine reports a damaged file
        return None
    return None
