"""What stays unsent and unpaid, against asking the remote always."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgecascade.benchmarks.served import Served
from edgecascade.calibration import proportion
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["INPUTS", "Prices", "Savings", "savings"]

INPUTS = 1_000_000  # that money is told for
_GIGABYTE = 1e9


@dataclass(frozen=True)
class Prices:
    """In any one currency.

    Attributes:
        request: of one request, or None.
        gigabyte: of 10^9 bytes, sent or received, or None.

    Raises:
        BenchmarkError: a price that is none.
    """

    request: float | None = None
    gigabyte: float | None = None

    def __post_init__(self) -> None:
        for name, price in (("cost", self.request), ("cost per GB", self.gigabyte)):
            if price is not None and not 0 <= price < math.inf:
                raise BenchmarkError(f"{name}: expected a price of 0 or more, got {price}")


@dataclass(frozen=True)
class Savings:
    """Of the served run.

    Attributes:
        offload: share of inputs forwarded.
        bytes_out: sent with one forwarded input, retries and headers included; None if the remote does not count.
        bytes_in: received with one.
        always_out: bytes that sending every one of the inputs would take, if those kept are like those forwarded.
        always_in: bytes that would come back.
        price: of one forward, in the currency of the prices; None if there are no prices, or a price is for bytes
            that nobody counted.
        spent: for a million inputs; its interval is the offload rate's.
        spent_always: for a million inputs, asking always.
    """

    offload: Estimate
    bytes_out: Estimate | None
    bytes_in: Estimate | None
    always_out: Estimate | None
    always_in: Estimate | None
    price: float | None
    spent: Estimate | None
    spent_always: float | None


def savings(served: Served, n: int, prices: Prices) -> Savings:
    """What the served run of n inputs saved."""
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
