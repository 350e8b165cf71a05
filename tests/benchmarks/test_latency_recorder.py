"""Every sample is answered once, whatever thread the answer comes from."""

import threading

import pytest

from edgecascade.benchmarks.latency.recorder import Outcome, Recorder
from edgecascade.types.errors import BenchmarkError


def test_a_second_answer_is_refused() -> None:
    """LoadGen would take it for another sample's."""
    recorder = Recorder(lambda _: None)
    position = recorder.issue(7)
    recorder.answer(position, Outcome(1))
    with pytest.raises(BenchmarkError, match="expected one answer"):
        recorder.answer(position, Outcome(1))


def test_a_missing_answer_is_an_error() -> None:
    """A run with holes has no percentiles."""
    recorder = Recorder(lambda _: None)
    recorder.issue(1)
    with pytest.raises(BenchmarkError, match="expected 1, one for each sample, got 0"):
        recorder.outcomes()


def test_answers_may_come_from_any_thread() -> None:
    """Each goes to its own sample, and LoadGen hears of all."""
    heard: list[int] = []
    recorder = Recorder(heard.append)
    positions = [recorder.issue(identifier) for identifier in range(100, 164)]
    threads = [threading.Thread(target=recorder.answer, args=(at, Outcome(at))) for at in reversed(positions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.label for one in recorder.outcomes()] == positions
    assert sorted(heard) == list(range(100, 164))
