"""`edgecascade calibrate`: fit, plan and fold on the user's own body, remote and data."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.commands.arguments import add_plan_arguments, objective_of, plan_options
from edgecascade.export.calibrate import Calibrated, calibrate
from edgecascade.export.labelled import read_labelled
from edgecascade.export.logits import KINDS
from edgecascade.export.scores import local_scores, remote_scores
from edgecascade.types.errors import ExportError

__all__ = ["add_golden_argument", "configure", "execute", "report"]


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
        "--data",
        required=True,
        help="labelled inputs: npz with x, y (and names), one folder of images per class, or parquet",
    )
    parser.add_argument("--logits", help="the body's output that holds the logits, if it is not evident")
    parser.add_argument("--kind", choices=KINDS, help="what that output holds, if its values cannot tell")
    parser.add_argument(
        "--expected",
        metavar="NPY",
        help="what the model that the body was converted from gives on the data [n, classes], such as scikit-learn's "
        "predict_proba; the body must give the same",
    )
    add_golden_argument(parser)
    add_plan_arguments(parser)


def add_golden_argument(parser: ArgumentParser) -> None:
    """Whether inputs may travel in the file."""
    parser.add_argument(
        "--no-golden",
        dest="golden",
        action="store_false",
        help="let no calibration input travel in the file (`inspect --verify` then has nothing to replay)",
    )


def execute(arguments: Namespace) -> int:
    """Run both models on the data, then write the cascade model."""
    data = read_labelled(arguments.data)
    print(f"running both models on {len(data.labels)} inputs ...", file=sys.stderr)
    local = local_scores(arguments.body, data.inputs, output=arguments.logits, kind=arguments.kind)
    remote = remote_scores(arguments.remote, data.inputs)
    try:
        written = calibrate(
            arguments.body,
            arguments.out,
            data,
            local,
            remote,
            objective=objective_of(arguments),
            output=arguments.logits,
            kind=arguments.kind,
            expected=_saved(arguments.expected) if arguments.expected else None,
            golden=arguments.golden,
            **plan_options(arguments),
        )
    except CalibrationError as error:
        raise ExportError(str(error)) from error
    report(written, arguments.out)
    return 0


def _saved(path: str) -> NDArray[Any]:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ExportError(f"--expected: {path} is no array saved by numpy: {error}") from error
    if not isinstance(loaded, np.ndarray):
        raise ExportError(f"--expected: {path}: expected one array (.npy), got several (.npz)")
    return loaded


def report(written: Calibrated, out: str) -> None:
    """Print what was fitted, chosen, proved and written."""
    print(written.plan)
    print(
        f"parity      {written.parity.n} inputs agree on {', '.join(written.parity.providers)}; "
        f"largest difference of a confidence {written.parity.largest:.1e}"
    )
    if written.parity.unusable:
        print(f"            not compared, because they cannot run it here: {', '.join(written.parity.unusable)}")
    if written.golden:
        print(f"golden      {written.golden} calibration inputs travel in the file, for `edgecascade inspect --verify`")
    print(f"wrote       {out}")
