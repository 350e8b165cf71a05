"""The arguments of a general task: what scores the local answers, what verifies answers, and what decodes outputs."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgecascade.calibration import Verifier
from edgecascade.calibration.verifiers import (
    VERIFIERS,
    CharacterAccuracy,
    ExactMatch,
    TokenF1,
    WordAccuracy,
    verifier_named,
)
from edgecascade.cli import rare
from edgecascade.export.data import ReferencedData, read_references
from edgecascade.runtime.commands.remote_arguments import flag
from edgecascade.runtime.decode import DECODERS, Boxes, decoder_named
from edgecascade.types.answer import Decode
from edgecascade.types.errors import ExportError

__all__ = [
    "REFERENCES",
    "TASKS",
    "Task",
    "TaskParts",
    "add_decode_arguments",
    "add_reference_arguments",
    "add_task_arguments",
    "add_verifier_argument",
    "decoders_of",
    "is_general",
    "references_of",
    "refuse_task_arguments",
    "task_parts",
]

REFERENCES = "COCO's JSON, a folder of images or .npy files with text files beside them, CSV, parquet or npz"


@dataclass(frozen=True)
class Task:
    """What is usual for a task, by the names that commands take; empty where it depends on the model or the data.

    Attributes:
        confidence: the confidence function.
        verifier: the verifier.
        decode: the decoder of both sides.
    """

    confidence: str
    verifier: str
    decode: str


TASKS: Mapping[str, Task] = {
    "detection": Task("", "box-f1", "boxes"),  # the scores are where the decoder finds them
    "ocr": Task("mean-log-probability:blank=0", "character-accuracy", ""),
    "regression": Task("", "", "value"),
    "retrieval": Task("margin", "recall", "ranking"),
    "segmentation": Task("entropy:axis=1", "mean-iou", "class-map"),
    "speech": Task("mean-log-probability:blank=0", "word-accuracy", ""),
}
_NONE = Task("", "", "")
_OF_TASKS = ("verifier", "decode", "remote_decode", "reference", "images")
_OF_SCORES = ("max", "mean", "min")  # confidence functions of the scores of detections
_OF_TEXT = (CharacterAccuracy, ExactMatch, TokenF1, WordAccuracy)
_PLACES = {"background", "column", "columns", "count", "output", "transposed"}  # their options that say where these are
_SUCH_AS = {
    "confidence": "output:output=error,negate=yes, mean:output=scores,floor=0.25 or FILE.py:NAME of your own",
    "verifier": "scaled-error:scale=10, exact or FILE.py:NAME of your own",
}
_USUAL = {"confidence": "--confidence-function", "verifier": "--verifier"}


@dataclass(frozen=True)
class TaskParts:
    """What the arguments name.

    Attributes:
        name: of the task.
        confidence: the text that names the confidence function.
        verifier: the text that names the verifier.
        verify: the verifier.
        decode: the decoder of the local model, or None.
        remote_decode: the decoder of the remote, or None.
    """

    name: str
    confidence: str
    verifier: str
    verify: Verifier[Any]
    decode: Decode | None
    remote_decode: Decode | None


def add_task_arguments(parser: ArgumentParser) -> None:
    """Add everything that makes a task a general one."""
    group = parser.add_argument_group("general tasks, that is all but classification")
    group.add_argument(
        "--task", choices=tuple(TASKS), help="A task with its usual confidence function, verifier and decoder."
    )
    group.add_argument(
        "--confidence-function",
        metavar="NAME",
        help="What scores the local answers: output, max, mean, min, mean-log-probability, min-log-probability, "
        "entropy or margin, with options as in max:output=scores,floor=0.3; or FILE.onnx or MODULE:NAME of your own.",
    )
    add_verifier_argument(group)
    add_decode_arguments(group)
    add_reference_arguments(group)


def add_verifier_argument(parser: Any) -> None:
    """Add the argument that names the verifier to a parser or a group."""
    parser.add_argument(
        "--verifier",
        metavar="NAME",
        help=f"What an answer is worth: {', '.join(VERIFIERS)}, with options as in within:tolerance=5; or MODULE:NAME "
        "or FILE.py:NAME of your own.",
    )


def add_decode_arguments(parser: Any) -> None:
    """Add the arguments that name the decoders to a parser or a group."""
    parser.add_argument(
        "--decode",
        metavar="NAME",
        help=f"What reads the outputs of one input: {', '.join(DECODERS)}, with options as in "
        "ctc:characters=keys.txt; or MODULE:NAME or FILE.py:NAME of your own.",
    )
    parser.add_argument("--remote-decode", metavar="NAME", help="The same for the remote (default: as --decode).")


def add_reference_arguments(parser: Any) -> None:
    """Add the arguments that say where the references are to a parser or a group."""
    column = "Column of a table (default: reference) or array of an npz file (references) with the references."
    parser.add_argument("--reference", metavar="COLUMN", help=column)
    parser.add_argument("--images", metavar="DIR", help="Folder of the images of a COCO file (default: the file's).")
    rare(
        parser.add_argument(
            "--coco-labels",
            choices=("ids", "order"),
            default="ids",
            help="Labels of COCO's boxes: the categories' own numbers, or their places in order, from 0.",
        )
    )
    rare(
        parser.add_argument(
            "--coco-units",
            choices=("pixels", "shares"),
            default="pixels",
            help="Unit of COCO's boxes: pixels, or shares of the image's sides.",
        )
    )


def is_general(arguments: Namespace) -> bool:
    """Return whether the arguments are those of a general task."""
    return bool(arguments.task or arguments.confidence_function or arguments.verifier)


def refuse_task_arguments(arguments: Namespace) -> None:
    """Check that no argument is given that has a meaning for general tasks only.

    Raises:
        ExportError: one is.
    """
    if idle := [name for name in _OF_TASKS if getattr(arguments, name) is not None]:
        raise ExportError(f"{flag(idle[0])}: expected for a general task, got a classifier")


def task_parts(arguments: Namespace) -> TaskParts:
    """Return what the arguments name, each part by its own argument or as is usual for the task.

    Raises:
        ArgumentError: a name or an option is not known, or a function of the user's cannot be imported.
        ExportError: a part is missing.
    """
    task = TASKS.get(arguments.task or "", _NONE)
    decode, remote_decode = decoders_of(arguments, arguments.task or "")
    confidence = arguments.confidence_function or task.confidence
    if isinstance(decode, Boxes):
        confidence = _of_boxes(confidence, decode)
    verifier = arguments.verifier or task.verifier
    for part, given in (("confidence", confidence), ("verifier", verifier)):
        if not given:
            raise ExportError(
                f"{_USUAL[part]}: expected one for {arguments.task or 'a task of your own'}, such as {_SUCH_AS[part]}, "
                "got none"
            )
    return TaskParts(
        arguments.task or "general",
        confidence,
        verifier,
        verifier_named(verifier, "--verifier"),
        decode,
        remote_decode,
    )


def _of_boxes(confidence: str, boxes: Boxes) -> str:
    """Return the text of a confidence function, told where the decoder finds scores if it does not say so itself.

    Without one, it is the mean score of the boxes that the decoder counts, before suppression.
    """
    name, _, rest = (confidence or f"mean:floor={boxes.least:g}").partition(":")
    given = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    if name not in _OF_SCORES or given.keys() & _PLACES:
        return confidence
    beside = {} if boxes.scores else {"columns": boxes.columns, "transposed": "yes" if boxes.transposed else ""}
    options = {
        "output": boxes.scores or boxes.boxes,
        **given,
        "count": boxes.count,
        "background": "" if boxes.background is None else boxes.background,
        **beside,
    }
    return f"{name}:" + ",".join(f"{option}={value}" for option, value in options.items() if value != "")


def decoders_of(arguments: Namespace, task: str) -> tuple[Decode | None, Decode | None]:
    """Return the decoders of the local model and of the remote; None, for the outputs themselves, if none is named.

    Args:
        arguments: the arguments.
        task: its usual decoder is that of both sides where the arguments name none.

    Raises:
        ArgumentError: a name or an option is not known, or a function of the user's cannot be imported.
        ExportError: the task has no usual decoder, and none is named.
    """
    local = arguments.decode or TASKS.get(task, _NONE).decode
    remote = arguments.remote_decode or local
    if not local and task in TASKS:
        raise ExportError(f"--decode: expected one for {task}, such as ctc:characters=keys.txt, got none")
    return (
        decoder_named(local, "--decode") if local else None,
        decoder_named(remote, "--remote-decode") if remote else None,
    )


def references_of(arguments: Namespace, verifier: Verifier[Any], columns: Sequence[str] = ()) -> ReferencedData:
    """Return the data with its references, as the verifier takes them, and with other columns by name.

    Raises:
        ExportError: the data cannot be read, or has no use for an argument.
    """
    try:
        return read_references(
            arguments.data,
            arguments.reference,
            columns=columns,
            images=arguments.images,
            labels=arguments.coco_labels,
            units=arguments.coco_units,
            text=isinstance(verifier, _OF_TEXT),
        )
    except ExportError as error:
        raise ExportError(re.sub("^(?=reference:|images:)", "--", str(error))) from error
