"""What the outbox writes down, and the words for what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Answered", "Cause", "Ending", "Kept", "Waiting"]


class Cause(str, Enum):
    """Why an input was not kept."""

    FULL = "full"  # by count or bytes: the older ones were acknowledged, so that the newest is refused
    DISK_FULL = "disk full"
    READ_ONLY = "read-only"
    DISK_ERROR = "disk error"
    BUSY = "busy"  # the file was being written for longer than a caller may wait
    DAMAGED = "damaged"  # the file was found damaged; the next input goes to a new one
    UNSUPPORTED = "unsupported"  # no input that can be written down
    CLOSED = "closed"
    FORKED = "forked"  # in a child of the process that opened the file
    OTHER = "other"


class Ending(str, Enum):
    """What became of an input that was acknowledged and is not kept any more."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    EXPIRED = "expired"
    UNTAKEN = "untaken"
    DAMAGED = "damaged"


@dataclass(kw_only=True)
class Kept:
    """What is on disk, all but its bytes. Times are by `Ages`.

    Attributes:
        id: higher for what came later.
        key: the application's.
        since: when the input came.
        size: bytes on disk, about.
        ready: when it may be sent, or delivered.
        tries: how often the remote has refused it, or the application not taken it.
        pause: seconds by which it was put off last.
    """

    id: int
    key: str
    since: float
    size: int
    ready: float = 0.0
    tries: int = 0
    pause: float = 0.0


@dataclass(kw_only=True)
class Waiting(Kept):
    """An input that waits for the remote. Those of one `kind` can be sent in one request."""

    kind: str


@dataclass(kw_only=True)
class Answered(Kept):
    """An answer that waits for the application.

    Attributes:
        arrived: when it came.
        taken: whether it is being delivered.
    """

    arrived: float
    taken: bool = False
