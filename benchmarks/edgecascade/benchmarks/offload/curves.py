"""Accuracy against offload rate for any order of the inputs, and one number for an order: the area under its curve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.report.result import HIGHER
from edgecascade.calibration.advantage import Correct
from edgecascade.types.estimate import Estimate

__all__ = ["Area", "OffloadCurve", "Rule", "areas", "normalised_area", "offload_curve"]

_RESAMPLES = 500
_FEWEST = 200
_WORK = 50_000_000  # inputs times resamples of one rule


@dataclass(frozen=True)
class OffloadCurve:
    """Accuracy when the inputs with the lowest keys are forwarded.

    Attributes:
        rate: float64 [points], offload rates from 0 to 1, one wherever the key changes.
        accuracy: float64 [points], the share of right answers there.
    """

    rate: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    def at(self, rate: float) -> float:
        """Return the expected accuracy at a rate; ties between two points are broken at random."""
        return float(np.interp(rate, self.rate, self.accuracy))

    def thinned(self, points: int) -> OffloadCurve:
        """Return at most so many points of the curve, the first and the last among them."""
        index = np.unique(np.linspace(0, len(self.rate) - 1, points).round().astype(int))
        return OffloadCurve(self.rate[index], self.accuracy[index])


@dataclass(frozen=True)
class Rule:
    """An order of the inputs, and the outcome for those that are forwarded.

    Attributes:
        key: [n], sortable; the lowest are forwarded first, ties in random order.
        merged_correct: bool [n], whether the answer is right once the remote has replied; or its value in [0, 1].
    """

    key: NDArray[Any]
    merged_correct: Correct


@dataclass(frozen=True)
class Area:
    """The value of an order over all offload rates.

    Attributes:
        area: The area between its curve and that of random offloading, as a share of the oracle's; from -1 to 1.
        lead: The area of the first rule minus this one, on the same inputs; None for the first rule itself, and where
            forwarding has another outcome than with the first, which makes another scale.
    """

    area: Estimate = field(metadata=HIGHER)
    lead: Estimate | None


def offload_curve(key: NDArray[Any], local_correct: Correct, merged_correct: Correct) -> OffloadCurve:
    """Return the curve of forwarding inputs [n] by rising key.

    A constant key is random offloading. The key `local_correct - merged_correct` is the oracle: no rule that sees the
    inputs one by one can exceed it.

    >>> curve = offload_curve(np.zeros(2), np.array([True, False]), np.array([True, True]))
    >>> curve.at(0.0), curve.at(0.5), curve.at(1.0)
    (0.5, 0.75, 1.0)
    """
    n = len(key)
    order = np.argsort(key, kind="stable")
    gain = merged_correct[order].astype(np.float64) - local_correct[order]
    right = local_correct.sum() + np.concatenate([[0.0], np.cumsum(gain)])
    ordered = np.asarray(key)[order]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    points = np.concatenate([[0], changes, [n]])
    return OffloadCurve(points / n, right[points] / n)


def normalised_area(key: NDArray[Any], local_correct: Correct, merged_correct: Correct) -> float | None:
    """Return the area between a curve and random offloading's, divided by that between the oracle's and random's.

    Both curves are those of `offload_curve`, with straight lines across ties. None where the oracle has no choice:
    forwarding changes nothing, or the same for every input.

    >>> local, remote = np.array([True, False, False]), np.array([True, True, False])
    >>> normalised_area(np.array([2, 1, 3]), local, remote), normalised_area(np.zeros(3), local, remote)
    (1.0, 0.0)
    """
    gain = merged_correct.astype(np.float64) - local_correct
    weights = np.ones(len(gain))
    oracle = _Order(-gain).above_random(gain, weights)
    return None if oracle <= 0 else _Order(key).above_random(gain, weights) / oracle


def areas(rules: Mapping[str, Rule], local_correct: Correct, seed: int = 0) -> dict[str, Area | None]:
    """Return the area of each rule with its 95 % interval, and the lead of the first rule over each.

    All rules use the same resamples of the inputs (basic bootstrap; Efron and Tibshirani 1993, chapter 13). Each is
    measured between its own random line and its own oracle, which depend on the outcome of forwarding.

    Args:
        rules: The rules by name; the first is compared with the others.
        local_correct: bool [n], or values in [0, 1].
        seed: The seed of the resampling.
    """
    found = {name: normalised_area(rule.key, local_correct, rule.merged_correct) for name, rule in rules.items()}
    values = {name: area for name, area in found.items() if area is not None}
    result: dict[str, Area | None] = dict.fromkeys(rules)
    if not values:
        return result
    resampled = np.array(list(_resampled([rules[name] for name in values], local_correct, seed))).T
    drawn = dict(zip(values, resampled, strict=True))
    n, (first, *_) = len(local_correct), rules
    for name, value in values.items():
        lead = None
        if name != first and np.array_equal(rules[name].merged_correct, rules[first].merged_correct):
            lead = _interval(values[first] - value, drawn[first] - drawn[name], n, 2.0)
        result[name] = Area(_interval(value, drawn[name], n, 1.0), lead)
    return result


def _resampled(rules: list[Rule], local_correct: Correct, seed: int) -> Iterator[list[float]]:
    n = len(local_correct)
    rng = np.random.default_rng(seed)
    prepared = []
    for rule in rules:
        gain = rule.merged_correct.astype(np.float64) - local_correct
        prepared.append((_Order(rule.key), _Order(-gain), gain))
    for _ in range(max(_FEWEST, min(_RESAMPLES, _WORK // n))):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        row = []
        for order, best, gain in prepared:
            oracle = best.above_random(gain, weights)
            row.append(order.above_random(gain, weights) / oracle if oracle > 0 else np.nan)
        yield row


def _interval(value: float, drawn: NDArray[np.float64], n: int, most: float) -> Estimate:
    """Return the basic interval; a resample without disagreement has no area and is left out."""
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    ends = np.clip([2 * value - high, 2 * value - low], -most, most)
    return Estimate(value, min(float(ends[0]), value), max(float(ends[1]), value), n)


class _Order:
    """Inputs sorted once, to be weighted many times."""

    def __init__(self, key: NDArray[Any]) -> None:
        self._order = np.argsort(key, kind="stable")
        ordered = np.asarray(key)[self._order]
        self._starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])

    def above_random(self, gain: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
        """Return the area between the curve and the straight line that joins its ends, in accuracy times rate."""
        sent = np.add.reduceat(weights[self._order], self._starts)
        won = np.add.reduceat((weights * gain)[self._order], self._starts)
        height = np.concatenate([[0.0], np.cumsum(won)])
        total = sent.sum()
        under = float((sent * (height[1:] + height[:-1])).sum()) / 2
        return float((under - total * height[-1] / 2) / total**2)
