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
from edgecascade.calibration import proportion
from studies.guarantees import (
    CertificateDraws,
    Guarantees,
    PolicyAtRate,
    guarantees_steps,
    measure_guarantees,
    summarize,
)
from studies.outputs import fashion_pair, flagship_pairs
from studies.runtime_costs import (
    LATE_GOAL,
    MEMORY_GOAL,
    SIZE_GOAL,
    STEPS,
    RuntimeCosts,
    measure_runtime_costs,
)

__all__ = ["Check", "Guard", "calibration_checks", "main", "ratio_check", "runtime_checks"]

_RISK = 0.05
_SPREAD = 1.96  # standard deviations over splits


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


def calibration_checks(found: Guarantees) -> Iterator[Check]:
    """Yield the goals of calibration: fit, plan and certificate."""
    fit = found.fit
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
    for pair, rows in found.policies.items():
        yield _shortfall(pair, rows, found.splits)
        if pair == "comparable":
            yield _gain(rows, found.splits)
    for pair, draws in found.certificates.items():
        if pair != "comparable":
            yield from _certificate(pair, draws[-1])


def runtime_checks(found: RuntimeCosts) -> Iterator[Check]:
    """Yield the goals of export and runtime: the head, and what a device pays for `Cascade`."""
    yield ratio_check("export", found.head.bound)
    yield from (ratio_check("runtime", one) for one in found.ratios if one.goal is not None)
    beyond = found.memory.value - found.bare_memory.value
    yield Check("runtime", "memory beyond a bare session", beyond, None, None, found.memory.n, MEMORY_GOAL, "MiB")
    late, ms = found.lateness, 1e3
    name = "beyond the deadline, 99.9th percentile"
    yield Check("runtime", name, ms * late.value, ms * late.low, ms * late.high, late.n, LATE_GOAL, "ms")
    yield Check("runtime", "installed beyond numpy and onnxruntime", found.installed, None, None, 1, SIZE_GOAL, "MiB")


def ratio_check(part: str, found: Ratio) -> Check:
    """Return a ratio with a goal as a check."""
    assert found.goal is not None
    return Check(part, found.name, found.value, found.low, found.high, found.n, found.goal, better=found.better)


def _shortfall(pair: str, rows: list[PolicyAtRate], splits: int) -> Check:
    worst = min(rows, key=lambda row: row.shortfall)
    points, spread = -100 * worst.shortfall, 100 * _SPREAD * worst.shortfall_deviation
    name = f"{pair}: policy below the best fixed score, at worst (offload {worst.offload:.0%})"
    return Check("calibration", name, points, points - spread, points + spread, splits, 0.2, "points")


def _gain(rows: list[PolicyAtRate], splits: int) -> Check:
    row = max((row for row in rows if row.offload <= 0.35), key=lambda row: row.accuracy["policy"])
    gain = 100 * (row.accuracy["policy"] - max(row.local, row.remote))
    spread = 100 * _SPREAD * row.deviation["policy"]
    name = f"comparable: above the better model, offload {row.offload:.1%}"
    return Check("calibration", name, gain, gain - spread, gain + spread, splits, 2.0, "points", "higher")


def _certificate(pair: str, draws: CertificateDraws) -> Iterator[Check]:
    share = proportion(draws.violated / draws.draws, draws.draws)
    name = f"{pair}: certificates violated, {draws.n} inputs"
    yield Check("calibration", name, share.value, share.low, share.high, share.n, _RISK)
    if draws.offload is not None and draws.least:
        name = f"{pair}: certified offload by the least sufficient, {draws.n} inputs"
        yield Check("calibration", name, draws.offload / draws.least, None, None, draws.draws, 1.25)


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
    parser.add_argument("--splits", type=int, default=50, help="Random splits behind each figure (default: 50).")
    parser.add_argument("--draws", type=int, default=1000, help="Certificates in each row (default: 1000).")
    parser.add_argument("--rounds", type=int, default=200, help="Calls of each timed function (default: 200).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    cache = cache_folder()
    flagship, pairs = prepare_flagship(Protocol(), cache), (*flagship_pairs(cache), fashion_pair(cache))
    given = {name: getattr(asked, name) for name in ("rounds", "splits", "draws")}
    about = {**given, "cascade": sha256_of(flagship.cascade), "outputs": [pair.digest for pair in pairs]}
    total = STEPS + 1 + guarantees_steps(pairs)
    command = f"python -m studies.guard --splits {asked.splits} --draws {asked.draws} --rounds {asked.rounds}"
    with stored_steps(asked.out / "steps", about, total) as steps:
        cost = measure_runtime_costs(flagship, steps, rounds=asked.rounds)
        write_study(asked.out / "runtime", "runtime", cost, command=command, summary=str(cost))
        agreement = steps(Ratio, "agreement with LoadGen", lambda: _agreement(flagship))
        found = measure_guarantees(pairs, steps, splits=asked.splits, draws=asked.draws)
        write_study(asked.out / "guarantees", "guarantees", found, command=command, summary=summarize(found))
        guard = Guard((*calibration_checks(found), *runtime_checks(cost), ratio_check("benchmarks", agreement)))
        write_study(asked.out / "guard", "guard", guard, command=command, summary=str(guard))
    print(guard)
    return 1 if guard.missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
