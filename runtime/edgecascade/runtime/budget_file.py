"""Store the levels of a budget, so that they survive a restart or a crash."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecascade.runtime.metrics.event_log import EventLog
from edgecascade.types.errors import ArgumentError

__all__ = ["BudgetFile"]

_FORMAT = 1
_PART = 1 / 64  # share of an amount that is written off at once
_LARGEST = 1 << 16  # bytes
_PAUSE = 1.0  # seconds after a failed write


class BudgetFile:
    """Levels by name. The file holds each level minus a part, which may then be spent without another write.

    Args:
        path: the file.
        seconds: the time in which each bucket fills, by name.
        clock: returns seconds that never go back.
        wall_clock: returns seconds since 1970. The file's own time never goes back.

    Raises:
        ArgumentError: its folder does not exist.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        seconds: Mapping[str, float],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._path = Path(path)
        if not self._path.parent.is_dir():
            raise ArgumentError(f"path: expected a file in a folder that exists, got {os.fspath(path)!r}")
        self._seconds, self._clock, self._wall_clock = seconds, clock, wall_clock
        self._latest = -math.inf  # the time of the last entry
        self._left: list[float] = []  # tokens of each bucket that are written off and not spent
        self._not_before = -math.inf
        self._log = EventLog()

    def read(self) -> dict[str, float]:
        """Return the present levels, in [0, 1]: an empty dict if the file is missing, all 0 if it is damaged."""
        try:
            with self._path.open("rb") as file:
                entry = json.loads(file.read(_LARGEST))
            at, levels = _checked(entry)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            self._log.event("budget file unreadable", error=error)
            return dict.fromkeys(self._seconds, 0.0)
        self._latest = at
        passed = max(0.0, self._wall_clock() - at)
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
        at = max(self._wall_clock(), self._latest)
        levels = {name: min(1.0, held / amount) for name, (held, amount) in zip(self._seconds, tokens, strict=True)}
        new = self._path.with_name(self._path.name + ".new")
        try:
            with new.open("w") as file:
                json.dump({"format": _FORMAT, "at": at, "levels": levels}, file)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            self._not_before = self._clock() + _PAUSE
            self._log.event("budget file not written", error=error)
            return False
        self._latest = at
        return True


def _checked(entry: Any) -> tuple[float, dict[str, float]]:
    """Return the time of an entry, and its levels."""
    at, levels = float(entry["at"]), {str(name): float(level) for name, level in entry["levels"].items()}
    if entry["format"] != _FORMAT or not math.isfinite(at) or not all(0 <= level <= 1 for level in levels.values()):
        raise ValueError("the entry is not valid")
    return at, levels
