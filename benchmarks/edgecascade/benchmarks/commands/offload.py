"""`edgecascade bench offload`: accuracy, or mean value, against offload rate of the user's cascade model and data."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload import (
    Offload,
    Prices,
    check_test_data,
    measure_offload,
    offload_report,
    offload_summary,
)
from edgecascade.benchmarks.offload.remote_scores import asked_of, complete_scores, differs, stored_scores
from edgecascade.benchmarks.offload.served import Served, stored_answers
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.report import Report, write_page
from edgecascade.benchmarks.stored import StoredRows
from edgecascade.benchmarks.tasks import task_report, task_summary
from edgecascade.benchmarks.tasks.run import check_task_data, measure_task
from edgecascade.calibration.verifiers import verifier_named
from edgecascade.cli import rare
from edgecascade.export.commands.task_arguments import (
    REFERENCES,
    add_decode_arguments,
    add_reference_arguments,
    add_verifier_argument,
    decoders_of,
    references_of,
    refuse_task_arguments,
)
from edgecascade.export.data import LabelledData, read_labelled
from edgecascade.runtime.commands.remote_arguments import add_remote_arguments, flag, remote_of
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.remotes.remote import Remote, expect, expect_asked, shown
from edgecascade.types.document import TaskDocument
from edgecascade.types.errors import BenchmarkError

__all__ = ["configure", "execute"]

_DEADLINE = 1.0
_LONGEST = 86_400.0
_SILENT = 3  # exit code, as of `run`


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", help="Cascade model, as `edgecascade calibrate` writes it.")
    add_remote_arguments(
        parser,
        "Address (http[s]:// or grpc[s]://) of a model, also of a generative one (/v1), or an ONNX file.",
        required=True,
        in_use=False,
    )
    parser.add_argument(
        "--data",
        required=True,
        help="Labelled inputs that nothing was fitted on: npz with x and y, one folder of images per class, parquet "
        "(a file, a folder, or a pattern), or a folder written by Hugging Face's `save_to_disk`. For a general task: "
        f"{REFERENCES}.",
    )
    group = parser.add_argument_group("general tasks")
    add_verifier_argument(group)
    add_decode_arguments(group)
    add_reference_arguments(group)
    parser.add_argument(
        "--deadline", type=_seconds, default=_DEADLINE, help="Seconds until an answer is due (default 1)."
    )
    parser.add_argument("--cost", type=_price, metavar="PRICE", help="Price of one request, in any currency.")
    parser.add_argument("--cost-per-gb", type=_price, metavar="PRICE", help="Price of 10^9 bytes of traffic.")
    rare(parser.add_argument("--no-examples", action="store_true", help="Leave the inputs themselves out of the page."))
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="Ask the remote about every input again, whatever earlier runs have stored.",
    )
    parser.add_argument(
        "-o", "--out", metavar="DIR", default="report", help="Folder of the page and figures (default report)."
    )


def execute(arguments: Namespace) -> int:
    """Measure, write the report, and print the summary."""
    if arguments.remote.endswith(".npy"):
        raise BenchmarkError(
            f"--remote: expected an address or an ONNX file, which can be asked again, got {arguments.remote}"
        )
    document = read_document(open_session(arguments.file), arguments.file)
    if isinstance(document, TaskDocument):
        return _general(arguments, document)
    refuse_task_arguments(arguments)
    classes = len(document.labels)
    data = check_test_data(arguments.file, read_labelled(arguments.data))
    remote = remote_of(arguments)
    assert remote is not None
    with closing(remote):
        if document.remote_chat is not None:
            expect_asked(remote, document.remote_chat)
        expect(remote, document.labels)
        stored = _answers(arguments, remote, data)
        scores, reused = _remote_scores(arguments, remote, data, classes)
        if reused == 0:  # answers of an interrupted run belong to the scores that it has stored
            stored.clear()
        if stored.done:
            print(
                f"continuing an interrupted run with {stored.done} of {stored.n} answers in {stored.folder}; "
                "--fresh starts again",
                file=sys.stderr,
            )
        result = measure_offload(
            arguments.file,
            data,
            scores,
            remote=remote,
            deadline=arguments.deadline,
            prices=Prices(arguments.cost, arguments.cost_per_gb),
            stored=stored,
            reused=reused,
        )
    if arguments.no_examples:
        result = replace(result, examples=())
    summary = offload_summary(result)
    page = write_page(_report(result, arguments), arguments.out, summary=summary)
    stored.clear()  # latencies, unlike scores, are measured again by the next run
    print(f"report: {page.resolve()}\n\n{summary}")
    return _exit_code(result.served)


def _exit_code(served: Served | None) -> int:
    """Say on standard error if the remote answered no forward, and return the exit code."""
    if served is None or not served.silent:
        return 0
    why = f": {served.failure}" if served.failure else ""
    print(f"the remote answered none of {served.failed} forwarded inputs{why}", file=sys.stderr)
    return _SILENT


def _general(arguments: Namespace, document: TaskDocument) -> int:
    """Measure the file of a general task, write the report, and print the summary."""
    verify = verifier_named(arguments.verifier or document.task.verifier, "--verifier")
    decode, remote_decode = decoders_of(arguments, document.task.name)
    data = references_of(arguments, verify)
    check_task_data(arguments.file, data)
    remote = remote_of(arguments)
    assert remote is not None
    with closing(remote):
        result = measure_task(
            arguments.file,
            data,
            remote=remote,
            verifier=verify,
            decode=decode,
            remote_decode=remote_decode,
            deadline=arguments.deadline,
            prices=Prices(arguments.cost, arguments.cost_per_gb),
        )
    name, summary = Path(arguments.file).name, task_summary(result)
    method = (
        f"{name} asks {shown(arguments.remote)}, on {result.n} inputs with references from {arguments.data}. The "
        "figures hold only if nothing was fitted on these inputs."
    )
    command = _command(arguments)
    report = task_report(result, title=f"Offloading with {name}", method=method, command=command)
    page = write_page(report, arguments.out, summary=summary)
    print(f"report: {page.resolve()}\n\n{summary}")
    return _exit_code(result.served)


def _remote_scores(
    arguments: Namespace, remote: Remote, data: LabelledData, classes: int
) -> tuple[NDArray[np.floating], int]:
    """Return the remote's scores, and for how many inputs they are from an earlier run.

    A remote at an address is asked about a few of these again: another model may be there by now.
    """
    stored = stored_scores(
        Path(arguments.out) / "remote-scores", data, arguments.remote, classes, output=_reading(arguments, remote)
    )
    if arguments.fresh:
        stored.clear()
    elsewhere = "://" in arguments.remote and asked_of(remote) is None  # what a generative model says may vary
    if elsewhere and differs(stored, remote, data.inputs, name=arguments.remote):
        print(
            f"the remote's scores differ from those of an earlier run, in {stored.folder}: all are asked again",
            file=sys.stderr,
        )
        stored.clear()
    done, n = stored.done, stored.n
    if done:
        print(
            f"the remote's scores for {done} of {n} inputs are from an earlier run, in {stored.folder}; "
            "--fresh asks again",
            file=sys.stderr,
        )
    if done == n:
        return complete_scores(stored, remote, data.inputs), done
    with counting("remote on the test data", n - done) as progress:
        return complete_scores(stored, remote, data.inputs, name=arguments.remote, progress=progress), done


def _reading(arguments: Namespace, remote: Remote) -> str | None:
    """Return what an address leaves open: the output of a model, or how a generative one is asked."""
    asked = asked_of(remote)
    return arguments.remote_output if asked is None else repr(replace(asked, reported=""))


def _answers(arguments: Namespace, remote: Remote, data: LabelledData) -> StoredRows:
    """Return the stored answers of the served run; those that an interrupted run has left are used."""
    root = Path(arguments.out) / "served"
    stored = stored_answers(
        root, arguments.file, data, arguments.remote, arguments.deadline, output=_reading(arguments, remote)
    )
    if arguments.fresh:
        stored.clear()
    return stored


def _report(result: Offload, arguments: Namespace) -> Report:
    name = Path(arguments.file).name
    method = (
        f"{name} asks {shown(arguments.remote)}, on {result.n} labelled inputs from {arguments.data}. The figures "
        "hold only if nothing was fitted on these inputs."
    )
    return offload_report(result, title=f"Offloading with {name}", method=method, command=_command(arguments))


def _command(arguments: Namespace) -> str:
    """Return the command with all options that differ from the defaults, without secrets."""
    parser = ArgumentParser()
    configure(parser)
    words = ["edgecascade", "bench", "offload", arguments.file]
    for name, usual in vars(parser.parse_args(["", "--remote", "", "--data", ""])).items():
        value = getattr(arguments, name)
        if name == "file" or (value == usual and name != "deadline"):
            continue
        if value is True:
            words.append(flag(name))
        for one in value if isinstance(value, list) else [] if value is True else [value]:
            words += [flag(name), f"{one:g}" if isinstance(one, float) else _open(name, one)]
    return shlex.join(words)


def _open(name: str, value: str) -> str:
    """Return the value of an option without what may be secret."""
    if name == "header":
        return f"{value.partition(':')[0]}: ..."
    return shown(value) if name in ("remote", "proxy") else value


def _seconds(text: str) -> float:
    return _number(text, "seconds above 0, at most a day", lambda number: 0 < number <= _LONGEST)


def _price(text: str) -> float:
    return _number(text, "a price of 0 or more, such as 0.002", lambda number: 0 <= number < float("inf"))


def _number(text: str, expected: str, allowed: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not allowed(number):
        raise ArgumentTypeError(f"expected {expected}, got {text!r}")
    return number
