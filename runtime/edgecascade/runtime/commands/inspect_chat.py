"""`edgecascade inspect` of the JSON file of two chat endpoints."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from edgecascade.types.document import ChatDocument
from edgecascade.types.document.metadata import CHAT_FORMAT
from edgecascade.types.document.summary import chat_rows
from edgecascade.types.errors import ArgumentError, ModelFileError

__all__ = ["inspect_chat"]


def inspect_chat(arguments: Namespace) -> int:
    """Print the document, as a summary or as JSON.

    Raises:
        ArgumentError: the file was to be run, which only a model can.
        ModelFileError: it is damaged.
    """
    path = arguments.file
    if arguments.verify or arguments.vectors:
        option = "--verify" if arguments.verify else "--vectors"
        raise ArgumentError(
            f"{option}: expected a model that can be run, got {path}, which says when to ask an endpoint"
        )
    try:
        document = ChatDocument.from_json(Path(path).read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: expected text in UTF-8, got other bytes at position {error.start}") from error
    if arguments.json:
        print(document.to_json(indent=2))
        return 0
    print(f"{path}: two chat endpoints, format {CHAT_FORMAT}, written by {document.written_by}")
    for head, text in chat_rows(document):
        line = text.replace("\n", "\\n")  # of a name: it must not look like another line
        print(f"  {head:<12}{line}")
    return 0
