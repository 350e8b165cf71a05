"""`edgecascade bench latency`: MLPerf LoadGen's scenarios over a cascade model, its parts and its remote."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecascade.benchmarks.latency.request import Request

__all__ = ["configure", "execute", "request_of"]

_SCENARIOS = ("single-stream", "multi-stream", "server", "offline")
_SUBJECTS = ("model alone", "local only", "remote only", "cascade")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", help="a cascade model, as `edgecascade calibrate` writes it")
    parser.add_argument(
        "--remote",
        help="http://HOST:PORT/v2/models/NAME; or an ONNX file, which a second process on this machine serves",
    )
    parser.add_argument(
        "--data",
        required=True,
        help="labelled inputs: npz with x and y; or one folder of images per class, whose files are then read and "
        "decoded for every answer",
    )
    _add_choices(parser)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run, at least (default 10)")
    parser.add_argument("--queries", type=int, default=64, help="of each run, at least (default 64)")
    parser.add_argument(
        "--qps", type=float, help="arrivals per second of server (default: half of what single stream reached)"
    )
    parser.add_argument("--deadline", type=float, default=1.0, help="seconds until an answer is due (default 1)")
    parser.add_argument("--warm-up", type=int, default=20, help="answers before each run (default 20)")
    parser.add_argument("--threads", type=int, default=1, help="the engine's (default 1)")
    parser.add_argument(
        "--report", default="report", help="folder for the figures; finished runs in it are reused (default: report)"
    )


def execute(arguments: Namespace) -> int:
    """Measure, write the report, and print the summary."""
    from edgecascade.benchmarks.latency.run import run_latency
    from edgecascade.benchmarks.latency.sections import latency_sections
    from edgecascade.benchmarks.latency.verdict import latency_summary, latency_verdict
    from edgecascade.benchmarks.report import Report, write_page

    request = request_of(arguments)
    run = run_latency(request)
    report = Report(
        title=f"Latency of {Path(request.file).name}",
        findings=latency_verdict(run),
        sections=latency_sections(run),
        method=(f"{run.inputs}, from {request.data}; each run in a process of its own.",),
        command=_command(arguments),
        found={"latency": run},
    )
    page = write_page(report, arguments.report, summary=latency_summary(run))
    print(f"report: {page.resolve()}\n")
    print(latency_summary(run))
    return 0


def _command(arguments: Namespace) -> str:
    words = ["edgecascade", "bench", "latency", arguments.file]
    left = {name: value for name, value in vars(arguments).items() if name not in ("command", "kind", "file", "report")}
    for name, value in left.items():
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{name.replace('_', '-')}", f"{one:g}" if isinstance(one, float) else str(one)]
    return shlex.join(words)


def request_of(arguments: Namespace) -> Request:
    """The arguments as the measurement takes them; without a remote, subjects that ask one are left out."""
    from edgecascade.benchmarks.latency.plan import DIRECT
    from edgecascade.benchmarks.latency.request import Request
    from edgecascade.benchmarks.latency.scenario import Scenario
    from edgecascade.benchmarks.latency.subject import Kind

    subjects = [Kind(name) for name in arguments.subject or _SUBJECTS]
    if not arguments.subject and arguments.remote is None:
        subjects = [subject for subject in subjects if not subject.asks]
    return Request(
        file=arguments.file,
        data=arguments.data,
        report=arguments.report,
        remote=arguments.remote,
        subjects=tuple(subjects),
        scenarios=tuple(Scenario(name) for name in arguments.scenario or _SCENARIOS),
        networks=tuple(arguments.network or (DIRECT,)),
        seconds=arguments.seconds,
        queries=arguments.queries,
        qps=arguments.qps,
        deadline=arguments.deadline,
        warm_up=arguments.warm_up,
        threads=arguments.threads,
        providers=tuple(arguments.provider or ()),
    )


def _add_choices(parser: ArgumentParser) -> None:
    for name, values, what in (
        ("--scenario", _SCENARIOS, "a way of asking; may be repeated (default: all)"),
        ("--subject", _SUBJECTS, "who answers; may be repeated (default: all that there can be)"),
    ):
        parser.add_argument(name, action="append", choices=values, help=what)
    parser.add_argument(
        "--network",
        action="append",
        metavar="PROFILE",
        help="a network between the device and a remote on this machine: lan, wifi, lte-good, lte-poor, satellite, "
        "lossy, offline-half, or direct for none; may be repeated (default: direct)",
    )
    parser.add_argument(
        "--provider",
        action="append",
        metavar="NAME",
        help="an execution provider, the one wanted first: cpu, cuda, tensorrt, ..., or auto; may be repeated",
    )
