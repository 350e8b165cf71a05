"""Recalibrate the cascade file of a general task on new data. Body and confidence function stay the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from edgecascade.calibration import Objective, Verifier
from edgecascade.export.data import Inputs, count
from edgecascade.export.fold import unfold
from edgecascade.export.graph import load_model
from edgecascade.export.task.answers import Progress
from edgecascade.export.task.calibrate import CalibratedTask, judge_and_write, ready_to_run
from edgecascade.export.task.fold import confidence_of
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.remotes.remote import Remote
from edgecascade.types.answer import Decode
from edgecascade.types.document import TaskDocument
from edgecascade.types.errors import ExportError, ModelFileError

__all__ = ["recalibrate_task"]


def recalibrate_task(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    inputs: Inputs,
    references: Sequence[Any],
    *,
    remote: str | Remote | Callable[..., Any],
    objective: Objective,
    verifier: str | Verifier[Any] | None = None,
    decode: str | Decode | None = None,
    remote_decode: str | Decode | None = None,
    remote_outputs: Sequence[str] | None = None,
    golden: bool = True,
    digest: str = "",
    progress: Progress | None = None,
    **options: Any,
) -> CalibratedTask:
    """Plan anew for the body and the confidence function of a cascade file, on other data, and write it.

    Args:
        path: the cascade file of a general task.
        out: the file to write, which may be the same.
        inputs: as in `calibrate_task`, used for nothing else before or after.
        references: n of them, as the verifier takes them.
        remote: an address, an ONNX file, a function or a `Remote`, which answers with named arrays.
        objective: the aim of the plan, where accuracy is the mean value.
        verifier: as in `calibrate_task`; None takes the one that the file names.
        decode: as in `calibrate_task`.
        remote_decode: likewise.
        remote_outputs: names of the outputs that the remote is asked for; None asks for those that the file names.
        golden: whether a few of the inputs may travel in the file.
        digest: SHA-256 of inputs and references; empty computes it.
        progress: called with the number of inputs that the body has just done.
        options: of `plan_task`, as in `calibrate_task`.

    Raises:
        ModelFileError: the file is not the cascade file of a general task.
        ExportError, CalibrationError, ParityError: as in `calibrate_task`; nothing is written then.
    """
    model, document = load_model(path), read_document(open_session(path), path)
    if not isinstance(document, TaskDocument):
        raise ModelFileError(f"{path}: expected the cascade file of a general task, got that of a classifier")
    if count(inputs) == 0:
        raise ExportError("inputs: expected at least one, got none")
    described = document.task
    found = ready_to_run(
        unfold(model),
        str(path),
        inputs,
        confidence_of(model),
        described.confidence,
        described.options,
        document.source,
    )
    return judge_and_write(
        found,
        out,
        inputs,
        references,
        verifier=described.verifier if verifier is None else verifier,
        remote=remote,
        objective=objective,
        decode=decode,
        remote_decode=remote_decode,
        remote_outputs=document.remote_outputs if remote_outputs is None else remote_outputs,
        task=described.name,
        golden=golden,
        digest=digest,
        progress=progress,
        **options,
    )
