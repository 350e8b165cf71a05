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
        name: What is compared, and what is wanted.
        figure: What was measured: the worst cell, or the mean.
        where: The worst cell, or what the figure is of.
        met: Whether the figure meets the goal, not an end of its interval.
        missed: The number of cells that miss it.
        cells: The number of cells.
    """

    name: str
    figure: Estimate
    where: str
    met: bool
    missed: int
    cells: int

    def __str__(self) -> str:
        """Return two lines of text."""
        figure = f"{self.figure.value:.3g} ({self.figure.low:.3g} to {self.figure.high:.3g})"
        count = f", missed in {self.missed} of {self.cells}" if self.cells > 1 else ""
        return f"{'met   ' if self.met else 'MISSED'}  {self.name}{count}\n        {figure}, {self.where}"


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
    yield _worst(
        "average precision at most .01 below cleanlab's best ranking, in every cell",
        cells,
        lambda cell: cell.found.lead,
        -0.01,
    )
    lead = mean_of([cell.found.lead for cell in cells])
    yield Goal(
        "average precision .02 above cleanlab's best ranking, on average", lead, "mean", lead.value >= 0.02, 0, 1
    )
    yield _worst(
        "a weak expert added costs at most .01 of average precision, in every cell",
        cells,
        lambda cell: cell.found.weak,
        -0.01,
    )


def _masks(cells: Sequence[Cell]) -> Iterator[Goal]:
    for names, kept, goal in (
        ("at least twice cleanlab's, where experts are below .8", [c for c in cells if weak_experts(c)], 2.0),
        ("at least cleanlab's, where one is not", [c for c in cells if not weak_experts(c)], 1.0),
    ):
        if kept:
            yield _worst(f"precision at the recall of cleanlab's mask {names}", kept, lambda c: c.found.times, goal)


def _learning(cells: Sequence[Cell]) -> Iterator[Goal]:
    for what in ("dropped", "corrected"):
        gained = [cell.gained[what] for cell in cells if cell.gained]
        if gained:
            found, lower = mean_of(gained), sum(one.high < 0 for one in gained)
            where = (
                f"mean over cells; beyond its interval below 0 in {lower}, above 0 in {sum(g.low > 0 for g in gained)}"
            )
            missed = sum(one.value < 0 for one in gained)
            yield Goal(
                f"accuracy after learning from labels {what}, minus that after cleanlab's, at least 0 on average",
                found,
                where,
                found.value >= 0,
                missed,
                len(gained),
            )


def _costs(costs: Costs) -> Iterator[Goal]:
    for one in costs.ratios:
        assert one.goal is not None
        name = f"CPU time on {costs.rows:,} x {costs.classes:,}, three experts, {one.name}: at most {one.goal:g} times"
        where = f"medians {one.ours:.3g} and {one.theirs:.3g} s"
        yield Goal(name, Estimate(one.value, one.low, one.high, one.n), where, one.met, 0, 1)
    for kind in ("logits", "probabilities"):
        if kind in costs.memory:
            found = costs.memory[kind]
            yield Goal(
                f"memory beyond the data, {kind}: at most {_MOST_MEMORY:g} MiB",
                found,
                "MiB",
                found.value <= _MOST_MEMORY,
                0,
                1,
            )
    yield Goal(
        f"fitting the weights on 10,000 rows: at most {_MOST_FIT:g} s",
        costs.fit,
        "CPU s",
        costs.fit.value <= _MOST_FIT,
        0,
        1,
    )


def _worst(name: str, cells: Sequence[Cell], of: Callable[[Cell], Estimate], least: float) -> Goal:
    """Return a goal that every cell is to reach, with the worst one."""
    worst = min(cells, key=lambda cell: of(cell).value)
    missed = sum(of(cell).value < least for cell in cells)
    return Goal(name, of(worst), f"worst: {worst.name}", missed == 0, missed, len(cells))
