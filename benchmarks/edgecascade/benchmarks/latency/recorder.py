"""Every sample that LoadGen issues is answered once, and what the answer was is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from edgecascade.types.answer import Reason
from edgecascade.types.errors import BenchmarkError

__all__ = ["Outcome", "Recorder", "complete_with"]

_PAUSE = 0.01  # seconds that a query takes once the run has failed: LoadGen cannot be stopped


class Outcome(NamedTuple):
    """What is kept of an answer.

    Attributes:
        label: index of the class.
        reason: why a cascade gave it; None of a model alone.
        elapsed: seconds from the call to the answer, as the cascade counted them; 0 of a model alone.
    """

    label: int
    reason: Reason | None = None
    elapsed: float = 0.0


class Recorder:
    """Takes samples as LoadGen issues them, from one thread, and their answers from any.

    Nothing may be raised into LoadGen, and it waits for every answer: what fails is kept, answered with nothing, and
    raised by `outcomes`.

    Args:
        complete: tells LoadGen that the sample with this identifier is answered.
    """

    def __init__(self, complete: Callable[[int], None]) -> None:
        self._complete = complete
        self._ids: list[int] = []
        self._outcomes: list[Outcome | None] = []
        self._issued: list[int] = []
        self._done: list[int] = []
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    @property
    def failed(self) -> bool:
        """Whether the run is of no use any more."""
        return self._error is not None

    def issue(self, identifier: int) -> int:
        """Take a sample; its position among all."""
        self._ids.append(identifier)
        self._outcomes.append(None)
        self._issued.append(time.perf_counter_ns())
        self._done.append(0)
        return len(self._ids) - 1

    def answer(self, position: int, outcome: Outcome) -> None:
        """The answer to the sample at a position.

        Raises:
            BenchmarkError: it has one already.
        """
        if self._outcomes[position] is not None:
            raise BenchmarkError(f"sample {position}: expected one answer, got a second one")
        self._outcomes[position] = outcome
        self._done[position] = time.perf_counter_ns()
        self._complete(self._ids[position])

    def fail(self, error: BaseException, *positions: int) -> None:
        """Keep the first error, and let LoadGen go on past these samples, where they have no answer."""
        with self._lock:
            self._error = self._error or error
        time.sleep(_PAUSE)
        for position in positions:
            if self._outcomes[position] is None:
                self._outcomes[position] = Outcome(-1)
                self._complete(self._ids[position])

    def outcomes(self) -> list[Outcome]:
        """One for each sample, in the order of issue.

        Raises:
            BenchmarkError: a sample has no answer.
            Exception: what failed.
        """
        if self._error is not None:
            raise self._error
        found = [one for one in self._outcomes if one is not None]
        if len(found) != len(self._ids):
            raise BenchmarkError(f"answers: expected {len(self._ids)}, one for each sample, got {len(found)}")
        return found

    def own_seconds(self) -> list[float]:
        """From issue to answer, of each sample, by this process's own clock."""
        return [(done - issued) / 1e9 for issued, done in zip(self._issued, self._done, strict=True)]


def complete_with(loadgen: Any) -> Callable[[int], None]:
    """How LoadGen's module is told of an answer, which carries no data in performance mode."""
    response, completed = loadgen.QuerySampleResponse, loadgen.QuerySamplesComplete
    return lambda identifier: completed([response(identifier, 0, 0)])
