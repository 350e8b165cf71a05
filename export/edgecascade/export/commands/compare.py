"""`edgecascade compare`: what quantization did to a body."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from edgecascade.export.commands.calibrate import DATA, add_logits_arguments
from edgecascade.export.compare import compare_bodies
from edgecascade.export.data import read_labelled
from edgecascade.types.estimate import Estimate

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = "example:\n  edgecascade compare small.onnx small-int8.onnx --data calibration.npz"
    parser.add_argument("before", metavar="BEFORE", help="ONNX classifier.")
    parser.add_argument(
        "after", metavar="AFTER", help="Another one that takes the same inputs, such as the same model in int8."
    )
    parser.add_argument("--data", required=True, help=f"{DATA}. Neither model was trained or quantized on them.")
    parser.add_argument("--json", action="store_true", help="Print all figures as JSON.")
    add_logits_arguments(parser)


def execute(arguments: Namespace) -> int:
    """Run both, and print what changed."""
    data = read_labelled(arguments.data)
    print(f"running both on {len(data.labels)} inputs ...", file=sys.stderr)
    found = compare_bodies(arguments.before, arguments.after, data, output=arguments.logits, kind=arguments.kind)
    if arguments.json:
        print(json.dumps(asdict(found), indent=1))
        return 0
    names = [Path(name).name for name in (arguments.before, arguments.after)]
    width = max(map(len, names))
    print(f"{'':<{width}}      MB  accuracy                 NLL at T = 1             NLL at T                      T")
    for name, megabytes, one in zip(names, found.megabytes, (found.before, found.after), strict=True):
        print(
            f"{name:<{width}}  {megabytes:6.2f}  {one.accuracy.percent():<23}  {_nats(one.nll_before):<23}  "
            f"{_nats(one.nll_after):<23}  {one.temperature:6.3f}"
        )
    difference = found.difference
    print(
        f"The same label on {found.agreement.percent()} of {difference.n} inputs; accuracy "
        f"{100 * difference.value:+.1f} points ({100 * difference.low:+.1f} to {100 * difference.high:+.1f}); "
        f"{found.megabytes[1] / found.megabytes[0]:.2f} of the bytes. T was fitted on these same inputs."
    )
    return 0


def _nats(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
