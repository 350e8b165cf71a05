"""Read the texts that a model file carries beside its graph, the document of a cascade model among them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edgecascade.types.errors import ModelFileError

if TYPE_CHECKING:
    from edgecascade.types.document import CascadeDocument

__all__ = ["read_document", "read_properties"]


def read_properties(session: Any, path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata of an open session, by key.

    Raises:
        ModelFileError: it is not UTF-8.
    """
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: its metadata is damaged: {error}") from error


def read_document(session: Any, path: str | os.PathLike[str]) -> CascadeDocument:
    """Return the document of an open session.

    Raises:
        ModelFileError: there is no document, or it is damaged or of a format that this runtime does not know.
    """
    from edgecascade.types.document import KEY, CascadeDocument  # needed to load a file, not to import the runtime

    text = read_properties(session, path).get(KEY)
    if text is None:
        raise ModelFileError(
            f"{path}: not a cascade model (it has no `{KEY}` metadata); `edgecascade calibrate` makes one of it"
        )
    return CascadeDocument.from_json(text, str(path))
