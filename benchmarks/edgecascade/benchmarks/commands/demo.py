"""`edgecascade bench demo`: run a built-in pair, from public weights or data to a report."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgecascade.calibration import CertifiedLoss, MostAccuracy, Objective
from edgecascade.calibration.commands.arguments import share
from edgecascade.cli import rare
from edgecascade.types.errors import BenchmarkError

if TYPE_CHECKING:
    from edgecascade.benchmarks.latency.run import LatencyRun
    from edgecascade.benchmarks.pairs.built_in import BuiltInChat, BuiltInTask
    from edgecascade.benchmarks.pairs.prepared import Prepared
    from edgecascade.benchmarks.report import Report

__all__ = ["configure", "execute"]

_CLASSIFIERS = ("languages", "fashion-mnist", "comparable", "flagship")
_TASKS = ("ocr", "ocr-exact", "text-detection", "retrieval")
_CHATS = ("llm", "llm-qwen")
_DRAWS = 200  # certificates of language models on replies drawn anew
_DEADLINE = 0.5
_LONGEST = 3600.0  # seconds of one of LoadGen's runs


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--pair",
        choices=_CLASSIFIERS + _TASKS + _CHATS,
        default=_CLASSIFIERS[0],
        help="Pair of models. The default, languages, needs no torch. ocr, ocr-exact and text-detection need "
        "edgecascade-benchmarks[tasks], llm and llm-qwen edgecascade-benchmarks[llm], the others "
        "edgecascade-benchmarks[images].",
    )
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        "--offload-rate",
        type=share,
        metavar="RATE",
        help="Offload rate to plan for (default 0.2; 0.3 for comparable and those after flagship).",
    )
    goal.add_argument(
        "--certify",
        type=share,
        metavar="E",
        help="Plan for the least offload instead, with a certificate that the loss of accuracy, or of mean value, "
        "against always asking the remote is at most E, with a risk of 5 %%.",
    )
    parser.add_argument(
        "-o", "--out", metavar="DIR", default="report", help="Folder of the page and figures (default report)."
    )
    rare(
        parser.add_argument(
            "--images",
            type=_images,
            metavar="HEAD,CALIBRATION,TEST",
            help="Number of images in each part of flagship and comparable (default 5000,1000,4000).",
        )
    )
    rare(
        parser.add_argument(
            "--latency",
            type=_seconds,
            metavar="SECONDS",
            help="Measure latencies in MLPerf LoadGen's scenarios too, for this time each (image classifiers only).",
        )
    )
    network = parser.add_argument("--network", action="append", metavar="PROFILE", help="Network for --latency.")
    rare(network)


def execute(arguments: Namespace) -> int:
    """Prepare, measure, print, and write the report."""
    from edgecascade.benchmarks.cache import cache_folder
    from edgecascade.benchmarks.offload import offload_report, offload_summary
    from edgecascade.benchmarks.pairs.built_in import BUILT_IN, CHATS, TASKS
    from edgecascade.benchmarks.report import write_page

    if arguments.pair in TASKS:
        return _general(TASKS[arguments.pair], arguments)
    if arguments.pair in CHATS:
        return _chat(CHATS[arguments.pair], arguments)
    pair = BUILT_IN[arguments.pair]
    if arguments.latency is not None and not pair.served:
        raise BenchmarkError(
            f"--latency: expected a pair whose large model a second process serves, got {arguments.pair}"
        )
    cache = cache_folder()
    _say(
        f"{pair.title}\n1 of 3: preparing a cascade model: both models, calibration, when to ask, one ONNX file\n"
        f"        (downloads and finished steps are in {cache} and are used again)"
    )
    prepared = pair.prepared(cache, objective=_objective(arguments), images=arguments.images)
    _say(f"        cascade model: {prepared.cascade}")
    timed = None if arguments.latency is None else _latency(prepared, arguments)
    stored = prepared.answers(Path(arguments.out) / "served", _DEADLINE, arguments.pair)
    _say("2 of 3: answering every test input as an application would, one at a time, to measure what that saves")
    if stored.done:
        _say(
            f"        continuing an interrupted run with {stored.done} of {stored.n} answers in {stored.folder}; "
            "remove it to start again"
        )
    found = prepared.measure(_DEADLINE, stored)
    _say("3 of 3: writing the report and a summary")
    method, text = pair.described(arguments.images), offload_summary(found)
    report = offload_report(found, title=pair.title, method=method, command=_command(arguments))
    if timed is not None:
        report, text = _with_latency(report, text, timed)
    page = write_page(report, arguments.out, summary=text)
    stored.clear()  # latencies are measured again by the next run
    print(f"report: {page.resolve()}\n\n{text}")
    return 0


def _general(pair: BuiltInTask, arguments: Namespace) -> int:
    """Do the same for a pair of a general task."""
    from edgecascade.benchmarks.cache import cache_folder
    from edgecascade.benchmarks.report import write_page
    from edgecascade.benchmarks.tasks import task_report, task_summary

    _refuse_images(pair.name, arguments)
    cache = cache_folder()
    _say(
        f"{pair.title}\n1 of 3: preparing a cascade file: both models, confidence, when to ask, one ONNX file\n"
        f"        (downloads and finished steps are in {cache} and are used again)"
    )
    prepared = pair.prepared(cache, objective=_objective(arguments))
    _say(f"        cascade file: {prepared.cascade}\n2 of 3: answering every test input, and timing the decision")
    found, head = prepared.measure(), prepared.head()
    _say("3 of 3: writing the report and a summary")
    report = task_report(found, title=pair.title, method=pair.method, command=_command(arguments))
    report = replace(report, findings=(*report.findings, f"{head}."), found={**report.found, "head": head})
    text = f"{task_summary(found)}\n{head}"
    page = write_page(report, arguments.out, summary=text)
    print(f"report: {page.resolve()}\n\n{text}")
    return 0


def _chat(pair: BuiltInChat, arguments: Namespace) -> int:
    """Compare a pair of language models with other ways to choose between them, from recorded replies."""
    from edgecascade.benchmarks.chat import chat_report, chat_summary
    from edgecascade.benchmarks.report import write_page

    _refuse_images(pair.name, arguments)
    _say(f"{pair.title}\n1 of 2: planning on the selection questions, from recorded replies")
    prepared = pair.prepared(_objective(arguments))
    _say(f"2 of 2: comparing on {len(prepared.report)} other questions, and certifying {_DRAWS} draws")
    found = prepared.measure(_DRAWS)
    text = chat_summary(found)
    report = chat_report(found, title=pair.title, method=pair.method, command=_command(arguments))
    page = write_page(report, arguments.out, summary=text)
    print(f"report: {page.resolve()}\n\n{text}")
    return 0


def _refuse_images(name: str, arguments: Namespace) -> None:
    for option in ("images", "latency", "network"):
        if getattr(arguments, option) is not None:
            raise BenchmarkError(f"--{option}: expected a pair of image classifiers, got {name}")


def _with_latency(report: Report, text: str, timed: LatencyRun) -> tuple[Report, str]:
    from edgecascade.benchmarks.latency.report import latency_findings, latency_sections, latency_summary

    report = replace(
        report,
        findings=(*report.findings, *latency_findings(timed)),
        sections=(*report.sections, *latency_sections(timed)),
        found={**report.found, "latency": timed},
    )
    return report, f"{text}\n\n{latency_summary(timed)}"


def _latency(prepared: Prepared, arguments: Namespace) -> LatencyRun:
    from edgecascade.benchmarks.latency.plan import DIRECT, Request
    from edgecascade.benchmarks.latency.run import run_latency

    request = Request(
        file=str(prepared.cascade),
        data=str(prepared.test_file()),
        report=arguments.out,
        remote=str(prepared.remote),
        networks=tuple(arguments.network or (DIRECT,)),
        seconds=arguments.latency,
        deadline=_DEADLINE,
    )
    return run_latency(request)


def _objective(arguments: Namespace) -> Objective | None:
    if arguments.certify is not None:
        return CertifiedLoss(arguments.certify)
    return None if arguments.offload_rate is None else MostAccuracy(arguments.offload_rate)


def _command(arguments: Namespace) -> str:
    images = ",".join(map(str, arguments.images)) if arguments.images else None
    given = {
        "pair": arguments.pair,
        "offload-rate": arguments.offload_rate,
        "certify": arguments.certify,
        "images": images,
    }
    words = [f"--{name} {value}" for name, value in given.items() if value is not None]
    if arguments.latency is not None:
        words += [f"--latency {arguments.latency:g}", *(f"--network {name}" for name in arguments.network or ())]
    return " ".join(["edgecascade bench demo", *words])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise ArgumentTypeError(f"expected seconds above 0, at most {_LONGEST:g}, got {text!r}")
    return seconds


def _images(text: str) -> tuple[int, int, int]:
    try:
        head, calibration, test = (int(part) for part in text.split(","))
    except ValueError:
        head = calibration = test = 0
    if min(head, calibration, test) < 1 or head + calibration + test > 10_000:
        raise ArgumentTypeError(f"expected three counts above 0 that add up to at most 10000, got {text!r}")
    return head, calibration, test
