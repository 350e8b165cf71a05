"""One number for an order of inputs: the area under its curve, 0 for random offloading and 1 for the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.estimate import Estimate

__all__ = ["Area", "Rule", "areas", "normalised_area"]

_RESAMPLES = 500
_FEWEST = 200
_WORK = 50_000_000  # inputs times resamples, of one rule


@dataclass(frozen=True)
class Rule:
    """An order of inputs, and what becomes of those that are sent.

    Attributes:
        key: [n], sortable; the lowest are sent first, ties in random order.
        merged_correct: bool [n], whether the answer is right once the remote has replied.
    """

    key: NDArray[Any]
    merged_correct: NDArray[np.bool_]


@dataclass(frozen=True)
class Area:
    """What an order is worth, over all offload rates.

    Attributes:
        area: of its curve above random offloading's, as a share of the oracle's; from -1 to 1.
        lead: the first rule's area less this one's, on the same inputs; None for the first itself, and where sending
            does something else than with the first, which makes another scale.
    """

    area: Estimate
    lead: Estimate | None


def normalised_area(
    key: NDArray[Any], local_correct: NDArray[np.bool_], merged_correct: NDArray[np.bool_]
) -> float | None:
    """The area between a curve and random offloading's, over that between the oracle's and random offloading's.

    Both curves are those of `offload_curve`, with straight lines across ties. None where the oracle has nothing to
    choose: sending an input changes nothing, or the same for every one.

    >>> local, remote = np.array([True, False, False]), np.array([True, True, False])
    >>> normalised_area(np.array([2, 1, 3]), local, remote), normalised_area(np.zeros(3), local, remote)
    (1.0, 0.0)
    """
    gain = merged_correct.astype(np.float64) - local_correct
    weights = np.ones(len(gain))
    oracle = _Order(-gain).above_random(gain, weights)
    return None if oracle <= 0 else _Order(key).above_random(gain, weights) / oracle


def areas(rules: Mapping[str, Rule], local_correct: NDArray[np.bool_], seed: int = 0) -> dict[str, Area | None]:
    """The area of each rule with its 95 % interval, and the lead of the first over each.

    All rules see the same resampled inputs (basic bootstrap; Efron and Tibshirani 1993, chapter 13). Each is measured
    between its own random line and its own oracle, which differ with what sending does.

    Args:
        rules: by name, the one to compare with first.
        local_correct: bool [n].
        seed: of the resampling.
    """
    found = {name: normalised_area(rule.key, local_correct, rule.merged_correct) for name, rule in rules.items()}
    defined = {name: rules[name] for name, area in found.items() if area is not None}
    drawn = (
        dict(zip(defined, np.array(list(_resampled(defined, local_correct, seed))).T, strict=True)) if defined else {}
    )
    n, (first, *_) = len(local_correct), rules
    result: dict[str, Area | None] = dict.fromkeys(rules)
    for name in defined:
        lead = None
        same = np.array_equal(rules[name].merged_correct, rules[first].merged_correct)
        if name != first and same:
            lead = _interval(_known(found[first]) - _known(found[name]), drawn[first] - drawn[name], n, 2.0)
        result[name] = Area(_interval(_known(found[name]), drawn[name], n, 1.0), lead)
    return result


def _resampled(rules: Mapping[str, Rule], local_correct: NDArray[np.bool_], seed: int) -> Iterator[list[float]]:
    n = len(local_correct)
    rng = np.random.default_rng(seed)
    prepared = []
    for rule in rules.values():
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
    """The basic interval; a resample without disagreement says nothing and is left out."""
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    ends = np.clip([2 * value - high, 2 * value - low], -most, most)
    return Estimate(value, min(float(ends[0]), value), max(float(ends[1]), value), n)


def _known(value: float | None) -> float:
    assert value is not None
    return value


class _Order:
    """Inputs sorted once, to be weighed many times."""

    def __init__(self, key: NDArray[Any]) -> None:
        self._order = np.argsort(key, kind="stable")
        ordered = np.asarray(key)[self._order]
        self._starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])

    def above_random(self, gain: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
        """The area between the curve and the straight line that joins its ends, in accuracy times rate."""
        sent = np.add.reduceat(weights[self._order], self._starts)
        won = np.add.reduceat((weights * gain)[self._order], self._starts)
        height = np.concatenate([[0.0], np.cumsum(won)])
        total = sent.sum()
        under = float((sent * (height[1:] + height[:-1])).sum()) / 2
        return float((under - total * height[-1] / 2) / total**2)
