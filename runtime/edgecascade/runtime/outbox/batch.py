"""Which inputs leave together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from edgecascade.runtime.outbox.records import Waiting

__all__ = ["batch"]


def batch(waiting: Sequence[Waiting], now: float, most: int, most_bytes: int) -> list[Waiting]:
    """The oldest input that may be sent, and others of its kind.

    Those that were put off come after those that were put off for less: one that never gets through stops no other.

    Args:
        waiting: by age, the oldest first.
        now: those that are ready by then may be sent.
        most: inputs in one request, 1 or more.
        most_bytes: of them together; an input that is larger leaves alone.
    """
    ready = [one for one in waiting if one.ready <= now]
    if not ready:
        return []
    first = min(ready, key=_pause)
    alike = islice((one for one in ready if (one.kind, one.pause) == (first.kind, first.pause)), most)
    group, size = list[Waiting](), 0
    for one in alike:
        size += one.size
        if group and size > most_bytes:
            break
        group.append(one)
    return group


def _pause(one: Waiting) -> float:
    return one.pause
