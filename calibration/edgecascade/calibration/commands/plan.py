"""`edgecascade plan`: what a cascade of two models would do, from their saved outputs."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from edgecascade.calibration.commands.arguments import add_plan_arguments, objective_of, plan_options
from edgecascade.calibration.commands.outputs import add_kind_argument, check_writable, read_arrays, read_pair
from edgecascade.calibration.commands.population import add_population_arguments, array_names, population_options
from edgecascade.calibration.plan import plan_cascade
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
        "  edgecascade plan local.npy remote.npy labels.npy --certify 0.01 --plot plan.svg\n\n"
        "No model is written: `edgecascade calibrate` takes the same arguments and writes one."
    )
    parser.add_argument(
        "outputs",
        nargs="+",
        help="Logits or probabilities of both models [n, classes] and labels [n]: one .npz or .parquet file with "
        "local, remote and labels, or three .npy files in this order.",
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
    if arguments.plot:
        from edgecascade.calibration.commands.plot import draw_plan

        draw_plan(plan, outputs, arguments.plot)
    if arguments.json:
        document = plan.to_dict()
        read = outputs.read["remote"]
        document["remote"] = remote_dict(plan.remote, read.kind, read.floor)
        text = json.dumps(document, allow_nan=False, indent=1)
        if arguments.json == "-":
            print(text)
            return 0
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    for model, read in outputs.read.items():
        if read.kind == "probabilities":
            print(f"{model}: {read}")
    print(plan)
    print()
    print("\n".join(curve_table(plan.policy.curve, plan.policy.threshold)))
    if arguments.groups and plan.policy.groups is not None:
        print()
        print("\n".join(plan.policy.groups.table()))
    return 0
