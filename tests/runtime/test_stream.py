"""Answers are streamed in order with many forwards in progress, also with asyncio."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.runtime import Answer, ArgumentError, Budget, Cascade, InputError, Outbox, Rate, Reason

SURE = np.array([5, 0, 0], np.float32)
UNSURE = np.array([0, 0.5, 0], np.float32)


def slow(inputs: NDArray[Any]) -> NDArray[Any]:
    """Return blue for every input after 50 ms."""
    time.sleep(0.05)
    return np.tile(np.array([0, 0, 4], np.float32), (len(inputs), 1))


def test_forwards_overlap(file: Path, stalled: Callable[[], float]) -> None:
    """Sixty forwards of 50 ms take far less than 3 s, and the answers are in order."""
    inputs = [SURE, UNSURE] * 60
    started = time.monotonic()
    with Cascade.load(file, remote=slow, deadline=5) as cascade:
        names = [answer.name for answer in cascade.stream(iter(inputs))]
        assert cascade.counts().forwarded == 60
    assert names == ["red", "blue"] * 60
    assert time.monotonic() - started < 1.5 + stalled()


def test_inputs_are_read_at_most_ahead(file: Path) -> None:
    """An endless source is read no further than `ahead`."""
    taken = 0

    def source() -> Iterator[NDArray[np.float32]]:
        nonlocal taken
        while True:
            taken += 1
            yield UNSURE

    with Cascade.load(file, remote=slow, deadline=5) as cascade:
        answers = cascade.stream(source(), ahead=8)
        assert next(answers).reason is Reason.OFFLOADED
        assert taken <= 9
        answers.close()  # type: ignore[attr-defined]
        assert cascade.counts().inputs == taken


def test_each_input_has_its_own_deadline(file: Path, stalled: Callable[[], float]) -> None:
    """A remote that never answers costs one deadline in all, not one for each input."""
    free = threading.Event()

    def silent(inputs: NDArray[Any]) -> NDArray[Any]:
        free.wait(10)
        return slow(inputs)

    started = time.monotonic()
    with Cascade.load(file, remote=silent, deadline=0.2) as cascade:
        reasons = {answer.reason for answer in cascade.stream([UNSURE] * 50)}
        free.set()
    assert reasons == {Reason.DEADLINE}
    assert time.monotonic() - started < 1 + stalled()


def test_a_long_stream_is_not_read_past_a_deadline(file: Path, stalled: Callable[[], float]) -> None:
    """An input past its deadline is answered first, however large `ahead` is."""
    free = threading.Event()

    def silent(inputs: NDArray[Any]) -> NDArray[Any]:
        free.wait(30)
        return slow(inputs)

    def source() -> Iterator[NDArray[np.float32]]:
        for _ in range(400):
            time.sleep(0.005)
            yield UNSURE

    with Cascade.load(file, remote=silent, deadline=0.2) as cascade:
        answers = cascade.stream(source())
        first = [next(answers) for _ in range(20)]
        free.set()
        answers.close()  # type: ignore[attr-defined]
    assert {answer.reason for answer in first} == {Reason.DEADLINE}
    assert max(answer.elapsed for answer in first) < 0.5 + stalled()


def test_an_invalid_input_loses_no_earlier_answer(file: Path) -> None:
    """The earlier answers come first; the rest can be streamed by another call."""
    inputs = iter([SURE, UNSURE, np.zeros(4, np.float32), SURE])
    answers: list[Answer] = []
    with Cascade.load(file, remote=slow) as cascade:
        with pytest.raises(InputError, match=r"^x: expected float32"):
            answers.extend(iter(cascade.stream(inputs)))
        answers += cascade.stream(inputs)
        assert cascade.counts().inputs == 3
    assert [a.name for a in answers][-1] == "red"


def test_keys_and_originals_are_given_beside_the_inputs(file: Path, tmp_path: Path) -> None:
    """There is one for each input, also without end; None stands for neither."""
    pictures = [np.full(7, i, np.float32) for i in range(4)]
    seen: list[Any] = []

    def egress(x: NDArray[Any]) -> bool:
        seen.append(x)
        return True

    with Cascade.load(file, outbox=Outbox(tmp_path / "outbox"), egress=egress) as cascade:
        keys = (f"frame {i}" for i in count())
        answers = list(cascade.stream([UNSURE, SURE, UNSURE, UNSURE], keys=keys, originals=[*pictures[:3], None]))
    assert [answer.queued for answer in answers] == ["frame 0", "", "frame 2", "frame 3"]
    assert [x.tolist() for x in seen] == [pictures[0].tolist(), pictures[2].tolist(), UNSURE.tolist()]


@pytest.mark.parametrize("name", ["keys", "originals"])
def test_too_few_keys_or_originals_are_refused(file: Path, name: str) -> None:
    """The error follows the answers to the inputs that have one."""
    beside: Any = {name: iter([None])}
    answers: list[Answer] = []
    with Cascade.load(file) as cascade, pytest.raises(ArgumentError, match=rf"^{name}: .* got 1$"):
        answers.extend(iter(cascade.stream([SURE, SURE], **beside)))
    assert len(answers) == 1


@given(st.lists(st.sampled_from([0, 1])), st.integers(1, 5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_input_is_answered_once_in_order(file: Path, forwarded: list[int], ahead: int) -> None:
    """The number of forwards in progress does not matter."""
    with Cascade.load(file, remote=lambda x: -x, deadline=20) as cascade:
        answers = [*cascade.stream(([SURE, UNSURE][one] for one in forwarded), ahead=ahead)]
        assert cascade.counts().inputs == len(forwarded)
    assert [answer.forwarded for answer in answers] == [*map(bool, forwarded)]


def test_ahead_of_0_is_refused(file: Path) -> None:
    """The error is one sentence."""
    with Cascade.load(file) as cascade, pytest.raises(ArgumentError, match=r"^ahead: expected 1 or more, got 0"):
        cascade.stream([], ahead=0)


def test_asyncio_awaits_many_inputs_at_once(file: Path, stalled: Callable[[], float]) -> None:
    """The event loop continues while the remote computes."""

    async def ask(cascade: Cascade) -> tuple[list[str], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        answers = await asyncio.gather(*(cascade.predict_async(x) for x in [SURE, UNSURE] * 20))
        ticking.cancel()
        return [answer.name for answer in answers], ticks

    started = time.monotonic()
    with Cascade.load(file, remote=slow, deadline=5) as cascade:
        names, ticks = asyncio.run(ask(cascade))
        assert cascade.counts().inputs == 40
    assert names == ["red", "blue"] * 20
    assert ticks >= 3
    assert time.monotonic() - started < 1.5 + stalled()


def test_asyncio_respects_the_deadline(file: Path, stalled: Callable[[], float]) -> None:
    """An invalid input raises where it is awaited."""
    free = threading.Event()

    def silent(inputs: NDArray[Any]) -> NDArray[Any]:
        free.wait(10)
        return slow(inputs)

    async def ask() -> None:
        answers = await asyncio.gather(*(cascade.predict_async(UNSURE) for _ in range(10)))
        assert {answer.reason for answer in answers} == {Reason.DEADLINE}
        assert max(answer.elapsed for answer in answers) < 0.6 + stalled()
        with pytest.raises(InputError):
            await cascade.predict_async(np.zeros(4, np.float32))

    with Cascade.load(file, remote=silent, deadline=0.2) as cascade:
        asyncio.run(ask())
        free.set()


def test_a_cancelled_forward_is_not_sent(file: Path) -> None:
    """A forward that has already been sent is not affected."""
    sent: list[int] = []
    free = threading.Event()

    def counting(inputs: NDArray[Any]) -> NDArray[Any]:
        sent.append(len(inputs))
        free.wait(5)
        return slow(inputs)

    async def ask() -> None:
        first = []
        for i in range(4):  # one at a time: two that wait together would be sent in one request
            first.append(asyncio.create_task(cascade.predict_async(UNSURE)))
            while len(sent) <= i:
                await asyncio.sleep(0.001)
        late = asyncio.create_task(cascade.predict_async(UNSURE))
        await asyncio.sleep(0.05)
        late.cancel()
        free.set()
        with pytest.raises(asyncio.CancelledError):
            await late
        assert [answer.name for answer in await asyncio.gather(*first)] == ["blue"] * 4

    with Cascade.load(file, remote=counting, deadline=5) as cascade:
        asyncio.run(ask())
    assert sum(sent) == 4


def test_the_input_of_a_cancelled_forward_is_not_stored(file: Path, tmp_path: Path) -> None:
    """The application no longer wants its answer; one that came too late is stored."""
    free, asked = threading.Event(), threading.Event()

    def hanging(inputs: NDArray[Any]) -> NDArray[Any]:
        asked.set()
        free.wait(20)
        return slow(inputs)

    async def ask() -> None:
        one = asyncio.create_task(cascade.predict_async(UNSURE, key="cancelled"))
        while not asked.is_set():
            await asyncio.sleep(0.001)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        assert (await cascade.predict_async(UNSURE * 2, key="late")).queued == "late"

    with Cascade.load(file, remote=hanging, deadline=0.2, outbox=Outbox(tmp_path / "outbox")) as cascade:
        asyncio.run(ask())
        free.set()
        late = cascade.late(timeout=20)
        assert next(late).key == "late"
        assert cascade.counts().forwarded == 1
        found = cascade.metrics()["outbox"]
        assert (found["waiting"], found["answered"]) == (0, 1)  # it is removed when the next is asked for


def test_a_forward_that_was_cancelled_while_it_was_decided_is_not_sent(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it has left, and the budget has it back."""
    free, deciding, decide = threading.Event(), threading.Event(), threading.Event()
    sent: list[int] = []

    def counting(inputs: NDArray[Any]) -> NDArray[Any]:
        sent.append(len(inputs))
        free.wait(10)
        return slow(inputs)

    async def ask() -> None:
        first = []
        for i in range(4):
            first.append(asyncio.create_task(cascade.predict_async(UNSURE)))
            while len(sent) <= i:
                await asyncio.sleep(0.001)
        one = cascade._local.one

        def held(x: Any) -> Any:
            deciding.set()
            decide.wait(10)
            return one(x)

        monkeypatch.setattr(cascade._local, "one", held)
        late = asyncio.create_task(cascade.predict_async(UNSURE))
        while not deciding.is_set():
            await asyncio.sleep(0.001)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        decide.set()
        await asyncio.get_running_loop().run_in_executor(cascade._decider(), int)  # the late one is begun
        free.set()
        await asyncio.gather(*first)

    budget = Budget(forwards=Rate(100, 1e9))
    with Cascade.load(file, remote=counting, deadline=5, budget=budget) as cascade:
        asyncio.run(ask())
    assert sum(sent) == 4
    assert budget.levels["forwards/1e+09s"] == pytest.approx(0.96)


def test_asyncio_is_answered_after_closing(file: Path) -> None:
    """Its callers are answered like any others."""
    with Cascade.load(file, remote=slow) as cascade:
        assert asyncio.run(cascade.predict_async(UNSURE)).reason is Reason.OFFLOADED
    assert asyncio.run(cascade.predict_async(UNSURE)).reason is Reason.OFFLINE
