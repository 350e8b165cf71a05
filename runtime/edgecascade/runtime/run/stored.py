"""Inputs that are all there, such as files: answered as a stream, with refusals in their places."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.run.given import Answered, Given, Refused
from edgecascade.types.errors import InputError

__all__ = ["AHEAD", "answer_stored"]

AHEAD = 128  # inputs: as many as can be under way at once, four requests of 32


def answer_stored(
    cascade: Cascade, items: Iterable[Given | Refused], *, stopped: Callable[[], bool] = lambda: False
) -> Iterator[Answered | Refused]:
    """What becomes of each, in order, while many forwards are under way.

    Args:
        cascade: that answers.
        items: the inputs, and what could not be read; taken as room allows.
        stopped: whether no more are to be taken. Those that are, are still answered.
    """
    source = _Source(items, stopped)
    while not source.ended:
        try:
            for answer in cascade.stream(source, ahead=AHEAD):
                one = source.taken.popleft()
                yield Answered(one.name, one.key, answer)
        except InputError as error:  # those before it have been answered: it is the only one that is left
            one = source.taken.popleft()
            yield Refused(one.name, str(error), one.key)
        if source.refused is not None:
            yield source.refused


class _Source:
    """Gives the inputs, and pauses at each that could not be read, until it is iterated over again."""

    def __init__(self, items: Iterable[Given | Refused], stopped: Callable[[], bool]) -> None:
        self._items, self._stopped = iter(items), stopped
        self.taken: deque[Given] = deque()
        self.refused: Refused | None = None
        self.ended = False

    def __iter__(self) -> Iterator[Any]:
        self.refused = None
        while not self._stopped():
            one = next(self._items, None)
            if one is None:
                break
            if isinstance(one, Refused):
                self.refused = one
                return
            self.taken.append(Given(one.name, None, one.key))
            yield one.x
        self.ended = True
