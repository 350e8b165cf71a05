"""Structured log records that hold no input, secret or reply.

A record has the kind of event, the reason, the class of an exception, with the status of a refusal, and how many such
records were suppressed. It never has the text of an exception, which may repeat what a remote echoed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable
from datetime import datetime, timezone
from threading import Lock
from typing import Any

from edgecascade.types.answer import Reason

__all__ = ["EventLog", "JsonFormatter"]

_INTERVAL = 10.0  # seconds

_logger = logging.getLogger("edgecascade")
_logger.addHandler(logging.NullHandler())  # silent until the application configures logging


class EventLog:
    """Logs events to the logger `edgecascade`, at most one of each kind in ten seconds. Several threads may use it.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._last: dict[str, tuple[float, int]] = {}  # kind: when it was logged, and how many were suppressed since

    def event(self, kind: str, *, reason: Reason | None = None, error: BaseException | str = "") -> None:
        """Log an event as a warning, or count it. It raises nothing, even if a handler of the application does.

        The attributes of the record are `event`, `reason`, `error` and `suppressed`.

        Args:
            kind: the kind of event, one of a few fixed phrases.
            reason: the reason of the resulting answer.
            error: the exception, of which only the name of its class is logged; or that name.
        """
        if not _logger.isEnabledFor(logging.WARNING):
            return
        suppressed = self._due(kind)
        if suppressed is None:
            return
        fields = {
            "event": kind,
            "reason": None if reason is None else reason.value,
            "error": (error if isinstance(error, str) else type(error).__name__) or None,
            "suppressed": suppressed,
        }
        because = ", ".join(str(fields[name]) for name in ("reason", "error") if fields[name] is not None)
        more = f" ({suppressed} more since the last such record)" if suppressed else ""
        with contextlib.suppress(Exception):  # an application's handler must not cost an answer
            _logger.warning("%s%s%s", kind, f": {because}" if because else "", more, extra=fields)

    def _due(self, kind: str) -> int | None:
        """Return how many of the kind were suppressed since the last record; None if this one is suppressed, too."""
        with self._lock:
            now = self._clock()
            at, suppressed = self._last.get(kind, (None, 0))
            if at is not None and now - at < _INTERVAL:
                self._last[kind] = (at, suppressed + 1)
                return None
            self._last[kind] = (now, 0)
            return suppressed


class JsonFormatter(logging.Formatter):
    """Formats a record as a line of JSON: `time` (UTC), `level`, `logger`, `message`, and the attributes of an event.

    It works for any logger. Of an exception it writes only the class.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("event", "reason", "error", "suppressed"):
            value = getattr(record, name, None)
            if value is not None:
                line[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            line.setdefault("error", record.exc_info[0].__name__)
        return json.dumps(line, default=float)  # numpy's numbers
