"""Artificial pairs of models whose truth is known, for checking what calibration and plans say about data.

A model sees an input of class y as K features: normal noise of variance 1, and its strength more in the feature of y.
It knows its strength for the input, so its logits are the logarithm of the exact posterior, and T = 1 is right:
z[j] = s[j] x[j] - s[j]^2 / 2 + log prior[j]. Strengths vary from input to input, for both models alike to some degree,
and noise is shared to the same degree. What is then done to labels or logits makes the known deviation: sharper logits,
for example, have just that T.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from studies.outputs import PairOutputs

__all__ = ["PROCESSES", "Process"]

_HERMITE = 24  # nodes over the strengths
_NOISE = np.linspace(-8.5, 8.5, 171)  # nodes over the noise in the feature of the class
_SEED = 2601


@dataclass(frozen=True)
class Process:
    """A distribution of labelled inputs and of what two models say about them.

    Attributes:
        name: The name in tables.
        n: The number of labelled inputs in a draw of the study.
        local: The accuracy of the local model, before labels or logits are changed by the fields below `prior`.
        remote: The accuracy of the remote, likewise.
        classes: The number of classes K.
        alike: The correlation of both models' noise, and of the logarithms of their strengths.
        spread: The standard deviation of the logarithm of the strength over inputs.
        prior: The probability of each class; None if all are equal.
        specialism: The factor of the remote's strength for the first half of the classes; the others have its inverse.
        identical: Whether the remote is the local model.
        noise: The share of labels of the first third of the classes that are replaced by any class. Both models know.
        sharpness: The factors of both models' logits: their temperatures.
        distortion: The power to which distances below the largest local logit are raised; no T repairs another than 1.
        step: The step to which local logits are rounded; 0 if they are not.
        pool: The number of inputs in `population`.
    """

    name: str
    n: int
    local: float
    remote: float
    classes: int = 10
    alike: float = 0.5
    spread: float = 0.4
    prior: tuple[float, ...] | None = None
    specialism: float = 1.0
    identical: bool = False
    noise: float = 0.0
    sharpness: tuple[float, float] = (1.0, 1.0)
    distortion: float = 1.0
    step: float = 0.0
    pool: int = 30_000

    def __post_init__(self) -> None:
        """Check that the numbers belong together."""
        if self.prior is not None and len(self.prior) != self.classes:
            raise ValueError(f"prior: expected {self.classes} probabilities, got {len(self.prior)}")
        if self.identical and (self.local, self.sharpness[0]) != (self.remote, self.sharpness[1]):
            raise ValueError("identical: expected equal accuracies and sharpness of both models")

    @cached_property
    def population(self) -> PairOutputs:
        """The population of the study: `pool` inputs, always the same, from which draws are made with replacement.

        What a policy does on it is the truth about that policy, without an error of simulation.
        """
        return self.sample(self.pool, np.random.default_rng([_SEED, *self.name.encode()]))

    def draw(self, rng: np.random.Generator, n: int | None = None) -> PairOutputs:
        """Return n inputs of the population, by default `self.n`, drawn with replacement."""
        return self.population[rng.integers(0, self.pool, self.n if n is None else n)]

    def sample(self, n: int, rng: np.random.Generator) -> PairOutputs:
        """Return n fresh inputs."""
        log_prior = self._log_prior()
        labels = rng.choice(self.classes, n, p=np.exp(log_prior))
        share, rest = np.float32(np.sqrt(self.alike)), np.float32(np.sqrt(1 - self.alike))
        common, own, other = (rng.standard_normal((n, self.classes + 1), np.float32) for _ in range(3))
        logits = []
        for strength, alone in zip(self._strengths(), (own, own if self.identical else other), strict=True):
            drawn = share * common + rest * alone  # the last column is of the strength, the others of the features
            by_class = np.exp(self.spread * drawn[:, -1:]) * strength.astype(np.float32)
            features = drawn[:, :-1]
            features[np.arange(n), labels] += by_class[np.arange(n), labels]
            logits.append(features * by_class - by_class**2 / 2 + log_prior.astype(np.float32))
        local, remote = (self._noisy(z) * np.float32(sharp) for z, sharp in zip(logits, self.sharpness, strict=True))
        if self.distortion != 1:
            top = local.max(axis=1, keepdims=True)
            local = top - (top - local) ** np.float32(self.distortion)
        if self.step:
            local = np.round(local / np.float32(self.step)) * np.float32(self.step)
        replaced = (labels < self._noisy_classes) & (rng.random(n) < self.noise)
        labels = np.where(replaced, rng.integers(0, self.classes, n), labels)
        return PairOutputs(self.name, local, remote, labels.astype(np.int64))

    def _log_prior(self) -> NDArray[np.float64]:
        return np.log(np.array(self.prior or (1 / self.classes,) * self.classes, np.float64))

    @property
    def _noisy_classes(self) -> int:
        return self.classes // 3 if self.noise else 0

    def _noisy(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logarithm of the posterior of labels after the noise, from that before it."""
        if not self.noise:
            return logits
        posterior = np.exp(logits - logits.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        moved = self.noise * posterior[:, : self._noisy_classes]
        posterior[:, : self._noisy_classes] -= moved
        noisy: NDArray[np.float32] = np.log(posterior + moved.sum(axis=1, keepdims=True) / self.classes + 1e-30)
        return noisy

    def _strengths(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the median strength of both models for every class."""
        half = np.where(np.arange(self.classes) < self.classes / 2, self.specialism, 1 / self.specialism)
        log_prior = tuple(self._log_prior())
        return (
            _strength(self.local, self.spread, log_prior, (1.0,) * self.classes) * np.ones(self.classes),
            _strength(self.remote, self.spread, log_prior, tuple(half)) * half,
        )


@cache
def _strength(accuracy: float, spread: float, log_prior: tuple[float, ...], by_class: tuple[float, ...]) -> float:
    """Return the median strength, before the factor of each class, at which the posterior is right this often."""
    from scipy.optimize import brentq

    def beyond(log_strength: float) -> float:
        strength = np.exp(log_strength) * np.array(by_class)
        return exact_accuracy(strength, spread, np.array(log_prior)) - accuracy

    return float(np.exp(brentq(beyond, np.log(1e-2), np.log(1e3), xtol=1e-9)))


def exact_accuracy(strength: NDArray[np.float64], spread: float, log_prior: NDArray[np.float64]) -> float:
    """Return how often the likeliest class of the exact posterior is right, by quadrature.

    Args:
        strength: float64 [K], the median strength for each class.
        spread: The standard deviation of the logarithm of the strength over inputs.
        log_prior: float64 [K].
    """
    from scipy.special import log_ndtr

    nodes, weights = np.polynomial.hermite_e.hermegauss(_HERMITE)
    density = np.exp(-(_NOISE**2) / 2)
    kinds, first, count = np.unique(
        np.stack([strength, log_prior], axis=1), axis=0, return_index=True, return_counts=True
    )
    right = 0.0
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        s = kinds[:, 0] * np.exp(spread * node)
        offset = kinds[:, 1] - s**2 / 2
        for kind in range(len(first)):  # classes of one kind are alike
            own = s[kind] * (s[kind] + _NOISE) + offset[kind]
            others = count - (np.arange(len(first)) == kind)
            below = log_ndtr((own[:, None] - offset) / s) @ others
            share = np.exp(kinds[kind, 1]) * count[kind]
            right += weight * share * float(np.sum(density * np.exp(below)) / np.sum(density))
    return right


_RARE = (0.57, 0.40, 0.03)
PROCESSES = (
    Process("small > large", 1000, 0.77, 0.88, sharpness=(1.6, 0.8)),
    Process("comparable", 1000, 0.87, 0.88, alike=0.3, sharpness=(1.3, 1.3)),
    Process("accurate", 1000, 0.979, 0.992, sharpness=(1.5, 1.5)),
    Process("very accurate", 1000, 0.989, 0.996),
    Process("nearly perfect", 500, 0.999, 0.9995),
    Process("few inputs", 200, 0.80, 0.92, classes=5, sharpness=(0.7, 1.2)),
    Process("many inputs", 10_000, 0.90, 0.95, sharpness=(2.0, 1.0), pool=40_000),
    Process("two classes", 2000, 0.85, 0.93, classes=2),
    Process("hundred classes", 2000, 0.65, 0.85, classes=100, sharpness=(1.5, 1.0), pool=20_000),
    Process("thousand classes", 2000, 0.60, 0.80, classes=1000, sharpness=(1.2, 1.0), pool=8_000),
    Process("tied scores", 1000, 0.80, 0.90, classes=3, step=1.0),
    Process("weak local", 1000, 0.25, 0.85, classes=100, pool=20_000),
    Process("weak remote", 1000, 0.90, 0.82),
    Process("identical", 1000, 0.85, 0.85, identical=True),
    Process("rare class", 2000, 0.90, 0.95, classes=3, prior=_RARE),
    Process("label noise", 2000, 0.80, 0.95, noise=0.5),
    Process("specialist", 1000, 0.80, 0.82, specialism=1.8),
    Process("distorted", 1000, 0.80, 0.90, sharpness=(0.8, 1.0), distortion=1.7),
)
"""The artificial pairs of the coverage study."""
