"""Measure the age of a record, even if the wall clock is wrong or jumps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["Ages", "Clock", "Moment"]


def _since_boot() -> float:
    """Return seconds, including those of sleep where the system counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def _boot() -> str:
    """Return a text that differs for each start of the machine; empty where it is unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Clock:
    """A source of time.

    Attributes:
        monotonic: seconds since some moment, which never jump.
        boot: name of the moment that `monotonic` counts from: readings under the same name compare across processes.
            Empty if they never compare.
    """

    monotonic: Callable[[], float] = _since_boot
    boot: Callable[[], str] = _boot


class Moment(NamedTuple):
    """One moment by both clocks, as stored on disk.

    Attributes:
        age: seconds, by `Ages`.
        monotonic: by the monotonic clock.
        boot: name of the moment that `monotonic` counts from.
    """

    age: float
    monotonic: float
    boot: str


class Ages:
    """A time that advances by a second each second, across processes, and never jumps.

    The monotonic clock measures it, also between two processes under one boot. The time for which the machine was off
    is left out: only the wall clock could measure it, and a device without a battery may have a wrong one, by any
    amount, for as long as it is offline. So nothing is ever dropped early.

    Args:
        clock: the source of time.
        last: the last moment that an earlier process stored, if any.
    """

    def __init__(self, clock: Clock, last: Moment | None) -> None:
        self._clock = clock
        self._monotonic, self._boot = clock.monotonic(), clock.boot()
        self._base = 0.0
        if last is not None:
            passed = self._monotonic - last.monotonic
            same = bool(self._boot) and self._boot == last.boot and passed >= 0
            self._base = last.age + (passed if same else 0.0)

    def now(self) -> float:
        """Return this time, in seconds."""
        return self._base + self._clock.monotonic() - self._monotonic

    def moment(self) -> Moment:
        """Return now, by both clocks."""
        monotonic = self._clock.monotonic()
        return Moment(self._base + monotonic - self._monotonic, monotonic, self._boot)
