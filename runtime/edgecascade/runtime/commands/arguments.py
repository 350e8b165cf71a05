"""Argument types that several commands share."""

from __future__ import annotations

from argparse import ArgumentTypeError

__all__ = ["share"]


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ArgumentTypeError(f"expected a share from 0 to 1, such as 0.2, got {text!r}")
    return number
