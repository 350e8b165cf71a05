"""Why there is no verdict of the remote."""

from __future__ import annotations

from typing import NamedTuple

from edgecascade.types.answer import Reason

__all__ = ["Failure"]


class Failure(NamedTuple):
    """A reason and one sentence.

    Attributes:
        reason: as the answer will give it.
        detail: for a person; it may repeat what the remote said.
        later: whether the same input may well be answered if it is sent later.
        queued: the key under which the input was kept to be sent later, or empty.
    """

    reason: Reason
    detail: str
    later: bool = False
    queued: str = ""
