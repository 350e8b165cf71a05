"""What edgecascade's cleaning is to reach beside cleanlab, and whether it does, by the cells and costs of one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgecascade.benchmarks.cleaning.cells import Cell
from edgecascade.benchmarks.cleaning.costs import Costs
from edgecascade.types.estimate import Estimate

__all__ = ["Goal", "goals_of", "mean_of", "one_ranking", "weak_experts"]

_ACCURATE = 0.8
_MOST_MEMORY, _MOST_FIT = 20.0, 0.3


@dataclass(frozen=True)
class Goal:
    """One goal.

    Attributes:
        name: What is compared.
        wanted: What it is to be.
        figure: What was measured: the worst cell, the mean over cells, or a median.
        of: Which of these.
        met: Whether the figure meets the goal, not an end of its interval.
        missed: The number of cells that miss it.
        cells: The number of cells.
    """

    name: str
    wanted: str
    figure: Estimate
    of: str
    met: bool
    missed: int = 0
    cells: int = 1

    @property
    def outcome(self) -> str:
        """Whether it is met, and in how many cells it is not."""
        return f"{'met' if self.met else 'missed'}{f', {self.missed} of {self.cells} below' if self.cells > 1 else ''}"


def goals_of(cells: Sequence[Cell], costs: Costs | None) -> tuple[Goal, ...]:
    """Return the goals of a run."""
    return (*_order(cells), *_masks(cells), *_learning(cells), *(_costs(costs) if costs else ()))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of independent estimates; their arms add in quadrature."""
    count = len(estimates)
    value = math.fsum(one.value for one in estimates) / count
    low = math.sqrt(math.fsum((one.value - one.low) ** 2 for one in estimates)) / count
    high = math.sqrt(math.fsum((one.high - one.value) ** 2 for one in estimates)) / count
    return Estimate(value, value - low, value + high, sum(one.n for one in estimates))


def one_ranking(cells: Sequence[Cell]) -> tuple[str, float]:
    """Return the one ranking of cleanlab of several experts that is best on average, and its mean average precision."""
    common = set.intersection(*(set(cell.found.rankings) for cell in cells))
    means = {name: math.fsum(cell.found.rankings[name] for cell in cells) / len(cells) for name in sorted(common)}
    best = max(means, key=means.__getitem__)
    return best, means[best]


def weak_experts(cell: Cell) -> bool:
    """Return whether all experts of a cell are below .8 accuracy on the right labels."""
    return max(cell.accuracy.values()) < _ACCURATE


def _order(cells: Sequence[Cell]) -> Iterator[Goal]:
    yield _worst("average precision, worst cell: ours - cleanlab's best", cells, lambda cell: cell.found.lead, -0.01)
    lead = mean_of([cell.found.lead for cell in cells])
    yield Goal(
        "average precision, mean: ours - cleanlab's best", ">= 0.02", lead, "mean over cells", lead.value >= 0.02
    )
    yield _worst("average precision, weak expert added - not", cells, lambda cell: cell.found.weak, -0.01)


def _masks(cells: Sequence[Cell]) -> Iterator[Goal]:
    for what, kept, goal in (
        ("experts below .8", [cell for cell in cells if weak_experts(cell)], 2.0),
        ("better experts", [cell for cell in cells if not weak_experts(cell)], 1.0),
    ):
        if kept:
            yield _worst(f"precision at the mask's recall, {what}: times", kept, lambda cell: cell.found.times, goal)


def _learning(cells: Sequence[Cell]) -> Iterator[Goal]:
    for what in ("dropped", "corrected"):
        gained = [cell.gained[what] for cell in cells if cell.gained]
        if gained:
            found, below = mean_of(gained), sum(one.value < 0 for one in gained)
            surely = sum(one.high < 0 for one in gained), sum(one.low > 0 for one in gained)
            sure = f"mean; whole interval below 0 in {surely[0]}, above in {surely[1]}"
            name = f"accuracy, suspects {what}, ours - cleanlab's"
            yield Goal(name, ">= 0", found, sure, found.value >= 0, below, len(gained))


def _costs(costs: Costs) -> Iterator[Goal]:
    for one in costs.ratios:
        figure, medians = (
            Estimate(one.value, one.low, one.high, one.n),
            f"medians {one.ours:.3g} and {one.theirs:.3g} s",
        )
        yield Goal(f"CPU time, {one.name}", f"<= {one.goal:g}", figure, medians, one.met)
    for kind in ("logits", "probabilities"):
        if kind in costs.memory:
            found = costs.memory[kind]
            yield Goal(f"memory, {kind}, MiB", f"<= {_MOST_MEMORY:g}", found, "median", found.value <= _MOST_MEMORY)
    fast = costs.fit.value <= _MOST_FIT
    yield Goal("CPU time, fitting weights, s", f"<= {_MOST_FIT:g}", costs.fit, "median", fast)


def _worst(name: str, cells: Sequence[Cell], of: Callable[[Cell], Estimate], least: float) -> Goal:
    """Return a goal that every cell is to reach, with the worst one."""
    worst = min(cells, key=lambda cell: of(cell).value)
    missed = sum(of(cell).value < least for cell in cells)
    return Goal(name, f">= {least:g}", of(worst), f"worst: {worst.name}", missed == 0, missed, len(cells))
