"""`edgecascade calibrate`: fit, plan and fold on the user's own body, remote and data."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from os.path import samefile
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration import Objective
from edgecascade.calibration.commands.arguments import add_plan_arguments, objective_of, plan_options
from edgecascade.calibration.commands.outputs import add_kind_argument
from edgecascade.calibration.commands.population import add_population_arguments, array_names, population_options
from edgecascade.cli import rare
from edgecascade.export.calibrate import Calibrated, calibrate, check_labels, check_text
from edgecascade.export.chat.remote import KeptReplies, ask_chat
from edgecascade.export.class_names import class_count, columns_by_name, labelled_as, model_names
from edgecascade.export.commands.task_arguments import (
    REFERENCES,
    add_task_arguments,
    is_general,
    refuse_task_arguments,
)
from edgecascade.export.data import Inputs, LabelledData, batches, count, first, read_labelled
from edgecascade.export.graph import load_model
from edgecascade.export.logits import KINDS, declared_classes, find_logits, kind_of
from edgecascade.export.parity import Parity
from edgecascade.export.scores import Progress, RemoteOutputs, ask_remote, local_scores, read_scores
from edgecascade.export.writing import check_out, refuse_same, write_whole
from edgecascade.runtime.batch import are_sentences, rows
from edgecascade.runtime.commands.console import counting
from edgecascade.runtime.commands.remote_arguments import (
    add_remote_arguments,
    chat_of,
    check_remote_arguments,
    read_template,
    remote_of,
)
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.remotes.chat import Chat
from edgecascade.runtime.remotes.chat_prompt import messages_for, with_examples
from edgecascade.runtime.remotes.remote import is_chat, shown
from edgecascade.types.class_names import some_names
from edgecascade.types.document import AnswerForm, AskedChat
from edgecascade.types.errors import ExportError, InputError, UnsendableInput, no_file

__all__ = [
    "DATA",
    "REMOTE",
    "RemoteAnswers",
    "add_document_argument",
    "add_examples_argument",
    "add_golden_argument",
    "add_logits_arguments",
    "check_chat",
    "check_other_files",
    "check_remote",
    "check_remote_classes",
    "configure",
    "execute",
    "labelled_for",
    "remote_answers",
    "report",
    "report_file",
    "write_document",
]

DATA = "Labelled inputs: an npz file with x and y (and names), a folder of images for each class, CSV, or parquet"
_ADDRESS = "http://HOST:PORT/v2/models/NAME"
_SHOWN = 20  # classes that are printed
REMOTE = (
    "http://HOST:PORT/v2/models/NAME, a generative model at http[s]://HOST/v1, an ONNX file, or its saved logits "
    "[n, classes] (.npy)"
)


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "example:\n"
        "  edgecascade calibrate body.onnx --remote large.onnx --data calibration/ --offload-rate 0.2 -o local.onnx\n"
        "  edgecascade calibrate reader.onnx --task ocr --decode ctc:characters=keys.txt --remote large.onnx \\\n"
        "      --data lines/ --offload-rate 0.2 -o local.onnx\n\n"
        "The data must be labelled, about a thousand inputs, and used for nothing else: not for training, not for\n"
        "quantization, and not for a benchmark afterwards."
    )
    parser.add_argument("body", metavar="BODY", help="ONNX model, as `edgecascade export` writes classifiers.")
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="Cascade model to write.")
    add_remote_arguments(parser, f"The remote: {REMOTE}.", required=True, in_use=False)
    parser.add_argument("--data", required=True, help=f"{DATA}. For a general task: {REFERENCES}.")
    add_examples_argument(parser)
    add_task_arguments(parser)
    add_plan_arguments(parser)
    add_population_arguments(parser)
    add_kind_argument(parser, "--remote-kind", "the remote's scores")
    add_logits_arguments(parser)
    parser.add_argument(
        "--expected",
        metavar="NPY",
        help="Scores [n, classes] on the data of the model that the body was converted from, such as scikit-learn's "
        "predict_proba; the body must give the same.",
    )
    add_golden_argument(parser)
    add_document_argument(parser)


def add_examples_argument(parser: ArgumentParser) -> None:
    """Add the argument that shows a generative model answered questions."""
    rare(
        parser.add_argument(
            "--remote-examples",
            metavar="DATA",
            help="Other labelled texts, of which a generative model is shown the first of each class with its label.",
        )
    )


def check_other_files(arguments: Namespace) -> None:
    """Check that the file to write is not one of those that are read.

    Raises:
        ExportError: it is.
    """
    read = {"the body": arguments.body, "--remote": arguments.remote, "--data": arguments.data}
    refuse_same(arguments.out, read, "--out")


def labelled_for(arguments: Namespace, objective: Objective) -> LabelledData:
    """Return the labelled data, after a check of everything that does not need the models to run.

    Raises:
        ArgumentError: an argument does not fit the remote.
        ExportError: --out cannot be written, the remote is a missing file, or the data cannot be read or used.
    """
    check_out(arguments.out, "--out")
    check_remote_arguments(arguments)
    if "://" not in arguments.remote and not Path(arguments.remote).is_file():
        raise ExportError(f"--remote: {no_file(arguments.remote)}")
    if arguments.remote_examples is not None and not is_chat(arguments.remote):
        raise ExportError(f"--remote-examples: expected with a chat address, got {shown(arguments.remote)}")
    data = read_labelled(arguments.data, array_names(arguments))
    check_labels(data, objective)
    return data


def check_remote(arguments: Namespace, inputs: Inputs) -> RemoteOutputs:
    """Ask the remote about one input, before both models run on all of them; of saved logits, read all.

    Raises:
        ExportError: it cannot be reached, gives no scores, or does not take such inputs.
    """
    try:
        return _ask(arguments, inputs if _are_saved(arguments.remote) else first(inputs, 1))
    except InputError as error:
        what = "x" if str(arguments.data).endswith(".npz") else "inputs"
        said = str(error).removeprefix("remote input: ")
        raise ExportError(f"{arguments.data}: {what}: {said}, as {shown(arguments.remote)} takes them") from error


def check_remote_classes(said: RemoteOutputs, names: Sequence[str], classes: int) -> None:
    """Check that the remote has the classes of the local model, before it is asked about all inputs.

    Args:
        said: what it gave for some.
        names: of the local model's classes in order; empty if they are not known.
        classes: their number.

    Raises:
        ExportError: it has others; the message lists both.
    """
    given = class_count(said.scores)
    if given != classes:
        both = f": {some_names(names)}; and {some_names(said.names)}" if names and said.names else ""
        raise ExportError(f"remote: expected scores of {classes} classes, as of the local model, got {given}{both}")
    columns_by_name(names, said.names, known=())


class RemoteAnswers(NamedTuple):
    """What the remote gives for all inputs.

    Attributes:
        scores: floating [n, classes], or [n] or [n, 1] of a binary head.
        options: of `calibrate`, by which the scores are read.
        notes: phrases on how a generative model was asked.
        address: at which the device may ask such a remote.
    """

    scores: NDArray[np.floating]
    options: dict[str, Any]
    notes: tuple[str, ...] = ()
    address: str = _ADDRESS


def remote_answers(
    arguments: Namespace,
    data: LabelledData,
    names: Sequence[str],
    *,
    weight: ArrayLike | None = None,
    known: AskedChat | None = None,
) -> RemoteAnswers:
    """Return what the remote that the arguments describe gives for all inputs, and show the progress.

    Args:
        arguments: the parsed arguments.
        data: labelled as the local model.
        names: of the classes; empty if they are not known.
        weight: [n], how much each input counts.
        known: how a generative model was asked in an earlier calibration, from which comes what is not given.

    Raises:
        ExportError: the remote fails, or is a generative model, and the classes have no names to ask for.
    """
    if is_chat(arguments.remote):
        return _chat_answers(arguments, data, names, weight, known)
    if _are_saved(arguments.remote):  # of whatever remote
        scores, theirs = _ask(arguments, data.inputs)
        return RemoteAnswers(scores, {"remote_names": theirs, "remote_kind": arguments.remote_kind})
    with counting("running the remote", count(data.inputs)) as progress:
        scores, theirs = _ask(arguments, data.inputs, progress)
    return RemoteAnswers(scores, {"remote_names": theirs, "remote_kind": arguments.remote_kind, "remote_chat": None})


def check_chat(arguments: Namespace, inputs: Inputs, names: Sequence[str], *, known: AskedChat | None = None) -> None:
    """Check how a generative model will be asked, before the body runs; nothing is sent. Other remotes pass.

    Args:
        arguments: the parsed arguments.
        inputs: [n, ...], of which the first must be one that can be sent.
        names: of the classes; empty if they are not known.
        known: as in `remote_answers`.

    Raises:
        ArgumentError: an argument is invalid, or a file of one cannot be read.
        ExportError: the classes have no names, the model cannot be sent such inputs, or kept replies are damaged.
    """
    if not is_chat(arguments.remote):
        return
    way = _way_to_ask(arguments, names, known)
    with closing(way.connect(answer=way.answer)) as chat:
        chat.expect(names)
        asked = chat.asked
    try:
        messages_for(asked.prompt, asked.answer, names)(rows(next(iter(batches(first(inputs, 1), 1))), 0))
    except UnsendableInput as error:
        raise ExportError(f"--data: {str(error).removeprefix('remote: ')}") from error


class _WayToAsk(NamedTuple):
    """How a generative model is asked: what makes it, the form of the answer, and where its replies are kept."""

    connect: Callable[..., Chat]
    answer: AnswerForm | None
    kept: KeptReplies | None


def _way_to_ask(arguments: Namespace, names: Sequence[str], known: AskedChat | None) -> _WayToAsk:
    if not names:
        raise ExportError(
            "names: expected names of the classes in the data or the body, by which a generative model answers, got "
            "none; name them with `edgecascade export FILE --names`"
        )
    if arguments.remote_kind is not None:
        raise ExportError("--remote-kind: expected with scores, got a generative model's probabilities")
    answer = arguments.answer or (known.answer if known else None)
    same = known if known is not None and known.answer == answer else None  # another form has another prompt

    examples = [] if arguments.remote_examples is None else _examples(arguments, names)
    path = arguments.remote_prompt

    def connect(**options: Any) -> Chat:
        if examples:
            question = None if path is None else read_template(Path(path))
            options["prompt"] = with_examples(question, options.get("answer") or "label", names, examples)
        return chat_of(arguments, same, **options)

    out = Path(arguments.out)
    ordinary = out.is_file() or not out.exists()  # no device or pipe
    kept = KeptReplies(f"{out}.replies.jsonl", shown(arguments.remote)) if ordinary else None
    return _WayToAsk(connect, answer, kept)


def _chat_answers(
    arguments: Namespace,
    data: LabelledData,
    names: Sequence[str],
    weight: ArrayLike | None,
    known: AskedChat | None,
) -> RemoteAnswers:
    connect, answer, kept = _way_to_ask(arguments, names, known)
    try:
        with counting("asking the remote", count(data.inputs)) as progress:
            found = ask_chat(
                connect, data.inputs, names, data.labels, answer=answer, weight=weight, kept=kept, progress=progress
            )
    except KeyboardInterrupt:
        if kept is not None:
            print(f"the replies so far are in {kept.path}; the same command goes on from there", file=sys.stderr)
        raise
    read = {"remote_names": tuple(names), "remote_kind": "probabilities", "remote_chat": found.asked}
    return RemoteAnswers(found.scores, read, found.notes, shown(arguments.remote))


def _examples(arguments: Namespace, names: Sequence[str]) -> list[tuple[str, int]]:
    """Return the first text of each class, with the number of the class.

    Raises:
        ExportError: they are no texts, or the calibration data, which would then be asked with their own labels.
    """
    path = arguments.remote_examples
    if Path(path).exists() and samefile(path, arguments.data):
        raise ExportError(f"--remote-examples: expected other data than --data, got {path} twice")
    data = labelled_as(read_labelled(path), names)
    numbers, firsts = np.unique(data.labels, return_index=True)
    if not are_sentences(data.inputs) or numbers[0] < 0 or numbers[-1] >= len(names):
        raise ExportError(f"--remote-examples: expected texts with labels of {len(names)} classes in {path}")
    return [(str(data.inputs[at]), int(number)) for number, at in zip(numbers, firsts, strict=True)]


def _ask(arguments: Namespace, inputs: Inputs, progress: Progress | None = None) -> RemoteOutputs:
    if "://" not in arguments.remote:
        return ask_remote(arguments.remote, inputs, output=arguments.remote_output, progress=progress)
    remote = remote_of(arguments)
    assert remote is not None
    return ask_remote(remote, inputs, name=arguments.remote, progress=progress)


def _are_saved(remote: str) -> bool:
    """Return whether a remote is the file of its logits."""
    return "://" not in remote and remote.endswith(".npy")


def add_logits_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that say where a body's logits are."""
    rare(parser.add_argument("--logits", metavar="OUTPUT", help="Output that holds the logits, if it is not evident."))
    rare(parser.add_argument("--kind", choices=KINDS, help="What that output holds, if its values do not tell."))


def add_golden_argument(parser: ArgumentParser) -> None:
    """Add the argument that keeps inputs out of the file."""
    rare(
        parser.add_argument(
            "--no-golden",
            dest="golden",
            action="store_false",
            help="Put no inputs into the file; `edgecascade inspect --verify` then has nothing to replay.",
        )
    )


def add_document_argument(parser: ArgumentParser) -> None:
    """Add the argument that writes the document beside the file."""
    rare(
        parser.add_argument(
            "--document",
            action="store_true",
            help="Also write the file's document as JSON, to FILE.json beside it, for readers in other languages that "
            "cannot read the metadata of an ONNX file.",
        )
    )


def write_document(arguments: Namespace) -> None:
    """Write the document of the file that was written beside it, if the arguments ask for that."""
    if arguments.document:
        document = read_document(open_session(arguments.out), arguments.out)
        write_whole(f"{document.to_json(indent=2)}\n".encode(), f"{arguments.out}.json")
        print(f"document    {arguments.out}.json")


def execute(arguments: Namespace) -> int:
    """Run both models on the data, then write the cascade model, and its document if that is asked for."""
    if is_general(arguments):
        from edgecascade.export.commands.general_task import calibrate_general

        calibrate_general(arguments)
    else:
        _calibrate(arguments)
    write_document(arguments)
    return 0


def _calibrate(arguments: Namespace) -> None:
    refuse_task_arguments(arguments)
    objective = objective_of(arguments)
    check_other_files(arguments)
    data = labelled_for(arguments, objective)
    expected = read_scores(arguments.expected) if arguments.expected else None
    model, found = load_model(arguments.body), {"output": arguments.logits, "kind": arguments.kind}
    beside = check_text(model, arguments.body, arguments.out)
    said = None if is_chat(arguments.remote) else check_remote(arguments, data.inputs)
    source = find_logits(model, arguments.logits, arguments.kind)
    declared = None if arguments.logits else declared_classes(model)
    if declared is not None:
        named = model_names(model, arguments.body, declared)
        named = _labelled_as_model(arguments, data, named, declared)[0].names or named
    if declared is not None or data.names:
        check_chat(arguments, data.inputs, data.names if declared is None else named)
    with counting("running the body", len(data.labels)) as progress:
        local = local_scores(arguments.body, data.inputs, model=model, progress=progress, **found)
    kind_of(source, local)  # before the remote is asked
    classes = class_count(local)
    named = model_names(model, arguments.body, classes)
    data, population = _labelled_as_model(arguments, data, named, classes)
    if said is not None:
        check_remote_classes(said, data.names, classes)
    answers = remote_answers(arguments, data, data.names or named, weight=population["weight"])
    print("fitting, and comparing the file with the arithmetic ...", file=sys.stderr)
    written = calibrate(
        arguments.body,
        arguments.out,
        data,
        local,
        answers.scores,
        objective=objective,
        model=model,
        expected=expected,
        golden=arguments.golden,
        **answers.options,
        **found,
        **plan_options(arguments),
        **population,
    )
    report(written, arguments.out, data, answers, by_group=arguments.groups is not None, beside=beside)


def _labelled_as_model(
    arguments: Namespace, data: LabelledData, named: Sequence[str], classes: int
) -> tuple[LabelledData, dict[str, Any]]:
    """Return the data with the labels of the model, and the options about whom they stand for.

    Raises:
        ExportError: a label is none of the model's classes.
        CalibrationError: an option does not fit the labels.
    """
    data = labelled_as(data, named)
    low, high = data.labels.min(), data.labels.max()
    if not 0 <= low <= high < classes:  # before the remote is asked, which may cost time and money
        raise ExportError(f"labels: expected 0 to {classes - 1}, one per class of the model, got {low} to {high}")
    return data, population_options(arguments, data.columns, data.labels, classes, data.names)


def report(
    written: Calibrated,
    out: str,
    data: LabelledData,
    answers: RemoteAnswers,
    *,
    by_group: bool = False,
    beside: str | None = None,
) -> None:
    """Print what was fitted, chosen, proved and written, and what comes next; and the accuracies by group.

    Args:
        written: what was written.
        out: the file.
        data: the calibration data, with the labels of the model.
        answers: those of the remote to it.
        by_group: whether to print the accuracies by group.
        beside: the file that was written beside it, if any.
    """
    for line in (*_classes(written, data), *_about_remote((*answers.notes, *written.remote_notes))):
        print(line.replace("\n", "\\n"))  # of a name or a file: it must not look like another line
    for model, read in written.read.items():
        if read.kind == "probabilities":
            print(f"{model:<12}{read}")
    print(written.plan)
    if by_group and written.plan.policy.groups is not None:
        print("\n".join(f"            {line}" for line in written.plan.policy.groups.table()))
    report_file(written.parity, written.golden, out, remote=answers.address, beside=beside)


def report_file(
    parity: Parity, golden: int, out: str, decode: str = "", remote: str = _ADDRESS, *, beside: str | None = None
) -> None:
    """Print what was proved and written, and what comes next.

    Args:
        parity: the comparison with the reference arithmetic.
        golden: number of calibration inputs that travel in the file.
        out: the file.
        decode: options that `edgecascade run` needs for it, with a space before each.
        remote: the address of the remote to show.
        beside: the file that was written beside it, if any.
    """
    print(
        f"parity      {parity.n} inputs agree on {', '.join(parity.providers)}; "
        f"largest difference of a confidence {parity.largest:.1e}"
    )
    if parity.unusable:
        print(f"            not compared, because they cannot run it here: {', '.join(parity.unusable)}")
    if golden:
        print(f"golden      {golden} calibration {'inputs travel' if golden > 1 else 'input travels'} in the file")
    print(f"wrote       {out}{f', with {beside} beside it' if beside else ''}")
    print(f"next        edgecascade inspect {quote(out)} --verify    # on the device")
    print(f"            edgecascade run {quote(out)} INPUT ...{decode} --remote {remote}")


def _classes(written: Calibrated, data: LabelledData) -> Iterator[str]:
    """Yield a line for each class with its number, its name and the first input of it."""
    labels, numbers = written.labels, np.unique(data.labels, return_index=True)
    firsts = dict(zip(*(part.tolist() for part in numbers), strict=True))
    width = max(map(len, labels[:_SHOWN]))
    for number, name in enumerate(labels[:_SHOWN]):
        example = f"such as {data.describe(firsts[number])}" if number in firsts else "not in the data"
        yield f"{'' if number else 'classes':<12}{number:<3} {name:<{width}}  {example}"
    if len(labels) > _SHOWN:
        yield f"{'':<12}and {len(labels) - _SHOWN} more"


def _about_remote(notes: Sequence[str]) -> Iterator[str]:
    for place, note in enumerate(notes):
        yield f"{'' if place else 'remote':<12}{note}"
