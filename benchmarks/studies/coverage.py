"""Coverage: how often what calibration and plans say about data is true, on populations whose truth is known.

Labelled inputs are drawn from artificial pairs of every kind that a plan may meet, and from the saved outputs of the
built-in pairs. Intervals, objectives, chances and certificates are compared with the population that was drawn from.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import cache_folder
from edgecascade.benchmarks.report import write_study
from edgecascade.benchmarks.stored import Steps, at_once, stored_steps
from edgecascade.calibration import SCORES
from studies.claims import CHECKS, RATES, Said, mean_of
from studies.populations import ARTIFICIAL, RAW, REAL, population_of
from studies.speed import FitSpeed, compare_fits

__all__ = ["Coverage", "Figure", "Row", "Subject", "coverage_steps", "main", "measure_coverage", "summarize"]

_WORKERS = 2
_BLOCK = 8  # draws that one worker makes in a row
_ROUNDING = 1e-9
_MONTE_CARLO = 0.99  # level of the intervals over draws: there are hundreds of them
_ANY = 100.0  # points
_REDUCED = ("small > large", "comparable", "accurate", "few inputs", "tied scores", "identical", "distorted")

_COVERED = (0.935, 0.99)
_GOALS = {
    "accuracy": _COVERED,
    "temperature": _COVERED,
    "NLL": _COVERED,
    "ECE": _COVERED,
    "offload rate": _COVERED,
    "accuracy at a threshold": _COVERED,
    "loss at a threshold": _COVERED,
    "accuracy at all thresholds at once": _COVERED,
    "accuracy at the chosen threshold": _COVERED,
    "accuracy of candidates": _COVERED,
    "mean value": _COVERED,
    "mean value in groups": _COVERED,
    "advantage in bins": _COVERED,
    "share in the advice": _COVERED,
    "evaluate": _COVERED,
    "at most the rate, confidence .95": (0.95, 1.0),
    "aim met, accuracy": (0.5, 1.0),
    "aim met, loss": (0.5, 1.0),
    "aim met, accuracy, confidence .9": (0.9, 1.0),
    "aim met, loss, confidence .9": (0.9, 1.0),
    "chance printed less aims met": (-0.05, 0.05),
    "refused within reach": (0.0, 0.0),
    "refused a model": (0.0, 0.0),
    "refused a pair": (0.0, 0.0),
    "certificates broken": (0.0, 0.05),
    "points below the best fixed score": (-_ANY, 0.2),
}


@dataclass(frozen=True)
class Figure:
    """A mean over draws, with the goal for it.

    Attributes:
        name: What is measured; a word after a colon says of what.
        value: The mean over draws: mostly of 1 where what was said is true, and 0 where it is not.
        low: The lower end of its 99 % interval over draws.
        high: The upper end.
        n: The number of draws.
        least: The least it should be; None if there is no goal.
        most: The most it should be.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    least: float | None
    most: float | None

    @property
    def missed(self) -> str:
        """`low` or `high` if the whole interval is on that side of the goal, and else empty."""
        if self.least is not None and self.high < self.least - _ROUNDING:
            return "low"
        return "high" if self.most is not None and self.low > self.most + _ROUNDING else ""


@dataclass(frozen=True)
class Row:
    """One population.

    Attributes:
        population: Its name.
        n: Labelled inputs in a draw.
        local: The accuracy of the local model.
        remote: The accuracy of the remote.
        seconds: What it took on this machine.
        figures: What was measured.
    """

    population: str
    n: int
    local: float
    remote: float
    seconds: float
    figures: list[Figure]


@dataclass(frozen=True)
class Coverage:
    """The whole measurement.

    Attributes:
        seed: The seed of every draw.
        draws: Draws from each population.
        seconds: What it took on this machine.
        rows: One row per population.
        overall: Each figure's mean over the populations.
        fit: The temperature fit against scikit-learn's; None if it was left out.
    """

    seed: int
    draws: int
    seconds: float
    rows: list[Row]
    overall: list[Figure]
    fit: FitSpeed | None


class Subject(NamedTuple):
    """What is measured.

    Attributes:
        population_of: Returns a population by its name, with outputs saved in a folder.
        checks: What is asked of a draw from one, with the share of the draws that it is asked in.
    """

    population_of: Callable[[str, Path], Any]
    checks: Mapping[str, tuple[Callable[[Any, np.random.Generator], Said], float]]


CLASSIFIERS = Subject(population_of, CHECKS)


def _block(subject: Subject, folder: Path, name: str, check: str, seed: int, draws: range) -> list[dict[str, float]]:
    """Return what is said in each of some draws; of what is said more than once in a draw, the mean."""
    population, found = subject.population_of(name, folder), []
    for draw in draws:
        said: dict[str, list[float]] = {}
        for what, value in subject.checks[check][0](
            population, np.random.default_rng([seed, draw, *f"{name} {check}".encode()])
        ):
            said.setdefault(what, []).append(value)
        found.append({what: mean_of(values) for what, values in said.items()})
    return found


def _measure(subject: Subject, name: str, folder: Path, seed: int, draws: int, workers: Executor | None) -> Row:
    started = time.monotonic()
    blocks = [
        (subject, folder, name, check, seed, range(first, min(first + _BLOCK, count)))
        for check, (_, share) in subject.checks.items()
        for count in [max(1, round(draws * share))]
        for first in range(0, count, _BLOCK)
    ]
    done = workers.map(_block, *zip(*blocks, strict=True)) if workers else starmap(_block, blocks)
    columns: dict[str, list[float]] = {}
    for said in (draw for block in done for draw in block):
        for what, value in said.items():
            columns.setdefault(what, []).append(value)
    columns |= _shortfalls(columns)
    population = subject.population_of(name, folder)
    return Row(
        population=name,
        n=population.n,
        local=population.local,
        remote=population.remote,
        seconds=time.monotonic() - started,
        figures=[_figure(what, np.array(values)) for what, values in columns.items()],
    )


def _shortfalls(columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """Take the accuracies at the rates out of the columns; return how far the policy is below the best fixed score."""
    found = {}
    for rate in RATES:
        at = f" at {rate:.0%}"
        fixed = [columns.pop(f"{score}{at}", []) for score in (*SCORES, RAW)]
        policy = columns.pop(f"policy{at}", [])
        if policy:
            found[f"points below the best fixed score:{at}"] = list(np.array(max(fixed, key=mean_of)) - policy)
    return found


def _figure(name: str, values: NDArray[np.float64]) -> Figure:
    from scipy.stats import t

    n, value = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / np.sqrt(n) if n > 1 else 0.0
    half = error * float(t.isf((1 - _MONTE_CARLO) / 2, n - 1)) if n > 1 else _ANY
    found = Figure(name, value, value - half, value + half, n, *_GOALS.get(name.partition(":")[0], (None, None)))
    if not _is_share(found):
        return found
    alike = float(values.var())  # that of hits and misses would be value * (1 - value)
    low, high = _share_interval(value, n * value * (1 - value) / alike if alike else n)
    return replace(found, low=low, high=high)


def _is_share(figure: Figure) -> bool:
    return figure.least is not None and figure.least >= 0


def _share_interval(value: float, n: float) -> tuple[float, float]:
    """Return Clopper and Pearson's interval; n may be a fraction, for shares that are means themselves."""
    from scipy.stats import beta

    tail, right, wrong = (1 - _MONTE_CARLO) / 2, value * n, (1 - value) * n
    low = beta.ppf(tail, right, wrong + 1) if right > 0 else 0.0
    high = beta.isf(tail, right + 1, wrong) if wrong > 0 else 1.0
    return float(low), float(high)


def measure_coverage(
    names: Sequence[str],
    folder: Path,
    steps: Steps = at_once,
    *,
    draws: int,
    seed: int = 0,
    workers: int = 1,
    fits: bool = False,
    subject: Subject = CLASSIFIERS,
) -> Coverage:
    """Measure everything in `coverage_steps` steps.

    Args:
        names: Populations.
        folder: The cache with the outputs of the built-in pairs.
        steps: Stores what is measured.
        draws: Draws from each population.
        seed: The seed of every draw.
        workers: Processes; with 1, everything is done in this one.
        fits: Whether to time the temperature fit as well.
        subject: Populations and checks.
    """
    fit = steps(FitSpeed, "temperature fit", compare_fits) if fits else None
    with _pool(workers) as pool:
        rows = [steps(Row, name, partial(_measure, subject, name, folder, seed, draws, pool)) for name in names]
    return Coverage(seed, draws, sum(row.seconds for row in rows), rows, list(_overall(rows)), fit)


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    if workers == 1:
        yield None
        return
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # for the workers; this process has read them
        os.environ.setdefault(variable, "1")
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield pool


def _overall(rows: Sequence[Row]) -> Iterator[Figure]:
    """Yield the mean of each figure over the populations that have it: first those with a goal."""
    names = {figure.name: figure for row in rows for figure in row.figures}
    order = list(_GOALS)
    for name in sorted(names, key=lambda name: _place(order, name)):
        each = [figure for row in rows for figure in row.figures if figure.name == name]
        value, draws = mean_of(figure.value for figure in each), sum(figure.n for figure in each)
        if _is_share(names[name]):
            error = float(np.sqrt(sum(one.value * (1 - one.value) / one.n for one in each))) / len(each)
            low, high = _share_interval(value, value * (1 - value) / error**2 if error else draws)
        else:
            half = float(np.sqrt(sum((one.high - one.low) ** 2 for one in each))) / (2 * len(each))
            low, high = value - half, value + half
        yield Figure(name, value, low, high, draws, each[0].least, each[0].most)


def _place(order: Sequence[str], name: str) -> tuple[int, str]:
    kind = name.partition(":")[0]
    return order.index(kind) if kind in order else len(order), name


def coverage_steps(names: Sequence[str], *, fits: bool = False) -> int:
    """Return the number of steps of `measure_coverage`."""
    return len(names) + fits


def summarize(found: Coverage) -> str:
    """Return tables as plain text."""
    return "\n".join(line.rstrip() for line in _lines(found))


def _lines(found: Coverage) -> Iterator[str]:
    yield (
        f"coverage: what was said is true in so many % of draws; {len(found.rows)} populations, {found.draws} draws "
        f"each, seed {found.seed}, {found.seconds:.0f} s"
    )
    yield f"{'':<42}{'goal':<16}{'mean (99 % interval)':<26}{'by population':<20}missed in"
    for figure in found.overall:
        each = [one for row in found.rows for one in row.figures if one.name == figure.name]
        ends = f"{_number(min(one.value for one in each), figure)} to {_number(max(one.value for one in each), figure)}"
        missed = f"{sum(bool(one.missed) for one in each)} of {len(each)}" if figure.least is not None else ""
        yield f"{figure.name:<42}{_goal(figure):<16}{_with_interval(figure):<26}{ends:<20}{missed}"
    yield ""
    yield "missed beyond chance (99 % interval)"
    for row in found.rows:
        for figure in row.figures:
            if figure.missed:
                yield f"{row.population:<26}{figure.name:<42}{_with_interval(figure):<26}{figure.n} draws"
    yield ""
    yield f"{'population':<26}{'n':>6}{'local':>9}{'remote':>9}{'s':>7}"
    for row in found.rows:
        yield f"{row.population:<26}{row.n:>6}{100 * row.local:>9.2f}{100 * row.remote:>9.2f}{row.seconds:>7.0f}"
    if found.fit:
        yield ""
        yield str(found.fit)


def _goal(figure: Figure) -> str:
    if figure.least is None or figure.most is None:
        return ""
    if figure.least == -_ANY:
        return f"at most {figure.most:g}"
    return f"{100 * figure.least:g} to {100 * figure.most:g}"


def _with_interval(figure: Figure) -> str:
    value, low, high = (_number(one, figure) for one in (figure.value, figure.low, figure.high))
    return f"{value} ({low} to {high})"


def _number(value: float, figure: Figure) -> str:
    return f"{value:.2f}" if figure.name.startswith("points") else f"{100 * value:.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what an interrupted run did not, print, and write the result; return 1 if a goal is missed overall."""
    parser = ArgumentParser(prog="python -m studies.coverage", description=__doc__)
    parser.add_argument("--reduced", action="store_true", help="Draw from a few artificial pairs only, in 2 minutes.")
    parser.add_argument("--draws", type=int, help="Draws from each population (default: 40; reduced: 12).")
    parser.add_argument("--seed", type=int, default=0, help="The seed of every draw (default: 0).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    names, folder = _REDUCED if asked.reduced else (*ARTIFICIAL, *REAL), cache_folder()
    draws = asked.draws or (12 if asked.reduced else 40)
    about = {"names": names, "draws": draws, "seed": asked.seed}
    if not asked.reduced:
        about["outputs"] = [population_of(name, folder).outputs.digest for name in REAL]
    command = f"python -m studies.coverage {'--reduced ' * asked.reduced}--draws {draws} --seed {asked.seed}"
    with stored_steps(asked.out / "steps", about, coverage_steps(names, fits=not asked.reduced)) as steps:
        found = measure_coverage(
            names, folder, steps, draws=draws, seed=asked.seed, workers=_WORKERS, fits=not asked.reduced
        )
        write_study(asked.out, "coverage", found, command=command, summary=summarize(found))
    print(summarize(found))
    return int(any(figure.missed for figure in found.overall))


if __name__ == "__main__":
    raise SystemExit(main())
