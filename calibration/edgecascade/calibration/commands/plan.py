"""`edgecascade plan`: what a cascade of two models would do, from their saved outputs."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from edgecascade.calibration.commands.arguments import add_plan_arguments, objective_of, plan_options, task_plan_options
from edgecascade.calibration.commands.outputs import (
    SavedPair,
    SavedValues,
    add_kind_argument,
    check_writable,
    read_arrays,
    read_pair,
    read_values,
)
from edgecascade.calibration.commands.population import (
    add_population_arguments,
    array_names,
    population_options,
    task_population_options,
)
from edgecascade.calibration.evidence import Plan
from edgecascade.calibration.objective import Objective
from edgecascade.calibration.plan import CascadePlan, plan_cascade
from edgecascade.calibration.task import TaskPlan, plan_task
from edgecascade.types.document import remote_dict
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import curve_table

__all__ = ["configure", "execute"]

_FIGURES = (".svg", ".png", ".pdf")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade plan outputs.npz --offload-rate 0.2\n"
        "  edgecascade plan local.npy remote.npy labels.npy --certify 0.01 --plot plan.svg\n"
        "  edgecascade plan values.csv --max-loss 0.01\n\n"
        "No model is written: `edgecascade calibrate` takes the same arguments and writes one."
    )
    parser.add_argument(
        "outputs",
        nargs="+",
        help="Logits or probabilities of both models [n, classes] and labels [n]: one .npz or .parquet file with "
        "local, remote and labels, or three .npy files in this order. Of a general task, scores of the local answers "
        "[n], and how good both models' answers are [n] in [0, 1]: one .npz, .parquet or .csv file with score, local "
        "and remote.",
    )
    parser.add_argument("--json", metavar="FILE", help="Write the plan as JSON to FILE, or - for standard output.")
    parser.add_argument("--plot", metavar="FILE", help="Draw curve, advantage and reliability (.svg, .png or .pdf).")
    add_plan_arguments(parser)
    add_population_arguments(parser)
    add_kind_argument(parser, "--kind", "the local outputs")
    add_kind_argument(parser, "--remote-kind", "the remote's outputs")


def execute(arguments: Namespace) -> int:
    """Plan, then print, write and draw."""
    if arguments.plot and Path(arguments.plot).suffix not in _FIGURES:
        raise CalibrationError(f"--plot: expected a file that ends in {', '.join(_FIGURES)}, got {arguments.plot!r}")
    objective = objective_of(arguments)
    check_writable("--json", arguments.json)
    check_writable("--plot", arguments.plot)
    values = read_values(*arguments.outputs)
    return _plan_classes(arguments, objective) if values is None else _plan_task(arguments, objective, values)


def _plan_task(arguments: Namespace, objective: Objective, values: SavedValues) -> int:
    for option in ("kind", "remote_kind"):
        if getattr(arguments, option) is not None:
            named = option.replace("_", "-")
            raise CalibrationError(f"--{named}: expected outputs of classes with it, got the values of a general task")
    arrays = read_arrays(*arguments.outputs, names=array_names(arguments))
    plan = plan_task(
        values.score,
        values.local,
        values.remote,
        objective,
        **task_plan_options(arguments),
        **task_population_options(arguments, arrays),
    )
    if _give(arguments, plan, values, plan.to_dict()):
        print(plan)
        _print_tables(arguments, plan.policy)
    return 0


def _plan_classes(arguments: Namespace, objective: Objective) -> int:
    outputs = read_pair(*arguments.outputs, kind=arguments.kind, remote_kind=arguments.remote_kind)
    arrays = read_arrays(*arguments.outputs, names=array_names(arguments))
    population = population_options(arguments, arrays, outputs.labels, outputs.local.shape[-1])
    plan = plan_cascade(
        outputs.local,
        outputs.remote,
        outputs.labels,
        objective,
        names=outputs.names,
        **plan_options(arguments),
        **population,
    )
    read = outputs.read["remote"]
    document = {**plan.to_dict(), "remote": remote_dict(plan.remote, read.kind, read.floor)}
    if _give(arguments, plan, outputs, document):
        for model, read in outputs.read.items():
            if read.kind == "probabilities":
                print(f"{model}: {read}")
        print(plan)
        _print_tables(arguments, plan.policy)
    return 0


def _give(
    arguments: Namespace, plan: CascadePlan | TaskPlan, outputs: SavedPair | SavedValues, document: dict[str, Any]
) -> bool:
    """Draw the plan and write it as JSON, as the arguments ask; return whether to print it as text."""
    if arguments.plot:
        from edgecascade.calibration.commands.plot import draw_plan

        draw_plan(plan, outputs, arguments.plot)
    if arguments.json:
        text = json.dumps(document, allow_nan=False, indent=1)
        if arguments.json == "-":
            print(text)
            return False
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    return True


def _print_tables(arguments: Namespace, policy: Plan) -> None:
    print()
    print("\n".join(curve_table(policy.curve, policy.threshold, policy.measure)))
    if arguments.groups and policy.groups is not None:
        print()
        print("\n".join(policy.groups.table()))
