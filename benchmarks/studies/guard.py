"""The performance guard: every ratio of calibration, export and the runtime that has a goal, with that goal."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgecascade.benchmarks.cache import cache_folder, sha256_of
from edgecascade.benchmarks.latency.agreement import compare_with_loop
from edgecascade.benchmarks.latency.data import read_inputs_as_given
from edgecascade.benchmarks.latency.plan import DIRECT, Request, Scenario, Subject
from edgecascade.benchmarks.pairs.flagship import Protocol, prepare_flagship
from edgecascade.benchmarks.pairs.prepared import Prepared
from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.benchmarks.report import write_study
from edgecascade.benchmarks.stored import stored_steps
from studies.coverage import Coverage, Figure, Row, coverage_steps, measure_coverage, summarize
from studies.populations import ARTIFICIAL, REAL, population_of
from studies.runtime_costs import (
    LATE_GOAL,
    MEMORY_GOAL,
    SIZE_GOAL,
    STEPS,
    RuntimeCosts,
    measure_runtime_costs,
)

__all__ = ["Check", "Guard", "calibration_checks", "main", "ratio_check", "runtime_checks"]

_COMPARABLE = "CIFAR-10, comparable"
_GAIN = "points gained over the better model: at 35%"


@dataclass(frozen=True)
class Check:
    """One goal.

    Attributes:
        part: The part of the project it belongs to.
        name: What is compared.
        value: The figure that was measured.
        low: The lower end of its 95 % interval, or of 95 % of the splits; None if it was measured once, or is exact.
        high: The upper end.
        n: Pairs, draws, splits or inputs behind it.
        goal: The most it may be, or the least if higher is better.
        unit: The unit of value and goal; empty for ratios and shares.
        better: Which way is better.
    """

    part: str
    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    goal: float
    unit: str = ""
    better: Literal["higher", "lower"] = "lower"

    @property
    def met(self) -> bool:
        """Whether the figure itself, not an end of its interval, meets the goal."""
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal

    def __str__(self) -> str:
        """Return two lines of text: the name; goal, figure and spread."""
        spread = "measured once" if self.low is None or self.high is None else f"{self.low:.4g} to {self.high:.4g}"
        unit = f" {self.unit}" if self.unit else ""
        sign = ">=" if self.better == "higher" else "<="
        return (
            f"{'met   ' if self.met else 'MISSED'}  {self.part}: {self.name}\n"
            f"        goal {sign} {self.goal:g}{unit}, measured {self.value:.4g}{unit} ({spread}, n = {self.n})"
        )


@dataclass(frozen=True)
class Guard:
    """All goals, in the order of the parts."""

    checks: tuple[Check, ...]

    @property
    def missed(self) -> int:
        """The number of goals that were not met."""
        return sum(not check.met for check in self.checks)

    def __str__(self) -> str:
        """Return the text that is printed."""
        return "\n".join([*map(str, self.checks), f"{len(self.checks)} goals, {self.missed} missed"])


def calibration_checks(found: Coverage) -> Iterator[Check]:
    """Yield the goals of calibration: fit, plan and certificate."""
    if fit := found.fit:
        yield ratio_check(
            "calibration",
            ratio(
                f"temperature fit on {fit.n} x {fit.classes} against scikit-learn's",
                np.array(fit.seconds),
                np.array(fit.theirs),
                goal=0.1,
            ),
        )
        yield Check("calibration", "memory of that fit, by the logits' own", fit.memory, None, None, 1, 0.05)
    for row in found.rows:
        if row.population in REAL:
            yield from _policy(row)
    for figure in found.overall:
        yield from _range(figure)


def runtime_checks(found: RuntimeCosts) -> Iterator[Check]:
    """Yield the goals of export and runtime: the head, and what a device pays for `Cascade`."""
    yield ratio_check("export", found.head.bound)
    yield from (ratio_check("runtime", one) for one in found.ratios if one.goal is not None)
    for one in found.overshoots:
        yield Check(
            "runtime", f"beyond a bare timer, {one.name}", 1e3 * one.beyond, None, None, one.late.n, LATE_GOAL, "ms"
        )
    beyond = found.memory.value - found.bare_memory.value
    yield Check("runtime", "memory beyond a bare session", beyond, None, None, found.memory.n, MEMORY_GOAL, "MiB")
    late = 1e3 * (found.lateness.value - found.overslept.value)
    name = "beyond a bare timer, silent remote"
    yield Check("runtime", name, late, None, None, found.lateness.n, LATE_GOAL, "ms")
    yield Check("runtime", "files that a device runs", found.on_device, None, None, 1, SIZE_GOAL, "MiB")


def ratio_check(part: str, found: Ratio) -> Check:
    """Return a ratio with a goal as a check."""
    assert found.goal is not None
    return Check(part, found.name, found.value, found.low, found.high, found.n, found.goal, better=found.better)


def _policy(row: Row) -> Iterator[Check]:
    """Yield how far the policy of a built-in pair is below the best fixed score, and above both models."""
    for figure in row.figures:
        name, spread = f"{row.population}: {figure.name}", (figure.low, figure.high)
        if figure.name.startswith("points below the best fixed score"):
            yield Check("calibration", name, figure.value, *spread, figure.n, 0.2, "points")
        if figure.name == _GAIN and row.population == _COMPARABLE:
            yield Check("calibration", name, figure.value, *spread, figure.n, 2.0, "points", "higher")


def _range(figure: Figure) -> Iterator[Check]:
    """Yield both ends of the goal of a mean over populations, as far as it has them."""
    name, spread = f"{figure.name}, mean over populations", (figure.low, figure.high)
    if figure.least is not None and figure.least > 0:
        yield Check("calibration", name, figure.value, *spread, figure.n, figure.least, better="higher")
    if figure.most is not None and figure.most < 1:
        yield Check("calibration", name, figure.value, *spread, figure.n, figure.most)


def _agreement(flagship: Prepared) -> Ratio:
    """Return the ratio of LoadGen's median latency to a bare loop's, on the flagship's local model."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "test.npz")
        np.savez(data, x=np.asarray(flagship.test.inputs)[:1024], y=flagship.test.labels[:1024])
        request = Request(file=str(flagship.cascade), data=str(data), report=folder)
        plan = request.plan(Subject.ALONE, Scenario.SINGLE_STREAM, DIRECT)
        return compare_with_loop(plan, read_inputs_as_given(data)).latency


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what an interrupted run did not, print, and write the three results; return 1 if a goal is missed."""
    parser = ArgumentParser(prog="python -m studies.guard", description=__doc__)
    parser.add_argument("--draws", type=int, default=40, help="Draws from each population (default: 40).")
    parser.add_argument("--rounds", type=int, default=200, help="Calls of each timed function (default: 200).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    cache, names = cache_folder(), (*ARTIFICIAL, *REAL)
    flagship = prepare_flagship(Protocol(), cache)
    about = {"rounds": asked.rounds, "draws": asked.draws, "cascade": sha256_of(flagship.cascade)}
    about |= {name: population_of(name, cache).outputs.digest for name in REAL}
    total = STEPS + 1 + coverage_steps(names, fits=True)
    command = f"python -m studies.guard --draws {asked.draws} --rounds {asked.rounds}"
    with stored_steps(asked.out / "steps", about, total) as steps:
        cost = measure_runtime_costs(flagship, steps, rounds=asked.rounds)
        write_study(asked.out / "runtime", "runtime", cost, command=command, summary=str(cost))
        agreement = steps(Ratio, "agreement with LoadGen", lambda: _agreement(flagship))
        found = measure_coverage(names, cache, steps, draws=asked.draws, workers=2, fits=True)
        write_study(asked.out / "coverage", "coverage", found, command=command, summary=summarize(found))
        guard = Guard((*calibration_checks(found), *runtime_checks(cost), ratio_check("benchmarks", agreement)))
        write_study(asked.out / "guard", "guard", guard, command=command, summary=str(guard))
    print(guard)
    return 1 if guard.missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
