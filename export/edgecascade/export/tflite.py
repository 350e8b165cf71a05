"""Write a cascade model for LiteRT (TensorFlow Lite): a `.tflite` with the same decision, its metadata behind it."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration import DecisionRule, Objective
from edgecascade.export.calibrate import PARITY_INPUTS, Calibrated, calibrated, fold_plan, inner_body
from edgecascade.export.converters import convert, quantize_tflite, tflite_graph
from edgecascade.export.data import Inputs, LabelledData, batches, first
from edgecascade.export.fold import rule_of
from edgecascade.export.graph import load_model
from edgecascade.export.logits import kind_of, logits_of
from edgecascade.export.parity import Parity, expected_decisions, shuffled
from edgecascade.export.scores import tensor_scores
from edgecascade.export.writing import write_whole
from edgecascade.runtime.batch import Batch, size
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.golden import compare, read_golden
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.types.document import CascadeDocument
from edgecascade.types.errors import ExportError, ModelFileError, ParityError

__all__ = ["export_tflite", "export_tflite_int8"]

_TOLERANCE = 1e-4  # on confidences, of two engines that add in different orders
_SAME_BODY = 1e-5  # where only the head is computed twice
_ENGINE = "LiteRT"


def export_tflite(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    inputs: Inputs | None = None,
    *,
    converter: str | None = None,
) -> Parity:
    """Write a float cascade model as `.tflite`, after checking that it decides as the ONNX file does.

    Args:
        path: the cascade model (ONNX).
        out: the `.tflite` file to write.
        inputs: real inputs to compare both on; by default the file's golden inputs. They are compared shuffled too.
        converter: the command that runs onnx2tf, as in `convert`.

    Raises:
        ModelFileError: the file is not a cascade model.
        ExportError: the file is that of a general task, the model cannot be converted, or there are no inputs to
            compare on.
        ParityError: a decision differs; the message shows the first one, and nothing is written.
    """
    document = read_document(open_session(path), path)
    if not isinstance(document, CascadeDocument):
        raise ExportError(
            f"{path}: expected a classifier, since general tasks have no LiteRT files, got the cascade file of "
            f"{document.task.name!r}"
        )
    model, body = load_model(path), inner_body(path)
    if inputs is None:
        golden = read_golden(open_session(path), path)
        if golden is None:
            raise ExportError(f"{path}: it has no golden inputs to compare on; give inputs with --data")
        inputs = golden.inputs
    content = _pack(convert(tflite_graph(model, body.logits.tensor), converter), model)
    rule = rule_of(model)
    rng, n, largest = np.random.default_rng(0), 0, 0.0
    with _opened(content) as lite:
        for real in batches(first(inputs, PARITY_INPUTS), PARITY_INPUTS):
            for batch in (real, shuffled(real, rng)):
                scores = tensor_scores(body.model, body.logits.tensor, batch, body.path)
                logits = logits_of(scores, kind_of(body.logits, scores), body.logits.floor)
                largest = max(largest, _prove(lite, batch, logits, rule, _TOLERANCE))
                n += len(logits)
    write_whole(content, out)
    return Parity((_ENGINE,), n, largest, _TOLERANCE)


def export_tflite_int8(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    quantize: Inputs,
    data: LabelledData,
    remote_scores: NDArray[np.floating],
    *,
    objective: Objective,
    golden: bool = True,
    converter: str | None = None,
    **options: Any,
) -> Calibrated:
    """Quantize the body of a float cascade model for LiteRT, and calibrate and plan anew on its outputs.

    Args:
        path: the cascade model (ONNX).
        out: the `.tflite` file to write.
        quantize: inputs that set the ranges of the activations; a hundred or more, used for nothing else.
        data: labelled data, used for nothing else before or after.
        remote_scores: [n, classes], the remote's logits or probabilities on that data.
        objective: the aim of the plan.
        golden: whether a few of the data's inputs may travel in the file.
        converter: the command that runs onnx2tf, as in `convert`.
        options: `scores`, `merges`, `estimate`, `bins`, `remote_kind`, `remote_names`, `remote_chat`, `calibrator` and
            `label_noise`, as in `calibrate`.

    Raises:
        ModelFileError: the file is not a cascade model.
        ExportError: the model cannot be converted, or the data does not fit.
        ParityError: the written file would not decide as the reference arithmetic does; nothing is written then.
    """
    body = inner_body(path)
    tensor = body.logits.tensor
    with _opened(_quantized(load_model(path), tensor, quantize, converter)) as lite:
        scores = np.concatenate([lite.run([tensor], one)[0] for one in _singly(lite, data.inputs)])
    folded = fold_plan(body, data, scores, remote_scores, objective=objective, golden=golden, **options)
    batch = next(batches(first(data.inputs, PARITY_INPUTS), PARITY_INPUTS))
    content = _quantized(folded.model, tensor, quantize, converter)
    with _opened(content) as lite:
        largest = _prove(lite, batch, folded.logits[: size(batch)], folded.plan.rule, _SAME_BODY)
    write_whole(content, out)
    return calibrated(folded, Parity((_ENGINE,), size(batch), largest, _SAME_BODY))


def _quantized(model: ModelProto, logits: str, inputs: Inputs, converter: str | None) -> bytes:
    content = convert(tflite_graph(model, logits), converter)
    with _opened(_pack(content, model)) as lite:
        seen = [lite.tensors(one) for one in _singly(lite, inputs)]
    return _pack(quantize_tflite(content, seen, logits), model)


def _pack(content: bytes, model: ModelProto) -> bytes:
    """Append the model's metadata to the flatbuffer as an archive, which the runtime reads."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for entry in model.metadata_props:
            archive.writestr(zipfile.ZipInfo(entry.key), entry.value)  # of a fixed date: same model, same bytes
    return file.getvalue()


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.tflite")
        file.write_bytes(content)
        try:
            session = open_session(file)
        except ModelFileError as error:
            said = str(error).removeprefix(f"{file}: ")
            raise ExportError(f"model: onnx2tf wrote a file that cannot be used: {said}") from error
        yield session


def _prove(lite: Any, inputs: Batch, logits: NDArray[np.floating], rule: DecisionRule, tolerance: float) -> float:
    feeds = inputs if isinstance(inputs, Mapping) else {lite.get_inputs()[0].name: inputs}
    largest, sentence = compare(lite, feeds, expected_decisions(logits, rule), tolerance)
    if sentence is not None:
        raise ParityError(f"parity failed on {_ENGINE}: {sentence}; nothing was written")
    return largest


def _singly(lite: Any, inputs: Inputs) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield one input at a time, as the session takes them."""
    declared = ModelInputs(tuple(lite.get_inputs()))
    for batch in batches(inputs, 1):
        yield declared.feeds("data", batch)
