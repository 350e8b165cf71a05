"""The whole comparison: every data set, kind and share of wrong labels, and the costs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from threadpoolctl import threadpool_limits

from edgecascade.benchmarks.cleaning.cells import Cell, Prepared, measure_cell
from edgecascade.benchmarks.cleaning.costs import Costs, measure_costs, measurements
from edgecascade.benchmarks.cleaning.data import DATA_SETS
from edgecascade.benchmarks.cleaning.goals import Goal, goals_of
from edgecascade.benchmarks.cleaning.noise import KINDS
from edgecascade.benchmarks.progress import stepping

__all__ = ["Cleaning", "Extent", "measure_cleaning"]


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        data: The names of the data sets.
        shares: The shares of wrong labels.
        runs: The number of runs of each cell, each with other wrong labels.
        crowd: The share at which CROWDLAB is asked too, with symmetric wrong labels; None for not at all.
        rows: The number of rows of the costs; 0 for no costs.
        classes: The number of classes of the costs.
        rounds: The number of processes of each kind.
        large: Whether to measure the costs of 1.3 million rows too.
    """

    data: tuple[str, ...] = ("flagship", "flagship-small", "fashion-mnist", "languages", "languages-small")
    shares: tuple[float, ...] = (0.005, 0.02, 0.05, 0.1)
    runs: int = 3
    crowd: float | None = 0.05
    rows: int = 50_000
    classes: int = 1000
    rounds: int = 5
    large: bool = False


@dataclass(frozen=True)
class Cleaning:
    """The result.

    Attributes:
        cells: One for each data set, kind and share of wrong labels.
        costs: CPU time and memory; None if they were not measured.
        goals: What was wanted, and whether it was reached.
    """

    cells: tuple[Cell, ...]
    costs: Costs | None
    goals: tuple[Goal, ...]


def measure_cleaning(extent: Extent, cache: Path) -> Cleaning:
    """Measure everything; the experts' outputs are saved in the cache, so that only the first run fits them.

    Args:
        extent: How much.
        cache: The folder of downloads and finished steps.

    Raises:
        BenchmarkError: A package or a download is missing.
    """
    costs = _costs(extent, cache) if extent.rows else None
    cells: list[Cell] = []
    with stepping(len(extent.data) * len(KINDS) * len(extent.shares)) as bar:
        for name in extent.data:
            bar.set_description(name)
            prepared = Prepared.of(DATA_SETS[name], cache)
            with threadpool_limits(1):  # reaches only libraries that are loaded; threads that wait would use CPU time
                for kind, share in product(KINDS, extent.shares):
                    crowd = kind == "symmetric" and share == extent.crowd
                    cells.append(measure_cell(prepared, kind, share, extent.runs, crowd=crowd))
                    bar.update(1)
    return Cleaning(tuple(cells), costs, goals_of(cells, costs))


def _costs(extent: Extent, cache: Path) -> Costs:
    with stepping(measurements(extent.rounds) + extent.large) as bar:
        bar.set_description("costs")
        return measure_costs(
            cache / "cleaning-costs",
            rows=extent.rows,
            classes=extent.classes,
            rounds=extent.rounds,
            measured=extent.large,
            progress=bar.update,
        )
