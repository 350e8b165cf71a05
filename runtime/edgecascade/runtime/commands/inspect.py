"""`edgecascade inspect`: show the contents of a cascade model, or verify it."""

from __future__ import annotations

import json
import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator

from edgecascade.cli import rare
from edgecascade.runtime.commands.inspect_chat import inspect_chat
from edgecascade.runtime.engine import Engine, open_session, read_document, sessions
from edgecascade.runtime.golden import Golden, compare, decision_vectors, read_golden
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.runtime.saturation import unsafe_weights
from edgecascade.types.document import (
    FORMAT,
    TASK_FORMAT,
    CascadeDocument,
    TaskDocument,
    is_chat_file,
)
from edgecascade.types.document.summary import document_rows
from edgecascade.types.errors import ModelFileError

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n  edgecascade inspect local.onnx\n  edgecascade inspect local.onnx --verify\n"
        "  edgecascade inspect local.onnx --vectors > vectors.json"
    )
    parser.add_argument(
        "file", help="Cascade model, as `edgecascade calibrate`, `tflite` or `calibrate-chat` writes it."
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="Run the golden inputs of the file on every execution provider of this machine, and compare the "
        "decisions. The exit code is 1 if they differ.",
    )
    rare(
        parser.add_argument(
            "--tolerance",
            type=_tolerance,
            default=1e-3,
            help="Largest difference of a confidence that --verify accepts (default 0.001).",
        )
    )
    parser.add_argument("--json", action="store_true", help="Print the metadata document of the file as JSON.")
    rare(
        parser.add_argument(
            "--vectors",
            action="store_true",
            help="Print the golden inputs with their decisions, also under other thresholds, as JSON: test vectors for "
            "readers in other languages.",
        )
    )


def execute(arguments: Namespace) -> int:
    """Print the metadata, as a summary or as JSON, or verify the file."""
    path = arguments.file
    if is_chat_file(path):
        return inspect_chat(arguments)
    session = open_session(path)
    document = read_document(session, path)
    inputs = str(model_inputs(session, path))  # which needs a text model's tokenizer
    if arguments.verify:
        return _verify(path, arguments.tolerance)
    if arguments.vectors:
        print(json.dumps(decision_vectors(_golden(session, path), document.policy.threshold), indent=1))
        return 0
    if arguments.json:
        print(document.to_json(indent=2))
        return 0
    classifies = isinstance(document, CascadeDocument)
    print(f"{path}: cascade model, format {FORMAT if classifies else TASK_FORMAT}, written by {document.written_by}")
    for head, text in _rows(document, path, inputs):
        line = text.replace("\n", "\\n")  # of a name: it must not look like another line
        print(f"  {head:<12}{line}")
    return 0


def _rows(document: CascadeDocument | TaskDocument, path: str, inputs: str) -> Iterator[tuple[str, str]]:
    """Yield the heading, empty for a continuation, and the text of each line of the summary."""
    yield "input", inputs
    if unsafe := unsafe_weights(path):
        yield "int8", f"{len(unsafe)} weight tensors that fast kernels add up wrongly on x86 CPUs without VNNI;"
        yield "", "this runtime avoids that there, others must set session.x64quantprecision to 1;"
        yield "", "weights that are quantized with reduce_range=True have no such sums"
    yield from document_rows(document)


def _verify(path: str, tolerance: float) -> int:
    failed = False
    for provider, session in sessions(path):
        if isinstance(session, ModelFileError):
            print(f"{provider}: not usable on this machine: {session}")
            continue
        golden = _golden(session, path)
        largest, difference = compare(session, golden.inputs, golden.expected, tolerance)
        failed |= difference is not None
        same = f"{len(golden)} golden inputs decided as expected; largest difference of a confidence {largest:.1e}"
        print(f"{provider}: {difference or f'{same} (tolerance {tolerance:g})'}")
    return 1 if failed else 0


def _golden(session: Engine, path: str) -> Golden:
    golden = read_golden(session, path)
    if golden is None:
        raise ModelFileError(f"{path}: expected golden inputs to replay, got none; `edgecascade calibrate` stores them")
    return golden


def _tolerance(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"expected a number of 0 or more, such as 0.001, got {text!r}")
    return number
