"""Structured log records of what happens, without a word of what was sent, kept secret or replied.

A record says what kind of event it is, for which reason, which class of exception and how many: never the text of an
exception, which may repeat what a remote echoed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from threading import Lock
from typing import Any

from edgecascade.runtime.budget.rate import is_finite
from edgecascade.types.answer import Reason

__all__ = ["EventLog", "JsonFormatter"]

_MOST_KINDS = 64  # distinct kinds that are told apart
_OTHER = "other"

_logger = logging.getLogger("edgecascade")
_logger.addHandler(logging.NullHandler())  # silent until the application says otherwise


class EventLog:
    """Logs events to the logger `edgecascade`, at most one of each kind per interval. Safe to share between threads.

    Args:
        interval: seconds after a record in which others of its kind are only counted.
        clock: seconds that never go back.
    """

    def __init__(self, interval: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._clock = interval, clock
        self._lock = Lock()
        self._last: dict[str, tuple[float, int]] = {}  # kind: when it was logged, and how many were not since

    def event(
        self,
        kind: str,
        *,
        level: int = logging.WARNING,
        reason: Reason | None = None,
        error: BaseException | None = None,
        seconds: float | None = None,
        counts: Mapping[str, Any] | None = None,
    ) -> None:
        """Log one event, or count it. Raises nothing, even if a handler of the application does.

        The record's attributes are `event`, `reason`, `error`, `seconds`, `counts` and `suppressed`.

        Args:
            kind: what happened, in fixed words.
            level: of `logging`.
            reason: of the answer that it led to.
            error: what was raised; only the name of its class is kept.
            seconds: how long it took.
            counts: finite numbers by name; anything else in it is left out.
        """
        if not _logger.isEnabledFor(level):
            return
        suppressed = self._due(kind)
        if suppressed is None:
            return
        fields = {
            "event": kind,
            "reason": None if reason is None else reason.value,
            "error": None if error is None else type(error).__name__,
            "seconds": None if seconds is None else float(seconds),
            "counts": {name: number for name, number in (counts or {}).items() if is_finite(number)},
            "suppressed": suppressed,
        }
        with contextlib.suppress(Exception):  # of the application's handlers: no reason to lose an answer
            _logger.log(level, "%s", _sentence(fields), extra=fields)

    def _due(self, kind: str) -> int | None:
        """How many of the kind were not logged since the last that was; None if this one is not to be either."""
        with self._lock:
            now = self._clock()
            if kind not in self._last and len(self._last) >= _MOST_KINDS:
                kind = _OTHER
            at, suppressed = self._last.get(kind, (None, 0))
            if at is not None and now - at < self._interval:
                self._last[kind] = (at, suppressed + 1)
                return None
            self._last[kind] = (now, 0)
            return suppressed


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, and an event's own attributes if it has them.

    For any logger; of an exception it keeps the class only, as above.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("event", "reason", "error", "seconds", "counts", "suppressed"):
            value = getattr(record, name, None)
            if value is not None and value != {}:
                line[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            line.setdefault("error", record.exc_info[0].__name__)
        return json.dumps(line, default=float)  # numpy's numbers


def _sentence(fields: Mapping[str, Any]) -> str:
    parts = [fields["event"]]
    because = ", ".join(str(fields[name]) for name in ("reason", "error") if fields[name] is not None)
    if because:
        parts.append(f": {because}")
    if fields["seconds"] is not None:
        parts.append(f" after {fields['seconds']:.3g} s")
    if fields["suppressed"]:
        parts.append(f" ({fields['suppressed']} more since the last such record)")
    return "".join(parts)
