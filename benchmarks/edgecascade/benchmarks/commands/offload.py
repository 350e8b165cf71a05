"""`edgecascade bench offload`: accuracy against offload rate, of the user's cascade model on the user's data."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.kept_answers import KeptAnswers
from edgecascade.benchmarks.kept_scores import KeptScores
from edgecascade.benchmarks.offload import Offload, measure_offload, tested_on
from edgecascade.benchmarks.offload_report import offload_document, offload_sections, offload_verdict, policy_text
from edgecascade.benchmarks.offload_savings import Prices
from edgecascade.benchmarks.page import write_page
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.section import Report
from edgecascade.benchmarks.verdict import summary
from edgecascade.export.labelled import LabelledData, read_labelled
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.types.errors import BenchmarkError

__all__ = ["configure", "execute"]

_DEADLINE = 1.0
_LONGEST = 86_400.0


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", help="a cascade model, as `edgecascade calibrate` writes it")
    parser.add_argument("--remote", required=True, help="http[s]:// or grpc[s]:// address of a model, or an ONNX file")
    parser.add_argument(
        "--data",
        required=True,
        help="labelled inputs that nothing was fitted on: npz with x and y, one folder of images per class, parquet "
        "(a file, a folder, or a pattern), or a folder that Hugging Face's `save_to_disk` wrote",
    )
    parser.add_argument(
        "--deadline", type=_seconds, default=_DEADLINE, help="seconds until an answer is due (default 1)"
    )
    parser.add_argument("--cost", type=_price, metavar="PRICE", help="of one request to the remote, in any currency")
    parser.add_argument("--cost-per-gb", type=_price, metavar="PRICE", help="of 10^9 bytes sent or received")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="ask the remote anew about every input, whatever earlier runs have kept, finished or not",
    )
    parser.add_argument("--report", default="report", help="folder for the page and the figures (default: report)")


def execute(arguments: Namespace) -> int:
    """Measure, write the report, and print the summary."""
    if arguments.remote.endswith(".npy"):
        raise BenchmarkError(
            f"--remote: expected an address or an ONNX file, which can be asked anew, got {arguments.remote}"
        )
    classes = len(read_document(open_session(arguments.file), arguments.file).labels)
    data = tested_on(arguments.file, read_labelled(arguments.data))
    scores = _remote_scores(arguments, data, classes)
    kept = _answers(arguments, data)
    result = measure_offload(
        arguments.file,
        data,
        scores,
        remote=arguments.remote,
        deadline=arguments.deadline,
        prices=Prices(arguments.cost, arguments.cost_per_gb),
        kept=kept,
    )
    page = write_page(_report(result, arguments), arguments.report, summary=summary(result))
    kept.forget()  # unlike scores, latencies are not to be used again
    print(f"report: {page.resolve()}\n")
    print(summary(result))
    return 0


def _remote_scores(arguments: Namespace, data: LabelledData, classes: int) -> NDArray[np.floating]:
    """What the remote says about the data; what an earlier run has kept is not asked again."""
    kept = KeptScores.of(Path(arguments.report) / "remote-scores", data, arguments.remote, classes)
    if arguments.fresh:
        kept.forget()
    done, n = kept.done, kept.n
    if done:
        print(
            f"what the remote said about {done} of {n} inputs is kept from an earlier run, in {kept.folder}; "
            "--fresh asks anew",
            file=sys.stderr,
        )
    if done == n:
        return kept.complete(arguments.remote, data.inputs, classes=classes)
    with counting("remote on the test data", n - done) as progress:
        return kept.complete(arguments.remote, data.inputs, classes=classes, progress=progress)


def _answers(arguments: Namespace, data: LabelledData) -> KeptAnswers:
    """Where the served run keeps its answers; what an interrupted one has left is not asked for again."""
    root = Path(arguments.report) / "served"
    kept = KeptAnswers.of(root, arguments.file, data, arguments.remote, arguments.deadline)
    if arguments.fresh:
        kept.forget()
    if kept.done:
        print(f"{kept.told}; --fresh begins anew", file=sys.stderr)
    return kept


def _report(result: Offload, arguments: Namespace) -> Report:
    name = Path(arguments.file).name
    return Report(
        title=f"Offloading with {name}",
        verdict=offload_verdict(result),
        sections=offload_sections(result),
        method=(
            f"{name} asks {arguments.remote}, on {result.n} labelled inputs from {arguments.data}. Whether anything "
            "was fitted on them, only you know.",
            policy_text(result),
        ),
        command=_command(arguments),
        found={"offload": offload_document(result)},
    )


def _command(arguments: Namespace) -> str:
    words = ["edgecascade", "bench", "offload", arguments.file, "--remote", arguments.remote, "--data", arguments.data]
    words += ["--deadline", f"{arguments.deadline:g}"]
    for flag, price in (("--cost", arguments.cost), ("--cost-per-gb", arguments.cost_per_gb)):
        words += [] if price is None else [flag, f"{price:g}"]
    return shlex.join(words)


def _seconds(text: str) -> float:
    return _number(text, "seconds above 0, and at most a day", lambda number: 0 < number <= _LONGEST)


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
