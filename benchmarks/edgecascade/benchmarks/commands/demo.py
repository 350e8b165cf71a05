"""`edgecascade bench demo`: a built-in pair, from public weights or data to a report."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgecascade.benchmarks.commands.report_argument import add_report
from edgecascade.calibration import CertifiedLoss, MostAccuracy, Objective
from edgecascade.calibration.commands.arguments import share
from edgecascade.types.errors import BenchmarkError

if TYPE_CHECKING:
    from edgecascade.benchmarks.latency.run import LatencyRun
    from edgecascade.benchmarks.prepared import Prepared

__all__ = ["configure", "execute"]

_PAIRS = ("flagship", "comparable", "fashion-mnist", "languages")
_DEADLINE = 0.5
_LONGEST = 3600.0  # seconds of one of LoadGen's runs


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--pair", choices=_PAIRS, default=_PAIRS[0], help="which one (default flagship)")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("--budget", type=share, help="offload rate to plan for (default 0.2; 0.3 for comparable)")
    goal.add_argument(
        "--certify",
        type=share,
        metavar="E",
        help="plan for the least offload instead, with a promise that the loss against asking the remote always is at "
        "most E (but for a risk of 5 %%)",
    )
    parser.add_argument(
        "--images",
        type=_images,
        metavar="HEAD,CALIBRATION,TEST",
        help="images for each part, of flagship and comparable (default 5000,1000,4000)",
    )
    parser.add_argument(
        "--torch",
        metavar="DEVICE",
        help="run the large model with torch in this process, on cpu, cuda or cuda:1, and not as ONNX in a second one",
    )
    parser.add_argument(
        "--latency",
        type=_seconds,
        metavar="SECONDS",
        help="also measure latencies in MLPerf LoadGen's scenarios, each for so long (not of languages)",
    )
    parser.add_argument(
        "--network", action="append", metavar="PROFILE", help="as `bench latency` takes it, for --latency"
    )
    add_report(parser)


def execute(arguments: Namespace) -> int:
    """Prepare, measure, print, and write the report."""
    from edgecascade.benchmarks.built_in import BUILT_IN
    from edgecascade.benchmarks.offload_report import offload_document, offload_sections, offload_verdict, policy_text
    from edgecascade.benchmarks.page import write_page
    from edgecascade.benchmarks.section import Report
    from edgecascade.benchmarks.verdict import summary
    from edgecascade.export.cache import cache_folder

    pair = BUILT_IN[arguments.pair]
    if arguments.latency is not None and (arguments.torch or not pair.served):
        raise BenchmarkError(
            f"--latency: expected a pair whose large model a second process serves, got {arguments.pair}"
            + (f" with torch on {arguments.torch}" if arguments.torch else "")
        )
    prepared = pair.prepared(
        cache_folder(), objective=_objective(arguments), images=arguments.images, device=arguments.torch
    )
    print(f"cascade model: {prepared.cascade}\n", file=sys.stderr)
    timed = None if arguments.latency is None else _latency(prepared, arguments)
    kept = prepared.answers(Path(arguments.report) / "served", _DEADLINE, f"{arguments.pair} {arguments.torch}")
    if kept.done:
        print(f"{kept.told}; remove it to begin anew", file=sys.stderr)
    found = prepared.measure(_DEADLINE, kept)
    text = summary(found)
    report = Report(
        title=pair.title,
        verdict=offload_verdict(found),
        sections=offload_sections(found),
        method=(pair.described(arguments.images), policy_text(found)),
        command=_command(arguments),
        found={"offload": offload_document(found)},
    )
    if timed is not None:
        from edgecascade.benchmarks.latency.report import latency_findings, latency_sections, latency_summary

        report = replace(
            report,
            verdict=(*report.verdict, *latency_findings(timed)),
            sections=(*report.sections, *latency_sections(timed)),
            found={**report.found, "latency": timed},
        )
        text = f"{text}\n\n{latency_summary(timed)}"
    page = write_page(report, arguments.report, summary=text)
    kept.forget()  # latencies are not to be used again
    print(f"report: {page.resolve()}\n")
    print(text)
    return 0


def _latency(prepared: Prepared, arguments: Namespace) -> LatencyRun:
    from edgecascade.benchmarks.latency.plan import DIRECT, Request
    from edgecascade.benchmarks.latency.run import run_latency

    request = Request(
        file=str(prepared.cascade),
        data=str(prepared.test_file()),
        report=arguments.report,
        remote=str(prepared.remote),
        networks=tuple(arguments.network or (DIRECT,)),
        seconds=arguments.latency,
        deadline=_DEADLINE,
    )
    return run_latency(request)


def _objective(arguments: Namespace) -> Objective | None:
    if arguments.certify is not None:
        return CertifiedLoss(arguments.certify)
    return None if arguments.budget is None else MostAccuracy(arguments.budget)


def _command(arguments: Namespace) -> str:
    images = ",".join(map(str, arguments.images)) if arguments.images else None
    given = {
        "pair": arguments.pair,
        "budget": arguments.budget,
        "certify": arguments.certify,
        "images": images,
        "torch": arguments.torch,
    }
    words = [f"--{name} {value}" for name, value in given.items() if value is not None]
    if arguments.latency is not None:
        words += [f"--latency {arguments.latency:g}", *(f"--network {name}" for name in arguments.network or ())]
    return " ".join(["edgecascade bench demo", *words])


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise ArgumentTypeError(f"expected seconds above 0, and at most {_LONGEST:g}, got {text!r}")
    return seconds


def _images(text: str) -> tuple[int, int, int]:
    try:
        head, calibration, test = (int(part) for part in text.split(","))
    except ValueError:
        head = calibration = test = 0
    if min(head, calibration, test) < 1 or head + calibration + test > 10_000:
        raise ArgumentTypeError(f"expected three counts above 0 that add up to at most 10000, got {text!r}")
    return head, calibration, test
