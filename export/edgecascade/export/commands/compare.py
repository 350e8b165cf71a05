"""`edgecascade compare`: what quantization did to a body."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from edgecascade.calibration import Calibration, CalibrationError, Estimate
from edgecascade.export.compare import Compared, compare_bodies
from edgecascade.export.labelled import read_labelled
from edgecascade.export.logits import KINDS
from edgecascade.types.errors import ExportError

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = "example:\n  edgecascade compare small.onnx small-int8.onnx --data calibration.npz"
    parser.add_argument("before", help="an ONNX classifier")
    parser.add_argument("after", help="another that takes the same inputs, such as the same one in int8")
    parser.add_argument(
        "--data", required=True, help="labelled inputs that neither was trained or quantized on: npz, or class folders"
    )
    parser.add_argument("--logits", help="the output of both that holds the logits, if it is not evident")
    parser.add_argument("--kind", choices=KINDS, help="what that output holds, if its values cannot tell")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def execute(arguments: Namespace) -> int:
    """Run both, and print what changed."""
    data = read_labelled(arguments.data)
    print(f"running both on {len(data.labels)} inputs ...", file=sys.stderr)
    try:
        found = compare_bodies(arguments.before, arguments.after, data, output=arguments.logits, kind=arguments.kind)
    except CalibrationError as error:
        raise ExportError(str(error)) from error
    if arguments.json:
        print(json.dumps(asdict(found), indent=1))
        return 0
    width = max(len(Path(name).name) for name in (arguments.before, arguments.after))
    print(f"{'':<{width}}      MB  accuracy                 NLL at T = 1             NLL at T                      T")
    for name, megabytes, one in zip(
        (arguments.before, arguments.after), found.megabytes, (found.before, found.after), strict=True
    ):
        print(f"{Path(name).name:<{width}}  {megabytes:6.2f}  {_row(one)}")
    print(_sentence(found))
    return 0


def _row(one: Calibration) -> str:
    return (
        f"{one.accuracy.percent():<23}  {_nats(one.nll_before):<23}  {_nats(one.nll_after):<23}  {one.temperature:6.3f}"
    )


def _nats(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _sentence(found: Compared) -> str:
    difference = found.difference
    return (
        f"The same label on {found.agreement.percent()} of {difference.n} inputs; accuracy "
        f"{100 * difference.value:+.1f} points ({100 * difference.low:+.1f} to {100 * difference.high:+.1f}); "
        f"{found.megabytes[1] / found.megabytes[0]:.2f} of the bytes. T was fitted on these same inputs."
    )
