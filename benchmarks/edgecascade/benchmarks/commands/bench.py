"""`edgecascade bench`: measure a cascade model, the user's or the built-in pair."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from edgecascade.benchmarks.corruptions import run_corruptions
from edgecascade.benchmarks.corruptions import summarize as summarize_corruptions
from edgecascade.benchmarks.environment import read_environment
from edgecascade.benchmarks.flagship import Protocol, run_flagship
from edgecascade.benchmarks.offload import Offload, measure_offload
from edgecascade.benchmarks.pairs import fashion_pair, flagship_pairs
from edgecascade.benchmarks.plots import shift_svg
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.promises import measure_promises
from edgecascade.benchmarks.promises import summarize as summarize_promises
from edgecascade.benchmarks.report import write_report
from edgecascade.benchmarks.results import write_result
from edgecascade.benchmarks.runtime_cost import measure_runtime_cost
from edgecascade.benchmarks.verdict import summary
from edgecascade.calibration.commands.arguments import share
from edgecascade.export.cache import cache_folder
from edgecascade.export.labelled import read_labelled
from edgecascade.export.scores import remote_scores

__all__ = ["configure", "execute"]

_FLAGSHIP_METHOD = (
    "EfficientNet-Lite0 at 96 px in int8 (local) and EfficientNet-Lite2 at 260 px (remote), pretrained on ImageNet, "
    "each with a linear head fitted on {head} CIFAR-10 images; {calibration} other images calibrate and plan, and "
    "{test} others test. All of them come from CIFAR-10's test set, so the figures are not comparable with published "
    "CIFAR-10 results."
)


def configure(parser: ArgumentParser) -> None:
    """Add the benchmarks and their arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="BENCHMARK", required=True)
    offload = kinds.add_parser("offload", help="accuracy against offload rate, of your cascade model on your data")
    offload.add_argument("file", help="a cascade model, as `edgecascade calibrate` writes it")
    offload.add_argument("--remote", required=True, help="http://HOST:PORT/v2/models/NAME, or an ONNX file")
    offload.add_argument(
        "--data",
        required=True,
        help="labelled inputs that nothing was fitted on: npz with x and y, or one folder of images per class",
    )
    offload.add_argument("--deadline", type=float, default=1.0, help="seconds until an answer is due (default 1)")
    demo = kinds.add_parser("demo", help="the built-in pair, from pretrained weights to a report")
    demo.add_argument("--budget", type=share, default=Protocol.budget, help="offload rate to plan for (default 0.2)")
    demo.add_argument(
        "--images",
        type=_images,
        metavar="HEAD,CALIBRATION,TEST",
        default=(Protocol.head, Protocol.calibration, Protocol.test),
        help="images for each part (default 5000,1000,4000)",
    )
    promises = kinds.add_parser("promises", help="do calibration and plan keep their word, on the three built-in pairs")
    promises.add_argument("--splits", type=int, default=100, help="random splits behind each figure (default 100)")
    promises.add_argument("--draws", type=int, default=1000, help="certificates in each row (default 1000)")
    corruptions = kinds.add_parser("corruptions", help="the built-in pair on images as a worse camera would give them")
    corruptions.add_argument(
        "--images",
        type=_test_images,
        default=2000,
        metavar="N",
        help="test images of each kind, from 1000 to 4000 (default 2000)",
    )
    runtime = kinds.add_parser("runtime", help="what the runtime costs: time, throughput, import, memory and disk")
    runtime.add_argument(
        "--rounds", type=int, default=200, help="calls of each function, for each of 15 pairs of sessions (default 200)"
    )
    runtime.add_argument("--no-triton", action="store_true", help="leave out tritonclient (an environment of 500 MB)")
    for kind in (offload, demo, promises, corruptions, runtime):
        kind.add_argument("--report", default="report", help="folder for the page and the figures (default: report)")


def execute(arguments: Namespace) -> int:
    """Measure, print, and write the report."""
    if arguments.kind == "promises":
        return _promises(arguments)
    if arguments.kind == "runtime":
        return _runtime(arguments)
    if arguments.kind == "corruptions":
        return _corruptions(arguments)
    result, title, method, command = (_demo if arguments.kind == "demo" else _offload)(arguments)
    page = write_report(result, read_environment(), arguments.report, title=title, method=method, command=command)
    print(f"report: {page.resolve()}\n")
    print(summary(result))
    return 0


def _promises(arguments: Namespace) -> int:
    cache = cache_folder()
    pairs = (*flagship_pairs(cache), fashion_pair(cache))
    found = measure_promises(pairs, splits=arguments.splits, draws=arguments.draws)
    write_result(Path(arguments.report), found, summarize_promises(found))
    print(summarize_promises(found))
    return 0


def _runtime(arguments: Namespace) -> int:
    found = measure_runtime_cost(cache_folder(), rounds=arguments.rounds, triton=not arguments.no_triton)
    write_result(Path(arguments.report), found, str(found))
    print(found)
    return 0


def _corruptions(arguments: Namespace) -> int:
    found = run_corruptions(cache_folder(), arguments.images)
    folder = Path(arguments.report)
    write_result(folder, found, summarize_corruptions(found))
    (folder / "shift.svg").write_text(shift_svg(found.clean, found.shifted) + "\n", encoding="utf-8")
    print(summarize_corruptions(found))
    return 0


def _demo(arguments: Namespace) -> tuple[Offload, str, str, str]:
    head, calibration, test = arguments.images
    protocol = Protocol(head, calibration, test, budget=arguments.budget)
    result, path = run_flagship(protocol, cache_folder())
    print(f"cascade model: {path}\n", file=sys.stderr)
    title = f"Small > large: Lite0 at 96 px asks Lite2 at 260 px, {test} CIFAR-10 images"
    method = _FLAGSHIP_METHOD.format(head=head, calibration=calibration, test=test)
    return (
        result,
        title,
        method,
        f"edgecascade bench demo --images {head},{calibration},{test} --budget {protocol.budget:g}",
    )


def _offload(arguments: Namespace) -> tuple[Offload, str, str, str]:
    data = read_labelled(arguments.data)
    with counting("remote on the test data", len(data.labels)) as done:
        scores = remote_scores(arguments.remote, data.inputs, progress=done)
    result = measure_offload(arguments.file, data, scores, remote=arguments.remote, deadline=arguments.deadline)
    command = (
        f"edgecascade bench offload {arguments.file} --remote {arguments.remote} --data {arguments.data} "
        f"--deadline {arguments.deadline:g}"
    )
    method = (
        f"{Path(arguments.file).name} asks {arguments.remote}, on {len(data.labels)} labelled inputs from "
        f"{arguments.data}. Whether anything was fitted on them, only you know."
    )
    return result, f"Offloading with {Path(arguments.file).name}", method, command


def _test_images(text: str) -> int:
    if text.isdecimal() and 1000 <= int(text) <= Protocol.test:
        return int(text)
    raise ArgumentTypeError(f"expected a number from 1000 to {Protocol.test}, got {text!r}")


def _images(text: str) -> tuple[int, int, int]:
    try:
        head, calibration, test = (int(part) for part in text.split(","))
    except ValueError:
        head = calibration = test = 0
    if min(head, calibration, test) < 1 or head + calibration + test > 10_000:
        raise ArgumentTypeError(f"expected three counts above 0 that add up to at most 10000, got {text!r}")
    return head, calibration, test
