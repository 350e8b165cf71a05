"""A ratio of two things measured side by side, with its spread and its goal: how this project speaks of speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import quantile

__all__ = ["Ratio", "interleaved", "medians", "ratio"]


@dataclass(frozen=True)
class Ratio:
    """Ours to theirs, from n pairs of measurements.

    Attributes:
        name: what is compared.
        value: the median of the pairs' ratios.
        low: lower end of the median's 95 % interval, between order statistics: exact, whatever the distribution.
        high: upper end.
        n: pairs.
        goal: what it may be at most, or at least if `at_least`; None if there is no goal.
        ours: the median of ours, in `unit`.
        theirs: the median of theirs.
        unit: of both.
        at_least: whether more is better.
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
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the median meets the goal."""
        return self.goal is None or (self.value >= self.goal if self.at_least else self.value <= self.goal)

    def __str__(self) -> str:
        """One line."""
        bound = "" if self.goal is None else f"goal {'>=' if self.at_least else '<='} {self.goal:g}: "
        verdict = "for comparison" if self.goal is None else "met" if self.met else "missed"
        return (
            f"{self.name}: {self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n = {self.n}); {bound}{verdict}; "
            f"medians {self.ours:.4g} and {self.theirs:.4g} {self.unit}"
        )


def interleaved(
    functions: Mapping[str, Callable[[int], object]],
    n: int,
    *,
    warm_up: int = 50,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, NDArray[np.float64]]:
    """Seconds [n] of each function, called in turn with the number of the round; the order turns with every round.

    Args:
        functions: by name.
        n: rounds that count.
        warm_up: rounds before them.
        clock: seconds.
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
    build: Callable[[], Mapping[str, Callable[[int], object]]], *, builds: int, rounds: int
) -> dict[str, NDArray[np.float64]]:
    """Median seconds [builds] of functions that are made anew for each, and called in turn.

    Where a session's memory happens to lie changes its speed by some percent, for as long as it lives: many runs of one
    pair of sessions agree with each other, and not with the next pair.

    Args:
        build: makes the functions, by name; what they hold is kept until the end, so that the next lies elsewhere.
        builds: how often.
        rounds: calls of each function per build that count.
    """
    kept: list[Mapping[str, Callable[[int], object]]] = []
    found: dict[str, list[float]] = {}
    for _ in range(builds):
        kept.append(build())
        for name, seconds in interleaved(kept[-1], rounds).items():
            found.setdefault(name, []).append(float(np.median(seconds)))
    return {name: np.array(values) for name, values in found.items()}


def ratio(
    name: str,
    ours: NDArray[Any],
    theirs: NDArray[Any],
    *,
    goal: float | None = None,
    at_least: bool = False,
    unit: str = "us",
    scale: float = 1e6,
) -> Ratio:
    """The ratio of paired measurements [n]; both are shown multiplied by `scale`, in `unit`."""
    found = quantile(np.asarray(ours, np.float64) / np.asarray(theirs, np.float64), 0.5)
    our_median, their_median = (float(np.median(values)) * scale for values in (ours, theirs))
    return Ratio(
        name, found.value, found.low, found.high, found.n, goal, our_median, their_median, unit, at_least=at_least
    )
