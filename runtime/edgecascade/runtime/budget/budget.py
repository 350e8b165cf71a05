"""What may be spent on forwards: the nearer the end of it, the worse placed an input must be to be forwarded."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from types import TracebackType
from typing import NamedTuple

from edgecascade.runtime.budget.file import BudgetFile
from edgecascade.runtime.budget.ranks import RecentRanks
from edgecascade.runtime.budget.rate import Rate, is_finite
from edgecascade.runtime.budget.token_bucket import TokenBucket
from edgecascade.types.errors import ArgumentError

__all__ = ["Budget", "Rate"]

_WORST = (-math.inf, -math.inf)  # what is not a number ranks first


class _Limit(NamedTuple):
    """One rate, and what a forward costs in it."""

    name: str
    rate: Rate
    fixed: float
    per_byte: float


class Budget:
    """Token buckets over forwards, bytes and money, each over one or more windows, which a forward must all pay for.

    While every bucket is at least half full, every input that the policy would forward is admitted. Below, only those
    that rank low enough among the last `recent`: the lowest advantage first, then the lowest confidence, and before
    all others what is not a number. How low is enough tightens with the level (see `TokenBucket.share`), so that the
    inflow is used up by the worst-placed inputs instead of by the first ones. An amount that pays for fewer than about
    four forwards leaves nothing to choose from, and is spent first come, first served. An input that costs more than a
    whole amount is never admitted.

    With a `path`, a process that crashes and starts again does not get a new budget. Parts of 1/64 of each amount are
    written off in the file before they are spent, so what a crash loop can spend is the bound of `Rate` and one such
    part; a crash forfeits the rest of its part. The file is written when a part is used up, and flushed to the disk
    when the budget is made and closed; a power cut takes back what the system had not written itself (on Linux, up to
    30 seconds) beyond the first part. While the file cannot be written, nothing is admitted.

    Safe to share between threads; `path` belongs to one process. A context manager: leaving it closes it.

    Args:
        forwards: how many inputs may be forwarded.
        bytes: how many bytes of inputs.
        money: how much may be paid, in the currency of the prices.
        price: of one forward.
        price_per_byte: of one byte of it, on top.
        recent: how many candidates the newest is ranked among.
        path: a file that keeps the levels. Missing, the buckets start full; damaged, empty.
        seed: of the draws between inputs that rank alike.
        clock: seconds that never go back.
        wall_clock: seconds since 1970, which may jump: a jump back brings no tokens after a restart.

    Raises:
        ArgumentError: nothing is limited, an amount cannot pay for a single forward, or a price is missing or idle.
    """

    def __init__(
        self,
        *,
        forwards: Rate | Sequence[Rate] | None = None,
        bytes: Rate | Sequence[Rate] | None = None,
        money: Rate | Sequence[Rate] | None = None,
        price: float = 0.0,
        price_per_byte: float = 0.0,
        recent: int = 256,
        path: str | os.PathLike[str] | None = None,
        seed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if recent < 1:
            raise ArgumentError(f"recent: expected 1 or more, got {recent}")
        limits = _limits(forwards, bytes, money, price, price_per_byte)
        self._costs = [(limit.fixed, limit.per_byte) for limit in limits]
        self._clock = clock
        self._lock = Lock()
        self._closed = False
        self._ranks = RecentRanks(recent, seed)
        seconds = {limit.name: limit.rate.seconds for limit in limits}
        self._file = None if path is None else BudgetFile(path, seconds, clock, wall_clock)
        levels: Mapping[str, float] = {} if self._file is None else self._file.read()
        now = clock()
        self._buckets = {
            name: TokenBucket(rate.amount, rate.seconds, now, levels.get(name, 1.0)) for name, rate, _, _ in limits
        }
        self._ordered = tuple(self._buckets.values())
        if self._file is not None:
            self._file.reserve(self._tokens(), durable=True)

    def admits(self, advantage: float, confidence: float, nbytes: int) -> bool:
        """Whether to forward an input; if so, it is paid for.

        Args:
            advantage: expected accuracy of the local model minus the remote's.
            confidence: of the local model.
            nbytes: size of what would be sent.
        """
        if not nbytes >= 0:
            raise ArgumentError(f"nbytes: expected 0 or more, got {nbytes}")
        key = (float(advantage), float(confidence))
        if math.isnan(key[0]) or math.isnan(key[1]):
            key = _WORST
        costs = self._costs_of(nbytes)
        with self._lock:
            now, share, payable = self._clock(), 1.0, not self._closed
            rank = self._ranks.add(key)
            for bucket, cost in zip(self._ordered, costs, strict=True):
                bucket.advance(now)
                bucket.want(cost)
                share = min(share, bucket.share())
                payable = payable and cost <= bucket.tokens
            return payable and rank < share and self._pay(costs)

    def refund(self, nbytes: int) -> None:
        """Give back what `admits` took for an input of this size that was never sent."""
        with self._lock:
            self._give_back(self._costs_of(nbytes))

    @property
    def levels(self) -> dict[str, float]:
        """How full each bucket is, in [0, 1], by name: `forwards/60s`, `money/86400s`."""
        with self._lock:
            self._advance()
            return {name: bucket.tokens / bucket.amount for name, bucket in self._buckets.items()}

    def close(self) -> None:
        """Write the levels as they are, if there is a file. Nothing is admitted any more."""
        with self._lock:
            if self._file is not None and not self._closed:
                self._advance()
                self._file.settle(self._tokens())
            self._closed = True

    def __enter__(self) -> Budget:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _costs_of(self, nbytes: int) -> list[float]:
        return [fixed + per_byte * nbytes for fixed, per_byte in self._costs]

    def _pay(self, costs: list[float]) -> bool:
        for bucket, cost in zip(self._ordered, costs, strict=True):
            bucket.tokens -= cost
        paid = self._file is None or self._file.spend(costs, self._tokens)
        if not paid:
            self._give_back(costs)
        return paid

    def _give_back(self, costs: list[float]) -> None:
        for bucket, cost in zip(self._ordered, costs, strict=True):
            bucket.tokens = min(bucket.amount, bucket.tokens + cost)

    def _advance(self) -> None:
        now = self._clock()
        for bucket in self._ordered:
            bucket.advance(now)

    def _tokens(self) -> list[tuple[float, float]]:
        return [(bucket.tokens, bucket.amount) for bucket in self._ordered]


_Rates = Rate | Sequence[Rate] | None


def _limits(forwards: _Rates, size: _Rates, money: _Rates, price: float, price_per_byte: float) -> list[_Limit]:
    for name, value in (("price", price), ("price_per_byte", price_per_byte)):
        if not (is_finite(value) and value >= 0):
            raise ArgumentError(f"{name}: expected a finite number of 0 or more, got {value!r}")
    if money is not None and price == price_per_byte == 0:
        raise ArgumentError("price: expected what a forward or a byte of it costs, since money is limited, got 0")
    if money is None and (price or price_per_byte):
        raise ArgumentError("money: expected a rate, since there is a price, got None")
    limits = [
        *_limits_of("forwards", forwards, 1.0, 0.0),
        *_limits_of("bytes", size, 0.0, 1.0),
        *_limits_of("money", money, price, price_per_byte),
    ]
    names = [limit.name for limit in limits]
    if not limits or len(set(names)) < len(names):
        raise ArgumentError(f"budget: expected one or more rates, no two of a kind over the same time, got {names}")
    return limits


def _limits_of(kind: str, rates: _Rates, fixed: float, per_byte: float) -> list[_Limit]:
    given = () if rates is None else rates if isinstance(rates, Sequence) else (rates,)
    for rate in given:
        if not isinstance(rate, Rate):
            raise ArgumentError(f"{kind}: expected a Rate or several, got {rate!r}")
        if rate.amount < fixed:
            raise ArgumentError(f"{kind}: expected an amount that pays for one forward, {fixed:g}, got {rate.amount:g}")
    return [_Limit(f"{kind}/{rate.seconds:g}s", rate, fixed, per_byte) for rate in given]
