"""A token bucket that also knows what share of its demand it can sustain."""

from __future__ import annotations

from math import exp

__all__ = ["TokenBucket"]

_COMFORTABLE = 0.5  # the level from which on everything is admitted
_MEMORY = 0.25  # of the bucket's window: long enough to see through a burst, short enough to see it before it is paid


class TokenBucket:
    """Full, it holds `amount`; empty, it is full again after `seconds`. Not safe to share between threads.

    In any T seconds no more than `amount * (1 + T / seconds)` can be taken: what it held, and what came in.

    Args:
        amount: the most tokens it holds.
        seconds: the time in which as many come in.
        now: seconds on the clock that is used from here on.
        level: how full it is at first, in [0, 1].
    """

    __slots__ = ("_demand", "_now", "_seen", "amount", "seconds", "tokens")

    def __init__(self, amount: float, seconds: float, now: float, level: float = 1.0) -> None:
        self.amount, self.seconds = amount, seconds
        self.tokens = amount * level
        self._now = now
        self._demand = 0.0  # tokens asked for, each weighted by exp(-age / memory)
        self._seen = 0.0  # the same weight of all the time watched, over the memory: 1 once it has seen enough

    def advance(self, now: float) -> None:
        """Let in what has come since; a clock that went back brings nothing."""
        passed = now - self._now
        if passed > 0:
            self._now = now
            self.tokens = min(self.amount, self.tokens + passed * self.amount / self.seconds)
            kept = exp(-passed / (_MEMORY * self.seconds))
            self._demand *= kept
            self._seen = 1.0 - (1.0 - self._seen) * kept

    def want(self, cost: float) -> None:
        """Count a candidate of this cost as demand, whether or not it will be admitted."""
        self._demand += cost

    def share(self) -> float:
        """The share of the demand to admit by now, in [0, 1].

        With s the share that the inflow can sustain, it is s^((1 - x) / 2x), where x is the level over one half: all
        of it at one half, s itself at one sixth, nothing when empty. So a steady overload, which s describes, comes to
        rest at one sixth, and one that s does not describe (yet) comes to rest above or below that.
        """
        x = self.tokens / (_COMFORTABLE * self.amount)
        if x >= 1.0:
            return 1.0
        if x <= 0.0:
            return 0.0
        sustained = _MEMORY * self.amount * self._seen / self._demand if self._demand > 0.0 else 1.0
        return 1.0 if sustained >= 1.0 else float(sustained ** ((1.0 - x) / (2.0 * x)))
