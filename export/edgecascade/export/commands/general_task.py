"""`edgecascade calibrate` for a general task: verify both models' answers, plan and fold."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from shlex import quote
from typing import Any

from edgecascade.calibration.commands.arguments import objective_of, plan_options
from edgecascade.calibration.commands.outputs import read_array
from edgecascade.calibration.outcomes import Groups
from edgecascade.export.commands.calibrate import check_other_files, check_out
from edgecascade.export.commands.task_arguments import references_of, task_parts
from edgecascade.export.graph import load_model
from edgecascade.export.task.calibrate import CalibratedTask, calibrate_task
from edgecascade.runtime.commands.console import counting
from edgecascade.runtime.commands.remote_arguments import check_remote_arguments, flag, remote_of
from edgecascade.types.errors import ExportError, no_file

__all__ = ["calibrate_general"]

_OF_CLASSIFIERS = {
    "score": "auto",
    "merge": "auto",
    "label_noise": False,
    "prior": None,
    "remote_kind": None,
    "logits": None,
    "kind": None,
    "expected": None,
}  # arguments without a meaning here, with their defaults


def calibrate_general(arguments: Namespace) -> int:
    """Run both models on the data, verify their answers, then write the cascade file."""
    for name, usual in _OF_CLASSIFIERS.items():
        if getattr(arguments, name) != usual:
            raise ExportError(f"{flag(name)}: expected for classifiers only, got it for a general task")
    objective, parts = objective_of(arguments), task_parts(arguments)
    check_other_files(arguments)
    check_out(arguments.out)
    check_remote_arguments(arguments)
    if "://" not in arguments.remote and not Path(arguments.remote).is_file():
        raise ExportError(f"--remote: {no_file(arguments.remote)}")
    if arguments.remote.endswith(".npy"):
        raise ExportError(f"--remote: expected an address or an ONNX file, got the saved scores {arguments.remote}")
    data, model = references_of(arguments), load_model(arguments.body)
    options = _options(arguments)
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
    _report(written, arguments)
    return 0


def _options(arguments: Namespace) -> dict[str, Any]:
    """Return the arguments that `plan_task` takes."""
    given = plan_options(arguments)
    weight = groups = None
    for name in ("weights", "groups"):
        array = getattr(arguments, name)
        if array is not None and not array.endswith(".npy"):
            raise ExportError(f"--{name}: expected an .npy file for a general task, got {array}")
    if arguments.weights is not None:
        weight = read_array(arguments.weights)
    if arguments.groups is not None:
        groups = Groups.of(read_array(arguments.groups), Path(arguments.groups).stem)
    return {
        **{name: given[name] for name in ("estimate", "bins", "even_without_gain", "calibrator")},
        "weight": weight,
        "groups": groups,
        "max_group_loss": arguments.max_group_loss,
    }


def _report(written: CalibratedTask, arguments: Namespace) -> None:
    """Print what was fitted, chosen, proved and written, and what comes next."""
    document, parity, out = written.document, written.parity, arguments.out
    task = document.task
    print(f"task        {task.name}: values by {task.verifier}, scores by {task.confidence}")
    print(written.plan)
    if arguments.groups is not None and written.plan.policy.groups is not None:
        print("\n".join(f"            {line}" for line in written.plan.policy.groups.table()))
    print(
        f"parity      {parity.n} inputs agree on {', '.join(parity.providers)}; "
        f"largest difference of a confidence {parity.largest:.1e}"
    )
    if parity.unusable:
        print(f"            not compared, because they cannot run it here: {', '.join(parity.unusable)}")
    if written.golden:
        travel = "inputs travel" if written.golden > 1 else "input travels"
        print(f"golden      {written.golden} calibration {travel} in the file")
    decode = f" --decode {quote(arguments.decode)}" if arguments.decode else ""
    print(f"wrote       {out}\nnext        edgecascade inspect {quote(out)} --verify    # on the device")
    print(f"            edgecascade run {quote(out)} INPUT ...{decode} --remote http://HOST:PORT/v2/models/NAME")
