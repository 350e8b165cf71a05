"""Counts that add up: every input is kept or forwarded, and every forward ends for one reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecascade.runtime.durations import Durations
from edgecascade.types.answer import Reason, Source

__all__ = ["Counts"]


@dataclass(frozen=True)
class Counts:
    """A snapshot.

    Attributes:
        answers: how many there were of each source and reason that there were any of.
        kept_seconds: how long the answers took that nothing was sent for.
        forwarded_seconds: how long the others took.
    """

    answers: Mapping[tuple[Source, Reason], int]
    kept_seconds: Durations
    forwarded_seconds: Durations

    @property
    def reasons(self) -> dict[Reason, int]:
        """Answers by reason."""
        return {one: sum(n for (_, reason), n in self.answers.items() if reason is one) for one in Reason}

    @property
    def sources(self) -> dict[Source, int]:
        """Answers by source."""
        return {one: sum(n for (source, _), n in self.answers.items() if source is one) for one in Source}

    @property
    def inputs(self) -> int:
        """All inputs."""
        return sum(self.answers.values())

    @property
    def kept(self) -> int:
        """Inputs that were not to leave the device."""
        return self.kept_seconds.count

    @property
    def forwarded(self) -> int:
        """Inputs that were: all that were not kept."""
        return self.inputs - self.kept
