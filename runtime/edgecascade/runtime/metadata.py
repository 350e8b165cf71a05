"""The JSON document inside a cascade model, under the metadata key `edgecascade`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgecascade.runtime.errors import ModelFileError
from edgecascade.runtime.properties import read_properties
from edgecascade.runtime.remote_calibration import RemoteCalibration

__all__ = ["FORMAT", "KEY", "MERGES", "Metadata", "read_metadata"]

KEY = "edgecascade"
FORMAT = 1
MERGES = ("replace", "confident", "average")
_LARGEST = 1 << 24  # characters: far above any real document, far below a device's memory


class Metadata(NamedTuple):
    """What the runtime acts on, and the whole document for whoever wants to read the evidence.

    Attributes:
        labels: class names, one per class.
        merge: `replace`, `confident` or `average`.
        calibrate_remote: how to read the remote's scores.
        document: everything, as written by export.
    """

    labels: tuple[str, ...]
    merge: str
    calibrate_remote: RemoteCalibration
    document: Mapping[str, Any]


def read_metadata(session: Any, path: str | os.PathLike[str]) -> Metadata:
    """The document of an open session.

    Raises:
        ModelFileError: no document, a damaged one, or a format this runtime does not know.
    """
    text = read_properties(session, path).get(KEY)
    if text is None:
        raise ModelFileError(
            f"{path}: not a cascade model (it has no `{KEY}` metadata); `edgecascade calibrate` makes one of it"
        )
    if len(text) > _LARGEST:
        raise ModelFileError(f"{path}: its `{KEY}` metadata has {len(text)} characters, over the limit {_LARGEST}")
    import json  # late, as whatever an import can do without

    try:
        document = json.loads(text)
        version = document["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path}: its `{KEY}` metadata is damaged ({type(error).__name__})") from error
    if version != FORMAT:
        raise ModelFileError(
            f"{path}: its format version is {version}, this edgecascade knows version {FORMAT}; "
            "install a newer edgecascade, or write the file again"
        )
    try:
        metadata = Metadata(
            labels=tuple(str(name) for name in document["labels"]),
            merge=document["policy"]["merge"],
            calibrate_remote=RemoteCalibration(
                temperature=float(document["remote"]["temperature"]),
                probabilities=document["remote"]["scores"] == "probabilities",
            ),
            document=document,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: its `{KEY}` metadata is damaged: {error!r}") from error
    if metadata.merge not in MERGES or not metadata.calibrate_remote.temperature > 0:
        raise ModelFileError(
            f"{path}: its `{KEY}` metadata is damaged: merge {metadata.merge!r}, "
            f"remote temperature {metadata.calibrate_remote.temperature}"
        )
    return metadata
