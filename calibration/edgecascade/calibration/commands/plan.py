"""`edgecascade plan`: what a cascade of two models would do, from their saved outputs alone."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgecascade.calibration.cascade_plan import CascadePlan, plan_cascade
from edgecascade.calibration.commands.arguments import add_plan_arguments, objective_of, plan_options
from edgecascade.calibration.describe import describe
from edgecascade.calibration.outputs import SavedOutputs, read_outputs
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import curve_table

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade plan outputs.npz --offload-rate 0.2\n"
        "  edgecascade plan local.npy remote.npy labels.npy --certify 0.01 --plot plan.svg\n\n"
        "Nothing is written to a model: `edgecascade calibrate` takes the same arguments and does that."
    )
    parser.add_argument(
        "outputs",
        nargs="+",
        help="logits or probabilities of both models [n, classes] and labels [n]: one .npz or .parquet with local, "
        "remote and labels, or three .npy in this order",
    )
    add_plan_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="write the whole plan as JSON (- for standard output)")
    parser.add_argument("--plot", metavar="FILE", help="draw curve, advantage and reliability (.svg, .png or .pdf)")


def execute(arguments: Namespace) -> int:
    """Plan, print, draw."""
    try:
        outputs = read_outputs(*arguments.outputs)
        plan = plan_cascade(
            outputs.local, outputs.remote, outputs.labels, objective_of(arguments), **plan_options(arguments)
        )
    except CalibrationError as error:
        print(f"edgecascade: {error}", file=sys.stderr)
        return 2
    if arguments.plot:
        from edgecascade.calibration.plots import draw_plan

        draw_plan(plan, outputs, arguments.plot)
    if arguments.json == "-":
        print(json.dumps(_document(plan), indent=1))
        return 0
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(_document(plan), indent=1) + "\n", encoding="utf-8")
    _print(plan, outputs)
    return 0


def _print(plan: CascadePlan, outputs: SavedOutputs) -> None:
    for model in outputs.were_probabilities:
        print(f"{model} gave probabilities; their logarithms serve as logits")
    print(describe(plan))
    print()
    print("\n".join(curve_table(plan.policy.curve, plan.policy.threshold)))


def _document(plan: CascadePlan) -> dict[str, Any]:
    table = plan.policy.table
    return {
        "local": asdict(plan.local),
        "remote": asdict(plan.remote),
        "score": plan.score,
        "merge": plan.merge,
        "considered": [asdict(routing) for routing in plan.routing],
        "threshold": plan.policy.threshold,
        "advantage_edges": table.edges.tolist(),
        "advantage_values": table.values.tolist(),
        "advantage_counts": table.counts.tolist(),
        "advantage_intervals": plan.policy.intervals,
        "estimate": plan.policy.estimate,
        "objective": plan.policy.objective,
        "chosen": asdict(plan.policy.chosen),
        "operating_curve": [asdict(point) for point in plan.policy.curve],
        "verdict": plan.policy.verdict,
        "certificate": asdict(plan.certificate) if plan.certificate else None,
    }
