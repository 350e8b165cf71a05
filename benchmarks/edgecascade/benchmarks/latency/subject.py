"""What is measured: a bare model, or a cascade that keeps, forwards or decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Protocol

from edgecascade.benchmarks.latency.loadgen import Drive
from edgecascade.benchmarks.latency.recorder import Outcome, Recorder
from edgecascade.benchmarks.latency.scenario import Scenario

__all__ = ["Kind", "Subject", "drive"]


class Kind(str, Enum):
    """Who answers."""

    ALONE = "model alone"  # a bare session of the same file; inputs as the graph takes them, buffers bound
    LOCAL = "local only"  # the cascade, which keeps everything
    REMOTE = "remote only"  # the cascade, which forwards everything, waits, and takes the label that comes
    CASCADE = "cascade"  # as planned, by its deadline

    @property
    def asks(self) -> bool:
        """Whether it needs a remote."""
        return self in (Kind.REMOTE, Kind.CASCADE)


class Subject(Protocol):
    """Answers questions about inputs by index."""

    @property
    def provider(self) -> str:
        """The execution provider that really runs the local model."""
        ...

    def one(self, index: int) -> Outcome:
        """One answer, at once: single stream."""
        ...

    def several(self, indices: Sequence[int]) -> Iterator[Outcome]:
        """Answers to inputs that are there together, in order: multi stream."""
        ...

    def many(self, indices: Sequence[int]) -> Iterator[Outcome]:
        """Answers to any number of inputs, in order: offline."""
        ...

    def submit(self, index: int, done: Callable[[Outcome | BaseException], None]) -> None:
        """Answer later, from another thread; others may be submitted meanwhile: server."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def drive(subject: Subject, scenario: Scenario) -> Drive:
    """How a scenario's queries reach a subject."""
    if scenario is Scenario.SINGLE_STREAM:
        return lambda recorder, positions, indices: recorder.answer(positions[0], subject.one(indices[0]))
    if scenario is Scenario.SERVER:
        return lambda recorder, positions, indices: _submit(subject, recorder, positions, indices)
    answers = subject.several if scenario is Scenario.MULTI_STREAM else subject.many

    def answer(recorder: Recorder, positions: Sequence[int], indices: Sequence[int]) -> None:
        for position, outcome in zip(positions, answers(indices), strict=True):
            recorder.answer(position, outcome)

    return answer


def _submit(subject: Subject, recorder: Recorder, positions: Sequence[int], indices: Sequence[int]) -> None:
    for position, index in zip(positions, indices, strict=True):
        subject.submit(index, lambda found, at=position: _settle(recorder, at, found))  # type: ignore[misc]


def _settle(recorder: Recorder, position: int, found: Outcome | BaseException) -> None:
    try:
        if isinstance(found, Outcome):
            recorder.answer(position, found)
        else:
            recorder.fail(found, position)
    except BaseException as error:  # LoadGen would wait for this sample without end
        recorder.fail(error, position)
