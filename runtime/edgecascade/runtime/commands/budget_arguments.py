"""Arguments that limit forwards in time."""

from __future__ import annotations

import math
import re
from argparse import Namespace
from typing import Any

from edgecascade.cli import rare
from edgecascade.runtime.budget import Budget, Rate
from edgecascade.runtime.commands.remote_arguments import flag
from edgecascade.types.errors import ArgumentError

__all__ = ["add_budget_arguments", "budget_of", "check_budget_arguments", "read_rate", "with_flag"]

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


def add_budget_arguments(add: Any) -> None:
    """Add the arguments with the `add_argument` of a parser or of a group."""
    budget = "Limit on forwards by s, min, h or day (repeatable): 100/min, 5MB/day, '1 money/h'."
    add("--budget", metavar="RATE", action="append", default=[], help=budget)
    rare(add("--price", metavar="MONEY", type=float, help="Price of one forward, for a --budget of money."))
    rare(add("--budget-file", metavar="FILE", help="File that stores the level of the budget across restarts."))


def check_budget_arguments(arguments: Namespace) -> None:
    """Check the arguments.

    Raises:
        ArgumentError: an argument is out of range, or lacks another that it needs.
    """
    if arguments.price is not None and not 0 < arguments.price < math.inf:
        raise ArgumentError(f"--price: expected a number above 0, got {arguments.price:g}")
    for name in ("price", "budget_file"):
        if getattr(arguments, name) is not None and not arguments.budget:
            raise ArgumentError(f"{flag(name)}: expected with --budget, got no budget")


def read_rate(text: str) -> tuple[str, Rate]:
    """Return what a rate limits (`forwards`, `bytes` or `money`), and the rate.

    Args:
        text: such as `100/min`, `5MB/day` or `2.50 money/day`.

    Raises:
        ArgumentError: the text has another form.
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


def budget_of(arguments: Namespace) -> Budget | None:
    """Return the budget that the arguments describe, or None without `--budget`.

    Raises:
        ArgumentError: a rate has another form, or the arguments do not go together.
    """
    if not arguments.budget:
        return None
    rates: dict[str, list[Rate]] = {"forwards": [], "bytes": [], "money": []}
    for text in arguments.budget:
        kind, rate = read_rate(text)
        rates[kind].append(rate)
    if bool(rates["money"]) != (arguments.price is not None):
        raise ArgumentError(f"--price: expected with a --budget of money and only then, got {arguments.price}")
    forwards, sent, money = (several or None for several in rates.values())
    price, path = arguments.price or 0.0, arguments.budget_file
    try:
        return Budget(forwards=forwards, bytes=sent, money=money, price=price, path=path)
    except ArgumentError as error:
        raise with_flag(error, {"path": "--budget-file"}) from error


def with_flag(error: ArgumentError, flags: dict[str, str]) -> ArgumentError:
    """Return the error with the option in place of the argument that it names."""
    name, _, rest = str(error).partition(": ")
    return ArgumentError(f"{flags[name]}: {rest}") if name in flags else error
