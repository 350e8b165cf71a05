"""What `edgecascade inspect` prints of a cascade model; it needs ONNX Runtime."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator

from edgecascade.runtime.engine import Engine, open_session, read_document, sessions
from edgecascade.runtime.golden import Golden, compare, decision_vectors, read_golden
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.runtime.saturation import unsafe_weights
from edgecascade.types.document import FORMAT, TASK_FORMAT, CascadeDocument, TaskDocument
from edgecascade.types.document.summary import document_rows
from edgecascade.types.errors import ModelFileError

__all__ = ["inspect_model"]


def inspect_model(arguments: Namespace) -> int:
    """Print the metadata, as a summary or as JSON, or verify the file."""
    path = arguments.file
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
