"""`calibrate` and `recalibrate` for a general task: verify both models' answers, plan and fold."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from shlex import quote

from edgecascade.calibration.commands.arguments import objective_of, task_plan_options
from edgecascade.calibration.commands.population import array_names, task_population_options
from edgecascade.calibration.verifiers import verifier_named
from edgecascade.export.calibrate import check_text
from edgecascade.export.commands.calibrate import check_other_files, report_file
from edgecascade.export.commands.task_arguments import TASKS, decoders_of, references_of, task_parts
from edgecascade.export.graph import load_model
from edgecascade.export.task.calibrate import CalibratedTask, calibrate_task
from edgecascade.export.task.recalibrate import recalibrate_task
from edgecascade.export.writing import check_out
from edgecascade.runtime.commands.console import counting
from edgecascade.runtime.commands.remote_arguments import check_remote_arguments, flag, remote_of
from edgecascade.types.document import TaskRecord
from edgecascade.types.errors import ArgumentError, ExportError, no_file

__all__ = ["calibrate_general", "recalibrate_general"]

_OF_CLASSIFIERS = ("remote_kind", "logits", "kind", "expected")  # arguments without a meaning here


def calibrate_general(arguments: Namespace) -> None:
    """Run both models on the data, verify their answers, then write the cascade file."""
    _refuse_those_of_classifiers(arguments)
    objective, parts, options = objective_of(arguments), task_parts(arguments), task_plan_options(arguments)
    check_other_files(arguments)
    check_out(arguments.out, "--out")
    check_remote_arguments(arguments)
    if "://" not in arguments.remote and not Path(arguments.remote).is_file():
        raise ExportError(f"--remote: {no_file(arguments.remote)}")
    if arguments.remote.endswith(".npy"):
        raise ExportError(f"--remote: expected an address or an ONNX file, got the saved scores {arguments.remote}")
    data, model = references_of(arguments, parts.verify, array_names(arguments)), load_model(arguments.body)
    beside = check_text(model, arguments.body, arguments.out)
    options |= task_population_options(arguments, data.columns)
    remote = remote_of(arguments)
    assert remote is not None
    with counting("running the body", len(data.references)) as progress:
        written = calibrate_task(
            arguments.body,
            arguments.out,
            data.inputs,
            data.references,
            confidence=parts.confidence,
            verifier=parts.verifier,
            remote=remote,
            objective=objective,
            decode=parts.decode,
            remote_decode=parts.remote_decode,
            remote_outputs=(arguments.remote_output,) if arguments.remote_output else (),
            task=parts.name,
            golden=arguments.golden,
            digest=data.digest,
            model=model,
            progress=progress,
            **options,
        )
    _report(written, arguments, beside)


def recalibrate_general(arguments: Namespace, task: TaskRecord) -> None:
    """Plan anew on other data for the body and the confidence function of a cascade file, and write it."""
    _refuse_those_of_classifiers(arguments)
    objective, options = objective_of(arguments), task_plan_options(arguments)
    verifier = arguments.verifier or task.verifier
    try:
        verify = verifier_named(verifier, "--verifier")  # an error of it names the argument
    except ArgumentError as error:
        if arguments.verifier:
            raise
        why = str(error).removeprefix("--verifier: ")
        raise ExportError(
            f"--verifier: expected the place of {verifier}, which the file names, got none: {why}"
        ) from error
    decode, remote_decode = decoders_of(arguments, task.name)
    data, remote = references_of(arguments, verify, array_names(arguments)), remote_of(arguments)
    options |= task_population_options(arguments, data.columns)
    assert remote is not None
    with counting("running the body", len(data.references)) as progress:
        written = recalibrate_task(
            arguments.file,
            arguments.out,
            data.inputs,
            data.references,
            remote=remote,
            objective=objective,
            verifier=verifier,
            decode=decode,
            remote_decode=remote_decode,
            remote_outputs=(arguments.remote_output,) if arguments.remote_output else None,
            golden=arguments.golden,
            digest=data.digest,
            progress=progress,
            **options,
        )
    _report(written, arguments)


def _refuse_those_of_classifiers(arguments: Namespace) -> None:
    if idle := [name for name in _OF_CLASSIFIERS if getattr(arguments, name, None) is not None]:
        raise ExportError(f"{flag(idle[0])}: expected outputs of classes with it, got a general task")


def _report(written: CalibratedTask, arguments: Namespace, beside: str | None = None) -> None:
    """Print what was fitted, chosen, proved and written, and what comes next."""
    task = written.document.task
    print(f"task        {task.name}: values by {task.verifier}, scores by {task.confidence}")
    print(written.plan)
    if arguments.groups is not None and written.plan.policy.groups is not None:
        print("\n".join(f"            {line}" for line in written.plan.policy.groups.table()))
    used = arguments.decode or (TASKS[task.name].decode if task.name in TASKS else "")
    decode = f" --decode {quote(used)}" if used else ""
    if arguments.remote_decode and arguments.remote_decode != arguments.decode:
        decode += f" --remote-decode {quote(arguments.remote_decode)}"
    report_file(written.parity, written.golden, arguments.out, decode, beside=beside)
