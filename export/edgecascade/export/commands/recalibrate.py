"""`edgecascade recalibrate`: new temperatures, table and threshold in a file that is in use."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from edgecascade.calibration import CertifiedLoss
from edgecascade.calibration.commands.arguments import add_plan_arguments, objective_of, plan_options
from edgecascade.calibration.commands.outputs import add_kind_argument
from edgecascade.calibration.commands.population import add_population_arguments, population_options
from edgecascade.export.class_names import labelled_as
from edgecascade.export.commands.calibrate import (
    DATA,
    REMOTE,
    add_document_argument,
    add_examples_argument,
    add_golden_argument,
    check_chat,
    check_remote,
    check_remote_classes,
    labelled_for,
    remote_answers,
    report,
    write_document,
)
from edgecascade.export.commands.task_arguments import (
    REFERENCES,
    add_decode_arguments,
    add_reference_arguments,
    add_verifier_argument,
    refuse_task_arguments,
)
from edgecascade.export.recalibrate import cascade_scores, move_threshold, recalibrate
from edgecascade.export.writing import check_out
from edgecascade.runtime.commands.console import counting
from edgecascade.runtime.commands.remote_arguments import add_remote_arguments, check_remote_arguments
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.remotes.remote import is_chat
from edgecascade.types.document import TaskDocument
from edgecascade.types.errors import ExportError
from edgecascade.types.estimate import chance_in_words

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade recalibrate local.onnx --offload-rate 0.1 -o frugal.onnx\n"
        "  edgecascade recalibrate local.onnx --remote large.onnx --data field.npz --offload-rate 0.2 -o local.onnx\n\n"
        "Without --data the threshold moves along the operating curve in the file. With it, everything but the body\n"
        "is fitted anew. Neither needs torch, and the body stays the same, byte for byte."
    )
    parser.add_argument("file", metavar="FILE", help="Cascade model, as `edgecascade calibrate` writes it.")
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="Cascade model to write; may be the same.")
    add_remote_arguments(parser, f"The remote, to plan anew: {REMOTE}.", in_use=False)
    parser.add_argument("--data", help=f"{DATA}; to plan anew. For a general task: {REFERENCES}.")
    add_examples_argument(parser)
    add_plan_arguments(parser)
    add_population_arguments(parser)
    add_kind_argument(parser, "--remote-kind", "the remote's scores")
    add_golden_argument(parser)
    add_document_argument(parser)
    group = parser.add_argument_group("files of general tasks")
    add_verifier_argument(group)
    add_decode_arguments(group)
    add_reference_arguments(group)


def execute(arguments: Namespace) -> int:
    """Plan anew, or move the threshold, and write the document if that is asked for."""
    _recalibrate(arguments)
    write_document(arguments)
    return 0


def _recalibrate(arguments: Namespace) -> None:
    objective = objective_of(arguments)
    check_out(arguments.out, "--out")
    if (arguments.data is None) != (arguments.remote is None):
        raise ExportError("--data, --remote: expected both, to plan anew, or neither, to move the threshold")
    if arguments.data is None:
        check_remote_arguments(arguments)
        if arguments.remote_examples is not None or arguments.remote_kind is not None:
            raise ExportError("--remote-examples, --remote-kind: expected --data and --remote with them")
        if isinstance(objective, CertifiedLoss):
            raise ExportError("--certify: expected --data and --remote with it, as a certificate needs fresh data")
        given = (arguments.score, arguments.merge, arguments.estimate, arguments.bins, arguments.calibrator)
        if given != ("auto", "auto", "auto", None, "auto") or arguments.label_noise:
            raise ExportError(
                "--score, --merge, --estimate, --bins, --calibrator, --label-noise: expected --data and --remote with "
                "them"
            )
        if (arguments.weights, arguments.prior, arguments.groups, arguments.max_group_loss) != (None,) * 4:
            raise ExportError("--weights, --prior, --groups, --max-group-loss: expected --data and --remote with them")
        chosen = move_threshold(arguments.file, arguments.out, objective, golden=arguments.golden)
        document, (low, high) = read_document(open_session(arguments.out), arguments.out), chosen.accuracy_band
        measure = "mean value" if isinstance(document, TaskDocument) else "accuracy"
        print(
            f"policy      {document.policy.objective}\n"
            f"            forward below advantage {chosen.threshold:+.4f}: {chosen.offload_rate:.1%} of the "
            f"calibration data, {measure} {chosen.accuracy:.1%} ({low:.1%} to {high:.1%}, n = {chosen.n})"
        )
        chance = document.policy.chance
        if chance is not None:
            print(f"            chance of meeting the aim: {chance_in_words(chance)}")
        print(f"wrote       {arguments.out}")
        return
    document = read_document(open_session(arguments.file), arguments.file)
    if isinstance(document, TaskDocument):
        from edgecascade.export.commands.general_task import recalibrate_general

        recalibrate_general(arguments, document.task)
        return
    refuse_task_arguments(arguments)
    names = document.labels
    data = labelled_as(labelled_for(arguments, objective), names)
    if isinstance(objective, CertifiedLoss) and data.digest == document.source.data_sha256:
        print(
            f"--data: {arguments.file} was calibrated on these inputs. The certificate holds only if --certify was "
            "decided before anything was measured on them; fresh data are safer",
            file=sys.stderr,
        )
    population = population_options(arguments, data.columns, data.labels, len(names), data.names)
    check_chat(arguments, data.inputs, names, known=document.remote_chat)
    if not is_chat(arguments.remote):
        check_remote_classes(check_remote(arguments, data.inputs), names, len(names))
    with counting("running the body", len(data.labels)) as progress:
        local = cascade_scores(arguments.file, data.inputs, progress=progress)
    answers = remote_answers(arguments, data, names, weight=population["weight"], known=document.remote_chat)
    written = recalibrate(
        arguments.file,
        arguments.out,
        data,
        local,
        answers.scores,
        objective=objective,
        golden=arguments.golden,
        **answers.options,
        **plan_options(arguments),
        **population,
    )
    report(written, arguments.out, data, answers, by_group=arguments.groups is not None)
