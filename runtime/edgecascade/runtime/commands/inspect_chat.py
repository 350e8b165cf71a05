"""`edgecascade inspect` of the JSON file of two chat endpoints."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from edgecascade.types.document import ChatDocument, ChatSide
from edgecascade.types.document.metadata import CHAT_FORMAT
from edgecascade.types.errors import ArgumentError, ModelFileError
from edgecascade.types.estimate import curve_table

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
    for head, text in _rows(document):
        line = text.replace("\n", "\\n")  # of a name: it must not look like another line
        print(f"  {head:<12}{line}")
    return 0


def _rows(document: ChatDocument) -> Iterator[tuple[str, str]]:
    """Yield the heading, empty for a continuation, and the text of each line of the summary."""
    policy, score = document.policy, document.score
    yield "local", _side(document.local)
    yield "", str(document.calibration)
    yield "remote", _side(document.remote)
    yield "", f"mean value {document.remote_value.percent()}"
    yield "value", f"of a reply in [0, 1], by the judge {document.judge}; accuracies below are mean values"
    yield (
        "score",
        f"{score.kind} log-probability of up to {score.whole} tokens, of longer replies the first {score.start}",
    )
    yield "requests", json.dumps(dict(document.fields))
    yield "turns", "; ".join(" > ".join(roles) for roles in document.turns)
    yield "policy", policy.objective
    yield "", f"forward below advantage {policy.threshold:+.4f}; advantage: {policy.estimate}, {policy.bins} bins"
    yield "curve", "operating points on the calibration data; each prompt is judged by tables that others fitted"
    yield from (("", line) for line in curve_table(document.operating_curve, policy.threshold, "mean value"))
    yield from (("advice", sentence) for sentence in policy.advice)
    yield "certificate", str(document.certificate or "none: the figures above are estimates")
    yield "data", f"sha256 {document.data_sha256[:12]}..."


def _side(side: ChatSide) -> str:
    asked = "the model that the server chooses" if side.model is None else side.model
    price = "" if side.price is None else f"; {side.price.prompt:g} and {side.price.completion:g} per million tokens"
    return f"{side.url}, asked for {asked}, reported as {side.reported or 'nothing'}{price}"
