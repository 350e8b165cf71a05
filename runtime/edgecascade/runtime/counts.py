"""Counts that add up: every input is kept or forwarded, and every forward ends for one reason."""

from __future__ import annotations

from _thread import allocate_lock  # what threading.Lock is; importing threading takes a millisecond
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from edgecascade.runtime.answer import Answer, Reason, Source
from edgecascade.runtime.histogram import Durations, Histogram

__all__ = ["Counts", "Tally"]


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


class Tally:
    """Counts answers from any thread."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._kept, self._forwarded = Histogram(), Histogram()
        self._answers: Counter[tuple[Source, Reason]] = Counter()
        self.keep = self._kept.observe  # an answer that nothing was sent for, by the seconds that it took

    def add(self, answer: Answer) -> None:
        """Count the answer to an input that was to be forwarded."""
        with self._lock:
            self._answers[answer.source, answer.reason] += 1
            self._forwarded.observe(answer.elapsed)

    def snapshot(self) -> Counts:
        """The counts as they are now."""
        with self._lock:
            kept, answers = self._kept.snapshot(), dict(self._answers)
            if kept.count:
                answers[Source.LOCAL, Reason.CONFIDENT] = kept.count
            return Counts(answers, kept, self._forwarded.snapshot())
