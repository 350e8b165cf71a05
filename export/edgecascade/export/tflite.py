"""A cascade model for LiteRT (TensorFlow Lite): a `.tflite` with the same decision, and its metadata behind it."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration import DecisionRule, Objective
from edgecascade.export.calibrate import Calibrated, planned
from edgecascade.export.fold import fold, rule_of, unfold
from edgecascade.export.golden import choose_golden
from edgecascade.export.graph import load_model, write_whole
from edgecascade.export.labelled import Inputs, LabelledData, batches, first
from edgecascade.export.logits import LogitsSource, logits_of
from edgecascade.export.onnx2tf import convert
from edgecascade.export.parity import Parity, expected_decisions
from edgecascade.export.scores import tensor_scores
from edgecascade.export.tflite_graph import tflite_graph
from edgecascade.export.tflite_quantize import quantize_tflite
from edgecascade.runtime.batch import Batch, size
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.golden import compare, read_golden
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.types.document import GOLDEN_KEY
from edgecascade.types.errors import ExportError, ModelFileError, ParityError

__all__ = ["export_tflite", "export_tflite_int8"]

_PARITY_INPUTS = 64
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
    """Write a float cascade model as `.tflite`, once it has shown that it decides as the ONNX file does.

    Args:
        path: a cascade model (ONNX).
        out: the `.tflite` to write.
        inputs: to compare on, real ones; by default the file's golden inputs. They are shuffled too.
        converter: the command that runs onnx2tf, if it is neither importable nor on the search path.

    Raises:
        ModelFileError: this is no cascade model.
        ExportError: it cannot be converted, or there is nothing to compare on.
        ParityError: showing the first difference; nothing is written then.
    """
    model, session = load_model(path), open_session(path)
    source = read_document(session, path).source
    golden = read_golden(session, path)
    if inputs is None:
        if golden is None:
            raise ExportError(f"{path}: it has no golden inputs to compare on; name some with --data")
        inputs = golden.inputs
    content = _pack(convert(tflite_graph(model, source.logits), converter), model)
    body, rule = unfold(model), rule_of(model)
    rng, n, largest = np.random.default_rng(0), 0, 0.0
    with _opened(content) as lite:
        for real in batches(first(inputs, _PARITY_INPUTS), _PARITY_INPUTS):
            for batch in (real, _shuffled(real, rng)):
                logits = logits_of(tensor_scores(body, source.logits, batch, str(path)), source.kind)
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
    """Quantize the body of a float cascade model for LiteRT, and calibrate and plan anew on what it then gives.

    Args:
        path: a cascade model (ONNX).
        out: the `.tflite` to write.
        quantize: inputs that set the ranges of the activations, a hundred or more, used for nothing else.
        data: labelled data, used for nothing else before or after.
        remote_scores: [n, classes], the remote's logits or probabilities on that data.
        objective: what the plan is to achieve.
        golden: whether a few of the data's inputs may travel in the file.
        converter: the command that runs onnx2tf, if it is neither importable nor on the search path.
        options: `scores`, `merges`, `estimate` and `bins`, as `calibrate` takes them.

    Raises:
        ModelFileError: this is no cascade model.
        ExportError: it cannot be converted, or the data does not fit.
        ParityError: the written file would not decide as the reference arithmetic does; nothing is written then.
    """
    model: ModelProto = load_model(path)
    record = read_document(open_session(path), path)
    origin = {"model": record.source.model, "model_sha256": record.source.model_sha256}
    kind, tensor = record.source.kind, record.source.logits
    source = LogitsSource(tensor, kind, kind.startswith("binary"))
    with _opened(_quantized(model, tensor, quantize, converter)) as lite:
        scores = np.concatenate([lite.run([tensor], one)[0] for one in _singly(lite, data.inputs)])
    named = data if data.names else replace(data, names=record.labels)
    body = unfold(model)
    plan, document = planned(body, source, origin, named, scores, remote_scores, objective=objective, **options)
    folded = fold(body, logits=tensor, kind=kind, rule=plan.rule, document=document)
    batch = next(batches(first(data.inputs, _PARITY_INPUTS), _PARITY_INPUTS))
    logits = logits_of(scores[: size(batch)], kind)
    kept = choose_golden(batch, _input_name(model), logits, plan.rule) if golden else None
    if kept is not None:
        folded.metadata_props.add(key=GOLDEN_KEY, value=kept.text())
    content = _quantized(folded, tensor, quantize, converter)
    with _opened(content) as lite:
        largest = _prove(lite, batch, logits, plan.rule, _SAME_BODY)
    write_whole(content, out)
    return Calibrated(plan, Parity((_ENGINE,), size(batch), largest, _SAME_BODY), 0 if kept is None else len(kept))


def _quantized(model: ModelProto, logits: str, inputs: Inputs, converter: str | None) -> bytes:
    content = convert(tflite_graph(model, logits), converter)
    with _opened(_pack(content, model)) as lite:
        seen = [lite.tensors(one) for one in _singly(lite, inputs)]
    return _pack(quantize_tflite(content, seen, logits), model)


def _pack(content: bytes, model: ModelProto) -> bytes:
    """The flatbuffer with the model's metadata behind it, as `runtime.litert` reads it."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for entry in model.metadata_props:
            archive.writestr(zipfile.ZipInfo(entry.key), entry.value)  # whose date is fixed: same model, same bytes
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
            raise ExportError(f"model: what onnx2tf made of it is of no use: {said}") from error
        yield session


def _prove(lite: Any, inputs: Batch, logits: NDArray[np.floating], rule: DecisionRule, tolerance: float) -> float:
    feeds = inputs if isinstance(inputs, Mapping) else {lite.get_inputs()[0].name: inputs}
    largest, sentence = compare(lite, feeds, expected_decisions(logits, rule), tolerance)
    if sentence is not None:
        raise ParityError(f"parity failed on {_ENGINE}: {sentence}; nothing was written")
    return largest


def _singly(lite: Any, inputs: Inputs) -> Iterator[dict[str, NDArray[Any]]]:
    """One input at a time, as the session takes them."""
    declared = ModelInputs(tuple(lite.get_inputs()))
    for batch in batches(inputs, 1):
        yield declared.feeds("data", batch)


def _shuffled(batch: Batch, rng: np.random.Generator) -> Batch:
    """Inputs unlike any: the numbers of real ones."""
    if isinstance(batch, Mapping):
        return {name: rng.permuted(array) for name, array in batch.items()}
    return rng.permuted(batch)


def _input_name(model: ModelProto) -> str:
    defaults = {one.name for one in model.graph.initializer}
    return next(str(one.name) for one in model.graph.input if one.name not in defaults)
