"""Count answers as they are given."""

from __future__ import annotations

from _thread import allocate_lock  # what threading.Lock is; importing threading takes a millisecond
from collections import Counter
from typing import TYPE_CHECKING

from edgecascade.runtime.histogram import Histogram
from edgecascade.types.answer import Answer, Reason, Source

if TYPE_CHECKING:
    from edgecascade.runtime.counts import Counts

__all__ = ["Tally"]


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
        from edgecascade.runtime.counts import Counts  # for those who ask

        with self._lock:
            kept, answers = self._kept.snapshot(), dict(self._answers)
            if kept.count:
                answers[Source.LOCAL, Reason.CONFIDENT] = kept.count
            return Counts(answers, kept, self._forwarded.snapshot())
