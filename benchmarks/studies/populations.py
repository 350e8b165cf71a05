"""Populations: labelled inputs that stand for all there are, so that the truth about any policy is what it does there.

Draws are made with replacement. They are then independent draws of just this population, be it an artificial pair's or
the saved outputs of a real one, and no truth has an error of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload.curves import OffloadCurve, offload_curve
from edgecascade.calibration import (
    MERGES,
    SCORES,
    CascadePlan,
    Pair,
    decide,
    fit_temperature,
    merged_labels,
    routing_score,
    softmax,
)
from edgecascade.calibration.advantage import Correct
from studies.outputs import PairOutputs, fashion_pair, flagship_pairs, language_pair
from studies.processes import PROCESSES

__all__ = ["ARTIFICIAL", "RAW", "REAL", "Followed", "Population", "population_of"]

ARTIFICIAL = tuple(process.name for process in PROCESSES)
REAL = ("CIFAR-10, small > large", "CIFAR-10, comparable", "Fashion-MNIST", "languages")
_REAL_DRAW = 1000  # inputs
RAW = "raw confidence"


@dataclass(frozen=True)
class Followed:
    """What the decisions of a plan do on a population.

    Attributes:
        advantage: float32 [n].
        forward: bool [n].
        local: bool [n], whether the local answer is right; or its value in [0, 1].
        merged: bool [n], whether the answer is right once the remote has replied; or its value in [0, 1].
    """

    advantage: NDArray[np.float32]
    forward: NDArray[np.bool_]
    local: Correct
    merged: Correct

    @property
    def offload(self) -> float:
        """The offload rate."""
        return float(self.forward.mean())

    @property
    def accuracy(self) -> float:
        """The accuracy."""
        return float(np.where(self.forward, self.merged, self.local).mean())

    def at(self, thresholds: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return offload rates and accuracies at ascending thresholds, float64 [thresholds] each."""
        cuts = np.asarray(thresholds, np.float32)
        first = np.searchsorted(cuts, self.advantage, side="right")  # the first threshold that forwards the input
        count, n = len(cuts) + 1, len(self.advantage)
        gain = np.bincount(first, self.merged.astype(float) - self.local, count)[:-1]
        sent = np.bincount(first, minlength=count)[:-1]
        return np.cumsum(sent) / n, self.local.mean() + np.cumsum(gain) / n


@dataclass(frozen=True)
class Population:
    """A pair's outputs on every input there is.

    Attributes:
        name: The name in tables.
        n: The number of inputs in a usual draw.
        outputs: Both models' logits, and the labels.
    """

    name: str
    n: int
    outputs: PairOutputs

    def draw(self, rng: np.random.Generator, n: int | None = None) -> PairOutputs:
        """Return n inputs, by default `self.n`, drawn with replacement."""
        return self.outputs[rng.integers(0, len(self.outputs), self.n if n is None else n)]

    @cached_property
    def temperatures(self) -> tuple[float, float]:
        """T of the local model and of the remote, which minimise the likelihood over the whole population."""
        seen = self.outputs
        return fit_temperature(seen.local, seen.labels), fit_temperature(seen.remote, seen.labels)

    @cached_property
    def local_right(self) -> NDArray[np.bool_]:
        """Whether the local answer is right, bool [n]."""
        return np.asarray(self.outputs.local.argmax(axis=1) == self.outputs.labels)

    @cached_property
    def remote_right(self) -> NDArray[np.bool_]:
        """Whether the remote's own answer is right, bool [n]."""
        return np.asarray(self.outputs.remote.argmax(axis=1) == self.outputs.labels)

    @property
    def local(self) -> float:
        """The accuracy of the local model alone."""
        return float(self.local_right.mean())

    @property
    def remote(self) -> float:
        """The accuracy of asking the remote always."""
        return float(self.remote_right.mean())

    @cached_property
    def curves(self) -> tuple[OffloadCurve, ...]:
        """The curve of every score and merge rule, at the temperatures of the population."""
        seen, (local, remote) = self.outputs, self.temperatures
        pair = Pair(seen.local, local, seen.remote, remote, seen.labels)
        outcomes = (pair.outcomes(score, merge) for score in SCORES for merge in MERGES)
        return tuple(offload_curve(one.score, self.local_right, one.merged_correct) for one in outcomes)

    @property
    def best(self) -> float:
        """The highest accuracy of any score, merge rule and rate."""
        return max(float(curve.accuracy.max()) for curve in self.curves)

    def least_offload(self, accuracy: float) -> float:
        """Return the lowest rate at which some score and merge rule reaches an accuracy; infinite if none does."""
        reached = (curve.rate[curve.accuracy >= accuracy] for curve in self.curves)
        return min((float(rates.min()) for rates in reached if len(rates)), default=np.inf)

    def merged_right(self, plan: CascadePlan, merge: str) -> NDArray[np.bool_]:
        """Whether the answer under a merge rule is right once the remote has replied, bool [n]."""
        if merge == "replace":
            return self.remote_right
        seen = self.outputs
        local, remote = softmax(seen.local, plan.local.temperature), softmax(seen.remote, plan.remote.temperature)
        ours, theirs = (
            found.max(axis=1) if model.confidence_map is None else model.confidence_map(found.max(axis=1))
            for found, model in ((local, plan.local), (remote, plan.remote))
        )
        labels = merged_labels(merge, local, remote, local_confidence=ours, remote_confidence=theirs)
        return np.asarray(labels == seen.labels)

    def follow(self, plan: CascadePlan) -> Followed:
        """Return what a plan does on every input."""
        decision = decide(self.outputs.local, plan.rule)
        return Followed(decision.advantage, decision.forward, self.local_right, self.merged_right(plan, plan.merge))

    def fixed(self, plan: CascadePlan, followed: Followed) -> dict[str, float]:
        """Return the accuracy of forwarding the inputs of the lowest score, at the rate and merge rule of a plan.

        The scores are those of `SCORES`, and the uncalibrated confidence.
        """
        logits, temperature = self.outputs.local, plan.local.temperature
        keys = {score: routing_score(score, logits, temperature) for score in SCORES}
        keys[RAW] = routing_score("confidence", logits)
        return {
            name: offload_curve(key, followed.local, followed.merged).at(followed.offload) for name, key in keys.items()
        }


@lru_cache(1)
def population_of(name: str, folder: Path) -> Population:
    """Return a population by its name in `ARTIFICIAL` or `REAL`; saved outputs are read from, or made in, a folder."""
    for process in PROCESSES:
        if process.name == name:
            return Population(name, process.n, process.population)
    small, comparable = REAL[:2]
    if name in (small, comparable):
        return Population(name, _REAL_DRAW, flagship_pairs(folder)[name == comparable])
    pair = {"Fashion-MNIST": fashion_pair, "languages": language_pair}[name]
    return Population(name, _REAL_DRAW, pair(folder))
