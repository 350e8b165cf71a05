"""Counts that add up: every input is kept or forwarded, and every forward ends for one reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

from edgecascade.runtime.answer import Answer, Reason, Source

__all__ = ["Counts", "Tally"]


@dataclass(frozen=True)
class Counts:
    """A snapshot.

    Attributes:
        reasons: answers by reason.
        sources: answers by source.
    """

    reasons: Mapping[Reason, int]
    sources: Mapping[Source, int]

    @property
    def inputs(self) -> int:
        """All inputs."""
        return sum(self.reasons.values())

    @property
    def kept(self) -> int:
        """Inputs that were not to leave the device."""
        return self.reasons[Reason.CONFIDENT]

    @property
    def forwarded(self) -> int:
        """Inputs that were: all that were not kept."""
        return self.inputs - self.kept


class Tally:
    """Counts answers from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept = 0
        self._reasons: Counter[Reason] = Counter()
        self._sources: Counter[Source] = Counter()

    def keep(self, elapsed: float) -> None:  # noqa: ARG002
        """Count an answer that nothing was sent for, and the seconds that it took."""
        with self._lock:
            self._kept += 1

    def add(self, answer: Answer) -> None:
        """Count the answer to an input that was to be forwarded."""
        with self._lock:
            self._reasons[answer.reason] += 1
            self._sources[answer.source] += 1

    def snapshot(self) -> Counts:
        """The counts as they are now."""
        with self._lock:
            reasons = {**{reason: self._reasons[reason] for reason in Reason}, Reason.CONFIDENT: self._kept}
            sources = {source: self._sources[source] for source in Source}
            sources[Source.LOCAL] += self._kept
            return Counts(reasons, sources)
