"""`edgecascade bench latency`: MLPerf LoadGen's scenarios over a cascade model, its parts and its remote."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from edgecascade.runtime.remotes.remote import shown

if TYPE_CHECKING:
    from edgecascade.benchmarks.latency.plan import Request

__all__ = ["configure", "execute", "request_of"]

_SCENARIOS = ("single-stream", "multi-stream", "server", "offline")
_SUBJECTS = ("model alone", "local only", "remote only", "cascade")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", help="Cascade model, as `edgecascade calibrate` writes it.")
    parser.add_argument(
        "--data",
        required=True,
        help="Labelled inputs: an npz file with x and y, or one folder of images per class, whose files are then read "
        "and decoded for every answer.",
    )
    parser.add_argument(
        "--remote",
        help="http://HOST:PORT/v2/models/NAME, a generative model at http[s]://HOST/v1, or an ONNX file that a second "
        "process on this machine serves.",
    )
    parser.add_argument(
        "--network",
        action="append",
        metavar="PROFILE",
        help="Network before a remote on this machine: lan, wifi, lte-good, lte-poor, satellite, lossy, "
        "offline-half, or direct for none. Repeatable (default direct).",
    )
    parser.add_argument("--scenario", action="append", choices=_SCENARIOS, help="Scenario; repeatable (default all).")
    parser.add_argument(
        "--subject", action="append", choices=_SUBJECTS, help="System to measure; repeatable (default all possible)."
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="Least seconds of each run (default 10).")
    parser.add_argument("--queries", type=int, default=64, help="Fewest queries of each run (default 64).")
    parser.add_argument(
        "--qps", type=float, help="Arrivals per second in server (default half of single stream's throughput)."
    )
    parser.add_argument("--deadline", type=float, default=1.0, help="Seconds until an answer is due (default 1).")
    parser.add_argument(
        "--warm-up", type=int, default=20, help="Answers before each run that do not count (default 20)."
    )
    parser.add_argument("--threads", type=int, default=1, help="Threads of ONNX Runtime (default 1).")
    parser.add_argument(
        "--providers",
        metavar="A,B",
        help="Execution providers in order of preference, such as cuda,cpu, or auto (default cpu).",
    )
    parser.add_argument(
        "-o",
        "--out",
        default="report",
        help="Folder of page and figures; finished runs are reused (default report).",
    )


def execute(arguments: Namespace) -> int:
    """Measure, write the report, and print the summary."""
    from edgecascade.benchmarks.latency.report import latency_findings, latency_sections, latency_summary
    from edgecascade.benchmarks.latency.run import run_latency
    from edgecascade.benchmarks.report import Report, write_page

    request = request_of(arguments)
    run = run_latency(request)
    report = Report(
        title=f"Latency of {Path(request.file).name}",
        findings=latency_findings(run),
        sections=latency_sections(run),
        method=(f"{run.inputs}, from {request.data}; each run in a process of its own.",),
        command=_command(arguments),
        found={"latency": run},
    )
    page = write_page(report, arguments.out, summary=latency_summary(run))
    print(f"report: {page.resolve()}\n")
    print(latency_summary(run))
    return 0


def request_of(arguments: Namespace) -> Request:
    """Return the arguments as a request; without a remote, subjects that ask one are left out."""
    from edgecascade.benchmarks.latency.plan import DIRECT, Request, Scenario, Subject

    subjects = [Subject(name) for name in arguments.subject or _SUBJECTS]
    if not arguments.subject and arguments.remote is None:
        subjects = [subject for subject in subjects if not subject.asks]
    return Request(
        file=arguments.file,
        data=arguments.data,
        report=arguments.out,
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
        providers=tuple(arguments.providers.split(",")) if arguments.providers else (),
    )


def _command(arguments: Namespace) -> str:
    words = ["edgecascade", "bench", "latency", arguments.file]
    left = {name: value for name, value in vars(arguments).items() if name not in ("command", "kind", "file")}
    left["remote"] = arguments.remote and shown(arguments.remote)
    for name, value in left.items():
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{name.replace('_', '-')}", f"{one:g}" if isinstance(one, float) else str(one)]
    return shlex.join(words)
