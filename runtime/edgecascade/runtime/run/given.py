"""An input on its way from where it comes from to its answer."""

from __future__ import annotations

from typing import Any, NamedTuple

from edgecascade.types.answer import Answer

__all__ = ["Answered", "Given", "Refused"]


class Given(NamedTuple):
    """One input.

    Attributes:
        name: says where it came from.
        x: as `Cascade.predict` takes it.
        key: the application's own name for it.
    """

    name: str
    x: Any
    key: str | None = None


class Refused(NamedTuple):
    """What cannot be answered.

    Attributes:
        name: says where it came from.
        error: one sentence.
        key: the application's own name for it.
    """

    name: str
    error: str
    key: str | None = None


class Answered(NamedTuple):
    """An input with its answer; of the input itself, only what names it."""

    name: str
    key: str | None
    answer: Answer
