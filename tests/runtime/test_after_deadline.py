"""Once a deadline has passed, the caller's thread and the event loop only return the answer.

The tests do not measure time: each operation that must not run in the caller blocks here until the answer is returned.
"""

import asyncio
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.runtime import Answer, Budget, Cascade, Outbox, Prediction, Rate, Reason, dispatch
from edgecascade.runtime.outbox import Cause
from edgecascade.runtime.outbox import outbox as queue
from edgecascade.runtime.outbox.packed import Packing
from edgecascade.runtime.outbox.store import Store

UNSURE = np.array([0, 0.5, 0], np.float32)
FRAME = np.zeros((1080, 1920, 3), np.uint8)


class Silent:
    """A remote that does not answer until it is released, and then returns blue."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def __call__(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Return scores."""
        self.free.wait(30)
        return np.tile(np.array([0, 0, 4], np.float32), (len(inputs), 1))


@pytest.fixture
def silent() -> Iterator[Silent]:
    """Return a silent remote, and release it at the end."""
    remote = Silent()
    yield remote
    remote.free.set()


@contextmanager
def blocked(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Iterator[list[str]]:
    """Block a function until the end of the block; yield the names of the threads that called it."""
    free, callers, original = threading.Event(), list[str](), getattr(owner, name)

    def hold(*args: Any, **options: Any) -> Any:
        callers.append(threading.current_thread().name)
        if threading.current_thread() is threading.main_thread():
            raise AssertionError(f"{name} was called in the caller's thread")
        free.wait(30)
        return original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, hold)
        try:
            yield callers
        finally:
            free.set()


def ask(cascade: Cascade) -> Answer:
    """Call `predict` in this thread."""
    return cascade.predict(UNSURE, original=FRAME)


def ask_in_a_loop(cascade: Cascade) -> Answer:
    """Call `predict` in an event loop of this thread."""

    async def one() -> Answer:
        return await cascade.predict_async(UNSURE, original=FRAME)

    return asyncio.run(one())


@pytest.mark.parametrize("way", [ask, ask_in_a_loop])
@pytest.mark.parametrize(("owner", "name"), [(Packing, "data"), (Store, "add"), (Budget, "refund")])
def test_packing_hashing_and_storing_run_in_another_thread(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    silent: Silent,
    way: Callable[[Cascade], Answer],
    owner: Any,
    name: str,
) -> None:
    """While each is blocked, the answer is returned with the key of the late answer, which follows."""
    budget = Budget(forwards=Rate(1e6, 60))
    with Cascade.load(file, remote=silent, outbox=Outbox(tmp_path / "outbox"), budget=budget, deadline=0.05) as cascade:
        with blocked(monkeypatch, owner, name):
            answers = [way(cascade) for _ in range(6)]
            assert {answer.reason for answer in answers} == {Reason.DEADLINE}
            assert cascade.metrics()["outbox"]["waiting"] == 6
        silent.free.set()
        coming = cascade.late(timeout=20)
        late = {next(coming).key for _ in answers}
    assert late == {answer.queued for answer in answers}
    assert len(late) == 6


def test_a_blocked_log_handler_delays_no_answer(file: Path, silent: Silent) -> None:
    """The application's handlers run in another thread."""
    free, told = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            assert threading.current_thread() is not threading.main_thread()
            told.set()
            free.wait(30)

    handler = Slow()
    logging.getLogger("edgecascade").addHandler(handler)
    try:
        with Cascade.load(file, remote=silent, deadline=0.05) as cascade:
            assert [cascade.predict(UNSURE).reason for _ in range(3)] == [Reason.DEADLINE] * 3
            assert told.wait(20)
            free.set()
    finally:
        free.set()
        logging.getLogger("edgecascade").removeHandler(handler)


def test_the_queue_is_bounded_before_anything_is_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: Silent
) -> None:
    """The bounds are in bytes and inputs: an answer reports its input as queued only if there is room for it."""
    room = FRAME.nbytes * 2 + 10_000
    with Cascade.load(
        file, remote=silent, outbox=Outbox(tmp_path / "outbox", most_bytes=room), deadline=0.02
    ) as cascade:
        with blocked(monkeypatch, Packing, "data"):
            assert [bool(ask(cascade).queued) for _ in range(4)] == [True, True, False, False]
            assert cascade.metrics()["outbox"]["waiting"] == 2
        assert cascade.metrics()["outbox"]["not_stored"][Cause.FULL.value] == 2


def test_queued_inputs_are_stored_on_close(file: Path, tmp_path: Path, silent: Silent) -> None:
    """This holds even if the cascade is closed immediately."""
    with Cascade.load(file, remote=silent, outbox=Outbox(tmp_path / "outbox"), deadline=0.02) as cascade:
        keys = {cascade.predict(UNSURE, original=FRAME + i).queued for i in range(5)}
    silent.free.set()
    with Cascade.load(file, remote=silent, outbox=Outbox(tmp_path / "outbox")) as cascade:
        coming = cascade.late(timeout=20)
        assert {next(coming).key for _ in range(5)} == keys


def test_closing_waits_for_a_slow_disk(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits while inputs are being stored, not for a fixed time."""
    add = Store.add

    def slow(*given: Any, **options: Any) -> None:
        time.sleep(0.02)
        add(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(queue, "_DISK_PATIENCE", 0.2)
        patch.setattr(Store, "add", slow)
        with Cascade.load(file, outbox=Outbox(tmp_path / "outbox")) as cascade:
            keys = {cascade.predict(UNSURE + np.float32(i / 1000)).queued for i in range(40)}
    with closing(Outbox(tmp_path / "outbox")) as outbox:
        assert outbox.counts().waiting == len(keys) == 40


@pytest.mark.parametrize("hangs", [False, True])
def test_closing_does_not_wait_for_a_disk_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """Nor for one that hangs."""
    offered, free, tries = threading.Event(), threading.Event(), list[int]()

    def fails(*_: Any, **__: Any) -> None:
        tries.append(1)
        offered.wait(30)
        free.wait(30 if hangs else 0.01)
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(queue, "_DISK_PATIENCE", 0.2)
        patch.setattr(Store, "add", fails)
        outbox = Outbox(tmp_path / "outbox")
        local = Prediction(0, 0.5, np.array([0.5, 0.3, 0.2], np.float32))
        assert all(outbox.offer(str(i), np.array([[i]]), local) for i in range(200))
        offered.set()
        outbox.close()
        assert len(tries) < 100
        free.set()


def test_an_event_log_that_is_full_costs_no_refund(file: Path, silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the application's handler hangs."""
    monkeypatch.setattr(dispatch, "_MOST_LOGS", 3)
    free = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda _: free.wait(30)  # type: ignore[method-assign,assignment]
    logging.getLogger("edgecascade").addHandler(handler)
    budget = Budget(forwards=Rate(100, 1e9))
    try:
        with Cascade.load(file, remote=silent, deadline=0.01, budget=budget) as cascade:
            assert {cascade.predict(UNSURE).reason for _ in range(20)} == {Reason.DEADLINE}
            free.set()
        assert budget.levels["forwards/1e+09s"] == pytest.approx(0.96)  # four were sent
    finally:
        free.set()
        logging.getLogger("edgecascade").removeHandler(handler)


SCRIPT = """
import sys, numpy as np
from edgecascade.runtime import Cascade, Outbox
cascade = Cascade.load(sys.argv[1], outbox=Outbox(sys.argv[2]))
keys = [cascade.predict(np.array([0, 0.5, 0], np.float32), original=np.full((1000, 1000), i)).queued for i in range(5)]
print(*keys)
"""


def test_queued_inputs_are_stored_at_exit(file: Path, tmp_path: Path, silent: Silent) -> None:
    """This holds without a call of `close`."""
    command = [sys.executable, "-c", SCRIPT, str(file), str(tmp_path / "outbox")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    silent.free.set()
    with Cascade.load(file, remote=silent, outbox=Outbox(tmp_path / "outbox")) as cascade:
        coming = cascade.late(timeout=20)
        assert {next(coming).key for _ in range(5)} == {*ran.stdout.split()}
