"""`edgecascade calibrate`: fit, plan and fold on the user's own body, remote and data."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from edgecascade.calibration import Calibration, CalibrationError, OperatingPoint
from edgecascade.export.calibrate import Calibrated, calibrate
from edgecascade.export.errors import ExportError
from edgecascade.export.labelled import read_labelled
from edgecascade.export.scores import local_scores, remote_scores
from edgecascade.runtime.commands.arguments import share

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "example:\n"
        "  edgecascade calibrate body.onnx --remote large.onnx --data calibration/ --offload-rate 0.2 -o local.onnx\n\n"
        "The data must be labelled, a thousand inputs or so, and used for nothing else: not for training,\n"
        "not for quantizing, not for the benchmark afterwards."
    )
    parser.add_argument("body", help="an ONNX classifier, as `edgecascade export` writes it")
    parser.add_argument("-o", "--out", required=True, help="the cascade model to write")
    parser.add_argument(
        "--remote",
        required=True,
        help="http://HOST:PORT/v2/models/NAME, an ONNX file, or its saved logits [n, classes] (.npy)",
    )
    parser.add_argument(
        "--data", required=True, help="labelled inputs: npz with x, y (and names), or one folder of images per class"
    )
    parser.add_argument(
        "--offload-rate", type=share, required=True, help="the largest share of inputs to forward, 0 to 1"
    )
    parser.add_argument(
        "--estimate",
        choices=("confidences", "labels"),
        default="confidences",
        help="advantage from calibrated confidences (the paper's rule, default) or from correctness",
    )
    parser.add_argument("--bins", type=int, default=15, help="equal-count bins of the advantage table (default 15)")
    parser.add_argument("--logits", help="the body's output that holds the logits, if it is not evident")


def execute(arguments: Namespace) -> int:
    """Run both models on the data, then write the cascade model."""
    data = read_labelled(arguments.data)
    print(f"running both models on {len(data.labels)} inputs ...", file=sys.stderr)
    local = local_scores(arguments.body, data.inputs, output=arguments.logits)
    remote = remote_scores(arguments.remote, data.inputs)
    try:
        written = calibrate(
            arguments.body,
            arguments.out,
            data,
            local,
            remote,
            budget=arguments.offload_rate,
            estimate=arguments.estimate,
            bins=arguments.bins,
            output=arguments.logits,
        )
    except CalibrationError as error:
        raise ExportError(str(error)) from error
    print(f"local    {_describe(written.local)}")
    print(f"remote   {_describe(written.remote)}")
    _print_policy(written)
    print(
        f"parity   {written.parity.n} inputs agree on {', '.join(written.parity.providers)}; "
        f"largest difference of a confidence {written.parity.largest:.1e}"
    )
    print(f"wrote    {arguments.out}")
    return 0


def _describe(record: Calibration) -> str:
    return (
        f"accuracy {record.accuracy:.4f}, T = {record.temperature:.4f} on n = {record.n}, "
        f"ECE {record.ece_before:.3f} > {record.ece_after:.3f}"
    )


def _print_policy(written: Calibrated) -> None:
    chosen = written.policy.chosen
    print(f"policy   forward below advantage {chosen.threshold:+.4f}: {_point(chosen)}")
    if chosen.offload_rate == 0.0:
        print("         nothing will be forwarded: within this budget the remote is nowhere expected to do better")


def _point(point: OperatingPoint) -> str:
    (rate_low, rate_high), (low, high) = point.offload_interval, point.accuracy_interval
    return (
        f"offload {point.offload_rate:.1%} ({rate_low:.1%} to {rate_high:.1%}), accuracy {point.accuracy:.1%} "
        f"({low:.1%} to {high:.1%}) on the calibration data"
    )
