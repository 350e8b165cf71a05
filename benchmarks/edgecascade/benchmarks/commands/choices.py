"""`edgecascade bench choices`: accuracy of an endpoint or a cascade file on multiple-choice questions, by subject."""

from __future__ import annotations

import hashlib
import json
import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import closing
from pathlib import Path
from typing import get_args

from edgecascade.benchmarks.choices import (
    Question,
    choices_report,
    choices_summary,
    measure_choices,
    read_questions,
    write_questions,
)
from edgecascade.benchmarks.choices.chooser import Chooser, EndpointChooser, FileChooser, Form, Remembering
from edgecascade.benchmarks.choices.measure import ask_choices
from edgecascade.benchmarks.choices.questions import with_shots
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.report import write_page
from edgecascade.runtime.remotes.remote import shown
from edgecascade.types.errors import BenchmarkError

__all__ = ["configure", "execute"]

_MOST_SHOTS = 32


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "questions",
        metavar="QUESTIONS",
        help="Questions as JSON lines or parquet, with the fields question, choices (or options), answer (index, "
        "letter or text) and subject, as MMLU's files have them.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible chat endpoint: http[s]://HOST[:PORT]/v1.")
    what.add_argument("--file", metavar="FILE", help="Cascade file that takes text; its local model answers.")
    what.add_argument(
        "--bigbench",
        metavar="TASKS",
        help="Write QUESTIONS (JSON lines) instead: multiple-choice tasks of BIG-bench, separated by commas, such as "
        "hindu_knowledge or goal_step_wikihow/goal_inference. The first time, this downloads 358 MB.",
    )
    parser.add_argument("--endpoint-model", metavar="NAME", help="Model to ask for; by default the server's choice.")
    parser.add_argument("--header-file", metavar="FILE", help="Headers to send, one 'Name: value' a line.")
    parser.add_argument(
        "--shots", type=_count, default=0, metavar="K", help="Examples before each question (default 0)."
    )
    parser.add_argument(
        "--examples",
        metavar="FILE",
        help="Questions that the examples come from; by default the first K of each subject, which are then not asked.",
    )
    parser.add_argument(
        "--form",
        choices=get_args(Form),
        default="letter",
        help="Answer to ask an endpoint for: the letter of a choice (default), or its words. Small models often cannot "
        "keep letters and choices together: compare both on questions that you do not report.",
    )
    parser.add_argument("--limit", type=_limit, metavar="N", help="Ask only the first N questions of each subject.")
    parser.add_argument("--fresh", action="store_true", help="Ask again what an earlier run has stored in the folder.")
    parser.add_argument(
        "-o", "--out", metavar="DIR", default="report", help="Folder of the page and figures (default report)."
    )


def execute(arguments: Namespace) -> int:
    """Ask, measure, write the report, and print the summary."""
    if arguments.bigbench:
        return _write_tasks(arguments)
    if not arguments.endpoint and not arguments.file:
        raise BenchmarkError("--endpoint: expected the address of an endpoint, or --file, got neither")
    examples = None if arguments.examples is None else read_questions(arguments.examples)
    asked = _limited(with_shots(read_questions(arguments.questions), arguments.shots, examples), arguments.limit)
    stored = Path(arguments.out) / "answers.jsonl"
    if arguments.fresh:
        stored.unlink(missing_ok=True)
    with (
        closing(Remembering(_chooser(arguments), stored, _about(arguments))) as chooser,
        counting("questions", len(asked)) as progress,
    ):
        found = ask_choices(asked, chooser, progress)
    result = measure_choices([question for question, _ in asked], found)
    what = shown(arguments.endpoint) if arguments.endpoint else Path(arguments.file).name
    form = f", answers as {'letters' if arguments.form == 'letter' else 'words'}" if arguments.endpoint else ""
    method = (
        f"{what} answers {result.overall.accuracy.n} questions of {arguments.questions}, {arguments.shots} examples "
        f"before each{form}. The answer is the choice of the highest probability, read from the first tokens."
    )
    summary = choices_summary(result)
    report = choices_report(result, title=f"Multiple choice: {what}", method=method, command=_command(arguments))
    page = write_page(report, arguments.out, summary=summary)
    print(f"report: {page.resolve()}\n\n{summary}")
    return 0


def _write_tasks(arguments: Namespace) -> int:
    from edgecascade.benchmarks.cache import cache_folder
    from edgecascade.benchmarks.pairs.bigbench import read_tasks

    questions = read_tasks(arguments.bigbench.split(","), cache_folder())
    write_questions(questions, arguments.questions)
    print(f"{len(questions)} questions in {arguments.questions}")
    return 0


def _chooser(arguments: Namespace) -> Chooser:
    if arguments.file:
        if idle := [name for name in ("endpoint_model", "header_file") if getattr(arguments, name)]:
            raise BenchmarkError(f"--{idle[0].replace('_', '-')}: expected with --endpoint, got --file")
        return FileChooser(arguments.file)
    from edgecascade.runtime.commands.remote_arguments import headers_of

    headers = headers_of([], arguments.header_file)
    return EndpointChooser(arguments.endpoint, arguments.form, model=arguments.endpoint_model, headers=headers)


def _about(arguments: Namespace) -> str:
    """Return what the answers depend on beside the questions."""
    if arguments.file:
        return hashlib.sha256(Path(arguments.file).read_bytes()).hexdigest()
    return json.dumps([arguments.endpoint, arguments.endpoint_model, arguments.form])


def _limited(
    asked: list[tuple[Question, tuple[Question, ...]]], limit: int | None
) -> list[tuple[Question, tuple[Question, ...]]]:
    """Return the first questions of each subject."""
    if limit is None:
        return asked
    seen: dict[str, int] = {}
    found = []
    for question, shots in asked:
        seen[question.subject] = seen.get(question.subject, 0) + 1
        if seen[question.subject] <= limit:
            found.append((question, shots))
    return found


def _command(arguments: Namespace) -> str:
    words = ["edgecascade", "bench", "choices", arguments.questions]
    words += ["--endpoint", shown(arguments.endpoint)] if arguments.endpoint else ["--file", arguments.file]
    given = {"endpoint-model": arguments.endpoint_model, "examples": arguments.examples, "limit": arguments.limit}
    for name, value in given.items():
        words += [] if value is None else [f"--{name}", str(value)]
    words += ["--shots", str(arguments.shots)]
    words += ["--form", arguments.form] if arguments.endpoint else []
    return shlex.join(words)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > _MOST_SHOTS:
        raise ArgumentTypeError(f"expected 0 to {_MOST_SHOTS}, got {text!r}")
    return int(text)


def _limit(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a number of questions, 1 or more, got {text!r}")
    return int(text)
