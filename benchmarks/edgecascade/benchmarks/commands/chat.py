"""`edgecascade bench chat`: what two chat endpoints save and cost as a cascade, beside other ways to choose."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from edgecascade.benchmarks.chat import ChatComparison, ChatRows, chat_report, chat_rows, chat_summary, measure_chat
from edgecascade.benchmarks.chat.rivals import rivals
from edgecascade.benchmarks.chat.rows import verification
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.report import write_page
from edgecascade.calibration.verifiers import verifier_named
from edgecascade.export.chat.ask import ask_both, missing
from edgecascade.export.chat.calibrate import check_prompts, replies_beside
from edgecascade.export.chat.endpoint import AskedEndpoint
from edgecascade.export.chat.prompts import ChatPrompt, read_prompts
from edgecascade.export.chat.replies import SIDES, Replies, RepliesToPrompt, read_replies
from edgecascade.export.writing import refuse_same
from edgecascade.runtime.commands.remote_arguments import add_connection_arguments, headers_of, read_context
from edgecascade.types.document import ChatDocument
from edgecascade.types.errors import ArgumentError, BenchmarkError, no_file

__all__ = ["configure", "execute"]

_MOST_DRAWS = 100_000


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", metavar="FILE", help="File that `edgecascade calibrate-chat` wrote, such as chat.json.")
    parser.add_argument(
        "--data",
        metavar="PROMPTS",
        required=True,
        help="Prompts with references that nothing was fitted on: JSON lines, CSV or parquet, as calibrate-chat reads "
        "them; results are also by their field `subject`.",
    )
    parser.add_argument(
        "--fit",
        metavar="PROMPTS",
        help="The prompts that the file was calibrated on: a router and a scorer are fitted on them and compared.",
    )
    parser.add_argument(
        "--replies",
        metavar="FILE",
        help="Replies of both endpoints (default: FILE with the ending .replies.jsonl). Prompts without replies are "
        "asked, and their replies are added.",
    )
    for side in ("local", "remote"):
        parser.add_argument(f"--{side}", metavar="URL", help=f"Address of the {side} endpoint (default: the file's).")
        parser.add_argument(
            f"--{side}-header-file",
            metavar="FILE",
            help=f"Headers for the {side} endpoint alone, one 'Name: value' a line.",
        )
    add_connection_arguments(parser.add_argument)
    parser.add_argument(
        "--verify",
        action="store_true",
        help="Ask the local endpoint whether each of its replies is right, and compare with that too.",
    )
    parser.add_argument(
        "--draws",
        type=_draws,
        default=0,
        metavar="N",
        help="Certify N plans on replies drawn with replacement, and count false certificates (default 0).",
    )
    parser.add_argument("--loss", type=_share, default=0.05, metavar="E", help="Loss to certify then (default 0.05).")
    parser.add_argument(
        "-o", "--out", metavar="DIR", default="report", help="Folder of the page and figures (default report)."
    )


def execute(arguments: Namespace) -> int:
    """Ask what is missing, measure, write the report, and print the summary."""
    if arguments.key and not arguments.cert:
        raise ArgumentError("--key: expected with --cert, got no certificate for the key")
    if arguments.fit and find_spec("sklearn") is None:
        raise BenchmarkError("--fit: a router and a scorer are fitted with scikit-learn: pip install scikit-learn")
    document = _document(arguments.file)
    judge = verifier_named(document.judge, "judge")
    test = _different(arguments.data)
    fit = None if arguments.fit is None else _different(arguments.fit)
    if fit is not None and (shared := {one.digest for one in fit} & {one.digest for one in test}):
        raise BenchmarkError(f"--data: expected prompts that are not in --fit, got {len(shared)} that are")
    path = Path(arguments.replies) if arguments.replies else replies_beside(arguments.file)
    refuse_same(path, {"--data": arguments.data, "--fit": arguments.fit or ""}, "--replies")
    prompts = [*test, *(fit or ())]
    check_prompts(prompts, judge, fewest=1)
    _ask(arguments, document, prompts, path)
    rows = chat_rows(test, read_replies(path), judge)
    if arguments.verify and rows.checks is None:
        _verify(arguments, document, rows, path)
        rows = chat_rows(test, read_replies(path), judge)
    fitted = None if fit is None else chat_rows(fit, read_replies(path), judge)
    result = measure_chat(document, rows, rivals(fitted, rows), draws=arguments.draws, loss=arguments.loss)
    return _write(result, document, arguments)


def _write(result: ChatComparison, document: ChatDocument, arguments: Namespace) -> int:
    left = f" {result.rows.left_out} others lack a reply or its log-probabilities." if result.rows.left_out else ""
    method = (
        f"{document.local.reported} asks {document.remote.reported}, on {len(result.rows)} prompts with references "
        f"from {arguments.data}.{left} Every reply was made once. The figures hold only if nothing was fitted on these "
        "prompts."
    )
    summary = chat_summary(result)
    title = f"Two chat endpoints with {Path(arguments.file).name}"
    page = write_page(
        chat_report(result, title=title, method=method, command=_command(arguments)), arguments.out, summary=summary
    )
    print(f"report: {page.resolve()}\n\n{summary}")
    return 0


def _different(path: str) -> list[ChatPrompt]:
    """Read prompts without those that repeat an earlier one: the reply to them is no further evidence."""
    every = read_prompts(path)
    different = list({one.digest: one for one in reversed(every)}.values())[::-1]
    if len(different) < len(every):
        repeats = f"{len(every) - len(different)} of {len(every)} prompts repeat an earlier one, and are left out"
        print(f"{path}: {repeats}", file=sys.stderr)
    return different


def _document(path: str) -> ChatDocument:
    if not Path(path).is_file():
        raise BenchmarkError(f"file: {no_file(path)}")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{path}: expected JSON that calibrate-chat wrote, got other bytes") from error
    return ChatDocument.from_json(text, path)


def _ask(arguments: Namespace, document: ChatDocument, prompts: list[ChatPrompt], path: Path) -> None:
    """Ask both endpoints about the prompts that have no replies yet, whatever request those were to."""
    found: Mapping[str, RepliesToPrompt] = read_replies(path) if path.is_file() else {}
    wanting = [
        one
        for one in prompts
        if (there := found.get(one.digest)) is None or there.local is None or there.remote is None
    ]
    if not wanting:
        return
    replies, (local, remote) = Replies(path), (_endpoint(arguments, document, side) for side in SIDES)
    total = sum(missing(wanting, one, replies) for one in (local, remote))
    with closing(local), closing(remote), counting("asking both endpoints", total) as progress:
        asked = ask_both(wanting, local, remote, replies, progress=lambda *_: progress(1))
    for side, said in asked.failures.items():
        if said:
            print(f"the {side} endpoint gave no reply to {len(said)} prompts: {said[0]}", file=sys.stderr)


def _verify(arguments: Namespace, document: ChatDocument, rows: ChatRows, path: Path) -> None:
    replies = Replies(path)
    checks = [
        ChatPrompt(verification(prompt, reply), None) for prompt, reply in zip(rows.prompts, rows.local, strict=True)
    ]
    with closing(_endpoint(arguments, document, "local")) as local, counting("verifying", len(checks)) as progress:
        for check in checks:
            if replies.get(check.digest, "local", local.request) is None:
                replies.add(check.digest, None, "local", local.ask(check.messages))
            progress(1)


def _endpoint(arguments: Namespace, document: ChatDocument, side: str) -> AskedEndpoint:
    one = document.local if side == "local" else document.remote
    path = getattr(arguments, f"{side}_header_file")
    secure = bool(arguments.ca or arguments.cert)
    try:
        return AskedEndpoint(
            side,
            getattr(arguments, side) or one.url,
            model=one.model,
            fields=document.fields,
            headers=headers_of([], path, f"--{side}-header-file"),
            price=one.price,
            context=read_context(arguments) if secure else None,
            proxy=arguments.proxy if side == "remote" else None,
        )
    except ArgumentError as error:
        raise ArgumentError(str(error).replace(f"{side}:", f"--{side}:", 1)) from error


def _command(arguments: Namespace) -> str:
    words = ["edgecascade", "bench", "chat", arguments.file, "--data", arguments.data]
    for name, value in (("fit", arguments.fit), ("replies", arguments.replies)):
        words += [] if value is None else [f"--{name}", value]
    words += ["--verify"] if arguments.verify else []
    words += ["--draws", str(arguments.draws), "--loss", f"{arguments.loss:g}"] if arguments.draws else []
    return shlex.join(words)


def _draws(text: str) -> int:
    if not text.isdecimal() or int(text) > _MOST_DRAWS:
        raise ArgumentTypeError(f"expected 0 to {_MOST_DRAWS}, got {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < 1:
        raise ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return number
