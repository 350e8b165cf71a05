"""Counts of the outbox that add up: what was acknowledged is kept, or ended for one reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecascade.runtime.outbox.records import Cause

__all__ = ["OutboxCounts"]


@dataclass(frozen=True)
class OutboxCounts:
    """A snapshot. All but the last three are kept on disk with what they count.

    Attributes:
        waiting: inputs that wait for the remote.
        waiting_bytes: their size, and that of the answers not delivered.
        answered: answers not delivered yet.
        delivered: answers that the application has taken.
        refused: inputs that the remote refused for good.
        expired: inputs and answers that became too old.
        untaken: answers that `on_late` failed to take too often.
        damaged: inputs and answers that were lost as the file was damaged.
        unkept: calls of `put` that kept nothing, by cause, in this process.
        damaged_files: files moved aside, in this process.
        unusable: why nothing can be kept at all; None if it can.
    """

    waiting: int
    waiting_bytes: int
    answered: int
    delivered: int
    refused: int
    expired: int
    untaken: int
    damaged: int
    unkept: Mapping[Cause, int]
    damaged_files: int
    unusable: Cause | None

    @property
    def acknowledged(self) -> int:
        """All inputs that were kept: each is exactly one of the others."""
        ended = self.delivered + self.refused + self.expired + self.untaken + self.damaged
        return self.waiting + self.answered + ended

    @property
    def dropped_full(self) -> int:
        """Inputs that were not kept because the outbox was full."""
        return self.unkept[Cause.FULL]

    @property
    def failed_writes(self) -> int:
        """Inputs that were not kept for any other cause."""
        return sum(self.unkept.values()) - self.dropped_full
