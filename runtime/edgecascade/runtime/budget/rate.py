"""An amount per time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from edgecascade.types.errors import ArgumentError

__all__ = ["Rate", "is_finite"]


@dataclass(frozen=True)
class Rate:
    """An amount per time, such as 100 forwards a minute.

    Over any T seconds no more than `amount * (1 + T / seconds)` is spent: what had been saved up, at most `amount`, and
    what came in. In the long run that is the amount per time; over one single window it can be twice the amount.

    Attributes:
        amount: forwards, bytes or money, above 0.
        seconds: the time for it, above 0.

    Raises:
        ArgumentError: one of them is not.
    """

    amount: float
    seconds: float

    def __post_init__(self) -> None:
        for name, value in (("amount", self.amount), ("seconds", self.seconds)):
            if not (is_finite(value) and value > 0):
                raise ArgumentError(f"{name}: expected a finite number above 0, got {value!r}")

    @classmethod
    def per_second(cls, amount: float) -> Rate:
        """This much a second."""
        return cls(amount, 1.0)

    @classmethod
    def per_minute(cls, amount: float) -> Rate:
        """This much a minute."""
        return cls(amount, 60.0)

    @classmethod
    def per_hour(cls, amount: float) -> Rate:
        """This much an hour."""
        return cls(amount, 3600.0)

    @classmethod
    def per_day(cls, amount: float) -> Rate:
        """This much in 24 hours."""
        return cls(amount, 86400.0)


def is_finite(value: object) -> bool:
    """Whether it is a number, and neither NaN nor infinite."""
    return isinstance(value, Real) and math.isfinite(value)
