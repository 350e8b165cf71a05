"""From a body, a remote's scores and labelled data to a cascade model: fit, plan, fold, prove, write."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto

from edgecascade.calibration import MERGES, CascadePlan, CertifiedLoss, Groups, Objective, plan_cascade
from edgecascade.export.class_names import check_numbers, class_count, columns_by_name, labelled_as, model_names
from edgecascade.export.data import Inputs, LabelledData, batches, first
from edgecascade.export.fold import fold, unfold
from edgecascade.export.graph import first_sides, load_model, open_model, save_model
from edgecascade.export.logits import LogitsSource, find_logits, kind_of, logits_of, recognise_scores
from edgecascade.export.parity import Parity, check_parity, check_source, choose_golden, expected_decisions, shuffled
from edgecascade.export.scores import mixes_inputs, tensor_scores
from edgecascade.export.writing import check_tokenizer, refuse_same, write_tokenizer
from edgecascade.runtime.batch import Batch, are_sentences, concatenated, size
from edgecascade.runtime.engine import open_session, read_classifier
from edgecascade.runtime.text import TextInput, text_input
from edgecascade.types.class_names import some_names
from edgecascade.types.document import (
    GOLDEN_KEY,
    KEY,
    PREPROCESSING_KEY,
    AskedChat,
    CascadeDocument,
    SourceRecord,
    TextPreprocessing,
    read_preprocessing,
)
from edgecascade.types.errors import ExportError
from edgecascade.types.policy import RemoteCalibration
from edgecascade.types.softmax import Recognised, in_unit_interval, recognise, two_columns

__all__ = [
    "PARITY_INPUTS",
    "Body",
    "Calibrated",
    "Folded",
    "calibrate",
    "calibrated",
    "check_labels",
    "check_text",
    "fold_plan",
    "inner_body",
    "write_cascade",
]

PARITY_INPUTS = 128  # calibration inputs on which the written file is proved
_SOURCE_TOLERANCE = 1e-3  # of a source in float64, or in another library's float32


@dataclass(frozen=True)
class Body:
    """A classifier without a decision, on its way into a cascade file.

    Attributes:
        model: the ONNX model.
        logits: the tensor that holds its logits, or what they are computed from.
        path: the file that it was read from; a tokenizer lies beside it.
        name: the name of the body's own file, for the document.
        sha256: the SHA-256 of that file, in hexadecimal.
        labels: class names that its file gives; empty if it gives none.
        remote_columns: the column of the remote's scores for each class, where an earlier calibration found another
            order and the remote does not name its classes.
    """

    model: ModelProto
    logits: LogitsSource
    path: str
    name: str
    sha256: str
    labels: tuple[str, ...] = ()
    remote_columns: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Calibrated:
    """What was fitted, chosen and proved on the way to a written file.

    Attributes:
        plan: temperatures, policy and evidence.
        parity: the comparison with the reference arithmetic.
        golden: number of calibration inputs that travel in the file.
        read: how the scores of each model were read, by `local` and `remote`.
        labels: class names in the order of the body's scores.
        remote_columns: the column of the remote's scores for each class, if it has them in another order.
        remote_notes: phrases on how the remote's scores were matched with the classes, where it needs a look.
    """

    plan: CascadePlan
    parity: Parity
    golden: int = 0
    read: Mapping[str, Recognised] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    remote_columns: tuple[int, ...] | None = None
    remote_notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        return self.plan._repr_html_()


@dataclass(frozen=True)
class Folded:
    """A cascade model in memory, not yet proved.

    Attributes:
        model: the ONNX model, with golden inputs if they were asked for.
        source: the tensor of its logits.
        plan: temperatures, policy and evidence.
        proof: the first calibration inputs as the device runs them, sentences as tokens: batches of one shape, each
            with its positions in the data.
        logits: float32 [n, classes], of the body on the data.
        golden: number of golden inputs.
        read: how the scores of each model were read, by `local` and `remote`.
        document: the document in it.
        remote_notes: as in `Calibrated`.
    """

    model: ModelProto
    source: SourceRecord
    plan: CascadePlan
    proof: tuple[tuple[NDArray[np.intp], Batch], ...]
    logits: NDArray[np.float32]
    golden: int
    read: Mapping[str, Recognised]
    document: CascadeDocument
    remote_notes: tuple[str, ...]


def calibrate(
    body: str | os.PathLike[str],
    out: str | os.PathLike[str],
    data: LabelledData,
    local_scores: NDArray[np.floating],
    remote_scores: NDArray[np.floating],
    *,
    objective: Objective,
    scores: Sequence[str] | None = None,
    merges: Sequence[str] = MERGES,
    estimate: str = "auto",
    bins: int | None = None,
    even_without_gain: bool = False,
    calibrator: str = "auto",
    label_noise: bool = False,
    weight: ArrayLike | None = None,
    groups: Groups | NDArray[Any] | None = None,
    max_group_loss: float | None = None,
    output: str | None = None,
    kind: str | None = None,
    remote_kind: str | None = None,
    remote_names: Sequence[str] = (),
    remote_chat: AskedChat | None = None,
    expected: NDArray[np.floating] | None = None,
    golden: bool = True,
    model: ModelProto | None = None,
) -> Calibrated:
    """Write the cascade model of an ONNX body: plan (see `plan_cascade`), fold the plan into the graph, check parity.

    If a step fails, nothing is written.

    Args:
        body: the ONNX file, quantized already if it is to be quantized.
        out: the file to write, another than the body.
        data: labelled calibration data, used for nothing else before or after. Where body and data name their classes,
            they are matched by name (see `labelled_as`).
        local_scores: raw scores of the body on that data, from `local_scores`.
        remote_scores: [n, classes], the remote's logits or probabilities on that data; of a binary model also [n] or
            [n, 1], those of the second class.
        objective: the aim of the plan.
        scores: routing scores to choose among; by default those of `plan_cascade`.
        merges: merge rules to choose among.
        estimate: of the advantage: `monotone`, `shrunk`, `labels`, `confidences` (the paper's rule), or `auto`.
        bins: number of bins of the advantage table; by default 15, or for `monotone` and `shrunk` up to 50.
        even_without_gain: whether to forward although cross-fitting shows no gain.
        calibrator: of both confidences: `temperature`, `map`, or `auto`, which adds a map where it is better.
        label_noise: whether the temperatures allow for wrong labels where there seem to be some, as in `plan_cascade`.
        weight: [n], how much each input counts, as in `plan_cascade`.
        groups: [n], the group of each input, for accuracies by group; None takes the classes, if there are at most 50.
        max_group_loss: the largest loss of accuracy against the remote within a group.
        output: the body's output that holds the logits, if it is not evident.
        kind: one of `KINDS`, if the values do not tell.
        remote_kind: `logits` or `probabilities`, if the remote's values do not tell.
        remote_names: the remote's class names in the order of its scores, if they are known; the device then reads its
            scores in the order of the body's classes.
        remote_chat: how the remote was asked, from `ask_chat`, if it is a generative model; the device asks it so.
        expected: [n, classes], logits or probabilities on that data of the model that the body was converted from;
            the body must give the same.
        golden: whether a few of the calibration inputs may travel in the file, for `edgecascade inspect --verify`.
        model: the body's content from `load_model`, if it has been read already.

    Raises:
        ExportError: the files or the data do not fit together, or parity failed.
        CalibrationError: the data cannot support the numbers asked for.
    """
    refuse_same(out, {"the body": body})
    model = load_model(body) if model is None else model
    sha256 = hashlib.sha256(Path(body).read_bytes()).hexdigest()
    logits, labels = find_logits(model, output, kind), model_names(model, body, class_count(local_scores))
    found = Body(model, logits, str(body), Path(body).name, sha256, labels)
    if expected is not None:
        check_source(local_scores, kind_of(logits, local_scores), expected, _SOURCE_TOLERANCE)
    options = {
        "scores": scores,
        "merges": merges,
        "estimate": estimate,
        "bins": bins,
        "even_without_gain": even_without_gain,
        "calibrator": calibrator,
        "label_noise": label_noise,
        "weight": weight,
        "groups": groups,
        "max_group_loss": max_group_loss,
        "remote_kind": remote_kind,
        "remote_names": remote_names,
        "remote_chat": remote_chat,
    }
    return write_cascade(found, out, data, local_scores, remote_scores, objective=objective, golden=golden, **options)


def check_labels(data: LabelledData, objective: Objective) -> None:
    """Check that the labels can support an objective, before the models run.

    Raises:
        ExportError: they are drawn from the remote's probabilities, and the objective is a certificate.
    """
    if data.estimated and isinstance(objective, CertifiedLoss):
        raise ExportError(
            "labels: expected true ones for a certificate, got those of recorded pairs, which are drawn from the "
            "remote's probabilities; label the inputs, and save only `x`, `y`, `names` and `remote` as an npz file"
        )


def inner_body(path: str | os.PathLike[str]) -> Body:
    """Return the body inside a cascade model.

    Raises:
        ModelFileError: the file is not a cascade model.
        ExportError: the file is missing, or not an ONNX file.
    """
    model = load_model(path)
    document = read_classifier(open_session(path), path)
    source = document.source
    logits = LogitsSource(source.logits, source.kind, source.floor)
    columns = document.remote_columns
    return Body(unfold(model), logits, str(path), source.model, source.model_sha256, document.labels, columns)


def write_cascade(
    body: Body,
    out: str | os.PathLike[str],
    data: LabelledData,
    local_scores: NDArray[np.floating],
    remote_scores: NDArray[np.floating],
    *,
    objective: Objective,
    golden: bool = True,
    **options: Any,
) -> Calibrated:
    """Plan, fold, prove and write; arguments as in `calibrate`, and its options for `plan_cascade`."""
    folded = fold_plan(body, data, local_scores, remote_scores, objective=objective, golden=golden, **options)
    parity = _prove(folded, body)
    text = _text_input(body)
    if text is not None:
        write_tokenizer(text.name, text.content, out)
    save_model(folded.model, out)
    return calibrated(folded, parity)


def fold_plan(
    body: Body,
    data: LabelledData,
    local_scores: NDArray[np.floating],
    remote_scores: NDArray[np.floating],
    *,
    objective: Objective,
    golden: bool,
    remote_kind: str | None = None,
    remote_names: Sequence[str] = (),
    remote_chat: AskedChat | None = None,
    **options: Any,
) -> Folded:
    """Plan, and fold the plan into the body; arguments as in `write_cascade`."""
    check_labels(data, objective)
    if data.recorded is not None and np.array_equal(remote_scores, data.recorded):
        raise ExportError(
            "remote: expected its own scores, got the recorded probabilities, which are calibrated already; "
            "call recalibrate with the file that they were recorded with, or ask the remote again"
        )
    kind = kind_of(body.logits, local_scores)
    local = recognise_scores(local_scores, kind)
    logits = logits_of(local_scores, kind, local.floor)
    data = labelled_as(data, body.labels)
    check_numbers(data, logits.argmax(axis=1))
    labels = _labels(body, data, logits.shape[1])
    single = logits.shape[1] == 2 and remote_scores.shape in ((len(logits),), (len(logits), 1))
    if logits.shape != remote_scores.shape and not single:
        both = f": {some_names(labels)}; and {some_names(remote_names)}" if remote_names else ""
        raise ExportError(
            f"remote: expected scores {list(logits.shape)}, as of the local model, got "
            f"{list(remote_scores.shape)}{both}"
        )
    remote = _remote_kind(remote_scores, remote_kind, single)
    if single:
        remote_scores = two_columns(remote_scores.astype(np.float64), probabilities=remote.kind == "probabilities")
    columns = columns_by_name(labels, remote_names, known=())
    named = columns != ()
    columns = columns if named else body.remote_columns
    reading = RemoteCalibration(1.0, remote.kind == "probabilities", floor=remote.floor, columns=columns)
    remote_logits = reading.logits(remote_scores)
    plan = plan_cascade(logits, remote_logits, data.labels, objective, names=labels, **options)
    source = SourceRecord(body.name, body.sha256, body.logits.tensor, kind, data.digest, local.floor)
    document = replace(_document(body, source, labels, plan, remote, columns), remote_chat=remote_chat)
    singly = mixes_inputs(body.model, source.logits, data.inputs, body.path)
    model = fold(body.model, logits=source.logits, kind=kind, rule=plan.rule, document=document, singly=singly)
    proof = tuple(_proof(data.inputs, _text_input(body), 1 in first_sides(model).values()))
    chosen = None
    if golden:
        where, batch = max(proof, key=lambda part: len(part[0]))
        chosen = choose_golden(batch, body.model, expected_decisions(logits[where], plan.rule))
    if chosen is not None:
        model.metadata_props.add(key=GOLDEN_KEY, value=chosen.text())
    read = {"local": local, "remote": remote}
    notes = tuple(_remote_notes(labels, columns, named, remote.kind if single else None))
    return Folded(model, source, plan, proof, logits, 0 if chosen is None else len(chosen), read, document, notes)


def _remote_notes(
    labels: Sequence[str], columns: tuple[int, ...] | None, named: bool, single: str | None
) -> Iterator[str]:
    """Yield phrases on how a remote's scores were matched with the classes; `single` is the kind of a single score."""
    theirs = labels if columns is None else [labels[number] for number in np.argsort(columns)]
    if single:
        yield f"its one score is taken as the {'probability' if single == 'probabilities' else 'logit'} of {theirs[1]}"
    if not named:
        order = "above" if columns is None else f"that the file describes: {some_names(theirs)}"
        yield f"its classes are not matched by name, but taken in the order {order}"
    elif columns is not None:
        yield f"its classes are in another order, which the file describes: {some_names(theirs)}"


def _proof(inputs: Inputs, text: TextInput | None, singly: bool) -> Iterator[tuple[NDArray[np.intp], Batch]]:
    """Yield the first inputs as batches of one shape with their positions.

    Sentences become tokens, as many for each as if it were alone where the file takes one at a time.
    """
    some = first(inputs, PARITY_INPUTS)
    if text is None or not are_sentences(some):
        done = 0
        for batch in batches(some, PARITY_INPUTS):
            yield np.arange(done, done + size(batch)), batch
            done += size(batch)
        return
    sentences = np.asarray(some).tolist()
    if not singly:
        yield np.arange(len(sentences)), text.encode(sentences)
        return
    alone = [text.encode([sentence]) for sentence in sentences]
    lengths = np.array([next(iter(tokens.values())).shape[1] for tokens in alone])
    for length in np.unique(lengths):
        where = np.flatnonzero(lengths == length)
        yield where, concatenated([alone[i] for i in where])


def _remote_kind(scores: NDArray[np.floating], kind: str | None, single: bool) -> Recognised:
    """Return what a remote's scores are: of the kind that the user says, or by their values.

    Args:
        scores: [n, classes]; or [n] or [n, 1], a single score for two classes.
        kind: `logits`, `probabilities`, or None if the user does not say.
        single: whether it is a single score.
    """
    if not np.issubdtype(scores.dtype, np.floating):
        raise ExportError(f"remote: expected floating scores [n, classes], got {scores.dtype} {list(scores.shape)}")
    if kind == "probabilities" and not in_unit_interval(scores):
        raise ExportError(
            "remote: expected numbers in [0, 1] with --remote-kind probabilities, "
            f"got {scores.min():g} to {scores.max():g}"
        )
    if single and kind is None and in_unit_interval(scores):
        raise ExportError(
            f"remote: all {len(scores)} values of its one score for two classes lie in [0, 1], as probabilities do and "
            "logits may; say which with --remote-kind probabilities or --remote-kind logits"
        )
    if kind is not None or single:
        how = "binary-probabilities" if single else "probabilities"
        return recognise_scores(scores, how) if kind == "probabilities" else Recognised("logits")
    found = recognise(scores)
    if found.doubt:
        raise ExportError(
            f"remote: its scores are {found.doubt}; say what they are with --remote-kind probabilities or "
            "--remote-kind logits"
        )
    return found


def _labels(body: Body, data: LabelledData, classes: int) -> tuple[str, ...]:
    """Return the class names of the data, else those of the body, else numbers."""
    if data.names:
        if len(data.names) != classes:
            raise ExportError(
                f"names: expected {classes}, one per class of the model, got {len(data.names)}: "
                f"{some_names(data.names)}; name the model's classes with `edgecascade export FILE --names`, so that "
                "data without some of them can be matched"
            )
        return data.names
    return body.labels if len(body.labels) == classes else tuple(str(label) for label in range(classes))


def _document(
    body: Body,
    source: SourceRecord,
    labels: tuple[str, ...],
    plan: CascadePlan,
    remote: Recognised,
    columns: tuple[int, ...] | None,
) -> CascadeDocument:
    return CascadeDocument(
        written_by=f"{KEY} {version(KEY)}",
        labels=labels,
        preprocessing=read_preprocessing(_properties(body.model).get(PREPROCESSING_KEY), source.model),
        calibration=plan.local,
        remote=plan.remote,
        remote_scores=remote.kind,
        remote_floor=remote.floor,
        policy=plan.record,
        operating_curve=plan.policy.curve,
        certificate=plan.certificate,
        source=source,
        groups=plan.policy.groups,
        effective_n=plan.effective_n,
        remote_columns=columns,
    )


def _text_input(body: Body) -> TextInput | None:
    return text_input(open_model(body.model), body.path)


def check_text(model: ModelProto, path: str | os.PathLike[str], out: str | os.PathLike[str]) -> str | None:
    """Check, before a model runs, that its tokenizer can lie beside a file that is to be made of it.

    Args:
        model: the body.
        path: its file; the tokenizer lies beside it.
        out: the file to write.

    Returns:
        the name of the tokenizer's file; None if the body does not take text.

    Raises:
        ExportError: another model's tokenizer lies there.
        ModelFileError: the body's tokenizer is missing or has changed.
    """
    preprocessing = read_preprocessing(_properties(model).get(PREPROCESSING_KEY), str(path))
    if not isinstance(preprocessing, TextPreprocessing):
        return None
    text = TextInput(path, preprocessing)
    check_tokenizer(text.name, text.content, out)
    return text.name


def _properties(model: ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def calibrated(folded: Folded, parity: Parity) -> Calibrated:
    """Return what was fitted and proved on the way to a cascade model that was written."""
    document = folded.document
    described = document.labels, document.remote_columns
    return Calibrated(folded.plan, parity, folded.golden, folded.read, *described, folded.remote_notes)


def _prove(folded: Folded, body: Body) -> Parity:
    """Check parity on the first inputs, images of every size included, and on shuffled ones."""
    source, rule = folded.source, folded.plan.rule
    order = np.concatenate([where for where, _ in folded.proof])
    found = check_parity(folded.model, [batch for _, batch in folded.proof], folded.logits[order], rule)
    _, most = max(folded.proof, key=lambda part: len(part[0]))
    noise = shuffled(most, np.random.default_rng(0))
    singly = 1 in first_sides(folded.model).values()
    raw = tensor_scores(body.model, source.logits, noise, body.path, singly=singly)
    check_parity(folded.model, noise, logits_of(raw, source.kind, source.floor), rule)
    return found
