"""`edgecascade inspect`: show the contents of a cascade model, or verify it."""

from __future__ import annotations

import json
import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence

from edgecascade.cli import rare
from edgecascade.runtime.commands.inspect_chat import inspect_chat
from edgecascade.runtime.engine import Engine, open_session, read_document, sessions
from edgecascade.runtime.golden import Golden, compare, decision_vectors, read_golden
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.runtime.saturation import unsafe_weights
from edgecascade.types.document import (
    FORMAT,
    TASK_FORMAT,
    AskedChat,
    CascadeDocument,
    PolicyRecord,
    TaskDocument,
    calibration_rows,
    confusion_rows,
    is_chat_file,
)
from edgecascade.types.errors import ModelFileError, printable
from edgecascade.types.estimate import curve_table

__all__ = ["configure", "execute"]

_WORST = 3  # classes or groups that are shown
_EVIDENCE = {
    True: "; each input is judged by tables that others fitted",
    False: ", which also chose them; expect a little less on new data",
}  # of the operating curve, by whether it is cross-fitted


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
    if arguments.verify:
        return _verify(path, arguments.tolerance)
    if arguments.vectors:
        print(json.dumps(decision_vectors(_golden(session, path), document.policy.threshold), indent=1))
        return 0
    if arguments.json:
        print(document.to_json(indent=2))
        return 0
    classifies, inputs = isinstance(document, CascadeDocument), str(model_inputs(session, path))
    print(f"{path}: cascade model, format {FORMAT if classifies else TASK_FORMAT}, written by {document.written_by}")
    for head, text in _rows(document, path, inputs):
        line = text.replace("\n", "\\n")  # of a name: it must not look like another line
        print(f"  {head:<12}{line}")
    return 0


def _rows(document: CascadeDocument | TaskDocument, path: str, inputs: str) -> Iterator[tuple[str, str]]:
    """Yield the heading, empty for a continuation, and the text of each line of the summary."""
    policy, source = document.policy, document.source
    measure = "accuracy" if isinstance(document, CascadeDocument) else "mean value"
    yield "input", inputs
    if isinstance(document, CascadeDocument):
        yield "classes", f"{len(document.labels)}: {_shorten(document.labels)}"
    else:
        yield "task", f"{document.task.name}; outputs: {_shorten(document.task.outputs)}"
    yield "body", f"{source.model}, sha256 {source.model_sha256[:12]}..."
    if unsafe := unsafe_weights(path):
        yield "int8", f"{len(unsafe)} weight tensors that fast kernels add up wrongly on x86 CPUs without VNNI;"
        yield "", "this runtime avoids that there, others must set session.x64quantprecision to 1;"
        yield "", "weights that are quantized with reduce_range=True have no such sums"
    yield from _model_rows(document) if isinstance(document, CascadeDocument) else _task_rows(document)
    if document.effective_n is not None:
        yield "weights", f"the weighted calibration inputs are worth {document.effective_n:.0f} of equal weight"
    yield "policy", policy.objective
    yield "", f"forward below advantage {policy.threshold:+.4f}; score: {policy.score}; merge: {policy.merge}"
    if policy.costs is not None:
        yield "", f"labels of least expected cost, at {policy.costs}"
    counts = f" of {min(policy.counts)} to {max(policy.counts)} inputs" if policy.counts else ""
    yield "", f"advantage: {policy.estimate}, {policy.bins} bins{counts}"
    yield from confusion_rows(policy.errors or ())
    yield "curve", f"operating points on the calibration data{_EVIDENCE[_is_cross_fitted(policy)]}"
    yield from (("", line) for line in curve_table(document.operating_curve, policy.threshold, measure))
    if document.groups is not None:
        yield f"by {document.groups.by}", f"the {min(_WORST, len(document.groups.groups))} that lose most to the remote"
        yield from (("", line) for line in document.groups.table(_WORST))
    yield from (("advice", sentence) for sentence in policy.advice)
    yield "certificate", str(document.certificate or "none: the figures above are estimates")
    if document.certificate is not None:
        yield "", "while every forwarded input is answered and the policy is this one; Cascade.health() tells"


def _model_rows(document: CascadeDocument) -> Iterator[tuple[str, str]]:
    """Yield the lines about the two models of a classifier."""
    yield from calibration_rows("local", document.calibration)
    yield from calibration_rows("remote", document.remote)
    if document.remote_chat is not None:
        yield "", str(document.remote_chat)
        yield from (("", line) for line in _asked_lines(document.remote_chat))
    if document.remote_columns is not None:
        theirs = [
            document.labels[k] for k in sorted(range(len(document.labels)), key=document.remote_columns.__getitem__)
        ]
        yield "", f"its classes are in another order: {_shorten(theirs)}"


def _task_rows(document: TaskDocument) -> Iterator[tuple[str, str]]:
    """Yield the lines about the two models of a general task."""
    task = document.task
    options = "".join(f", {name} = {value}" for name, value in task.options.items())
    yield "score", f"{task.confidence}{options}"
    yield "local", str(document.calibration)
    outputs = _shorten(document.remote_outputs) or "as they come"
    yield "remote", f"mean value {document.remote.percent()}; outputs: {outputs}"
    yield "value", f"of an answer in [0, 1], by the verifier {task.verifier}; accuracies below are mean values"


def _asked_lines(asked: AskedChat) -> Iterator[str]:
    """Yield what else says how a generative model was asked."""
    yield f"reported as {printable(asked.reported) or 'nothing'}; fields {json.dumps(dict(asked.fields))}"
    if asked.prompt is not None:
        prompt = asked.prompt if isinstance(asked.prompt, str) else list(asked.prompt)
        yield f"prompt {printable(json.dumps(prompt, ensure_ascii=False))}"
    if asked.scale is not None:
        slope, intercept = asked.scale
        yield f"log-odds of its confidence: {slope:.4g} times the mean log-probability {intercept:+.4g}"


def _is_cross_fitted(policy: PolicyRecord) -> bool:
    """Return whether the curve is cross-fitted; files from before that have no intervals of the candidates."""
    return any(one.accuracy_interval is not None for one in policy.considered)


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


def _shorten(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:10])
    return shown if len(labels) <= 10 else f"{shown}, ..."
