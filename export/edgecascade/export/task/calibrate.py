"""From a body, a remote and inputs with references to the cascade file of a general task."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration import Objective, TaskPlan, Verifier, plan_task
from edgecascade.calibration.verifiers import verifier_name, verifier_named, verify
from edgecascade.calibration.verifiers.pairs import labels_apart
from edgecascade.export.calibrate import PARITY_INPUTS
from edgecascade.export.data import Inputs, batches, count, data_digest, first
from edgecascade.export.graph import load_model, opset, save_model, with_versions
from edgecascade.export.head import check_foldable
from edgecascade.export.parity import Parity, choose_golden, shuffled
from edgecascade.export.task.answers import (
    LocalAnswers,
    Progress,
    RunnableBody,
    ask_for_outputs,
    runs_singly,
)
from edgecascade.export.task.confidence import options_of
from edgecascade.export.task.fold import TASK, fold_task, with_score
from edgecascade.export.task.own import as_confidence
from edgecascade.export.task.parity import check_task_parity, expected_task
from edgecascade.export.writing import refuse_same, write_tokenizer
from edgecascade.runtime.batch import Batch, are_sentences, size
from edgecascade.runtime.decode import decoder_named
from edgecascade.runtime.remotes.remote import Remote
from edgecascade.types.answer import Decode
from edgecascade.types.document import (
    GOLDEN_KEY,
    KEY,
    PREPROCESSING_KEY,
    TaskDocument,
    TaskRecord,
    TaskSource,
    read_preprocessing,
)
from edgecascade.types.errors import ExportError

__all__ = [
    "CalibratedTask",
    "ScoredBody",
    "calibrate_task",
    "judge_and_write",
    "ready_to_run",
    "scored_body",
    "write_task",
]


@dataclass(frozen=True)
class ScoredBody:
    """A body with a confidence function, ready to run.

    Attributes:
        model: the ONNX model, without the confidence function.
        graph: the confidence function, from outputs of the body to the score.
        confidence: the name of the confidence function.
        options: of the confidence function.
        running: both, ready to run.
        score: the output of `running` that is the score.
        singly: whether it takes one input at a time.
        source: names the body's own file and its SHA-256; the SHA-256 of the data is empty.
    """

    model: ModelProto
    graph: ModelProto
    confidence: str
    options: Mapping[str, str | int | float | bool]
    running: RunnableBody
    score: str
    singly: bool
    source: TaskSource

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the body's outputs, in order."""
        return tuple(one.name for one in self.model.graph.output)

    def answers(self, inputs: Inputs, decode: Decode | None, *, progress: Progress | None = None) -> LocalAnswers:
        """Return scores and decoded answers of inputs [n, ...], as `RunnableBody.answers`."""
        return self.running.answers(inputs, self.score, decode, singly=self.singly, progress=progress)


@dataclass(frozen=True)
class CalibratedTask:
    """What was fitted, chosen and proved on the way to a written file.

    Attributes:
        plan: map of the score, policy and evidence.
        parity: the comparison with the reference arithmetic.
        golden: number of calibration inputs that travel in the file.
        score: float32 [n], of the local answers.
        local_value: float64 [n], how good the local answers are, in [0, 1].
        remote_value: float64 [n], how good the remote's answers are.
        document: the document in the file.
        singly: whether the file takes one input at a time.
    """

    plan: TaskPlan
    parity: Parity
    golden: int
    score: NDArray[np.float32]
    local_value: NDArray[np.float64]
    remote_value: NDArray[np.float64]
    document: TaskDocument
    singly: bool

    def _repr_html_(self) -> str:
        return self.plan._repr_html_()


def calibrate_task(
    body: str | os.PathLike[str],
    out: str | os.PathLike[str],
    inputs: Inputs,
    references: Sequence[Any],
    *,
    confidence: Any,
    verifier: str | Verifier[Any],
    remote: str | Remote | Callable[..., Any],
    objective: Objective,
    decode: str | Decode | None = None,
    remote_decode: str | Decode | None = None,
    remote_outputs: Sequence[str] = (),
    task: str = "task",
    golden: bool = True,
    digest: str = "",
    model: ModelProto | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> CalibratedTask:
    """Write the cascade file of a general task.

    The body runs on the inputs, and its answers are decoded and compared with the references; the remote is asked about
    the same inputs. From scores and values follows the plan (see `plan_task`), which is folded into the graph. If a
    step fails, or the file does not decide as planned, nothing is written.

    Args:
        body: the ONNX file, quantized already if it is to be quantized.
        out: the file to write, another than those of body and remote.
        inputs: an array [n, ...]; a sequence of arrays, where inputs differ in shape; or one array [n, ...] by name.
        references: n of them, as the verifier takes them.
        confidence: from the body's outputs to the score: a `Confidence`, or what `as_confidence` takes.
        verifier: from n answers and n references to values [n] in [0, 1]; or text, as `verifier_named` takes it.
        remote: an address, an ONNX file, a function or a `Remote`, which answers with named arrays.
        objective: the aim of the plan, where accuracy is the mean value.
        decode: from the body's outputs for one input, by name and without the batch axis, to the answer that the
            verifier takes; or text, as `decoder_named` takes it; None takes the outputs themselves.
        remote_decode: the same for the outputs of the remote; `decode` where it is None.
        remote_outputs: names of the outputs that the remote is asked for; empty for all.
        task: what the task is called, such as `ocr`.
        golden: whether a few of the inputs may travel in the file, for `edgecascade inspect --verify`.
        digest: SHA-256 of inputs and references; empty computes it.
        model: the body's content from `load_model`, if it has been read already.
        progress: called with the number of inputs that the body has just done.
        options: of `plan_task`: `estimate`, `bins`, `even_without_gain`, `weight`, `groups`, `max_group_loss`,
            `calibrator` and `seed`.

    Raises:
        ExportError: the files or the data do not fit together, or a model or a decode function fails.
        CalibrationError: a value is outside [0, 1], or the data cannot support the numbers asked for.
        ParityError: the file does not decide as planned.
    """
    refuse_same(out, {"the body": body, **({"the remote": remote} if isinstance(remote, str) else {})})
    found = scored_body(body, inputs, confidence, model=model)
    return judge_and_write(
        found,
        out,
        inputs,
        references,
        verifier=verifier,
        remote=remote,
        objective=objective,
        decode=decode,
        remote_decode=remote_decode,
        remote_outputs=remote_outputs,
        task=task,
        golden=golden,
        digest=digest,
        progress=progress,
        **options,
    )


def judge_and_write(
    found: ScoredBody,
    out: str | os.PathLike[str],
    inputs: Inputs,
    references: Sequence[Any],
    *,
    verifier: str | Verifier[Any],
    remote: str | Remote | Callable[..., Any],
    objective: Objective,
    decode: str | Decode | None,
    remote_decode: str | Decode | None,
    remote_outputs: Sequence[str],
    digest: str,
    progress: Progress | None,
    **options: Any,
) -> CalibratedTask:
    """Judge the answers of both models, plan and write; arguments as in `calibrate_task` and `write_task`."""
    judge = verifier_named(verifier) if isinstance(verifier, str) else verifier
    ours = decoder_named(decode) if isinstance(decode, str) else decode
    other = decoder_named(remote_decode, "remote_decode") if isinstance(remote_decode, str) else remote_decode
    local = found.answers(inputs, ours, progress=progress)
    _check_scores(local.score, found.confidence)
    local_value = verify(judge, local.results, references, model="local model")
    theirs = ask_for_outputs(remote, inputs, ours if other is None else other, outputs=remote_outputs)
    remote_value = verify(judge, theirs.results, references, model="remote")
    apart = labels_apart(judge, [*local.results, *theirs.results], references)
    return write_task(
        found,
        out,
        inputs,
        local.score,
        local_value,
        remote_value,
        objective=objective,
        unbatched=local.unbatched,
        remote_outputs=theirs.outputs,
        verifier=verifier if isinstance(verifier, str) else verifier_name(verifier),
        warnings=() if apart is None else (apart,),
        digest=digest or data_digest(inputs, references),
        **options,
    )


def scored_body(
    body: str | os.PathLike[str], inputs: Inputs, confidence: Any, *, model: ModelProto | None = None
) -> ScoredBody:
    """Return a body with a confidence function, after runs on the first inputs.

    Args:
        body: the ONNX file.
        inputs: [n, ...], of which the first few are run.
        confidence: as in `calibrate_task`.
        model: the body's content from `load_model`, if it has been read already.

    Raises:
        ExportError: the body cannot run on the inputs, or does not give what the confidence function takes.
    """
    model = load_model(body) if model is None else model
    check_foldable(model, TASK)
    if count(inputs) == 0:
        raise ExportError("inputs: expected at least one, got none")
    path, function = str(body), as_confidence(confidence)
    source = TaskSource(Path(body).name, hashlib.sha256(Path(body).read_bytes()).hexdigest(), "")
    graph = function.graph(RunnableBody(model, path).alone(inputs), opset(model))
    model = with_versions(model, path, opset(graph))
    return ready_to_run(model, path, inputs, graph, function.name, options_of(function), source)


def ready_to_run(
    model: ModelProto,
    path: str,
    inputs: Inputs,
    graph: ModelProto,
    confidence: str,
    options: Mapping[str, str | int | float | bool],
    source: TaskSource,
) -> ScoredBody:
    """Return a model with the graph of a confidence function; the other arguments are those of `ScoredBody`."""
    watched, score = with_score(model, graph)
    running = RunnableBody(watched, path)
    singly = runs_singly(watched, running, inputs)
    return ScoredBody(model, graph, confidence, options, running, score, singly, source)


def write_task(
    body: ScoredBody,
    out: str | os.PathLike[str],
    inputs: Inputs,
    score: NDArray[np.float32],
    local_value: NDArray[np.float64],
    remote_value: NDArray[np.float64],
    *,
    objective: Objective,
    remote_outputs: Sequence[str],
    task: str,
    verifier: str,
    unbatched: Collection[str],
    digest: str,
    golden: bool = True,
    warnings: Sequence[str] = (),
    **options: Any,
) -> CalibratedTask:
    """Plan, fold, prove and write.

    Args:
        body: from `scored_body`.
        out: the file to write.
        inputs: [n, ...].
        score: [n], of the local answers.
        local_value: [n], how good they are, in [0, 1].
        remote_value: [n], how good the remote's answers are.
        objective: the aim of the plan.
        remote_outputs: names of the arrays that the remote answers with.
        task: what the task is called.
        verifier: what the verifier is called.
        unbatched: names of the body's outputs without a batch axis.
        digest: SHA-256 of inputs and references.
        golden: whether a few of the inputs may travel in the file.
        warnings: sentences that the plan's warnings end with.
        options: of `plan_task`.

    Raises:
        ExportError, CalibrationError, ParityError: as in `calibrate_task`.
    """
    _check_scores(score, body.confidence)
    plan = plan_task(score, local_value, remote_value, objective, score_name=body.confidence, **options)
    plan = replace(plan, warnings=(*plan.warnings, *warnings))
    properties = {entry.key: entry.value for entry in body.model.metadata_props}
    lacking = tuple(name for name in body.outputs if name in unbatched)
    document = TaskDocument(
        written_by=f"{KEY} {version(KEY)}",
        task=TaskRecord(task, body.outputs, body.confidence, verifier, body.options, lacking),
        preprocessing=read_preprocessing(properties.get(PREPROCESSING_KEY), body.source.model),
        calibration=plan.calibration,
        remote=plan.remote,
        remote_outputs=tuple(remote_outputs),
        policy=plan.record,
        operating_curve=plan.policy.curve,
        certificate=plan.certificate,
        source=TaskSource(body.source.model, body.source.model_sha256, digest),
        groups=plan.policy.groups,
        effective_n=plan.effective_n,
    )
    model = fold_task(body.model, confidence=body.graph, rule=plan.rule, document=document, singly=body.singly)
    proof = list(_proof(inputs, body))
    some = score[: sum(map(size, proof))]
    chosen = None
    if golden:
        chosen = choose_golden(proof[0], body.model, expected_task(some[: size(proof[0])], plan.rule))
    if chosen is not None:
        model.metadata_props.add(key=GOLDEN_KEY, value=chosen.text())
    parity = check_task_parity(model, proof, some, plan.rule)
    noise = shuffled(proof[0], np.random.default_rng(0))
    check_task_parity(model, noise, body.answers(noise, None).score, plan.rule)
    if (text := body.running.declared.text) is not None:
        write_tokenizer(text.name, text.content, out)
    save_model(model, out)
    return CalibratedTask(
        plan,
        parity,
        0 if chosen is None else len(chosen),
        score,
        local_value,
        remote_value,
        TaskDocument.from_json(next(one.value for one in model.metadata_props if one.key == KEY), str(out)),
        body.singly,
    )


def _proof(inputs: Inputs, body: ScoredBody) -> Sequence[Batch]:
    """Return the first inputs as batches of one shape, as the device runs them: sentences as tokens."""
    some, text = first(inputs, PARITY_INPUTS), body.running.declared.text
    if text is None or not are_sentences(some):
        return list(batches(some, PARITY_INPUTS))
    sentences = np.asarray(some).tolist()
    return [text.encode([one]) for one in sentences] if body.singly else [text.encode(sentences)]


def _check_scores(score: NDArray[np.float32], confidence: str) -> None:
    strange = np.flatnonzero(~np.isfinite(score))
    if len(strange):
        raise ExportError(
            f"confidence: expected finite scores of {confidence}, got {score[strange[0]]} for input {strange[0]} "
            f"({len(strange)} of {len(score)})"
        )
    if (score == score[0]).all():
        raise ExportError(
            f"confidence: expected scores of {confidence} that tell inputs apart, got {score[0]:g} for all {len(score)}"
        )
