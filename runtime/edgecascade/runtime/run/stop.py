"""Ending when told to, and not in the middle of something."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Stop"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Notes the first SIGINT or SIGTERM; a second one ends the process at once. A context manager, not to be nested.

    Attributes:
        signal: the signal's number, or 0 as long as none has come.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[signal.Signals, Any] = {}
        self._told: list[Callable[[], object]] = []

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # only there can signals be handled
            for one in _SIGNALS:
                if signal.getsignal(one) is not signal.SIG_IGN:  # as for a job in the background
                    self._before[one] = signal.signal(one, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)

    def __bool__(self) -> bool:
        """Whether it is time to end."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """As shells have it: 128 and the signal's number."""
        return 128 + self.signal

    @contextmanager
    def telling(self, call: Callable[[], object]) -> Iterator[None]:
        """Within this context, the call is made when the signal comes, or at once if it has come."""
        self._told.append(call)
        try:
            if self.signal:
                call()
            yield
        finally:
            self._told.remove(call)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if self.signal:
            # Not by an exception: the interpreter would still wait for threads that are in the middle of a request.
            os.write(2, b"edgecascade: interrupted\n")
            os._exit(128 + number)
        self.signal = number
        for call in self._told:
            call()
