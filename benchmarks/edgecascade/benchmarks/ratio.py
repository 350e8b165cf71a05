"""Ratios of two quantities measured side by side, with an interval and a goal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import quantile

__all__ = ["Ratio", "interleaved", "medians", "ratio"]


@dataclass(frozen=True)
class Ratio:
    """The ratio of ours to theirs, from n pairs of measurements.

    Attributes:
        name: What is compared.
        value: The median of the pairs' ratios.
        low: The lower end of the median's 95 % interval between order statistics, exact for every distribution.
        high: The upper end.
        n: The number of pairs.
        goal: The most it may be, or the least if higher is better; None if there is no goal.
        ours: The median of ours, in `unit`.
        theirs: The median of theirs.
        unit: The unit of both.
        better: Which way is better.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    goal: float | None
    ours: float
    theirs: float
    unit: str
    better: Literal["higher", "lower"] = "lower"

    @property
    def met(self) -> bool:
        """Whether the median meets the goal."""
        return self.goal is None or (self.value >= self.goal if self.better == "higher" else self.value <= self.goal)

    def __str__(self) -> str:
        """Return one line of text."""
        bound = "" if self.goal is None else f"goal {'>=' if self.better == 'higher' else '<='} {self.goal:g}: "
        outcome = "for comparison" if self.goal is None else "met" if self.met else "missed"
        return (
            f"{self.name}: {self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n = {self.n}); {bound}{outcome}; "
            f"medians {self.ours:.4g} and {self.theirs:.4g} {self.unit}"
        )


def interleaved(
    functions: Mapping[str, Callable[[int], object]],
    n: int,
    *,
    warm_up: int = 50,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, NDArray[np.float64]]:
    """Return the seconds [n] of each function, called in turn with the number of the round, in a rotating order.

    Args:
        functions: The functions by name.
        n: The number of rounds that count.
        warm_up: The number of rounds before them.
        clock: Returns seconds.
    """
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(n + warm_up):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            function = functions[name]
            started = clock()
            function(turn)
            seconds[name].append(clock() - started)
    return {name: np.array(values[warm_up:]) for name, values in seconds.items()}


def medians(
    build: Callable[[], Mapping[str, Callable[[int], object]]],
    *,
    builds: int,
    rounds: int,
    warm_up: int = 50,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, NDArray[np.float64]]:
    """Return the median seconds [builds] of functions that are built again each time and called in turn.

    The place of a session in memory changes its speed by some percent for as long as it lives: many runs of one pair of
    sessions agree with each other, but not with those of the next pair.

    Args:
        build: Makes the functions by name; all of them live until the end, so that each build has its own memory.
        builds: The number of builds.
        rounds: The number of calls of each function per build that count.
        warm_up: The number of calls before them.
        clock: Returns seconds.
    """
    alive: list[Mapping[str, Callable[[int], object]]] = []
    found: dict[str, list[float]] = {}
    for _ in range(builds):
        alive.append(build())
        for name, seconds in interleaved(alive[-1], rounds, warm_up=warm_up, clock=clock).items():
            found.setdefault(name, []).append(float(np.median(seconds)))
    return {name: np.array(values) for name, values in found.items()}


def ratio(
    name: str,
    ours: NDArray[Any],
    theirs: NDArray[Any],
    *,
    goal: float | None = None,
    better: Literal["higher", "lower"] = "lower",
    unit: str = "us",
    scale: float = 1e6,
) -> Ratio:
    """Return the ratio of paired measurements [n]; both medians are multiplied by `scale` and given in `unit`."""
    found = quantile(np.asarray(ours, np.float64) / np.asarray(theirs, np.float64), 0.5)
    our_median, their_median = (float(np.median(values)) * scale for values in (ours, theirs))
    return Ratio(name, found.value, found.low, found.high, found.n, goal, our_median, their_median, unit, better)
