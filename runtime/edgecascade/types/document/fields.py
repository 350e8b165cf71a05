"""Read parts of a document that other parts are made of: numbers, pairs, names and estimates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgecascade.types.estimate import Estimate

__all__ = ["numbers", "read_estimate", "strings", "three", "two", "without_none"]


def without_none(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object of JSON without the keys whose value is None."""
    return {name: value for name, value in found.items() if value is not None}


def read_estimate(found: Mapping[str, Any]) -> Estimate:
    """Read an estimate from its JSON object."""
    value = math.nan if found["value"] is None else float(found["value"])
    return Estimate(value, float(found["low"]), float(found["high"]), int(found["n"]))


def strings(found: Sequence[Any]) -> tuple[str, ...]:
    """Read a list of texts."""
    if isinstance(found, (str, Mapping)):
        raise TypeError(f"expected a list, got {type(found).__name__}")
    return tuple(str(one) for one in found)


def numbers(found: Sequence[Any]) -> tuple[float, ...]:
    """Read a list of numbers."""
    return tuple(float(one) for one in found)


def two(found: Sequence[Any]) -> tuple[float, float]:
    """Read two numbers."""
    low, high = numbers(found)
    return low, high


def three(found: Sequence[Any]) -> tuple[float, float, float]:
    """Read three numbers."""
    first, second, third = numbers(found)
    return first, second, third
