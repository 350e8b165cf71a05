"""How a run goes, in one line that is drawn over and over."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from math import ceil
from threading import Event, Lock, Thread

from edgecascade.runtime.run.console import Console
from edgecascade.types.answer import Answer, Reason

__all__ = ["Progress", "Status"]

_INTERVAL = 0.25  # seconds from one drawing to the next
_LATEST = 1000  # answers, for latencies
_STRETCH = 20  # drawings, for the rate


class Progress:
    """What was answered so far. Thread-safe.

    Args:
        sent: bytes sent to the remote so far; None if nobody counts them.
        clock: seconds that never go back.
    """

    def __init__(
        self, sent: Callable[[], int | None] = lambda: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sent, self._clock = sent, clock
        self._reasons: Counter[Reason] = Counter()
        self._refused = 0
        self._elapsed: deque[float] = deque(maxlen=_LATEST)
        self._lock = Lock()
        self._moments = deque([(clock(), 0)], maxlen=_STRETCH)

    def saw(self, answer: Answer | None) -> None:
        """Count an answer; None for an input that was refused."""
        with self._lock:
            if answer is None:
                self._refused += 1
            else:
                self._reasons[answer.reason] += 1
                self._elapsed.append(answer.elapsed)

    def __str__(self) -> str:
        """Answers, how many a second of late, how many forwarded and why, latencies of the latest, bytes sent."""
        with self._lock:
            reasons, elapsed, refused = Counter(self._reasons), sorted(self._elapsed), self._refused
            total, now = reasons.total(), self._clock()
            since, before = self._moments[0]
            self._moments.append((now, total))
        rate = (total - before) / (now - since) if now > since else 0.0
        parts = [f"{total} answered, {rate:.1f}/s"]
        if total:
            shares = [f"{reason.value} {n / total:.1%}" for reason, n in reasons.most_common() if _is_away(reason)]
            away = sum(n for reason, n in reasons.items() if _is_away(reason)) / total
            parts.append(f"forwarded {away:.1%}" + (f" ({', '.join(shares)})" if shares else ""))
            parts.append(f"p50 {_quantile(elapsed, 0.5)}, p99 {_quantile(elapsed, 0.99)}")
        sent = self._sent()
        parts += [f"{_size(sent)} sent"] if sent is not None else []
        parts += [f"{refused} refused"] if refused else []
        return " | ".join(parts)


class Status:
    """Draws progress on a console, if it is a terminal, until the context is left."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console, self._progress = console, progress
        self._ended = Event()
        self._thread = Thread(target=self._draw, name="edgecascade-status", daemon=True)

    def __enter__(self) -> Status:
        if self._console.live:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._console.live:
            self._thread.join()
            self._console.clear()

    def _draw(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self._console.draw(str(self._progress))


def _is_away(reason: Reason) -> bool:
    return reason is not Reason.CONFIDENT


def _quantile(ordered: list[float], share: float) -> str:
    milliseconds = ordered[ceil(share * len(ordered)) - 1] * 1e3
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1e3:.1f} s"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, {"B": "kB", "kB": "MB", "MB": "GB", "GB": "TB"}[unit]
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
