"""Standard output and standard error, from any thread, without mixing lines up."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from threading import RLock
from typing import Any

__all__ = ["Console", "ConsoleHandler"]

_CLEAR = "\r\x1b[K"
_COLUMNS = 80  # of a terminal that does not say


class Console:
    """JSON lines on standard output; on standard error sentences, and one line that is drawn over and over.

    Attributes:
        live: whether standard error is a terminal, so that there can be such a line.
    """

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._drawn = False
        self._lock = RLock()

    def line(self, fields: Mapping[str, Any]) -> None:
        """One object on standard output, at once.

        Raises:
            BrokenPipeError: nobody reads it any more.
        """
        text = json.dumps(fields)
        with self._lock:
            if sys.stdout.isatty():
                self.clear()
            print(text, flush=True)

    def say(self, sentence: str) -> None:
        """One sentence on standard error."""
        with self._lock:
            self.clear()
            print(sentence, file=sys.stderr, flush=True)

    def draw(self, text: str) -> None:
        """Draw the line on standard error, as far as there is room."""
        with self._lock:
            sys.stderr.write(_CLEAR + text[: _columns() - 1])
            sys.stderr.flush()
            self._drawn = True

    def clear(self) -> None:
        """Remove that line."""
        with self._lock:
            if self._drawn:
                sys.stderr.write(_CLEAR)
                sys.stderr.flush()
                self._drawn = False


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS


class ConsoleHandler(logging.Handler):
    """Shows log records on a console. What happens again and again (`event`) is for those who read logs only.

    Args:
        console: that shows them.
        events: whether such records are shown, too.
    """

    def __init__(self, console: Console, *, events: bool) -> None:
        super().__init__(logging.INFO if events else logging.WARNING)
        self._console, self._events = console, events

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        if self._events or not hasattr(record, "event"):
            try:
                self._console.say(self.format(record))
            except Exception:
                self.handleError(record)
