"""What a document says, line by line: what `edgecascade inspect` prints, and a notebook shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from edgecascade.types.document.asked import AskedChat
from edgecascade.types.document.calibration import calibration_rows
from edgecascade.types.document.chat import ChatDocument, ChatSide
from edgecascade.types.document.classifier import CascadeDocument
from edgecascade.types.document.evidence import PolicyRecord, confusion_rows
from edgecascade.types.document.task import TaskDocument
from edgecascade.types.errors import printable
from edgecascade.types.estimate import curve_table

__all__ = ["chat_rows", "document_rows"]

_WORST = 3  # classes or groups that are shown
_EVIDENCE = {
    True: "; each input is judged by tables that others fitted",
    False: ", which also chose them; expect a little less on new data",
}  # of the operating curve, by whether it is cross-fitted


def document_rows(document: CascadeDocument | TaskDocument) -> Iterator[tuple[str, str]]:
    """Yield the heading, empty for a continuation, and the text of each line about a cascade file."""
    policy, source = document.policy, document.source
    measure = "accuracy" if isinstance(document, CascadeDocument) else "mean value"
    if isinstance(document, CascadeDocument):
        yield "classes", f"{len(document.labels)}: {_shorten(document.labels)}"
    else:
        yield "task", f"{document.task.name}; outputs: {_shorten(document.task.outputs)}"
    yield "body", f"{source.model}, sha256 {source.model_sha256[:12]}..."
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


def chat_rows(document: ChatDocument) -> Iterator[tuple[str, str]]:
    """Yield the heading, empty for a continuation, and the text of each line about a file of two chat endpoints."""
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


def _shorten(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:10])
    return shown if len(labels) <= 10 else f"{shown}, ..."
