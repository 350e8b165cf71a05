"""Other ways to use the same two models, and what the cascade saves against always asking the remote."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload.predictions import Predictions
from edgecascade.benchmarks.offload.served import Served
from edgecascade.benchmarks.report.result import HIGHER, LOWER
from edgecascade.calibration import mean, paired_difference_interval, proportion
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["INPUTS", "RULE", "Prices", "Savings", "Strategy", "lowest", "savings", "strategies"]

RULE = 0.8  # the usual threshold without calibration
INPUTS = 1_000_000  # inputs that costs are given for
_GIGABYTE = 1e9


@dataclass(frozen=True)
class Strategy:
    """One way to use the two models.

    Attributes:
        name: Its name in tables.
        offload: The share of inputs forwarded.
        accuracy: The share of right answers.
        gap: The accuracy of the cascade minus this one, on the same inputs; None for the cascade itself.
    """

    name: str
    offload: Estimate
    accuracy: Estimate = field(metadata=HIGHER)
    gap: Estimate | None


def strategies(v: Predictions, local: int, correct: NDArray[np.bool_]) -> tuple[Strategy, ...]:
    """Return local only, remote only and the cascade, then all others.

    Args:
        v: What both models say.
        local: The number of inputs that the served cascade did not forward.
        correct: bool [n], whether its answers were right.
    """
    n, forwarded = len(correct), len(correct) - local
    rate = forwarded / n
    alone, remote, merged = (c.astype(np.float64) for c in (v.local_correct, v.remote_correct, v.merged_correct))

    def strategy(name: str, sent: NDArray[np.floating], reply: NDArray[np.float64] = merged) -> Strategy:
        right = sent * reply + (1 - sent) * alone
        return Strategy(
            name, proportion(float(sent.mean()), n), proportion(float(right.mean()), n), _gap(correct, right)
        )

    planned, by_hand = v.forward.astype(np.float64), (v.raw_confidence < RULE).astype(np.float64)
    orders: dict[str, NDArray[Any]] = {
        "lowest confidence": v.scores["confidence"],
        "lowest margin": v.scores["margin"],
        "highest entropy": v.scores["entropy"],  # the score is its negative
        "lowest raw confidence": v.raw_confidence,
        "oracle": v.local_correct.astype(np.int8) - v.merged_correct,
    }
    return (
        strategy("local only", np.zeros(n)),
        strategy("remote only", np.ones(n), remote),
        Strategy("cascade", proportion(rate, n), proportion(float(correct.mean()), n), None),
        strategy("random, same rate", np.full(n, rate)),
        *(strategy(f"{name}, same rate", lowest(key, forwarded)) for name, key in orders.items()),
        strategy(f"raw confidence < {RULE}", by_hand, remote),
        *(
            strategy(f"plan, merge {rule}{' (the file)' * (rule == v.merge)}", planned, right.astype(np.float64))
            for rule, right in v.merged.items()
        ),
    )


def _gap(correct: NDArray[np.bool_], right: NDArray[np.float64]) -> Estimate:
    """Return the mean difference; where all answers agree, its interval still has a width."""
    if not np.isin(right, (0.0, 1.0)).all():  # ties, in expectation
        return mean(correct - right)
    low, high = paired_difference_interval(correct, right == 1)
    value = float((correct - right).mean())
    return Estimate(value, min(low, value), max(high, value), len(right))


def lowest(key: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Return how often each input [n] is among the `count` with the lowest keys, ties broken at random.

    >>> lowest(np.array([3, 1, 1, 1]), 2).round(2)
    array([0.  , 0.67, 0.67, 0.67])
    """
    _, group, size = np.unique(key, return_inverse=True, return_counts=True)
    before = np.cumsum(size) - size
    share = np.clip((count - before) / size, 0.0, 1.0)
    chosen: NDArray[np.float64] = share[group.reshape(-1)]
    return chosen


@dataclass(frozen=True)
class Prices:
    """Prices in one currency.

    Attributes:
        request: The price of one request, or None.
        gigabyte: The price of 10^9 bytes sent or received, or None.

    Raises:
        BenchmarkError: A price is negative or not finite.
    """

    request: float | None = None
    gigabyte: float | None = None

    def __post_init__(self) -> None:
        for name, price in (("cost", self.request), ("cost per GB", self.gigabyte)):
            if price is not None and not 0 <= price < math.inf:
                raise BenchmarkError(f"{name}: expected a price of 0 or more, got {price}")


@dataclass(frozen=True)
class Savings:
    """What the served run saved.

    Attributes:
        offload: The share of inputs forwarded.
        bytes_out: Bytes sent for one forwarded input, retries and headers included; None if they are not counted.
        bytes_in: Bytes received for one.
        always_out: Bytes for forwarding every input, if local inputs are as large as forwarded ones.
        always_in: Bytes received for every input.
        price: The price of one forward; None without prices, or if a price is for bytes that are not counted.
        spent: The price of a million inputs; its interval is that of the offload rate.
        spent_always: The price of a million inputs when the remote is always asked.
    """

    offload: Estimate
    bytes_out: Estimate | None = field(metadata=LOWER)
    bytes_in: Estimate | None = field(metadata=LOWER)
    always_out: Estimate | None
    always_in: Estimate | None
    price: float | None
    spent: Estimate | None = field(metadata=LOWER)
    spent_always: float | None


def savings(served: Served, n: int, prices: Prices) -> Savings:
    """Return what the served run of n inputs saved."""
    offload = proportion(1 - served.reasons["confident"] / n, n)
    out, back = served.sent_each, served.received_each
    price = _price(prices, out, back)
    return Savings(
        offload=offload,
        bytes_out=out,
        bytes_in=back,
        always_out=None if out is None else _times(out, n),
        always_in=None if back is None else _times(back, n),
        price=price,
        spent=None if price is None else _times(offload, price * INPUTS),
        spent_always=None if price is None else price * INPUTS,
    )


def _price(prices: Prices, out: Estimate | None, back: Estimate | None) -> float | None:
    if prices.request is None and prices.gigabyte is None:
        return None
    price = prices.request or 0.0
    if prices.gigabyte is None:
        return price
    if out is None or back is None:
        return None
    return price + (out.value + back.value) / _GIGABYTE * prices.gigabyte


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(estimate.value * factor, estimate.low * factor, estimate.high * factor, estimate.n)
