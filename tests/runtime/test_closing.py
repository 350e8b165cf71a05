"""Closing a cascade and leaving the interpreter take a second at most, whatever the remote or a callback does."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import Budget, Cascade, Outbox, Rate, Reason
from edgecascade.runtime.background import Background, DaemonPool

UNSURE = np.array([0, 0.5, 0], np.float32)
HANGS = 30.0  # seconds
SCRIPT = """
import socket, sys, time, numpy as np
from edgecascade.runtime import Cascade, Chat, Outbox
kind, closes, path, folder = sys.argv[1:]
outbox = Outbox(folder + "/outbox.db")
if kind in ("name", "chat"):
    socket.getaddrinfo = lambda *_, **__: time.sleep(30)
if kind == "connection":
    server = socket.create_server(("127.0.0.1", 0))
remote = {
    "name": "http://nowhere.test/v2/models/m",
    "chat": Chat("http://nowhere.test/v1", labels=["red", "green", "blue"]),
    "connection": f"http://127.0.0.1:{server.getsockname()[1] if kind == 'connection' else 1}/v2/models/m",
    "function": lambda _: time.sleep(30),
}[kind]
cascade = Cascade.load(path, remote=remote, deadline=0.05, outbox=outbox)
for i in range(6):
    cascade.predict(np.array([0, 0.5 + i / 1000, 0], np.float32), original="text" if kind == "chat" else None)
outbox.flush()
time.sleep(1.1)  # the outbox is asking, too
if closes == "close":
    cascade.close()
print("leaving", flush=True)
"""


@pytest.mark.parametrize("closes", ["close", "no close"])
@pytest.mark.parametrize("kind", ["name", "connection", "function", "chat"])
def test_a_remote_that_hangs_delays_no_exit(file: Path, tmp_path: Path, kind: str, closes: str) -> None:
    """It hangs in the lookup of its name, in the connection, or in a call of the application's own code."""
    command = [sys.executable, "-c", SCRIPT, kind, closes, str(file), str(tmp_path)]
    started = time.monotonic()
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "leaving\n"
    assert time.monotonic() - started < HANGS / 2  # with the start of an interpreter on a busy machine
    with Cascade.load(file, remote=lambda x: np.zeros((len(x), 3)), outbox=Outbox(tmp_path / "outbox.db")) as cascade:
        assert sum(1 for _, _ in zip(range(6), cascade.late(timeout=20), strict=False)) == 6


@pytest.fixture
def hangs() -> Iterator[threading.Event]:
    """Return an event for which something waits, and set it at the end."""
    free = threading.Event()
    yield free
    free.set()


class Stuck:
    """A remote whose methods do not return."""

    def __init__(self, free: threading.Event) -> None:
        self.free = free

    def infer(self, *_: Any) -> Any:
        """Wait."""
        self.free.wait(HANGS)

    def close(self) -> None:
        """Wait."""
        self.free.wait(HANGS)


def test_closing_waits_a_second_for_a_remote_that_hangs(file: Path, hangs: threading.Event) -> None:
    """Or as long as it was told."""
    for timeout in (None, 0.2):
        cascade = Cascade.load(file, remote=Stuck(hangs), deadline=0.02)
        cascade.predict(UNSURE)
        started = time.monotonic()
        cascade.close() if timeout is None else cascade.close(timeout)
        assert (timeout or 1.0) <= time.monotonic() - started < HANGS / 4


def test_an_error_of_closing_a_remote_is_raised(file: Path) -> None:
    """It is the application's own code; the outbox and the budget are closed before."""

    class Failing:
        def infer(self, *_: Any) -> Any: ...

        def close(self) -> None:
            raise ValueError("as told")

    with pytest.raises(ValueError, match="as told"):
        Cascade.load(file, remote=Failing()).close()


def test_closing_waits_a_second_for_a_callback_that_hangs(file: Path, tmp_path: Path, hangs: threading.Event) -> None:
    """Its answer comes again after the next start."""
    entered, outbox = threading.Event(), Outbox(tmp_path / "outbox.db")
    outbox.put("a", UNSURE[None], Cascade.load(file).predict(UNSURE).local)

    def on_late(_: Any) -> None:
        entered.set()
        hangs.wait(HANGS)

    cascade = Cascade.load(file, remote=lambda x: np.zeros((len(x), 3)), outbox=outbox, on_late=on_late)
    assert entered.wait(20)
    started = time.monotonic()
    cascade.close()
    assert 1.0 <= time.monotonic() - started < HANGS / 4
    hangs.set()


def slow(done: list[int], i: int) -> None:
    """Take a moment."""
    time.sleep(0.05)
    done.append(i)


def test_jobs_that_make_progress_are_waited_for() -> None:
    """With `each`, the patience is for one job; otherwise it is for all of them."""
    for each, least, most in ((True, 20, 20), (False, 1, 10)):
        done, background = list[int](), Background("test", patience=0.3, each=each)
        for i in range(20):
            background.run(partial(slow, done, i))
        background.close()
        assert least <= len(done) <= most
        assert not background.run(lambda: None)


def test_a_pool_returns_results_and_errors_and_cancels_what_waits(hangs: threading.Event) -> None:
    """At most two calls run at the same time here, and an idle thread is used again."""
    pool = DaemonPool(2, "test")
    assert [pool.submit(divmod, 7, n).result(20) for n in (2, 3)] == [(3, 1), (2, 1)]
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result(20)
    running = threading.Semaphore(0)

    def call() -> None:
        running.release()
        hangs.wait(HANGS)

    calls = [pool.submit(call) for _ in range(4)]
    for _ in range(2):
        assert running.acquire(timeout=20)
    assert not running.acquire(timeout=0.05)
    pool.close()
    assert [one.cancelled() for one in calls] == [False, False, True, True]
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(print)


def test_inputs_under_way_are_stored_when_the_cascade_closes(
    file: Path, tmp_path: Path, hangs: threading.Event
) -> None:
    """Their callers get the local answer at once, and the remote is asked after the next start."""
    cascade = Cascade.load(file, remote=Stuck(hangs), deadline=10.0, outbox=Outbox(tmp_path / "outbox.db"))
    answers: list[Any] = []
    inputs = [UNSURE + np.float32(i / 1000) for i in range(12)]
    threads = [
        threading.Thread(target=lambda i=i, x=x: answers.append(cascade.predict(x, key=f"k{i}")))
        for i, x in enumerate(inputs)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    cascade.close()
    for thread in threads:
        thread.join(5.0)
    assert sorted(answer.queued for answer in answers) == sorted(f"k{i}" for i in range(12))
    hangs.set()
    with Cascade.load(file, remote=lambda x: np.zeros((len(x), 3)), outbox=Outbox(tmp_path / "outbox.db")) as again:
        late = [one.key for one, _ in zip(again.late(timeout=20), range(12), strict=False)]
    assert sorted(late) == sorted(f"k{i}" for i in range(12))


class FailsAllButOne:
    """A remote whose first reply does not come, and which fails for all other inputs."""

    request_inputs = 1

    def __init__(self, free: threading.Event) -> None:
        self.free, self.failed = free, threading.Semaphore(0)

    def infer(self, inputs: Any, _: Any) -> Any:
        """Wait for the first input, and fail for the others."""
        if inputs[0, 0] == 0:
            self.free.wait(HANGS)
        self.failed.release()
        raise OSError

    def close(self) -> None:
        """Do nothing."""


def test_inputs_that_failed_are_stored_when_the_cascade_closes_before_their_callers_go_on(
    file: Path, tmp_path: Path, hangs: threading.Event
) -> None:
    """In a stream, they wait for an answer before theirs."""
    remote, outbox = FailsAllButOne(hangs), Outbox(tmp_path / "outbox.db")
    cascade = Cascade.load(file, remote=remote, deadline=10.0, outbox=outbox)
    inputs, answers = [UNSURE + np.array([i / 1000, 0, 0], np.float32) for i in range(12)], list[Any]()
    reading = threading.Thread(target=lambda: answers.extend(cascade.stream(inputs, keys=map(str, range(12)))))
    reading.start()
    for _ in range(11):
        assert remote.failed.acquire(timeout=20)
    cascade.close()
    reading.join(20)
    assert [answer.queued for answer in answers] == [str(i) for i in range(12)]
    with closing(Outbox(tmp_path / "outbox.db")) as again:
        assert again.counts().waiting == 12


def test_several_threads_may_close(file: Path, tmp_path: Path, hangs: threading.Event) -> None:
    """The inputs under way are stored, and later calls give as the reason that the remote cannot be asked."""
    for n in range(10):
        path = tmp_path / f"{n}.db"
        budget = Budget(forwards=Rate(1e6, 60))
        cascade = Cascade.load(file, remote=Stuck(hangs), deadline=10.0, outbox=Outbox(path), budget=budget)
        answers: list[Any] = []
        calls = [
            threading.Thread(target=lambda i=i, c=cascade, to=answers: to.append(c.predict(UNSURE, key=f"k{i}")))
            for i in range(12)
        ]
        closes = [threading.Thread(target=cascade.close, args=(0.1,)) for _ in range(4)]
        for threads in (calls, closes):
            for thread in threads:
                thread.start()
            time.sleep(0.1)
        for thread in (*calls, *closes):
            thread.join(10.0)
        assert sorted(answer.queued for answer in answers) == sorted(f"k{i}" for i in range(12))
        with closing(Outbox(path)) as outbox:
            assert outbox.counts().waiting == 12
        answer = cascade.predict(UNSURE)
        assert (answer.reason, answer.queued) == (Reason.OFFLINE, "")


SIGNALLED = """
import signal, sys, numpy as np
from edgecascade.runtime import Cascade, Outbox
from edgecascade.runtime.background import DaemonPool
submit = DaemonPool.submit

def interrupted(*given):
    signal.raise_signal(signal.SIGTERM)
    return submit(*given)

DaemonPool.submit = interrupted
cascade = Cascade.load(sys.argv[1], remote=lambda x: np.zeros((len(x), 3)), outbox=Outbox(sys.argv[2]))
signal.signal(signal.SIGTERM, lambda *_: cascade.close())
answer = cascade.predict(np.array([0, 0.5, 0], np.float32), key="a")
print(answer.reason.value, answer.queued)
"""


def test_a_signal_handler_may_close(file: Path, tmp_path: Path) -> None:
    """It runs in the main thread, between any two lines of a call under way, whose input is stored."""
    command = [sys.executable, "-c", SIGNALLED, str(file), str(tmp_path / "outbox")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout == "offline a\n"
    with closing(Outbox(tmp_path / "outbox")) as outbox:
        assert outbox.counts().waiting == 1


def test_a_key_of_another_type_is_stored_as_text(file: Path, tmp_path: Path) -> None:
    """Frame numbers are common keys."""
    with Cascade.load(file, outbox=Outbox(tmp_path / "outbox.db")) as cascade:
        assert [cascade.predict(UNSURE, key=key).queued for key in (0, 1.5)] == ["0", "1.5"]  # type: ignore[arg-type]
