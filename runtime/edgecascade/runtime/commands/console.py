"""Standard output and standard error: JSON lines, sentences, log records, and a live line of progress."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import ceil
from threading import Event, Lock, RLock, Thread
from typing import Any

from edgecascade.types.answer import Answer, Reason

__all__ = ["Console", "Progress", "counting", "drawn", "logged"]

_LOG = logging.getLogger("edgecascade")
_CLEAR = "\r\x1b[K"
_COLUMNS = 80  # where the terminal does not tell its width
_INTERVAL = 0.25  # seconds from one drawing to the next
_SELDOM = 10.0  # seconds from one line to the next where nothing can be drawn
_LATEST = 1000  # answers that the latencies are of
_STRETCH = 20  # drawings that the rate is of


class Console:
    """Writes from any thread without mixing lines.

    Attributes:
        live: whether standard error is a terminal, and so can show a line that is drawn again and again.
    """

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._drawn = False
        self._lock = RLock()

    def line(self, fields: Mapping[str, Any]) -> None:
        """Write one JSON object on standard output, and flush it.

        Raises:
            BrokenPipeError: its reader has closed it.
        """
        text = json.dumps(fields)
        with self._lock:
            if sys.stdout.isatty():
                self.clear()
            print(text, flush=True)

    def say(self, sentence: str) -> None:
        """Write one sentence on standard error; a log file on a full disk does not end the work."""
        with self._lock, suppress(OSError):
            self.clear()
            print(sentence, file=sys.stderr, flush=True)

    def draw(self, text: str) -> None:
        """Draw the live line on standard error, cut to the width of the terminal."""
        with self._lock:
            _control(_CLEAR)
            sys.stderr.write(text[: _columns() - 1])
            sys.stderr.flush()
            self._drawn = True

    def clear(self) -> None:
        """Remove the live line."""
        with self._lock:
            if self._drawn:
                _control(_CLEAR)
                sys.stderr.flush()
                self._drawn = False


def _control(text: str) -> None:
    """Write control characters on standard error, which the command shows as escapes otherwise."""
    getattr(sys.stderr, "stream", sys.stderr).write(text)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS


@contextmanager
def logged(console: Console, *, as_json: bool) -> Iterator[None]:
    """Within this context, show warnings as sentences, or everything that is logged as JSON lines."""
    handler = _ConsoleHandler(console, events=as_json)
    if as_json:
        from edgecascade.runtime.metrics.event_log import JsonFormatter

        handler.setFormatter(JsonFormatter())
    _LOG.addHandler(handler)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)


class _ConsoleHandler(logging.Handler):
    """Shows log records on a console; frequent ones, which have an `event`, only with `events`."""

    def __init__(self, console: Console, *, events: bool) -> None:
        super().__init__(logging.INFO if events else logging.WARNING)
        self._console, self._events = console, events

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        if self._events or not hasattr(record, "event"):
            try:
                self._console.say(self.format(record))
            except Exception:
                self.handleError(record)


class Progress:
    """Counts the answers of a run, and describes them in one line. Thread-safe.

    Args:
        sent: returns the bytes sent to the remote so far, or None if they are not counted.
        clock: returns seconds that never go back.

    Attributes:
        refused: number of inputs that could not be answered.
    """

    def __init__(
        self, sent: Callable[[], int | None] = lambda: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sent, self._clock = sent, clock
        self._reasons: Counter[Reason] = Counter()
        self.refused = 0
        self._elapsed: deque[float] = deque(maxlen=_LATEST)
        self._lock = Lock()
        self._moments = deque([(clock(), 0)], maxlen=_STRETCH)

    def saw(self, answer: Answer | None) -> None:
        """Count an answer, or None for an input that was refused."""
        with self._lock:
            if answer is None:
                self.refused += 1
            else:
                self._reasons[answer.reason] += 1
                self._elapsed.append(answer.elapsed)

    def __str__(self) -> str:
        """Return the answers, their recent rate, the share forwarded by reason, recent latencies and bytes sent."""
        with self._lock:
            reasons, elapsed = Counter(self._reasons), sorted(self._elapsed)
            total, now = reasons.total(), self._clock()
            since, before = self._moments[0]
            self._moments.append((now, total))
        rate = (total - before) / (now - since) if now > since else 0.0
        parts = [f"{total} answered, {rate:.1f}/s"]
        if total:
            away = [(reason, n / total) for reason, n in reasons.most_common() if reason is not Reason.CONFIDENT]
            shares = ", ".join(f"{reason.value} {share:.1%}" for reason, share in away)
            parts.append(f"forwarded {sum(share for _, share in away):.1%}" + (f" ({shares})" if shares else ""))
            parts.append(f"p50 {_quantile(elapsed, 0.5)}, p99 {_quantile(elapsed, 0.99)}")
        sent = self._sent()
        parts += [f"{_size(sent)} sent"] if sent is not None else []
        parts += [f"{self.refused} refused"] if self.refused else []
        return " | ".join(parts)


@contextmanager
def drawn(progress: Progress, console: Console) -> Iterator[None]:
    """Within this context, draw the progress four times a second, if the console is a terminal."""
    if not console.live:
        yield
        return
    ended = Event()

    def draw() -> None:
        while not ended.wait(_INTERVAL):
            console.draw(str(progress))

    drawing = Thread(target=draw, name="edgecascade-status", daemon=True)
    drawing.start()
    try:
        yield
    finally:
        ended.set()
        drawing.join()
        console.clear()


@contextmanager
def counting(
    what: str,
    total: int | Mapping[str, int],
    clock: Callable[[], float] = time.monotonic,
    *,
    amount: str = "on {} inputs",
    note: Callable[[], str] = str,
) -> Iterator[Callable[..., None]]:
    """Within this context, show on standard error how much of some work is done, and the seconds left.

    A terminal shows one line that is drawn again; elsewhere a line is written at the start and every ten seconds.

    Args:
        what: the work, such as `running the body`.
        total: its number of inputs; or that of each of several parts by name, which are done at the same time.
        clock: returns seconds that never go back.
        amount: how the number is told.
        note: returns what else to show, such as `, 0.21 spent`; by default nothing.

    Yields:
        A function to call with the number of inputs just done, and with the name of their part, if there are several.
    """
    console = Console()
    started = shown = clock()
    totals = {"": total} if isinstance(total, int) else {part: n for part, n in total.items() if n}
    done = dict.fromkeys(totals, 0)
    console.say(f"{what} {amount.format(sum(totals.values()))} ...")

    def progress(n: int, part: str = "") -> None:
        nonlocal shown
        done[part] += n
        now = clock()
        if all(done[one] >= totals[one] for one in totals) or now - shown < (_INTERVAL if console.live else _SELDOM):
            return
        shown = now
        counts = ", ".join(f"{part} {done[part]} of {all_}".lstrip() for part, all_ in totals.items())
        left = ""
        if all(done.values()):  # the slowest part ends last
            left = f", {max((now - started) / done[part] * (totals[part] - done[part]) for part in totals):.0f} s left"
        text = f"{what}: {counts}{left}{note()}"
        if console.live:
            console.draw(text)
        else:
            console.say(text)

    try:
        yield progress
    finally:
        console.clear()


def _quantile(ordered: list[float], share: float) -> str:
    milliseconds = ordered[ceil(share * len(ordered)) - 1] * 1e3
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1e3:.1f} s"


def _size(count: int) -> str:
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"
