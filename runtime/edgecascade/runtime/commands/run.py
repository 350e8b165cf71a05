"""`edgecascade run`: answer inputs from files, lines, sockets, videos or cameras as JSON lines."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread
from typing import Any

from edgecascade.cli import rare
from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.commands.answering import (
    FAILED,
    REPLIED,
    Stop,
    answer_live,
    answer_stored,
    from_thread,
    unanswered,
)
from edgecascade.runtime.commands.cascade_arguments import add_cascade_arguments, open_cascade
from edgecascade.runtime.commands.console import Console, Progress, drawn, logged
from edgecascade.runtime.commands.lines import Answered, Refused, answer_line, late_line
from edgecascade.runtime.commands.service import Reloads, Watchdog, notify
from edgecascade.runtime.commands.sockets import Address, answer_connections
from edgecascade.runtime.commands.sources import Live, Source, Stored, read_source
from edgecascade.runtime.commands.table import add_table_arguments, answer_table, check_table_arguments
from edgecascade.types.answer import Answer
from edgecascade.types.errors import ArgumentError

__all__ = ["configure", "execute"]

_PATIENCE = 5.0  # seconds for the last late answers to be printed
_SILENT = 3  # exit code


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade run local.onnx photos/ --remote http://127.0.0.1:8000/v2/models/large --deadline 0.15\n"
        "  tail -f sentences.log | edgecascade run local.onnx - --remote https://... --header-file header.txt\n"
        "  edgecascade run local.onnx camera:0 --every 10 --budget 100/hour --budget 5MB/day --remote ...\n\n"
        'A line is a sentence, a path to an image, or JSON: an array, an object of arrays by name, or {"x": any of\n'
        'these, "key": "..."}, or "text" for "x"; an image can be {"b64": its file in base64}. Answers are JSON lines\n'
        "with that key, in order, of a general task with `result` (--decode) or outputs; late ones (--outbox) follow.\n"
        "Ctrl-C takes no more inputs, a second one ends. Exit codes: 2, an input has an `error`; 3, no reply came."
    )
    parser.add_argument("file", help="Cascade model, as `edgecascade calibrate` writes it.")
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="Image, folder of images, .npy, .npz, .parquet; lines: .txt, .jsonl, - (standard input), "
        "tcp://HOST:PORT, unix:PATH; video:FILE, video:-, camera:N, rtsp://HOST.",
    )
    add = parser.add_argument
    add("--probabilities", action="store_true", help="Add the probability of every class to each line.")
    every = "Answer every N-th frame of a video or camera (default 1)."
    add("--every", metavar="N", type=int, default=1, help=every)
    rare(add("--metrics", metavar="PORT", type=int, help="Serve Prometheus metrics at http://127.0.0.1:PORT/metrics."))
    host = "Serve them at this address instead, which other machines may reach."
    rare(add("--metrics-host", metavar="HOST", help=host))
    anywhere = "Allow tcp:// addresses that other machines can reach."
    rare(add("--listen-anywhere", action="store_true", help=anywhere))
    add_table_arguments(add)
    add_cascade_arguments(parser)


def execute(arguments: Namespace) -> int:
    """Answer every input."""
    if arguments.metrics is not None and not 0 <= arguments.metrics < 65536:
        raise ArgumentError(f"--metrics: expected a port from 0 to 65535, got {arguments.metrics}")
    if arguments.metrics_host is not None and arguments.metrics is None:
        raise ArgumentError("--metrics-host: expected with --metrics, got no port")
    table = check_table_arguments(arguments)
    sources = [] if table else _sources(arguments)
    live = any(not isinstance(one, Stored) for one in sources)
    if arguments.reload_every is not None and not live:
        raise ArgumentError("--reload-every: expected a camera, a stream, - or a socket as INPUT, got stored inputs")
    console = Console()
    with ExitStack() as stack:
        stack.enter_context(logged(console, as_json=arguments.log_json))
        reloads = Reloads(arguments.file, arguments.reload_every, console.say)
        if live:  # work that ends by itself is ended by a hang-up, too
            stack.enter_context(reloads)
        cascade = stack.enter_context(_opened(arguments, console))
        if live:
            reloads.start(cascade)
        stack.enter_context(Watchdog(cascade).running())
        if arguments.metrics is not None:
            stack.enter_context(_metrics(cascade, arguments.metrics_host or "127.0.0.1", arguments.metrics, console))
        if table:
            return _answer_table(cascade, arguments, console)
        progress = Progress(lambda: cascade.metrics().get("traffic", {}).get("sent"))

        failures = _Failures(console)

        def line(one: Answered | Refused) -> dict[str, Any]:
            progress.saw(one.answer if isinstance(one, Answered) else None)
            if isinstance(one, Answered) and arguments.remote is not None:
                failures.saw(one.answer)
            return answer_line(one, **_further(arguments))

        if sources and not isinstance(sources[0], Address):
            notify("READY=1")
        with Stop() as stop, drawn(progress, console):
            for source in sources:
                if stop:
                    break
                if isinstance(source, Stored):
                    for one in answer_stored(cascade, source.items(cascade.inputs), stop):
                        console.line(line(one))
                else:
                    asyncio.run(_answer_live(cascade, source, line, console, stop))
        console.say(_totals(cascade, progress.refused))
        silent = failures.say_if_silent()
    if stop:
        return stop.exit_code
    return 2 if progress.refused else _SILENT if silent else 0


def _answer_table(cascade: Cascade, arguments: Namespace, console: Console) -> int:
    with Stop() as stop:
        given = answer_table(cascade, arguments, console, stop)
    failed = unanswered(given) if arguments.remote is not None else 0
    if failed:
        console.say(f"the remote answered none of {failed} forwarded inputs")
    return stop.exit_code if stop else _SILENT if failed else 0


def _further(arguments: Namespace) -> dict[str, bool]:
    """Return what lines have beside the answers."""
    return {"probabilities": arguments.probabilities, "outputs": arguments.outputs is not None}


class _Failures:
    """Tells the user once that the remote fails, and at the end if it never replied."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._failed, self._replied, self._last = 0, False, ""

    def saw(self, answer: Answer) -> None:
        """Count an answer."""
        self._replied = self._replied or answer.reason in REPLIED
        if answer.reason not in FAILED:
            return
        self._failed += 1
        self._last = answer.detail or self._last
        if self._failed == 1:
            why = answer.detail or answer.reason.value
            self._console.say(f"the remote did not answer: {why}; answers are local until it does")

    def say_if_silent(self) -> bool:
        """Say whether the remote was asked and never replied, and return it."""
        silent = self._failed > 0 and not self._replied
        if silent:
            why = f": {self._last}" if self._last else ""
            self._console.say(f"the remote answered none of {self._failed} forwarded inputs{why}")
        return silent


async def _answer_live(
    cascade: Cascade, source: Live | Address, line: Callable[[Answered | Refused], Any], console: Console, stop: Stop
) -> None:
    if isinstance(source, Address):

        def listening(where: object) -> None:
            console.say(f"listening at {where}")
            notify("READY=1")

        await answer_connections(cascade, source, line, stop, listening=listening)
        return

    async def write(one: Answered | Refused) -> None:
        console.line(line(one))

    await answer_live(cascade, from_thread(source.chunks(cascade.inputs)), write, stop)


def _sources(arguments: Namespace) -> list[Source]:
    if arguments.every < 1:
        raise ArgumentError(f"--every: expected 1 or more, got {arguments.every}")
    if (lines := arguments.inputs.count("-")) > 1:
        raise ArgumentError(f"inputs: expected - once, because standard input can be read once, got it {lines} times")
    return [read_source(one, every=arguments.every, anywhere=arguments.listen_anywhere) for one in arguments.inputs]


@contextmanager
def _opened(arguments: Namespace, console: Console) -> Iterator[Cascade]:
    """Open the cascade, and print its late answers as they arrive."""
    cascade = open_cascade(arguments)

    def print_late() -> None:
        with suppress(BrokenPipeError):  # raised for the other answers, too
            for late in cascade.late(timeout=None):
                console.line(late_line(late, **_further(arguments)))

    printing = Thread(target=print_late, daemon=True)
    printing.start()
    try:
        yield cascade
    finally:
        cascade.close()
        printing.join(_PATIENCE)


@contextmanager
def _metrics(cascade: Cascade, host: str, port: int, console: Console) -> Iterator[None]:
    from edgecascade.runtime.commands.metrics_server import serving_metrics
    from edgecascade.runtime.metrics.prometheus import prometheus_text

    with serving_metrics(host, port, lambda: prometheus_text(cascade.metrics())) as address:
        console.say(f"metrics at {address}")
        yield


def _totals(cascade: Cascade, refused: int) -> str:
    counts, waiting = cascade.counts(), cascade.metrics().get("outbox", {}).get("waiting", 0)
    reasons = ", ".join(f"{n} {reason.value}" for reason, n in counts.reasons.items() if n)
    local, forwarded = counts.inputs - counts.forwarded, counts.forwarded
    return (
        f"{counts.inputs} answered: {local} locally, {forwarded} to be forwarded ({reasons or 'none'})"
        + (f"; {refused} refused" if refused else "")
        + (f"; {waiting} in the outbox" if waiting else "")
    )
