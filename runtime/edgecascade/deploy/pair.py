"""The two models of a cascade as files, opened and checked before anything is written for another engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecascade.runtime.decisions import CLASSIFIER_OUTPUTS
from edgecascade.runtime.engine import (
    Declared,
    Engine,
    numpy_dtype,
    open_session,
    read_classifier,
    read_properties,
    score_output,
)
from edgecascade.types.class_names import columns_for, names_in
from edgecascade.types.document import PREPROCESSING_KEY, Preprocessing, TextPreprocessing, read_preprocessing
from edgecascade.types.errors import ArgumentError, InvalidReply, ModelFileError

if TYPE_CHECKING:
    from edgecascade.runtime.cascade import Cascade
    from edgecascade.types.document import CascadeDocument

__all__ = ["Pair", "check_remote", "open_pair", "open_scores"]


@dataclass(frozen=True)
class Pair:
    """The cascade file of a classifier, and the large model as an ONNX file.

    Attributes:
        local: path of the cascade file.
        remote: path of the large model.
        document: the document in the cascade file.
        inputs: what the local model declares.
        outputs: the decisions that it declares.
        remote_inputs: what the remote declares, in the order of `inputs`.
        remote_output: the output of the remote that holds the scores.
        class_names: of the remote's classes, in the order of its scores; empty if it does not tell them.
    """

    local: Path
    remote: Path
    document: CascadeDocument
    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...]
    remote_inputs: tuple[Declared, ...]
    remote_output: Declared
    class_names: tuple[str, ...]


def _open_cascade_file(
    path: str | os.PathLike[str],
) -> tuple[CascadeDocument, tuple[Declared, ...], dict[str, Declared]]:
    """Return the document of a classifier's cascade file, and the inputs and outputs that it declares.

    Raises:
        ModelFileError: the file is missing, damaged, or not the cascade file of a classifier as an ONNX file.
    """
    if not str(path).endswith(".onnx"):
        raise ModelFileError(f"{os.fspath(path)}: expected an .onnx file, got another")
    session = open_session(path)
    document = read_classifier(session, path)
    outputs = {one.name: one for one in session.get_outputs()}
    if missing := [name for name in CLASSIFIER_OUTPUTS if name not in outputs]:
        raise ModelFileError(f"{os.fspath(path)}: not a cascade model: it lacks the outputs {missing}")
    return document, tuple(session.get_inputs()), outputs


def open_pair(
    local: str | os.PathLike[str], remote: str | os.PathLike[str], *, remote_output: str | None = None
) -> Pair:
    """Open both models, and check that the large one can answer what the cascade forwards.

    Args:
        local: a cascade file.
        remote: an ONNX file with the same inputs; a single input may have another name.
        remote_output: its output with the scores, if that is not evident.

    Raises:
        ModelFileError: a file is missing, damaged or of another kind.
        ArgumentError: the remote has other inputs, outputs or classes than the cascade needs, or another tokenizer;
            or a file takes batches of one size only.
    """
    document, inputs, outputs = _open_cascade_file(local)
    if document.remote_chat is not None:
        raise ArgumentError("remote: expected a cascade calibrated with an ONNX model, got one with a chat endpoint")
    if "://" in os.fspath(remote):
        raise ArgumentError(f"remote: expected an ONNX file, got the address {os.fspath(remote)}")
    session, scores, names = open_scores(document, remote, remote_output)
    theirs = read_preprocessing(read_properties(session, remote).get(PREPROCESSING_KEY), os.fspath(remote))
    if _tokenizer(document.preprocessing) != _tokenizer(theirs):
        raise ArgumentError(
            "remote: expected the tokenizer of the cascade, since both get the same tokens, got another"
        )
    remote_inputs = _matched(inputs, tuple(session.get_inputs()))
    for path, tensors in ((local, inputs), (remote, (*remote_inputs, scores))):
        fixed = next((one for one in tensors if not one.shape or isinstance(one.shape[0], int)), None)
        if fixed is not None:
            raise ArgumentError(
                f"{os.fspath(path)}: expected a model that takes any number of inputs, got {fixed.name} {fixed.shape}"
            )
    decisions = tuple(outputs[name] for name in CLASSIFIER_OUTPUTS)
    return Pair(Path(local), Path(remote), document, inputs, decisions, remote_inputs, scores, names)


def check_remote(cascade: Cascade, remote: str | os.PathLike[str], output: str | None = None) -> None:
    """Check that an ONNX file can answer what a cascade forwards to it, which are the cascade's own inputs.

    Args:
        cascade: any.
        remote: an ONNX file.
        output: of a classifier's remote, the output with the scores, if that is not evident.

    Raises:
        ModelFileError: the file is missing, damaged or no model.
        ArgumentError: it is an address; or it has other inputs, or scores of other classes.
    """
    if "://" in os.fspath(remote):
        raise ArgumentError(f"remote: expected an ONNX file, got the address {os.fspath(remote)}")
    session = open_scores(cascade.document, remote, output)[0] if cascade.labels else open_session(remote)
    if cascade.inputs.text is None:  # sentences are sent as they are, to a tokenizer of its own
        _matched(cascade.inputs.declared, tuple(session.get_inputs()), cast=True)


def open_scores(
    document: CascadeDocument, remote: str | os.PathLike[str], output: str | None = None
) -> tuple[Engine, Declared, tuple[str, ...]]:
    """Open the remote of a classifier, and return its session, its output with the scores, and its class names.

    Args:
        document: that of the cascade file.
        remote: an ONNX file.
        output: the output with the scores, if that is not evident.

    Raises:
        ModelFileError: the file is missing, damaged or no model.
        ArgumentError: it has no such output, or scores of other classes.
    """
    session = open_session(remote)
    declared = {one.name: one for one in session.get_outputs()}
    if output is not None and output not in declared:
        raise ArgumentError(f"remote output: expected one of {', '.join(declared)} in {remote}, got {output}")
    scores = declared[output or score_output(session, remote)]
    columns, classes = scores.shape[-1] if scores.shape else 0, len(document.labels)
    fits = len(scores.shape) == 2 and (columns in (classes, 1 if classes == 2 else classes) or isinstance(columns, str))
    if not fits:
        raise ArgumentError(
            f"remote: expected scores [n, {classes}] in the output {scores.name!r}, one for each of "
            f"{', '.join(document.labels[:4])}{', ...' if classes > 4 else ''}, got {scores.shape}"
        )
    names = names_in(read_properties(session, remote))
    if names:
        try:
            columns_for(document.labels, names, document.calibrate_remote.columns)
        except InvalidReply as error:
            raise ArgumentError(str(error)) from error
    return session, scores, names


def _tokenizer(preprocessing: Preprocessing | None) -> str:
    """Return the SHA-256 of the tokenizer of a model of text; empty for another model."""
    return preprocessing.sha256 if isinstance(preprocessing, TextPreprocessing) else ""


def _matched(inputs: Sequence[Declared], remote: Sequence[Declared], *, cast: bool = False) -> tuple[Declared, ...]:
    """Return the remote's inputs in the order of the local model's.

    Args:
        inputs: of the local model.
        remote: those of the remote.
        cast: whether they may be other numbers of the same kind, whole or not.

    Raises:
        ArgumentError: they are others.
    """
    named = {one.name: one for one in remote}
    alone = len(inputs) == len(remote) == 1
    found = tuple(remote) if alone else tuple(named[one.name] for one in inputs if one.name in named)
    if not alone and (len(found) < len(inputs) or len(remote) > len(inputs)):
        raise ArgumentError(
            f"remote: expected the inputs {', '.join(one.name for one in inputs)} of the cascade, got "
            f"{', '.join(named)}"
        )
    for ours, theirs in zip(inputs, found, strict=True):
        sides = zip(ours.shape[1:], theirs.shape[1:], strict=False)
        differ = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sides)
        kinds = [one.type if not cast else numpy_dtype(one.type).kind.replace("u", "i") for one in (ours, theirs)]
        if kinds[0] != kinds[1] or len(ours.shape) != len(theirs.shape) or differ:
            raise ArgumentError(
                f"remote: expected {ours.type} {ours.shape} in the input {theirs.name!r}, as the cascade takes, got "
                f"{theirs.type} {theirs.shape}"
            )
    return found
