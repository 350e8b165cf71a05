"""Store the levels of a budget, so that they survive a restart or a crash."""

from __future__ import annotations

import json
import logging
import math
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecascade.runtime.metrics.event_log import EventLog
from edgecascade.runtime.private_file import put, replace_file
from edgecascade.types.errors import ArgumentError

__all__ = ["BudgetFile"]

_LOG = logging.getLogger("edgecascade")
_FORMAT = 1
_START = b'{"format":'  # of every budget file
_PART = 1 / 64  # share of an amount that is written off at once
_LARGEST = 1 << 16  # bytes
_PAUSE = 1.0  # seconds after a failed write
_JUMP = 60.0  # seconds by which the wall clock may differ from the monotonic one
_MOST_SEEN = 16  # stretches of time


class BudgetFile:
    """Levels by name. The file holds each level minus a part, which may then be spent without another write.

    What comes in while no process runs is measured by the wall clock, which may be wrong by any amount. So the file has
    the stretches of time in which a process ran: after a restart, the time since the latest moment among them that is
    not in the future counts. Restarts in 1970 bring nothing, and a clock that was ahead stops nothing when it is right.

    Args:
        path: the file; a symbolic link stays one. Only its owner can read it.
        seconds: the time in which each bucket fills, by name.
        clock: returns seconds that never go back.
        wall_clock: returns seconds since 1970, which may jump.

    Raises:
        ArgumentError: its folder does not exist, or it is or holds something else than a budget.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        seconds: Mapping[str, float],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._path = Path(os.path.realpath(path))
        if not self._path.parent.is_dir():
            raise ArgumentError(f"path: expected a file in a folder that exists, got {os.fspath(path)!r}")
        if self._path.is_dir():
            raise ArgumentError(f"path: expected a new file or a budget file, got the folder {os.fspath(path)!r}")
        if _is_special(self._path):
            raise ArgumentError(
                f"path: expected a new file or a budget file, got the device or pipe {os.fspath(path)!r}"
            )
        if not _may_hold_a_budget(self._path):
            raise ArgumentError(f"path: expected a new file or a budget file, got {os.fspath(path)!r} of other content")
        self._seconds, self._clock, self._wall_clock = seconds, clock, wall_clock
        self._seen: list[list[float]] = []  # stretches of the wall clock, each from its first to its last moment
        self._at = self._checked = -math.inf  # the wall clock and the monotonic clock at the last moment
        self._left: list[float] = []  # tokens of each bucket that are written off and not spent
        self._not_before = -math.inf
        self._log = EventLog()

    def read(self) -> dict[str, float]:
        """Return the present levels, in [0, 1]: an empty dict if the file is missing, all 0 if it is damaged."""
        try:
            with self._path.open("rb") as file:
                entry = json.loads(file.read(_LARGEST))
            seen, levels = _checked(entry)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            self._log.event("budget file unreadable", error=error)
            return dict.fromkeys(self._seconds, 0.0)
        now = self._wall_clock()
        passed = min((now - min(last, now) for first, last in seen if first <= now), default=0.0)
        self._seen = seen
        return {
            name: min(1.0, levels[name] + passed / seconds) for name, seconds in self._seconds.items() if name in levels
        }

    def spend(self, costs: Sequence[float], tokens: Callable[[], Sequence[tuple[float, float]]]) -> bool:
        """Return whether the written-off part covers the costs, after writing off more if needed.

        Args:
            costs: cost in each bucket.
            tokens: returns the tokens that each bucket holds after the payment, and its amount.
        """
        if all(cost <= left for cost, left in zip(costs, self._left, strict=True)):
            self._left = [left - cost for cost, left in zip(costs, self._left, strict=True)]
            return True
        return self.reserve(tokens())

    def reserve(self, tokens: Sequence[tuple[float, float]], *, durable: bool = False) -> bool:
        """Write off a part; return whether that worked. After a failure nothing is written for a second."""
        parts = [min(held, _PART * amount) for held, amount in tokens]
        rest = [(held - part, amount) for (held, amount), part in zip(tokens, parts, strict=True)]
        written = self._write(rest, durable)
        if written or not self._left:
            self._left = parts if written else [0.0] * len(parts)
        return written

    def settle(self, tokens: Sequence[tuple[float, float]]) -> None:
        """Write the exact levels; nothing may be spent afterwards."""
        self._not_before = -math.inf
        self._write(tokens, True)

    def _write(self, tokens: Sequence[tuple[float, float]], durable: bool) -> bool:
        if self._clock() < self._not_before:
            return False
        at, seen = self._seen_now()
        levels = {name: min(1.0, held / amount) for name, (held, amount) in zip(self._seconds, tokens, strict=True)}
        entry = json.dumps({"format": _FORMAT, "at": at, "seen": seen, "levels": levels}).encode()
        try:
            try:
                replace_file(self._path, lambda file: file.write(entry), durable=durable)
            except OSError:
                self._overwrite(entry, durable)
        except OSError as error:
            self._not_before = self._clock() + _PAUSE
            self._log.event("budget file not written", error=error)
            if not self._left:  # at the start, where a person may read it
                why = error.strerror or type(error).__name__
                _LOG.warning("%s cannot be written, and nothing is forwarded until it can: %s", self._path, why)
            return False
        return True

    def _seen_now(self) -> tuple[float, list[list[float]]]:
        """Return the present time, and the stretches with it; a clock that jumps begins another stretch."""
        at, now = self._wall_clock(), self._clock()
        if self._seen and abs(at - self._at - (now - self._checked)) < _JUMP:
            self._seen[-1] = [min(self._seen[-1][0], at), max(self._seen[-1][1], at)]
        else:
            self._seen = [*self._seen[-_MOST_SEEN + 1 :], [at, at]]
        self._at, self._checked = at, now
        return at, self._seen

    def _overwrite(self, entry: bytes, durable: bool) -> None:
        """Write into the place of the old entry, which needs no space on a full disk."""
        with self._path.open("r+b") as file:
            padded = entry.ljust(os.fstat(file.fileno()).st_size)
            put(file, lambda file: file.write(padded), durable=durable)


def _is_special(path: Path) -> bool:
    """Return whether it is a device, pipe or socket: reading it may never end, and writing would replace it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode)


def _may_hold_a_budget(path: Path) -> bool:
    """Return whether a file is missing, unreadable, empty, zeroed by a power failure, or begins like a budget file."""
    try:
        with path.open("rb") as file:
            start = file.read(_LARGEST).strip(b"\0")[: len(_START)]
    except OSError:
        return True
    return _START.startswith(start)


def _checked(entry: Any) -> tuple[list[list[float]], dict[str, float]]:
    """Return the stretches of time of an entry, and its levels."""
    at, levels = float(entry["at"]), {str(name): float(level) for name, level in entry["levels"].items()}
    seen = [[float(first), float(last)] for first, last in entry.get("seen", [[at, at]])]  # older files have none
    if entry["format"] != _FORMAT or not all(0 <= level <= 1 for level in levels.values()):
        raise ValueError("the entry is not valid")
    if not seen or not all(math.isfinite(first) and first <= last < math.inf for first, last in seen):
        raise ValueError("the entry has no valid time")
    return seen, levels
