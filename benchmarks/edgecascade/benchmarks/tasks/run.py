"""Run both models of a general task on inputs with references, and the cascade as an application runs it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgecascade.benchmarks.offload.remote_scores import RemoteLike
from edgecascade.benchmarks.offload.served import LeftOpen, Served, answered, served_of
from edgecascade.benchmarks.offload.strategies import Prices
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.stored import CHUNK
from edgecascade.benchmarks.tasks.measure import TaskOffload, TaskValues, measure_values
from edgecascade.calibration import Verifier
from edgecascade.calibration.verifiers import verify
from edgecascade.calibration.verifiers.pairs import labels_apart
from edgecascade.export.data import ReferencedData
from edgecascade.export.task.answers import RunnableBody, ask_for_outputs, runs_singly
from edgecascade.runtime import Answer
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.remotes.remote import connect
from edgecascade.types.answer import Decode, Outputs
from edgecascade.types.document import TaskDocument, body_names
from edgecascade.types.errors import BenchmarkError

__all__ = ["check_task_data", "measure_task", "task_values"]

_FEWEST = 10
_DECIDED = ("confidence", "advantage", "forward")


def check_task_data(path: str | os.PathLike[str], data: ReferencedData) -> TaskDocument:
    """Return the document of a file; call it before a remote is asked about any of the inputs.

    Raises:
        BenchmarkError: It is the file of a classifier, there are too few inputs, or it was calibrated on them.
    """
    document = read_document(open_session(path), path)
    if not isinstance(document, TaskDocument):
        raise BenchmarkError(f"{path}: expected the cascade file of a general task, got that of a classifier")
    if len(data.references) < _FEWEST:
        raise BenchmarkError(f"data: expected at least {_FEWEST} inputs with references, got {len(data.references)}")
    if document.source.data_sha256 == data.digest:
        raise BenchmarkError(f"data: expected inputs that nothing was fitted on, got those {path} was calibrated on")
    return document


def measure_task(
    path: str | os.PathLike[str],
    data: ReferencedData,
    *,
    remote: RemoteLike,
    verifier: Verifier[Any],
    decode: Decode | None = None,
    remote_decode: Decode | None = None,
    deadline: float = 1.0,
    prices: Prices | None = None,
) -> TaskOffload:
    """Measure the cascade file of a general task against its remote and against simple rules.

    Args:
        path: A cascade file.
        data: Inputs with references that nothing was fitted, chosen or quantized on.
        remote: An address, an ONNX file, a function, or a `Remote`, which is left open.
        verifier: From answers and references to values in [0, 1].
        decode: From the outputs of the local model for one input to an answer; None for the outputs themselves.
        remote_decode: The same for the remote; `decode` where it is None.
        deadline: Seconds for each call of the served run.
        prices: Prices of a request and of traffic.

    Raises:
        BenchmarkError: As `check_task_data` and `measure_values`.
        CalibrationError: The verifier gives other values than one in [0, 1] for each answer.
        ExportError: A model fails, or its outputs cannot be decoded.
    """
    remote_decode = decode if remote_decode is None else remote_decode
    document = check_task_data(path, data)
    v, warning = task_values(
        path, document, data, remote=remote, verifier=verifier, decode=decode, remote_decode=remote_decode
    )
    results: list[Any] = []

    def seen(answer: Answer) -> None:
        decoded = decode if answer.remote is None or answer.source.value == "local" else remote_decode
        results.append(answer.outputs if decoded is None else answer.result)

    options = {"decode": decode, "remote_decode": remote_decode}
    starts = range(0, len(data.references), CHUNK)
    chunks = answered(path, data.inputs, starts, remote=remote, deadline=deadline, options=options, seen=seen)
    served: Served = served_of(np.concatenate([rows for _, rows in chunks]), deadline)
    values = verify(verifier, results, data.references, model="cascade")
    return replace(measure_values(document, v, (served, values), prices), warning=warning)


def task_values(
    path: str | os.PathLike[str],
    document: TaskDocument,
    data: ReferencedData,
    *,
    remote: RemoteLike,
    verifier: Verifier[Any],
    decode: Decode | None = None,
    remote_decode: Decode | None = None,
) -> tuple[TaskValues, str | None]:
    """Run a cascade file on all inputs, ask its remote about all of them, and verify both answers.

    What seems wrong with answers or references comes with the values.

    Args:
        path: A cascade file.
        document: Its document.
        data: Inputs with references.
        remote: An address, an ONNX file, a function, or a `Remote`, which is left open.
        verifier: From answers and references to values in [0, 1].
        decode: From the outputs of the local model for one input to an answer; None for the outputs themselves.
        remote_decode: The same for the remote; `decode` where it is None.

    Raises:
        CalibrationError: The verifier gives other values than one in [0, 1] for each answer.
        ExportError: A model fails, or its outputs cannot be decoded.
    """
    model, n = onnx.load(path), len(data.references)
    body = RunnableBody(model, os.fspath(path), document.task.unbatched)
    names = body_names({one.key: one.value for one in model.metadata_props}, str(path))

    def both(outputs: Outputs) -> tuple[Any, Mapping[str, Any]]:
        own = {names.get(name, name): outputs[name] for name in document.task.outputs}
        return own if decode is None else decode(own), {name: outputs[name] for name in _DECIDED}

    with counting("local model", n) as progress:
        singly = runs_singly(model, body, data.inputs)
        found = body.answers(data.inputs, "score", both, singly=singly, progress=progress)
    local = verify(verifier, [answer for answer, _ in found.results], data.references, model="local model")
    connection = connect(remote)
    assert connection is not None
    with counting("remote", n) as progress:
        replies = ask_for_outputs(
            LeftOpen(connection) if connection is remote else connection,
            data.inputs,
            decode if remote_decode is None else remote_decode,
            outputs=document.remote_outputs,
            progress=progress,
        )
    decided = [one for _, one in found.results]
    both_answers = [*(answer for answer, _ in found.results), *replies.results]
    values = TaskValues(
        score=found.score,
        confidence=_column(decided, "confidence").astype(np.float32),
        advantage=_column(decided, "advantage").astype(np.float32),
        forward=_column(decided, "forward").astype(np.bool_),
        local=local,
        remote=verify(verifier, replies.results, data.references, model="remote"),
    )
    return values, labels_apart(verifier, both_answers, data.references)


def _column(decided: Sequence[Mapping[str, Any]], name: str) -> NDArray[Any]:
    return np.array([np.asarray(one[name]).item() for one in decided])
