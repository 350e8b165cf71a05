"""Named alarms: each is raised once, when it starts, and reported from a background thread."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

from edgecascade.types.estimate import Estimate

__all__ = ["ALARMS", "Alarm", "Alarms"]

ALARMS = ("drift", "offload rate", "agreement", "calibration")
_MOST = 100  # alarms that are remembered, and that wait to be reported
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alarm:
    """A quantity that differs from its expected value on the calibration data.

    Attributes:
        name: one of `ALARMS`.
        sentence: the observed and the expected value, in words.
        value: total variation distance, rate, agreement or calibration gap.
        low: lower end of its interval.
        high: upper end of its interval.
        n: number of observations.
        at: wall time, seconds since 1970.
    """

    name: str
    sentence: str
    value: float
    low: float
    high: float
    n: int
    at: float


class Alarms:
    """Raises each alarm when it starts, and reports it from a background thread, so that no caller waits.

    Args:
        on_alarm: called with each alarm, one at a time; its exceptions are logged.
    """

    def __init__(self, on_alarm: Callable[[Alarm], None] | None) -> None:
        self._on_alarm = on_alarm
        self._lock = Lock()
        self._active: set[str] = set()
        self._raised: Counter[str] = Counter(dict.fromkeys(ALARMS, 0))
        self._latest: deque[Alarm] = deque(maxlen=_MOST)
        self._unreported: deque[Alarm] = deque(maxlen=_MOST)
        self._reporting = False

    def settle(self, name: str, starts: bool, clears: bool, seen: Callable[[], tuple[Estimate, str]]) -> None:
        """Raise an alarm if it starts and is not active; end it if it clears.

        Args:
            name: one of `ALARMS`.
            starts: whether its condition holds.
            clears: whether its condition no longer holds; if neither is true, the alarm does not change.
            seen: returns the observed estimate, and a sentence about it.
        """
        with self._lock:
            if clears:
                self._active.discard(name)
            if not starts or name in self._active:
                return
            self._active.add(name)
            self._raised[name] += 1
            estimate, sentence = seen()
            alarm = Alarm(name, sentence, estimate.value, estimate.low, estimate.high, estimate.n, time.time())
            self._latest.append(alarm)
            if self._on_alarm is None:
                return
            self._unreported.append(alarm)
            if not self._reporting:
                self._start_reporting(self._on_alarm)

    def clear(self) -> None:
        """End all active alarms."""
        with self._lock:
            self._active.clear()

    def snapshot(self) -> dict[str, Any]:
        """Return the fields of `Health` about alarms."""
        with self._lock:
            return {
                "active": frozenset(self._active),
                "raised": dict(self._raised),
                "alarms": tuple(self._latest),
            }

    def _start_reporting(self, on_alarm: Callable[[Alarm], None]) -> None:
        try:
            Thread(target=self._report, args=(on_alarm,), name="edgecascade-alarm", daemon=True).start()
            self._reporting = True
        except RuntimeError as error:  # too many threads, or the interpreter is shutting down
            _log.warning("an alarm cannot be reported: %s", error)

    def _report(self, on_alarm: Callable[[Alarm], None]) -> None:
        while True:
            with self._lock:
                if not self._unreported:
                    self._reporting = False
                    return
                alarm = self._unreported.popleft()
            try:
                on_alarm(alarm)
            except Exception:
                _log.exception("on_alarm failed for the alarm %r", alarm.name)
