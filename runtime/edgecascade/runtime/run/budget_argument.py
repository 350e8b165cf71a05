"""A budget as it is written on a command line: `100/min`, `5MB/day`, `2.50 money/day`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgecascade.runtime.budget import Rate
from edgecascade.types.errors import ArgumentError

if TYPE_CHECKING:
    from edgecascade.runtime.budget import Budget

__all__ = ["read_budget", "read_rate"]

_UNITS = {
    **dict.fromkeys(("", "forward", "forwards"), ("forwards", 1)),
    **dict.fromkeys(("b", "byte", "bytes"), ("bytes", 1)),
    **{f"{prefix}b": ("bytes", 1000 ** (power + 1)) for power, prefix in enumerate("kmgt")},
    **{f"{prefix}ib": ("bytes", 1024 ** (power + 1)) for power, prefix in enumerate("kmgt")},
    "money": ("money", 1),
}
_SECONDS = {
    **dict.fromkeys(("s", "sec", "second"), 1),
    **dict.fromkeys(("min", "minute"), 60),
    **dict.fromkeys(("h", "hour"), 3600),
    **dict.fromkeys(("d", "day"), 86400),
}
_RATE = re.compile(r"\s*(?P<amount>[0-9]+(\.[0-9]+)?)\s*(?P<unit>[a-z]*)\s*/\s*(?P<time>[a-z]+)\s*", re.IGNORECASE)


def read_rate(text: str) -> tuple[str, Rate]:
    """What is limited (`forwards`, `bytes` or `money`), and the rate.

    Raises:
        ArgumentError: it is written in no such way.
    """
    match = _RATE.fullmatch(text)
    kind, scale = _UNITS.get(match["unit"].lower(), ("", 0)) if match else ("", 0)
    seconds = _SECONDS.get(match["time"].lower(), 0) if match else 0
    if match is None or not kind or not seconds or not float(match["amount"]) > 0:
        raise ArgumentError(
            "--budget: expected an amount above 0 per s, min, hour or day, such as 100/min, 5MB/day or "
            f"'2.50 money/day', got {text!r}"
        )
    return kind, Rate(float(match["amount"]) * scale, float(seconds))


def read_budget(
    texts: Iterable[str], *, price: float | None = None, path: str | os.PathLike[str] | None = None
) -> Budget:
    """The budget of all these rates together.

    Args:
        texts: one or more rates.
        price: of one forward.
        path: a file that keeps the levels.

    Raises:
        ArgumentError: one cannot mean anything, or they do not go together.
    """
    from edgecascade.runtime.budget import Budget

    rates: dict[str, list[Rate]] = {"forwards": [], "bytes": [], "money": []}
    for text in texts:
        kind, rate = read_rate(text)
        rates[kind].append(rate)
    if bool(rates["money"]) != (price is not None):
        raise ArgumentError("--price: expected what one forward costs, if and only if a --budget is of money")
    return Budget(
        forwards=rates["forwards"] or None,
        bytes=rates["bytes"] or None,
        money=rates["money"] or None,
        price=price or 0.0,
        path=path,
    )
