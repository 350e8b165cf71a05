"""With a deadline of 0 seconds, every answer is local and at once, and what the remote says comes as a late answer."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.runtime import Answer, ArgumentError, Budget, Cascade, Deadline, Outbox, Rate, Reason, Source, Watch

PATIENCE = 60.0  # seconds, for a busy machine
SURE, UNSURE = np.array([5, 0, 0], np.float32), np.array([0, 0.5, 0], np.float32)


@pytest.fixture
def free() -> Iterator[threading.Event]:
    """Return what lets the remote answer; it is set at the end."""
    one = threading.Event()
    yield one
    one.set()


def at_once(cascade: Cascade, inputs: NDArray[Any], keys: list[str]) -> list[Answer]:
    """Call `predict` for each input."""
    return [cascade.predict(x, key=key) for x, key in zip(inputs, keys, strict=True)]


def in_a_loop(cascade: Cascade, inputs: NDArray[Any], keys: list[str]) -> list[Answer]:
    """Call `predict_async` for all inputs."""

    async def together() -> list[Answer]:
        calls = [cascade.predict_async(x, key=key) for x, key in zip(inputs, keys, strict=True)]
        return list(await asyncio.gather(*calls))

    return asyncio.run(together())


def in_a_batch(cascade: Cascade, inputs: NDArray[Any], keys: list[str]) -> list[Answer]:
    """Call `predict_batch`."""
    return cascade.predict_batch(inputs, keys=keys)


def in_a_stream(cascade: Cascade, inputs: NDArray[Any], keys: list[str]) -> list[Answer]:
    """Call `stream`."""
    return list(cascade.stream(inputs, keys=keys))


@pytest.mark.parametrize("call", [at_once, in_a_loop, in_a_batch, in_a_stream])
def test_answers_are_local_and_corrected_later(
    call: Callable[[Cascade, NDArray[Any], list[str]], list[Answer]],
    file: Path,
    tmp_path: Path,
    free: threading.Event,
) -> None:
    """A remote that hangs delays none; each forward has one late answer under its key, and confident inputs none."""
    late: dict[str, list[Any]] = {}

    def remote(x: NDArray[Any]) -> NDArray[Any]:
        free.wait(PATIENCE)
        return np.tile(np.array([0, 0, 4], np.float32), (len(x), 1))

    def corrected(one: Any) -> None:
        late.setdefault(one.key, []).append(one.answer)

    inputs = np.stack([UNSURE + np.float32(i / 100) for i in range(6)] + [SURE])
    keys = [f"frame {i}" for i in range(len(inputs))]
    outbox = Outbox(tmp_path / "outbox.db")
    with Cascade.load(file, remote=remote, deadline=0, outbox=outbox, on_late=corrected) as cascade:
        answers = call(cascade, inputs, keys)
        assert [answer.reason for answer in answers] == [Reason.DEADLINE] * 6 + [Reason.CONFIDENT]
        assert [answer.queued for answer in answers] == [*keys[:6], ""]
        assert {answer.source for answer in answers} == {Source.LOCAL}
        assert late == {}
        free.set()
        until = time.monotonic() + PATIENCE
        while len(late) < 6 and time.monotonic() < until:
            time.sleep(0.01)
    assert {key: [(one.source, one.name) for one in found] for key, found in late.items()} == {
        key: [(Source.REMOTE, "blue")] for key in keys[:6]
    }


def test_the_budget_decides_what_is_corrected(file: Path, tmp_path: Path) -> None:
    """An input that it refuses is answered locally for good."""
    budget, outbox = Budget(forwards=Rate.per_day(1)), Outbox(tmp_path / "outbox.db")
    with Cascade.load(file, remote=lambda x: x, deadline=0, outbox=outbox, budget=budget) as cascade:
        first = cascade.predict(UNSURE)
        assert (first.reason, next(cascade.late(PATIENCE)).key) == (Reason.DEADLINE, first.queued)
        second = cascade.predict(UNSURE * 2)
        assert (second.reason, second.queued) == (Reason.BUDGET, "")


def test_only_the_outbox_asks(file: Path, tmp_path: Path) -> None:
    """A remote that answers faster than a caller leaves is not asked on its behalf, and no input is sent twice."""
    sent: list[bytes] = []

    def remote(x: NDArray[Any]) -> NDArray[Any]:
        sent.extend(row.tobytes() for row in x)
        return np.tile(np.array([0, 0, 4], np.float32), (len(x), 1))

    inputs = np.stack([UNSURE + np.float32(i / 10_000) for i in range(60)])
    with Cascade.load(file, remote=remote, deadline=0, outbox=Outbox(tmp_path / "outbox.db")) as cascade:
        answers = cascade.predict_batch(inputs)
        answers += [cascade.predict(x + np.float32(0.1)) for x in inputs]
        assert {answer.reason for answer in answers} == {Reason.DEADLINE}
        late = cascade.late(PATIENCE)
        assert {next(late).key for _ in answers} == {answer.queued for answer in answers}
    assert len(sent) == len(set(sent)) == len(answers)


def test_an_audit_has_a_second(file: Path, tmp_path: Path) -> None:
    """No caller waits for it, and without a moment of its own every remote over a network would fail."""
    left = list[float]()

    class Asked:
        def infer(self, inputs: Any, deadline: Deadline) -> NDArray[Any]:
            left.append(deadline.remaining())
            return np.asarray(inputs)

        def close(self) -> None:
            pass

    watch, outbox = Watch(share=1.0), Outbox(tmp_path / "outbox.db")
    with Cascade.load(file, remote=Asked(), deadline=0, outbox=outbox, watch=watch) as cascade:
        assert cascade.predict(SURE).reason is Reason.CONFIDENT
        until = time.monotonic() + PATIENCE
        while not left and time.monotonic() < until:
            time.sleep(0.01)
    assert 0.1 < left[0] < 1.1


def test_it_needs_an_outbox(file: Path, tmp_path: Path) -> None:
    """Without one nothing would ever be corrected; so it is for a single batch."""
    with pytest.raises(ArgumentError, match=r"^deadline: .*got 0"):
        Cascade.load(file, deadline=0)
    with Cascade.load(file) as cascade, pytest.raises(ArgumentError, match=r"^deadline: .*got 0"):
        cascade.predict_batch(np.stack([UNSURE]), deadline=0)
    with Cascade.load(file, outbox=Outbox(tmp_path / "outbox.db")) as cascade:
        (answer,) = cascade.predict_batch(np.stack([UNSURE]), deadline=0)
        assert answer.queued
