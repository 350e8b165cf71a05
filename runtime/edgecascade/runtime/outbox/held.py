"""What the outbox holds, in memory: all but the bytes, which are on disk."""

from __future__ import annotations

import math

from edgecascade.runtime.outbox.records import Answered, Ending, Kept, Waiting
from edgecascade.runtime.outbox.store import Contents

__all__ = ["Held"]


class Held:
    """Inputs and answers by key, the oldest first, and how others ended. For one thread at a time.

    Attributes:
        waiting: inputs.
        answered: answers that were not delivered.
        size: bytes of both.
        totals: what ended, by how.
    """

    def __init__(self, contents: Contents) -> None:
        self.waiting = {one.key: one for one in contents.waiting}
        self.answered = {one.key: one for one in contents.answered}
        self.totals = {ending: contents.totals.get(ending, 0) for ending in Ending}
        self.size = sum(one.size for one in self.all())

    def __len__(self) -> int:
        return len(self.waiting) + len(self.answered)

    def __contains__(self, one: Kept) -> bool:
        """Whether it is this very one, and not another under its key."""
        found: Kept | None = (self.waiting if isinstance(one, Waiting) else self.answered).get(one.key)
        return found is one

    def all(self) -> list[Kept]:
        """Both, as a copy."""
        return [*self.waiting.values(), *self.answered.values()]

    def add(self, one: Kept) -> None:
        """The newest."""
        if isinstance(one, Waiting):
            self.waiting[one.key] = one
        elif isinstance(one, Answered):
            self.answered[one.key] = one
        self.size += one.size

    def remove(self, one: Kept) -> None:
        """Let go of it."""
        del (self.waiting if isinstance(one, Waiting) else self.answered)[one.key]
        self.size -= one.size

    def lose(self) -> None:
        """Everything went with a damaged file."""
        self.totals[Ending.DAMAGED] += len(self)
        self.waiting, self.answered, self.size = {}, {}, 0

    def take(self, now: float) -> Answered | None:
        """The oldest answer that may be delivered and that nobody has taken."""
        for one in self.answered.values():
            if not one.taken and one.ready <= now:
                one.taken = True
                return one
        return None

    def due_at(self) -> tuple[float, float]:
        """When the next input may be sent, and the next answer delivered; infinity if there is none."""
        sent = min((one.ready for one in self.waiting.values()), default=math.inf)
        return sent, min((one.ready for one in self.answered.values() if not one.taken), default=math.inf)

    def older(self, since: float) -> list[Kept]:
        """What came before, but for answers that are being delivered."""
        return [one for one in self.all() if _begun(one) < since]


def _begun(one: Kept) -> float:
    if isinstance(one, Answered):
        return math.inf if one.taken else max(one.since, one.arrived)
    return one.since
