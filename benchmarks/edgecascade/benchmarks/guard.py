"""The performance guard: every ratio that calibration, export and the runtime promise, beside its goal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgecascade.benchmarks.certificate_draws import CertificateDraws
from edgecascade.benchmarks.policy_splits import PolicyAtRate
from edgecascade.benchmarks.promises import Promises
from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.benchmarks.runtime_cost import LATE_GOAL, MEMORY_GOAL, SIZE_GOAL, RuntimeCost
from edgecascade.calibration import proportion

__all__ = ["Check", "Guard", "calibration_checks", "ratio_check", "runtime_checks"]

_RISK = 0.05
_SPREAD = 1.96  # standard deviations over splits


@dataclass(frozen=True)
class Check:
    """One promise.

    Attributes:
        part: of the project that makes it.
        name: what is compared.
        value: what was measured.
        low: lower end of its 95 % interval, or of 95 % of the splits; None if it was measured once, or is exact.
        high: upper end.
        n: pairs, draws, splits or inputs behind it.
        goal: what it may be at most, or at least if `at_least`.
        unit: of value and goal; empty for ratios and shares.
        at_least: whether more is better.
    """

    part: str
    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    goal: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure itself meets the goal, wherever the ends of its interval are."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def __str__(self) -> str:
        """Two lines: what, and goal, figure, spread."""
        spread = "measured once" if self.low is None or self.high is None else f"{self.low:.4g} to {self.high:.4g}"
        unit = f" {self.unit}" if self.unit else ""
        sign = ">=" if self.at_least else "<="
        return (
            f"{'met   ' if self.met else 'MISSED'}  {self.part}: {self.name}\n"
            f"        goal {sign} {self.goal:g}{unit}, measured {self.value:.4g}{unit} ({spread}, n = {self.n})"
        )


@dataclass(frozen=True)
class Guard:
    """All of them, in the order of the parts."""

    checks: tuple[Check, ...]

    @property
    def missed(self) -> int:
        """How many goals were not met."""
        return sum(not check.met for check in self.checks)

    def __str__(self) -> str:
        """As it is printed and kept."""
        return "\n".join([*map(str, self.checks), f"{len(self.checks)} goals, {self.missed} missed"])


def calibration_checks(found: Promises) -> Iterator[Check]:
    """What the calibration issues promise: fit, plan and certificate."""
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
            yield from _promise(pair, draws[-1])


def runtime_checks(found: RuntimeCost) -> Iterator[Check]:
    """What the export and runtime issues promise: the head, and what a device pays for `Cascade`."""
    yield ratio_check("export", found.head.bound)
    yield from (ratio_check("runtime", one) for one in found.ratios if one.goal is not None)
    beyond = found.memory.value - found.bare_memory.value
    yield Check("runtime", "memory beyond a bare session", beyond, None, None, found.memory.n, MEMORY_GOAL, "MiB")
    late, ms = found.lateness, 1e3
    name = "beyond the deadline, 99.9th percentile"
    yield Check("runtime", name, ms * late.value, ms * late.low, ms * late.high, late.n, LATE_GOAL, "ms")
    yield Check("runtime", "installed beyond numpy and onnxruntime", found.installed, None, None, 1, SIZE_GOAL, "MiB")


def ratio_check(part: str, found: Ratio) -> Check:
    """A ratio with a goal, as a check."""
    assert found.goal is not None
    return Check(part, found.name, found.value, found.low, found.high, found.n, found.goal, at_least=found.at_least)


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
    return Check("calibration", name, gain, gain - spread, gain + spread, splits, 2.0, "points", at_least=True)


def _promise(pair: str, draws: CertificateDraws) -> Iterator[Check]:
    broken = proportion(draws.broken / draws.draws, draws.draws)
    name = f"{pair}: promises broken, {draws.n} inputs"
    yield Check("calibration", name, broken.value, broken.low, broken.high, broken.n, _RISK)
    if draws.offload is not None and draws.least:
        name = f"{pair}: certified offload by the least that would do, {draws.n} inputs"
        yield Check("calibration", name, draws.offload / draws.least, None, None, draws.draws, 1.25)
