"""`edgecascade tflite`: a cascade model for LiteRT (TensorFlow Lite)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from edgecascade.calibration.commands.arguments import add_plan_arguments, objective_if_any, plan_options
from edgecascade.calibration.commands.outputs import add_kind_argument
from edgecascade.calibration.commands.population import add_population_arguments, population_options
from edgecascade.export.class_names import labelled_as
from edgecascade.export.commands.calibrate import (
    DATA,
    REMOTE,
    add_examples_argument,
    add_golden_argument,
    labelled_for,
    remote_answers,
    report,
)
from edgecascade.export.converters import converter_command
from edgecascade.export.data import read_labelled
from edgecascade.export.tflite import export_tflite, export_tflite_int8
from edgecascade.export.writing import check_out
from edgecascade.runtime.commands.remote_arguments import add_remote_arguments
from edgecascade.runtime.engine import open_session, read_classifier
from edgecascade.types.errors import ExportError

__all__ = ["configure", "execute"]

_INT8 = "--int8, --data, --remote"


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade tflite local.onnx -o local.tflite\n"
        "  edgecascade tflite local.onnx --int8 quantize.npz --data calibration.npz --remote large.onnx \\\n"
        "      --offload-rate 0.2 -o local.tflite\n\n"
        "In float the file must decide as the ONNX file does, or it is not written. Int8 is another model: it is\n"
        "calibrated and planned anew, on labelled data. The converter is onnx2tf, which you install. It pins all\n"
        "packages that it needs, so give it an environment of its own: pipx install onnx2tf==2.6.9"
    )
    parser.add_argument("file", metavar="FILE", help="Cascade model in float, as `edgecascade calibrate` writes it.")
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="The .tflite file to write.")
    parser.add_argument("--int8", metavar="DATA", help="Quantize the body on these inputs, in the forms of --data.")
    parser.add_argument(
        "--data",
        help=f"{DATA}; with --int8 to calibrate on, otherwise to compare on instead of the file's golden inputs.",
    )
    add_remote_arguments(parser, f"The remote, for --int8: {REMOTE}.", in_use=False)
    parser.add_argument(
        "--converter",
        metavar="COMMAND",
        help="Command that runs onnx2tf, such as '/opt/onnx2tf/bin/python -m onnx2tf' (default onnx2tf, if it is "
        "importable or on the search path).",
    )
    add_examples_argument(parser)
    add_plan_arguments(parser, required=False)
    add_population_arguments(parser)
    add_kind_argument(parser, "--remote-kind", "the remote's scores")
    add_golden_argument(parser)


def execute(arguments: Namespace) -> int:
    """Convert, prove, write."""
    if not arguments.out.endswith(".tflite"):
        raise ExportError(f"--out: expected a name that ends in .tflite, got {arguments.out}")
    objective = objective_if_any(arguments)
    check_out(arguments.out, "--out")
    if arguments.int8 is None:
        if arguments.remote is not None or objective is not None:
            raise ExportError(f"{_INT8}: expected --int8 with --remote and an objective; in float nothing is planned")
        compared = read_labelled(arguments.data).inputs if arguments.data else None
        parity = export_tflite(arguments.file, arguments.out, compared, converter=arguments.converter)
        print(
            f"parity      {parity.n} inputs decided as by {arguments.file}; largest difference of a confidence "
            f"{parity.largest:.1e} (tolerance {parity.tolerance:g})\nwrote       {arguments.out}"
        )
        return 0
    if arguments.data is None or arguments.remote is None or objective is None:
        raise ExportError(f"{_INT8}: expected all three and an objective, as int8 needs a calibration of its own")
    converter_command(arguments.converter)  # before the remote is asked
    document = read_classifier(open_session(arguments.file), arguments.file)
    names = document.labels
    data = labelled_as(labelled_for(arguments, objective), names)
    population = population_options(arguments, data.columns, data.labels, len(names), data.names)
    answers = remote_answers(arguments, data, names, weight=population["weight"], known=document.remote_chat)
    written = export_tflite_int8(
        arguments.file,
        arguments.out,
        read_labelled(arguments.int8).inputs,
        data,
        answers.scores,
        objective=objective,
        golden=arguments.golden,
        converter=arguments.converter,
        **answers.options,
        **plan_options(arguments),
        **population,
    )
    report(written, arguments.out, data, answers, by_group=arguments.groups is not None)
    return 0
