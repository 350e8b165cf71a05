"""From a body and calibration data to a cascade model: fit, plan, fold, prove, write."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration import MERGES, SCORES, CascadePlan, Objective, are_probabilities, plan_cascade
from edgecascade.export.fold import fold
from edgecascade.export.golden import choose_golden
from edgecascade.export.graph import load_model, save_model
from edgecascade.export.labelled import LabelledData, batches, first
from edgecascade.export.logits import LogitsSource, find_logits, logits_of, settle
from edgecascade.export.parity import Parity, check_parity
from edgecascade.export.plan_document import plan_document
from edgecascade.export.scores import tensor_scores
from edgecascade.export.source_parity import check_source
from edgecascade.runtime.batch import are_sentences, size
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.golden import Golden
from edgecascade.runtime.text import text_input
from edgecascade.types.document import GOLDEN_KEY, LABELS_KEY, CascadeDocument, SourceRecord
from edgecascade.types.errors import ExportError
from edgecascade.types.policy import RemoteCalibration

__all__ = ["Calibrated", "calibrate", "fold_plan", "planned"]

_PARITY_INPUTS = 128
_SOURCE_TOLERANCE = 1e-3  # of a source in float64, or in another library's float32


@dataclass(frozen=True)
class Calibrated:
    """What was fitted, chosen and proved on the way to a written file."""

    plan: CascadePlan
    parity: Parity
    golden: int = 0  # calibration inputs that travel in the file


def calibrate(
    body: str | os.PathLike[str],
    out: str | os.PathLike[str],
    data: LabelledData,
    local_scores: NDArray[np.floating],
    remote_scores: NDArray[np.floating],
    *,
    objective: Objective,
    scores: Sequence[str] = SCORES,
    merges: Sequence[str] = MERGES,
    estimate: str = "shrunk",
    bins: int | None = None,
    output: str | None = None,
    kind: str | None = None,
    expected: NDArray[np.floating] | None = None,
    golden: bool = True,
) -> Calibrated:
    """Write the cascade model `out` of an ONNX body.

    Plans (see `plan_cascade`), folds the plan into the body's graph and checks parity. On any failure nothing
    is written.

    Args:
        body: ONNX file, already quantized if it is to be.
        out: the file to write.
        data: labelled calibration data, used for nothing else before or after.
        local_scores: the body's on that data, as `local_scores` gives them.
        remote_scores: [n, classes], the remote's logits or probabilities on that data.
        objective: what the plan is to achieve.
        scores: to choose among.
        merges: to choose among.
        estimate: of the advantage: `confidences` (the paper's rule), `labels` or `shrunk`.
        bins: of the advantage table; by default 15, or for `shrunk` up to 50.
        output: the body's output that holds the logits, if it is not evident.
        kind: one of `KINDS`, if its values cannot tell.
        expected: [n, classes], what the model that the body was converted from gives on that data, logits or
            probabilities; the body must give the same.
        golden: whether a few of the calibration inputs may travel in the file, for `edgecascade inspect --verify`.

    Raises:
        ExportError: the files or the data do not fit together, or parity failed.
        CalibrationError: the data cannot support the numbers asked for.
    """
    model = load_model(body)
    origin = {"model": Path(body).name, "model_sha256": hashlib.sha256(Path(body).read_bytes()).hexdigest()}
    source = settle(find_logits(model, output, kind), local_scores)
    if expected is not None:
        assert source.kind is not None
        check_source(local_scores, source.kind, expected, _SOURCE_TOLERANCE)
    return fold_plan(
        model,
        source,
        origin,
        body,
        out,
        data,
        local_scores,
        remote_scores,
        objective=objective,
        scores=scores,
        merges=merges,
        estimate=estimate,
        bins=bins,
        golden=golden,
    )


def fold_plan(
    model: ModelProto,
    source: LogitsSource,
    origin: Mapping[str, str],
    beside: str | os.PathLike[str],
    out: str | os.PathLike[str],
    data: LabelledData,
    local_scores: NDArray[np.floating],
    remote_scores: NDArray[np.floating],
    *,
    objective: Objective,
    golden: bool,
    **options: Any,
) -> Calibrated:
    """`calibrate` from a body in memory.

    Args:
        model: the body.
        source: of its logits.
        origin: `model` and `model_sha256` of the file that it came from.
        beside: that file, beside which a tokenizer lies if it takes text.
        out: as `calibrate`, like all others.
        data: likewise.
        local_scores: likewise.
        remote_scores: likewise.
        objective: likewise.
        golden: likewise.
        options: likewise.
    """
    plan, document = planned(model, source, origin, data, local_scores, remote_scores, objective=objective, **options)
    kind = document.source.kind
    local_logits = logits_of(local_scores, kind)
    text = text_input(open_session(model.SerializeToString()), beside)
    if text is not None and are_sentences(data.inputs):
        data = replace(data, inputs=text.encode(np.asarray(data.inputs).tolist()))
    folded = fold(model, logits=source.tensor, kind=kind, rule=plan.rule, document=document)
    parity = _prove(folded, data, local_logits, plan)
    _prove_on_noise(folded, model, LogitsSource(source.tensor, kind), beside, data, plan)
    kept = _golden(model, data, local_logits, plan) if golden else None
    if kept is not None:
        folded.metadata_props.add(key=GOLDEN_KEY, value=kept.text())
    if text is not None:
        text.copy(Path(out).parent)
    save_model(folded, out)
    return Calibrated(plan, parity, 0 if kept is None else len(kept))


def planned(
    model: ModelProto,
    source: LogitsSource,
    origin: Mapping[str, str],
    data: LabelledData,
    local_scores: NDArray[np.floating],
    remote_scores: NDArray[np.floating],
    *,
    objective: Objective,
    **options: Any,
) -> tuple[CascadePlan, CascadeDocument]:
    """The plan, and the document that will tell of it in the file; arguments as `fold_plan`."""
    kind = settle(source, local_scores).kind
    assert kind is not None
    local_logits = logits_of(local_scores, kind)
    if local_logits.shape != remote_scores.shape:
        raise ExportError(
            f"remote: expected scores {list(local_logits.shape)} as the local model gives, "
            f"got {list(remote_scores.shape)}"
        )
    names = data.names or _named(model, local_logits.shape[1])
    if len(names) != local_logits.shape[1]:
        raise ExportError(f"names: expected {local_logits.shape[1]}, one per class of the model, got {len(names)}")
    probabilities = are_probabilities(remote_scores)
    remote_logits = RemoteCalibration(1.0, probabilities).logits(remote_scores)
    plan = plan_cascade(local_logits, remote_logits, data.labels, objective, **options)
    record = SourceRecord(origin["model"], origin["model_sha256"], source.tensor, kind, data.digest)
    return plan, plan_document(model, record, names, plan, probabilities)


def _named(model: ModelProto, classes: int) -> tuple[str, ...]:
    """The names that the body was exported with, or numbers."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    names = tuple(str(name) for name in json.loads(properties.get(LABELS_KEY, "[]")))
    return names if len(names) == classes else tuple(str(label) for label in range(classes))


def _prove(folded: ModelProto, data: LabelledData, local_logits: NDArray[np.floating], plan: CascadePlan) -> Parity:
    """Parity on the first inputs, images of every size among them included."""
    done, checks = 0, []
    for batch in batches(first(data.inputs, _PARITY_INPUTS), _PARITY_INPUTS):
        checks.append(check_parity(folded, batch, local_logits[done : done + size(batch)], plan.rule))
        done += size(batch)
    return replace(checks[0], n=done, largest=max(check.largest for check in checks))


def _prove_on_noise(
    folded: ModelProto,
    model: ModelProto,
    source: LogitsSource,
    beside: str | os.PathLike[str],
    data: LabelledData,
    plan: CascadePlan,
) -> None:
    """Parity on inputs unlike any: the numbers of real ones, shuffled."""
    rng, batch = np.random.default_rng(0), next(batches(first(data.inputs, _PARITY_INPUTS), _PARITY_INPUTS))
    noise = (
        {name: rng.permuted(array) for name, array in batch.items()}
        if isinstance(batch, Mapping)
        else rng.permuted(batch)
    )
    raw = tensor_scores(model, source.tensor, noise, str(beside))
    check_parity(folded, noise, logits_of(raw, source.kind or "logits"), plan.rule)


def _golden(
    model: ModelProto, data: LabelledData, local_logits: NDArray[np.floating], plan: CascadePlan
) -> Golden | None:
    batch = next(batches(first(data.inputs, _PARITY_INPUTS), _PARITY_INPUTS))
    own = [one.name for one in model.graph.input if one.name not in {i.name for i in model.graph.initializer}]
    return choose_golden(batch, own[0], local_logits[: size(batch)], plan.rule)
