"""Named alarms: each raised once, as it starts, and told in a thread of its own."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

from edgecascade.runtime.watch.anytime import Estimate

__all__ = ["ALARMS", "Alarm", "Alarms"]

ALARMS = ("drift", "offload rate", "agreement", "calibration")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alarm:
    """Something is no longer as it was on the calibration data.

    Attributes:
        name: one of `ALARMS`.
        sentence: what was seen and what was expected.
        value: total variation distance, rate, agreement or calibration gap, with `low`, `high` and `n` observations.
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
    """Raises each alarm once, as it starts, and tells of it in a thread of its own: nobody else waits for a callback.

    Args:
        on_alarm: whom to tell.
        most: alarms remembered, and waiting to be told.
    """

    def __init__(self, on_alarm: Callable[[Alarm], None] | None, most: int = 100) -> None:
        self._on_alarm = on_alarm
        self._lock = Lock()
        self._active: set[str] = set()
        self._raised: Counter[str] = Counter(dict.fromkeys(ALARMS, 0))
        self._latest: deque[Alarm] = deque(maxlen=most)
        self._untold: deque[Alarm] = deque(maxlen=most)
        self._telling = False

    def settle(self, name: str, starts: bool, clears: bool, seen: Callable[[], tuple[Estimate, str]]) -> None:
        """Raise the alarm, with what was seen, if it starts and is not active; end it if it clears."""
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
            self._untold.append(alarm)
            if not self._telling:
                self._start_telling(self._on_alarm)

    def clear(self) -> None:
        """None is active any more."""
        with self._lock:
            self._active.clear()

    def snapshot(self) -> dict[str, Any]:
        """The fields of `Health` about alarms."""
        with self._lock:
            return {
                "active": frozenset(self._active),
                "raised": dict(self._raised),
                "alarms": tuple(self._latest),
            }

    def _start_telling(self, on_alarm: Callable[[Alarm], None]) -> None:
        try:
            Thread(target=self._tell, args=(on_alarm,), name="edgecascade-alarm", daemon=True).start()
            self._telling = True
        except RuntimeError as error:  # no more threads to be had, or the interpreter is going
            _log.warning("nobody can be told of an alarm: %s", error)

    def _tell(self, on_alarm: Callable[[Alarm], None]) -> None:
        while True:
            with self._lock:
                if not self._untold:
                    self._telling = False
                    return
                alarm = self._untold.popleft()
            try:
                on_alarm(alarm)
            except Exception:
                _log.exception("on_alarm failed, at the alarm %r", alarm.name)
