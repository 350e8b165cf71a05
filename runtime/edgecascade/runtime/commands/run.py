"""`edgecascade run`: inputs from anywhere, one JSON line per answer out."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread

from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.commands.cascade_arguments import add_cascade_arguments, open_cascade
from edgecascade.runtime.run.answer_line import late_line
from edgecascade.runtime.run.answering import Answering
from edgecascade.runtime.run.console import Console
from edgecascade.runtime.run.logged import logged
from edgecascade.runtime.run.sources import Source, StandardInput, read_source
from edgecascade.runtime.run.status import Progress, Status
from edgecascade.runtime.run.stop import Stop
from edgecascade.types.errors import ArgumentError

__all__ = ["configure", "execute"]

_LOG = logging.getLogger("edgecascade")
_PATIENCE = 5.0  # seconds for the last late answer to be printed


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade run local.onnx photos/ --remote http://127.0.0.1:8000/v2/models/large --deadline 0.15\n"
        "  tail -f sentences.log | edgecascade run local.onnx - --remote https://... --header-file token.txt\n"
        "  edgecascade run local.onnx tcp://127.0.0.1:9000 --outbox later.db --remote ...\n"
        "  edgecascade run local.onnx camera:0 --every 10 --budget 100/hour --budget 5MB/day --remote ...\n\n"
        "Each answer is one line of JSON on standard output, in the order of the inputs; on a socket, it goes back\n"
        "over the connection. On standard error there is a live line, if that is a terminal, and at last the totals.\n"
        "An input that does not fit the file gets a line with `error`, and the exit code is then 2.\n\n"
        "A line of input is a sentence or a path to an image, as the file takes it; or, for every file, JSON: an\n"
        'array of numbers, an object of arrays by name, or {"x": any of these, "key": "comes back with the answer"}.\n'
        'An image can also be {"b64": its file in base64}. An answer that comes too late (see --outbox) has a line\n'
        "of its own on standard output, with `late` and that key.\n\n"
        "Ctrl-C or SIGTERM: no more inputs are taken, those that were get their answers; a second one ends at once."
    )
    parser.add_argument("file", metavar="FILE", help="a cascade model, as `edgecascade calibrate` writes it")
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="an image, a folder of images, lines of text (.txt), arrays (.npy, .npz); - for lines on standard input; "
        "tcp://127.0.0.1:PORT or unix:PATH to listen for lines; video:FILE; camera:NUMBER",
    )
    parser.add_argument("--probabilities", action="store_true", help="add every class's probability to each line")
    parser.add_argument("--every", metavar="N", type=int, default=1, help="of a video, every N-th frame (default 1)")
    parser.add_argument(
        "--listen-anywhere", action="store_true", help="allow tcp:// addresses that other machines can reach"
    )
    parser.add_argument(
        "--metrics", metavar="PORT", type=int, help="serve Prometheus text at http://127.0.0.1:PORT/metrics"
    )
    add_cascade_arguments(parser)


def execute(arguments: Namespace) -> int:
    """Answer every input."""
    sources = _sources(arguments)
    console = Console()
    with ExitStack() as stack:
        stack.enter_context(logged(console, as_json=arguments.log_json))
        cascade = stack.enter_context(_opened(arguments, console))
        if arguments.metrics is not None:
            stack.enter_context(_metrics(cascade, arguments.metrics, console))
        progress = Progress(lambda: cascade.metrics().get("traffic", {}).get("sent"))
        with Stop() as stop, Status(console, progress):
            answering = Answering(cascade, console, progress, stop, probabilities=arguments.probabilities)
            for source in sources:
                if not stop:
                    answering.answer(source)
        console.say(_totals(cascade, answering.refused))
    if stop:
        return stop.exit_code
    return 2 if answering.refused else 0


def _sources(arguments: Namespace) -> list[Source]:
    if arguments.every < 1:
        raise ArgumentError(f"--every: expected 1 or more, got {arguments.every}")
    if arguments.metrics is not None and not 0 <= arguments.metrics < 65536:
        raise ArgumentError(f"--metrics: expected a port from 0 to 65535, got {arguments.metrics}")
    sources = [read_source(one, every=arguments.every, anywhere=arguments.listen_anywhere) for one in arguments.inputs]
    if sources.count(StandardInput()) > 1:
        raise ArgumentError("inputs: expected - once, since standard input can be read once, got it more often")
    return sources


@contextmanager
def _opened(arguments: Namespace, console: Console) -> Iterator[Cascade]:
    """The cascade, with its late answers printed as they come."""
    cascade = open_cascade(arguments, on_alarm=lambda alarm: _LOG.warning("alarm: %s", alarm.sentence))
    printing = Thread(target=_print_late, args=(cascade, console, arguments.probabilities), daemon=True)
    printing.start()
    try:
        yield cascade
    finally:
        cascade.close()
        printing.join(_PATIENCE)


def _print_late(cascade: Cascade, console: Console, probabilities: bool) -> None:
    with suppress(BrokenPipeError):  # which whoever prints the other answers will find out, too
        for late in cascade.late(timeout=None):
            console.line(late_line(late, merged_by=cascade.policy.merge if probabilities else None))


@contextmanager
def _metrics(cascade: Cascade, port: int, console: Console) -> Iterator[None]:
    from edgecascade.runtime.metrics.prometheus import prometheus_text
    from edgecascade.runtime.run.metrics_server import serving_metrics

    with serving_metrics(port, lambda: prometheus_text(cascade.metrics())) as address:
        console.say(f"metrics at {address}")
        yield


def _totals(cascade: Cascade, refused: int) -> str:
    counts, waiting = cascade.counts(), cascade.metrics().get("outbox", {}).get("waiting", 0)
    reasons = ", ".join(f"{n} {reason.value}" for reason, n in counts.reasons.items() if n)
    return (
        f"{counts.inputs} answered: {counts.kept} kept, {counts.forwarded} to be forwarded ({reasons or 'none'})"
        + (f"; {refused} refused" if refused else "")
        + (f"; {waiting} in the outbox" if waiting else "")
    )
