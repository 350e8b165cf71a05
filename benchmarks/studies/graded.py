"""Coverage of graded answers: how often what the plan of a general task says is true, where the truth is known.

Inputs are drawn from populations whose answers have values in [0, 1], as verifiers of text, boxes and numbers give
them. Intervals, aims and certificates are compared with the population that was drawn from.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload.curves import OffloadCurve, offload_curve
from edgecascade.benchmarks.report import write_study
from edgecascade.benchmarks.stored import stored_steps
from edgecascade.calibration import (
    CalibrationError,
    CertifiedLoss,
    LeastOffload,
    MostAccuracy,
    Objective,
    TaskPlan,
    certify_order,
    decide_task,
    expected_calibration_error,
    plan_task,
)
from studies.claims import RATES, Said, check_bins, check_curve, ends, within
from studies.coverage import Subject, coverage_steps, measure_coverage, summarize
from studies.populations import Followed

__all__ = ["GRADED", "POPULATIONS", "Graded", "Source", "main"]

_SEED = 2611
_POOL = 40_000
_WORKERS = 2
_ROUNDING = 1e-9
_LOSS = 0.01
_RISK = 0.05
_CERTIFICATES = 25.0  # certificates per draw

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Source:
    """A distribution of scores and of the values of two models' answers.

    Attributes:
        name: The name in tables.
        n: The number of inputs in a usual draw.
        values: Returns both models' values, given the ease of each input in [0, 1] and a generator.
        noise: The standard deviation of what the score adds to the ease.
        step: The step to which scores are rounded; 0 if they are not.
    """

    name: str
    n: int
    values: Callable[[Floats, np.random.Generator], tuple[Floats, Floats]]
    noise: float = 0.15
    step: float = 0.0


@dataclass(frozen=True)
class Graded:
    """Scores and values of both models' answers for every input there is.

    Attributes:
        n: The number of inputs in a usual draw.
        score: float64 [inputs].
        local_value: float64 [inputs].
        remote_value: float64 [inputs].
        group: int64 [inputs], in 0..3.
    """

    n: int
    score: Floats
    local_value: Floats
    remote_value: Floats
    group: NDArray[np.int64]

    @classmethod
    def of(cls, source: Source) -> Graded:
        """Return the population of a source: always the same, so that no truth has an error of simulation."""
        rng = np.random.default_rng([_SEED, *source.name.encode()])
        ease = rng.random(_POOL)
        local, remote = source.values(ease, rng)
        score = ease + rng.normal(0.0, source.noise, _POOL)
        if source.step:
            score = np.round(score / source.step) * source.step
        group = np.minimum(rng.integers(0, 6, _POOL), 3)
        return cls(source.n, 12 * score - 9, local.clip(0, 1), remote.clip(0, 1), group)

    def draw(self, rng: np.random.Generator, n: int | None = None) -> Graded:
        """Return n inputs, by default `self.n`, drawn with replacement."""
        rows = rng.integers(0, len(self.score), self.n if n is None else n)
        return Graded(self.n, self.score[rows], self.local_value[rows], self.remote_value[rows], self.group[rows])

    @property
    def local(self) -> float:
        """The mean value of the local model alone."""
        return float(self.local_value.mean())

    @property
    def remote(self) -> float:
        """The mean value of asking the remote always."""
        return float(self.remote_value.mean())

    @property
    def loss(self) -> float:
        """The loss that plans aim at: a point, or less where the local model alone would be close to that."""
        gap = self.remote - self.local
        return _LOSS if gap <= 0 or gap >= 2 * _LOSS else gap / 3

    @cached_property
    def curve(self) -> OffloadCurve:
        """The mean value against the offload rate in the order of the score."""
        return offload_curve(self.score, self.local_value, self.remote_value)

    @property
    def best(self) -> float:
        """The highest mean value at any rate."""
        return float(self.curve.accuracy.max())

    def least_offload(self, value: float) -> float:
        """Return the lowest rate at which the order of the score reaches a mean value; infinite if none does."""
        reached = self.curve.rate[self.curve.accuracy >= value - _ROUNDING]
        return float(reached.min()) if len(reached) else np.inf

    def follow(self, plan: TaskPlan) -> Followed:
        """Return what a plan does on every input."""
        decision = decide_task(self.score, plan.rule)
        return Followed(decision.advantage, decision.forward, self.local_value, self.remote_value)


def _text(ease: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return 1 - CER of lines of which most are read without an error, as many letters long as a word or two."""
    letters = rng.integers(4, 30, len(ease))
    local, remote = (rng.binomial(letters, rate) for rate in (0.5 * (1 - ease) ** 2, 0.15 * (1 - ease) ** 3))
    return 1 - local / letters, 1 - remote / letters


def _boxes(ease: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return F1 of a few boxes, of which some are missed."""
    boxes = 1 + rng.poisson(1.5, len(ease))
    local, remote = (
        2 * (found := rng.binomial(boxes, rate)) / (boxes + found + rng.poisson(0.2, len(ease)))
        for rate in (0.45 + 0.5 * ease, 0.8 + 0.15 * ease)
    )
    return local, remote


def _small_differences(ease: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return 1 - scaled error of two regressions, one a little better."""
    local, remote = (1 - np.abs(rng.normal(0.0, size)) for size in (0.06 * (1.2 - ease), 0.03 * (1.5 - ease)))
    return local, remote


def _crossing(ease: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return values of equal mean: the remote is better at what is hard, and worse at what is easy."""
    local, remote = rng.beta(1 + 6 * ease, 2), rng.beta(4 + ease, 2.4)
    return local, remote


def _rare_failures(ease: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return values that are 1 but for a few, which are anything."""
    local, remote = (
        np.where(rng.random(len(ease)) < rate, rng.random(len(ease)), 1.0)
        for rate in (0.06 * (1 - ease), 0.02 * (1 - ease))
    )
    return local, remote


def _equal(ease: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return values of two models that are equally good."""
    local, remote = (rng.beta(2 + 4 * ease, 1.5) for _ in range(2))
    return local, remote


def _right_or_wrong(ease: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return 0 and 1."""
    local, remote = (1.0 * (rng.random(len(ease)) < rate) for rate in (0.4 + 0.55 * ease, 0.85 + 0.1 * ease))
    return local, remote


SOURCES = (
    Source("text", 1000, _text),
    Source("boxes", 1000, _boxes),
    Source("small differences", 1000, _small_differences),
    Source("crossing", 1000, _crossing),
    Source("rare failures", 1000, _rare_failures),
    Source("equal", 1000, _equal),
    Source("right or wrong", 1000, _right_or_wrong),
    Source("few inputs", 150, _text),
    Source("many inputs", 4000, _boxes),
    Source("tied scores", 1000, _boxes, step=0.25),
    Source("score without use", 1000, _boxes, noise=30.0),
)
POPULATIONS = tuple(source.name for source in SOURCES)


@lru_cache(1)
def _population_of(name: str, folder: Path) -> Graded:  # noqa: ARG001
    return Graded.of(next(source for source in SOURCES if source.name == name))


def _planned(seen: Graded, objective: Objective, **options: Any) -> TaskPlan | None:
    try:
        return plan_task(seen.score, seen.local_value, seen.remote_value, objective, **options)
    except CalibrationError:
        return None


def check_plan(population: Graded, rng: np.random.Generator) -> Said:
    """Plan for an offload rate, and compare every interval with the truth."""
    seen = population.draw(rng)
    plan = _planned(seen, MostAccuracy(RATES[0]), groups=seen.group)
    yield "refused a pair", float(plan is None)
    if plan is None:
        return
    followed, found = population.follow(plan), plan.calibration
    yield "mean value: local", within(ends(found.value), population.local)
    yield "mean value: remote", within(ends(plan.remote), population.remote)
    confidence = found.confidence(population.score)
    truth = expected_calibration_error(confidence, population.local_value)
    yield "ECE", within(ends(found.ece_after), truth)
    yield "true ECE of the confidence", truth
    yield "offload above 20%", float(followed.offload > RATES[0] + _ROUNDING)
    yield from check_curve(plan, followed, population.remote)
    yield from check_bins(plan, population.score.astype(np.float32), followed)
    assert plan.policy.groups is not None
    for one in plan.policy.groups.groups:
        rows = population.group == int(one.name)
        answers = np.where(followed.forward, followed.merged, followed.local)
        for name, shown, value in (
            ("local", one.local, followed.local),
            ("remote", one.remote, followed.merged),
            ("cascade", one.cascade, answers),
        ):
            yield f"mean value in groups: {name}", within(ends(shown), float(value[rows].mean()))


def check_aims(population: Graded, rng: np.random.Generator) -> Said:
    """Plan for a value half way to the best, and for a loss of a point, both by default and with confidence .9."""
    seen, loss = population.draw(rng), population.loss
    aims: dict[str, tuple[float, dict[str, float]]] = {"loss": (population.remote - loss, {"loss": loss})}
    if population.best > population.local + loss:
        half = (population.local + population.best) / 2
        aims["accuracy"] = half, {"accuracy": half}
    for name, (wanted, aim) in aims.items():
        for confidence, title in ((0.5, ""), (0.9, ", confidence .9")):
            plan = _planned(seen, LeastOffload(**aim, confidence=confidence))
            yield f"refused: {name}{title}", float(plan is None)
            if plan is None:
                continue
            followed = population.follow(plan)
            met = float(followed.accuracy >= wanted - _ROUNDING)
            yield f"aim met, {name}{title}", met
            if not title:
                yield f"offload beyond the least, {name}", followed.offload - population.least_offload(wanted)
            if plan.policy.chance is not None:
                yield "chance printed less aims met", plan.policy.chance - met


def check_rate(population: Graded, rng: np.random.Generator) -> Said:
    """Plan for an offload rate that is to be kept with a probability of .95."""
    plan = _planned(population.draw(rng), MostAccuracy(RATES[0], confidence=0.95))
    if plan is not None:
        kept = population.follow(plan).offload <= RATES[0] + _ROUNDING
        yield "at most the rate, confidence .95", float(kept)


def check_certificate(population: Graded, rng: np.random.Generator) -> Said:
    """Certify a loss of a point in the order of the score."""
    seen, score = population.draw(rng), population.score.astype(np.float32)
    try:
        found = certify_order(
            seen.score.astype(np.float32),
            seen.local_value,
            seen.remote_value,
            seen.remote_value,
            loss=population.loss,
            risk=_RISK,
        )
    except CalibrationError:
        yield "certificates refused", 1.0
        yield "certificates broken", 0.0
        return
    forward, wanted = score < np.float32(found.threshold), population.remote - population.loss
    value = float(np.where(forward, population.remote_value, population.local_value).mean())
    yield "certificates refused", 0.0
    yield "certificates broken", float(value < wanted - _ROUNDING)
    yield "certified offload", float(forward.mean())
    yield "certified offload beyond the least", float(forward.mean()) - population.least_offload(wanted)


def check_table_certificate(population: Graded, rng: np.random.Generator) -> Said:
    """Certify a loss of a point with a table that is fitted on a fifth of the inputs."""
    plan = _planned(population.draw(rng), CertifiedLoss(population.loss, _RISK), estimate="shrunk")
    value = np.inf if plan is None else population.follow(plan).accuracy
    yield "certificates refused: table", float(plan is None)
    yield "certificates broken: table", float(value < population.remote - population.loss - _ROUNDING)


GRADED = Subject(
    _population_of,
    {
        "plan": (check_plan, 1.0),
        "aims": (check_aims, 0.5),
        "rate": (check_rate, 0.5),
        "certificate": (check_certificate, _CERTIFICATES),
        "table certificate": (check_table_certificate, 1.0),
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what an interrupted run did not, print, and write the result; return 1 if a goal is missed overall."""
    parser = ArgumentParser(prog="python -m studies.graded", description=__doc__)
    parser.add_argument("--draws", type=int, default=40, help="Draws from each population (default: 40).")
    parser.add_argument("--seed", type=int, default=0, help="The seed of every draw (default: 0).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    about = {"names": POPULATIONS, "draws": asked.draws, "seed": asked.seed}
    command = f"python -m studies.graded --draws {asked.draws} --seed {asked.seed}"
    with stored_steps(asked.out / "steps", about, coverage_steps(POPULATIONS)) as steps:
        found = measure_coverage(
            POPULATIONS, asked.out, steps, draws=asked.draws, seed=asked.seed, workers=_WORKERS, subject=GRADED
        )
        write_study(asked.out, "graded", found, command=command, summary=summarize(found))
    print(summarize(found))
    return int(any(figure.missed for figure in found.overall))


if __name__ == "__main__":
    raise SystemExit(main())
