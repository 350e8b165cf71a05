"""Limit forwards in time: as the budget empties, an input must gain more from the remote to be forwarded."""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from random import Random
from threading import RLock
from types import TracebackType
from typing import TypeAlias

from edgecascade.runtime.budget_file import BudgetFile
from edgecascade.types.errors import ArgumentError

__all__ = ["Budget", "Rate", "TokenBucket"]

_RECENT = 256  # candidates among which the newest is ranked
_FULL_ENOUGH = 0.5  # the level from which on everything is admitted
_MEMORY = 0.25  # of a bucket's window: long enough to average a burst, short enough to react before the bucket is empty

_Key = tuple[float, float]  # advantage and confidence
_FIRST: _Key = (-math.inf, -math.inf)  # the key of a NaN


@dataclass(frozen=True)
class Rate:
    """An amount per time, such as 100 forwards a minute.

    Over any T seconds at most `amount * (1 + T / seconds)` is spent: at most `amount` saved before, and the inflow.
    In the long run that is the amount per time; over a single window it can be twice the amount.

    Attributes:
        amount: forwards, bytes or money, above 0.
        seconds: the time for it, above 0.

    Raises:
        ArgumentError: a value is not a finite number above 0.
    """

    amount: float
    seconds: float

    def __post_init__(self) -> None:
        for name, value in (("amount", self.amount), ("seconds", self.seconds)):
            if not (_is_finite(value) and value > 0):
                raise ArgumentError(f"{name}: expected a finite number above 0, got {value!r}")

    @classmethod
    def per_minute(cls, amount: float) -> Rate:
        """Return this amount per 60 seconds."""
        return cls(amount, 60.0)

    @classmethod
    def per_hour(cls, amount: float) -> Rate:
        """Return this amount per 3,600 seconds."""
        return cls(amount, 3600.0)

    @classmethod
    def per_day(cls, amount: float) -> Rate:
        """Return this amount per 86,400 seconds."""
        return cls(amount, 86400.0)


_Rates: TypeAlias = Rate | Sequence[Rate] | None


class Budget:
    """Token buckets over forwards, bytes and money, each over one or more windows; a forward must pay in all of them.

    While every bucket is at least half full, every input that the policy would forward is admitted. Below that, only
    inputs that rank low enough among the last 256 candidates are: NaN first, then the lowest advantage, then the
    lowest confidence. The rank that is low enough falls with the level (see `TokenBucket.share`), so that the inflow
    goes to the inputs that gain most, not to those that come first. An amount that pays for fewer than about four
    forwards leaves no choice, and is spent first come, first served. An input that costs more than a whole amount is
    never admitted.

    With a `path`, a process that crashes and starts again does not get a new budget. Before tokens are spent, 1/64 of
    each amount is written off in the file, so a crash loop can spend at most the bound of `Rate` and one such part; a
    crash forfeits the rest of its part. The file is written when a part is used up, and flushed to the disk when the
    budget is made and when it is closed; a power cut undoes what the system had not written itself (on Linux, up to
    30 seconds) beyond the first part. While the file cannot be written, nothing is admitted.

    Several threads may use it; `path` belongs to one process. A context manager: leaving it closes it.

    Args:
        forwards: rates for the number of forwarded inputs.
        bytes: rates for the bytes of these inputs.
        money: rates for the cost, in the currency of `price`.
        price: cost of one forward.
        path: a file that stores the levels. If it is missing, the buckets start full; if it is damaged, empty.
        seed: seed of the random draws between inputs of equal rank.
        clock: returns seconds that never go back.
        wall_clock: returns seconds since 1970, which may be wrong by any amount, and jump. After a restart, a clock
            that was set back brings no tokens; one that was set forward, to a time that it never showed before, brings
            at most full buckets.

    Raises:
        ArgumentError: there is no limit, an amount cannot pay for one forward, or `money` and `price` do not go
            together.
    """

    def __init__(
        self,
        *,
        forwards: _Rates = None,
        bytes: _Rates = None,
        money: _Rates = None,
        price: float = 0.0,
        path: str | os.PathLike[str] | None = None,
        seed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not (_is_finite(price) and price >= 0):
            raise ArgumentError(f"price: expected a finite number of 0 or more, got {price!r}")
        if (money is None) != (price == 0):
            raise ArgumentError(f"price: expected if and only if `money` is given, got {price!r} and {money!r}")
        limits = [
            *_limits("forwards", forwards, 1.0),
            *_limits("bytes", bytes, None),
            *_limits("money", money, price),
        ]
        names = [name for name, _, _ in limits]
        if not limits or len(set(names)) < len(names):
            raise ArgumentError(f"budget: expected one or more rates, no two of a kind over the same time, got {names}")
        self._names, self._costs = names, [cost for _, _, cost in limits]
        self._clock = clock
        self._lock = RLock()
        self._closed = False
        self._ranks = _RecentRanks(seed)
        seconds = {name: rate.seconds for name, rate, _ in limits}
        self._file = None if path is None else BudgetFile(path, seconds, clock, wall_clock)
        levels = {} if self._file is None else self._file.read()
        now = clock()
        self._buckets = [TokenBucket(rate.amount, rate.seconds, now, levels.get(name, 1.0)) for name, rate, _ in limits]
        if self._file is not None:
            self._file.reserve(self._tokens(), durable=True)

    def admits(self, advantage: float, confidence: float, nbytes: int) -> bool:
        """Return whether to forward an input, which is paid for if so.

        Args:
            advantage: expected accuracy of the local answer minus that of the answer after forwarding.
            confidence: confidence of the local model.
            nbytes: size of the input as it would be sent.
        """
        if not nbytes >= 0:
            raise ArgumentError(f"nbytes: expected 0 or more, got {nbytes}")
        key = (float(advantage), float(confidence))
        if math.isnan(key[0]) or math.isnan(key[1]):
            key = _FIRST
        costs = self._costs_of(nbytes)
        with self._lock:
            now, share, payable = self._clock(), 1.0, not self._closed
            rank = self._ranks.add(key)
            for bucket, cost in zip(self._buckets, costs, strict=True):
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
            return {
                name: bucket.tokens / bucket.amount for name, bucket in zip(self._names, self._buckets, strict=True)
            }

    def close(self) -> None:
        """Write the levels to the file, if there is one. Nothing is admitted afterwards."""
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
        return [nbytes if cost is None else cost for cost in self._costs]

    def _pay(self, costs: list[float]) -> bool:
        for bucket, cost in zip(self._buckets, costs, strict=True):
            bucket.tokens -= cost
        paid = self._file is None or self._file.spend(costs, self._tokens)
        if not paid:
            self._give_back(costs)
        return paid

    def _give_back(self, costs: list[float]) -> None:
        for bucket, cost in zip(self._buckets, costs, strict=True):
            bucket.tokens = min(bucket.amount, bucket.tokens + cost)

    def _advance(self) -> None:
        now = self._clock()
        for bucket in self._buckets:
            bucket.advance(now)

    def _tokens(self) -> list[tuple[float, float]]:
        return [(bucket.tokens, bucket.amount) for bucket in self._buckets]


def _limits(kind: str, rates: _Rates, cost: float | None) -> list[tuple[str, Rate, float | None]]:
    """Return the name, the rate and the cost of a forward for each limit of a kind; None costs the input's bytes."""
    given = () if rates is None else rates if isinstance(rates, Sequence) else (rates,)
    for rate in given:
        if not isinstance(rate, Rate):
            raise ArgumentError(f"{kind}: expected a Rate or several, got {rate!r}")
        if cost is not None and rate.amount < cost:
            raise ArgumentError(f"{kind}: expected an amount that pays for one forward, {cost:g}, got {rate.amount:g}")
    return [(f"{kind}/{rate.seconds:g}s", rate, cost) for rate in given]


class TokenBucket:
    """A token bucket that also knows what share of its demand it can sustain. Not thread-safe.

    Full, it holds `amount`; empty, it is full again after `seconds`. In any T seconds at most
    `amount * (1 + T / seconds)` can be taken: the tokens that it held and those that came in.

    Args:
        amount: largest number of tokens that it holds.
        seconds: the time in which as many come in.
        now: the time on the clock that is used from here on.
        level: how full it is at first, in [0, 1].
    """

    __slots__ = ("_demand", "_now", "_seen", "amount", "seconds", "tokens")

    def __init__(self, amount: float, seconds: float, now: float, level: float = 1.0) -> None:
        self.amount, self.seconds = amount, seconds
        self.tokens = amount * level
        self._now = now
        self._demand = 0.0  # tokens asked for, each weighted by exp(-age / memory)
        self._seen = 0.0  # the same weight of all the time watched, relative to the memory: 1 in the long run

    def advance(self, now: float) -> None:
        """Add the tokens that came in since the last call; a clock that went back adds none."""
        passed = now - self._now
        if passed > 0:
            self._now = now
            self.tokens = min(self.amount, self.tokens + passed * self.amount / self.seconds)
            weight = math.exp(-passed / (_MEMORY * self.seconds))
            self._demand *= weight
            self._seen = 1.0 - (1.0 - self._seen) * weight

    def want(self, cost: float) -> None:
        """Count a candidate of this cost as demand, whether or not it will be admitted."""
        self._demand += cost

    def share(self) -> float:
        """Return the share of the demand to admit now, in [0, 1].

        With s the share that the inflow can sustain, it is s^((1 - x) / 2x), where x is twice the level: all of the
        demand at one half, s itself at one sixth, nothing when empty. So a steady overload, which s describes,
        settles at one sixth, and one that s does not describe (yet) settles above or below.
        """
        x = self.tokens / (_FULL_ENOUGH * self.amount)
        if x >= 1.0:
            return 1.0
        if x <= 0.0:
            return 0.0
        sustained = _MEMORY * self.amount * self._seen / self._demand if self._demand > 0.0 else 1.0
        return 1.0 if sustained >= 1.0 else float(sustained ** ((1.0 - x) / (2.0 * x)))


class _RecentRanks:
    """The keys of the last candidates, in order. Not thread-safe."""

    def __init__(self, seed: int | None) -> None:
        self._arrived: deque[_Key] = deque()
        self._sorted: list[_Key] = []
        self._draw = Random(seed).random

    def add(self, key: _Key) -> float:
        """Add a key, and return its rank among the others, in [0, 1), lowest first.

        Equal keys share their places by lot, so that of keys from one distribution, continuous or discrete, the share
        s ranks below s, for every s and from the first key on: the smoothed p-value of conformal prediction (Vovk et
        al., Algorithmic Learning in a Random World, section 2.2).
        """
        below = bisect_left(self._sorted, key)
        equal = bisect_right(self._sorted, key, lo=below) - below + 1
        rank = (below + self._draw() * equal) / (len(self._sorted) + 1)
        if len(self._arrived) == _RECENT:
            del self._sorted[bisect_left(self._sorted, self._arrived.popleft())]
        self._arrived.append(key)
        insort(self._sorted, key)
        return rank


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
