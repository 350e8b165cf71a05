"""The whole comparison: every data set, kind and share of wrong labels, and the costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache as lazily
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from edgecascade.benchmarks.cache import sha256_of
from edgecascade.benchmarks.cleaning.cells import Cell, Prepared, measure_cell
from edgecascade.benchmarks.cleaning.costs import Costs, measure_costs
from edgecascade.benchmarks.cleaning.data import DATA_SETS
from edgecascade.benchmarks.cleaning.goals import Goal, goals_of
from edgecascade.benchmarks.cleaning.noise import KINDS
from edgecascade.benchmarks.stored import Steps, at_once

__all__ = ["Cleaning", "Extent", "about", "measure_cleaning"]


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

    @property
    def steps(self) -> int:
        """The number of steps: one for each cell, and one for the costs."""
        return len(self.data) * len(KINDS) * len(self.shares) + bool(self.rows)


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


def measure_cleaning(extent: Extent, cache: Path, steps: Steps = at_once) -> Cleaning:
    """Measure everything; the experts' outputs are saved in the cache, so that only the first run fits them.

    Args:
        extent: How much.
        cache: The folder of downloads and finished steps.
        steps: Takes a step for each cell, and one for the costs.

    Raises:
        BenchmarkError: A package or a download is missing.
    """
    cells: list[Cell] = []
    for name in extent.data:
        load = lazily(partial(Prepared.of, DATA_SETS[name], cache))
        for kind, share in product(KINDS, extent.shares):
            crowd = kind == "symmetric" and share == extent.crowd
            measure = partial(_cell, load, kind, share, extent.runs, crowd=crowd)
            cells.append(steps(Cell, f"{name} {kind} {share:g}", measure))
    costs = steps(Costs, "costs", partial(_costs, extent, cache)) if extent.rows else None
    return Cleaning(tuple(cells), costs, goals_of(cells, costs))


def about(extent: Extent) -> dict[str, Any]:
    """Return what the steps depend on: the extent, cleanlab, and the source of the comparison and of the cleaning."""
    from edgecascade.benchmarks import cleaning as comparison
    from edgecascade.calibration import cleaning

    folders = [Path(package.__file__ or "").parent for package in (comparison, cleaning)]
    sources = {str(path.name): sha256_of(path) for folder in folders for path in sorted(folder.glob("*.py"))}
    return {**asdict(extent), "cleanlab": version("cleanlab"), "sources": sources}


def _cell(load: Callable[[], Prepared], kind: str, share: float, runs: int, *, crowd: bool) -> Cell:
    prepared = load()
    with threadpool_limits(1):  # reaches only libraries that are loaded; threads that wait would use CPU time
        return measure_cell(prepared, kind, share, runs, crowd=crowd)


def _costs(extent: Extent, cache: Path) -> Costs:
    return measure_costs(
        cache / "cleaning-costs",
        rows=extent.rows,
        classes=extent.classes,
        rounds=extent.rounds,
        measured=extent.large,
    )
