"""Many inputs, answered in order, while many forwards are under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["in_order"]

X = TypeVar("X")
Started = TypeVar("Started")
Done = TypeVar("Done")


def in_order(
    inputs: Iterable[X],
    *,
    start: Callable[[X], Started],
    ready: Callable[[Started], bool],
    finish: Callable[[Started], Done],
    ahead: int,
) -> Iterator[Done]:
    """Start each input, and finish them in the order in which they came.

    Args:
        inputs: taken one by one, and no sooner than there is room: back pressure.
        start: begins with one, without waiting.
        ready: whether finishing would not wait.
        finish: waits, by a deadline.
        ahead: the most that are started and not finished.

    Raises:
        Exception: what `start` raises; first, all that was started before is finished and given.
    """
    started: deque[Started] = deque()
    try:
        for x in inputs:
            try:
                started.append(start(x))
            except Exception:
                while started:
                    yield finish(started.popleft())
                raise
            while started and (len(started) >= ahead or ready(started[0])):
                yield finish(started.popleft())
        while started:
            yield finish(started.popleft())
    finally:  # whoever read the answers has gone: what was started is still counted
        for one in started:
            finish(one)
