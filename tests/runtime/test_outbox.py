"""Every acknowledged input is sent and delivered once, or counted, despite failures of link, disk or clock."""

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.outbox import Cause, Late, Outbox
from edgecascade.runtime.outbox.clock import Clock
from edgecascade.runtime.outbox.sender import Sender
from edgecascade.runtime.request import Failure
from edgecascade.types.answer import Prediction, Reason
from edgecascade.types.errors import ArgumentError

DAY = 86_400.0


def local(i: int = 0) -> Prediction:
    """The local prediction that was returned."""
    return Prediction(i % 3, 0.4, np.array([0.4, 0.3, 0.3], np.float32))


def of(inputs: Any) -> Prediction:
    """Return the remote's prediction, which identifies its input."""
    return Prediction(int(np.ravel(inputs)[0]), 0.9, np.array([0.9, 0.1, 0.0], np.float32))


def number(i: int, size: int = 3) -> Any:
    """Return an input filled with a number."""
    return np.full((1, size), i, np.int64)


class Time:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.monotonic, self.boot = 100.0, "a"

    def __call__(self) -> Clock:
        """Return the clock in the form that the outbox takes."""
        return Clock(lambda: self.monotonic, lambda: self.boot)

    def pass_by(self, seconds: float) -> None:
        """Advance the clock."""
        self.monotonic += seconds


class Link:
    """A remote with a given outcome, which records its inputs."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.down: Reason | None = None
        self.bad: set[int] = set()
        self.condemns = True  # an invalid input fails its whole request

    def __call__(self, inputs: Any, _: Deadline) -> list[Prediction | Failure]:
        """Return a prediction or a failure for each input."""
        names = [int(np.ravel(one)[0]) for one in inputs]
        self.asked.append(names)
        if self.down is not None:
            return [Failure(self.down, "as told")] * len(names)
        refused = self.bad & set(names)
        return [
            Failure(Reason.REMOTE_ERROR, "as told", about_input=True)
            if name in refused or (refused and self.condemns)
            else of(name)
            for name in names
        ]


@pytest.fixture
def clock() -> Time:
    """Return clocks set by the test."""
    return Time()


@pytest.fixture
def link() -> Link:
    """Return a link that is up."""
    return Link()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "outbox.db"


@pytest.fixture
def opened(path: Path, clock: Time) -> Iterator[Callable[..., Outbox]]:
    """Open outboxes on one file, and close them after the test."""
    all_opened: list[Outbox] = []

    def open_one(**options: Any) -> Outbox:
        all_opened.append(Outbox(path, clock=clock(), **options))
        return all_opened[-1]

    yield open_one
    for one in all_opened:
        one.close()


def drain(outbox: Outbox, ask: Any, on_late: Any = None, *, keep: float = 7 * DAY) -> Sender:
    """Return the thread's work, to be run step by step."""
    outbox.flush()
    return Sender(outbox._store, ask, on_late, keep=keep, patience=1.0)


def keys(outbox: Outbox, table: str = "input") -> list[str]:
    """Return the keys in a table of the file, the oldest first."""
    return [str(key, "utf-8") for (key,) in outbox._store._db.execute(f"SELECT key FROM {table} ORDER BY id")]


def until(true: Callable[[], bool]) -> None:
    """Wait for the outbox's thread."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_stored_input_is_answered_after_a_restart(opened: Callable[..., Outbox], link: Link, clock: Time) -> None:
    """It has its key, both predictions, and its waiting time, including the downtime."""
    outbox = opened()
    assert outbox.put("schlüssel\0\udcff", number(7), local())
    outbox.close()
    clock.pass_by(60)
    late: list[Late] = []
    outbox = opened()
    drain(outbox, link, late.append).step()
    assert [one.key for one in late] == ["schlüssel\0\udcff"]
    assert (late[0].remote.label, late[0].local.label, late[0].waited) == (7, 0, 60.0)
    assert late[0].local.probabilities.tolist() == local().probabilities.tolist()
    assert (outbox.counts().delivered, outbox.counts().acknowledged) == (1, 1)


@pytest.mark.parametrize(
    "inputs",
    [
        np.ones((1, 2, 2), np.float16),
        {"ids": np.zeros((1, 4), np.int64), "mask": np.ones((1, 4), bool)},
        np.array(["größer"]),
        np.array([b"\xff\xd8file\0\0", None], object)[:1],
    ],
)
def test_every_kind_of_input_reaches_the_remote_unchanged(opened: Callable[..., Outbox], inputs: Any) -> None:
    """Cases are arrays, several arrays by name, text, and files as bytes."""
    outbox, sent = opened(), []

    def ask(batch: Any, _: Deadline) -> list[Prediction]:
        sent.append(batch)
        return [local()]

    assert outbox.put("a", inputs, local())
    drain(outbox, ask).step()
    arrays = inputs if isinstance(inputs, dict) else {"": inputs}
    found = sent[0] if isinstance(inputs, dict) else {"": sent[0]}
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].tolist() == array.tolist()


def test_each_input_under_one_key_is_answered_once_under_it(opened: Callable[..., Outbox], link: Link) -> None:
    """An input that is stored under its key already, or whose answer waits under it, is not stored again."""
    outbox, late = opened(), list[Late]()
    for i in (1, 2, 1, 2):
        assert outbox.put("a", number(i), local(i))
    assert outbox.put("b", number(2), local(2))
    assert outbox.counts().waiting == 3
    drain(outbox, link).step()
    for i in (1, 2, 3):
        assert outbox.put("a", number(i), local(i))
    assert (outbox.counts().waiting, outbox.counts().answered) == (1, 3)
    outbox.close()
    outbox = opened()
    one = drain(outbox, link, late.append)
    while one.step() == 0.0:
        pass
    found = [(each.key, each.local.label, each.remote.label) for each in late]
    assert found == [("a", 1, 1), ("a", 2, 2), ("b", 2, 2), ("a", 0, 3)]
    assert link.asked == [[1, 2], [3]]
    assert outbox.put("a", number(1), local())
    assert outbox.counts().waiting == 1


def test_a_late_reply_is_the_answer_to_its_own_input_only(opened: Callable[..., Outbox], link: Link) -> None:
    """Another input that waits under the same key is sent."""
    outbox, late = opened(), list[Late]()
    for i in (1, 2):
        assert outbox.offer("a", number(i), local(i))
    outbox.answer(number(2), of(9))
    drain(outbox, link, late.append).step()
    assert [(each.local.label, each.remote.label) for each in late] == [(2, 9), (1, 1)]
    assert link.asked == [[1]]


@pytest.mark.parametrize("bounds", [{"most": 1}, {"most_bytes": 200}])
def test_a_full_outbox_takes_what_it_has(opened: Callable[..., Outbox], bounds: dict[str, int]) -> None:
    """The same input under the same key is stored."""
    outbox = opened(**bounds)
    kept = [outbox.put("a", number(i), local()) for i in (1, 2, 1)]
    assert kept == [True, False, True]


def test_a_full_outbox_refuses_the_newest_input(opened: Callable[..., Outbox], link: Link) -> None:
    """It is bounded by count and bytes, answers included, and counts the refusals."""
    outbox = opened(most=2)
    assert [outbox.put(f"{i}", number(i), local()) for i in range(3)] == [True, True, False]
    drain(outbox, link).step()
    assert not outbox.put("3", number(3), local())
    assert outbox.counts().not_stored[Cause.FULL] == 2
    assert sum(1 for _ in outbox.late()) == 2
    assert outbox.put("3", number(3), local())
    outbox.close()
    small = opened(most_bytes=10_000)
    kept = [small.put(f"b{i}", number(i, 200), local()) for i in range(10)]
    assert kept == sorted(kept, reverse=True)
    assert 1 < sum(kept) < 10
    assert small.counts().waiting_bytes <= 10_000


@pytest.mark.parametrize(
    ("key", "inputs", "grace"),
    [
        ("a", np.zeros((2, 3)), 0.0),
        ("a", np.array([object()]), 0.0),
        ("a", {}, 0.0),
        ("a", None, 0.0),
        (7, np.zeros((1, 3)), 0.0),
        ("a", np.zeros((1, 3)), -1.0),
        ("a", np.zeros((1, 3)), float("nan")),
        ("a", np.zeros((1, 3)), float("inf")),
    ],
)
def test_an_input_that_cannot_be_packed_is_not_stored(
    opened: Callable[..., Outbox], key: Any, inputs: Any, grace: float
) -> None:
    """It raises no error, since the caller must be answered."""
    outbox = opened()
    assert outbox.put(key, inputs, local(), grace=grace) is False
    assert outbox.counts().not_stored[Cause.UNSUPPORTED] == 1
    assert outbox.counts().acknowledged == 0


def test_a_late_ordinary_answer_is_delivered(opened: Callable[..., Outbox], link: Link) -> None:
    """Its input is not sent again, and answers to inputs that do not wait are ignored."""
    outbox, late = opened(), list[Late]()
    outbox.put("a", number(1), local(), grace=5.0)
    outbox.answer(number(1), of(9))
    outbox.answer(number(1), of(8))
    outbox.answer(number(2), of(9))
    outbox.close()
    outbox = opened()
    drain(outbox, link, late.append).step()
    assert [(one.key, one.remote.label) for one in late] == [("a", 9)]
    assert link.asked == []


def test_an_input_is_not_sent_within_its_grace_period(opened: Callable[..., Outbox], link: Link, clock: Time) -> None:
    """Its request may still be in progress."""
    outbox = opened()
    outbox.put("a", number(1), local(), grace=5.0)
    one = drain(outbox, link)
    assert one.step() == pytest.approx(5.0)
    assert link.asked == []
    clock.pass_by(5.1)
    one.step()
    assert link.asked == [[1]]


def test_the_oldest_inputs_are_sent_first_with_others_of_their_kind(opened: Callable[..., Outbox], link: Link) -> None:
    """One request holds at most 32."""
    outbox = opened()
    for i in range(40):
        outbox.put(f"{i}", number(i), local())
        outbox.put(f"other {i}", number(100 + i, size=4), local())
    one = drain(outbox, link)
    while one.step() == 0.0:
        pass
    assert [*map(len, link.asked)] == [32, 32, 8, 8]
    assert link.asked[0] == [*range(32)]
    assert link.asked[1] == [*range(100, 132)]
    assert outbox.counts().answered == 80


@pytest.mark.parametrize("reason", [Reason.OFFLINE, Reason.CIRCUIT_OPEN, Reason.BUDGET])
def test_the_pause_for_an_unreachable_remote_grows(
    opened: Callable[..., Outbox], link: Link, clock: Time, reason: Reason
) -> None:
    """It grows from one second to five minutes; all inputs are sent when the link is up again."""
    outbox = opened()
    for i in range(50):
        outbox.put(f"{i}", number(i), local())
    link.down = reason
    one, pauses = drain(outbox, link), []
    for _ in range(20):
        before = len(link.asked)
        while len(link.asked) == before:
            pause = one.step()
            assert pause is not None
            if len(link.asked) == before:
                clock.pass_by(pause)
        pauses.append(max(0.0, one._next - outbox._store.now()))
    assert 0.7 <= pauses[0] <= 1.3
    assert all(0.999 <= pause <= 300.001 for pause in pauses)
    assert all(pause >= 225.0 for pause in pauses[-5:])
    assert outbox.counts().waiting == 50
    link.down = None
    for _ in range(400):
        clock.pass_by(max(one.step() or 0.0, 1.0))
    assert outbox.counts().answered == 50


def test_a_live_success_ends_the_back_off(opened: Callable[..., Outbox], link: Link, clock: Time) -> None:
    """It ends at once, but at most once a second."""
    outbox = opened()
    outbox.put("a", number(1), local())
    link.down = Reason.OFFLINE
    one = drain(outbox, link)
    for _ in range(8):
        one.step()
        clock.pass_by(400)
    one.step()
    asked = len(link.asked)
    for _ in range(100):
        one.nudge()
        one.step()
    assert len(link.asked) == asked
    clock.pass_by(1.01)
    link.down = None
    one.step()
    assert len(link.asked) == asked + 1
    assert outbox.counts().answered == 1


def test_requests_shrink_on_a_slow_link(opened: Callable[..., Outbox], link: Link, clock: Time) -> None:
    """A remote that answers only two inputs in time answers all; an input that always times out blocks no other."""
    outbox = opened()
    for i in range(40):
        outbox.put(f"{i}", number(i), local())

    def thin(inputs: Any, deadline: Deadline) -> list[Prediction | Failure]:
        late = len(inputs) > 2 or 0 in inputs
        return [Failure(Reason.DEADLINE, "too much")] * len(inputs) if late else list(link(inputs, deadline))

    one = drain(outbox, thin)
    for _ in range(200):
        clock.pass_by(max(one.step() or 0.0, 0.1))
    assert clock.monotonic < 5 * DAY
    assert outbox.counts().answered == 39
    assert keys(outbox) == ["0"]


def test_one_invalid_input_does_not_affect_the_others(opened: Callable[..., Outbox], link: Link, clock: Time) -> None:
    """They are sent one by one; the invalid one is tried three times, across restarts, and counted as refused."""
    link.bad = {3}
    late: list[Late] = []
    for n in range(4):
        outbox = opened()
        for i in range(10) if n == 0 else ():
            outbox.put(f"{i}", number(i), local())
        outbox.put(f"good {n}", number(50 + n), local())
        one = drain(outbox, link, late.append)
        for _ in range(3):
            one.step()
        clock.pass_by(1000)
        outbox.close()
    outbox = opened()
    counts = outbox.counts()
    assert (counts.refused, counts.delivered, counts.waiting) == (1, 13, 0)
    assert sum(names == [3] for names in link.asked) == 3
    assert {one.key for one in late} == {f"{i}" for i in range(10) if i != 3} | {f"good {n}" for n in range(4)}


def test_a_remote_that_refuses_everything_drops_no_input(
    opened: Callable[..., Outbox], link: Link, clock: Time
) -> None:
    """A refusal counts against an input only if the remote answers others; requests stay rare."""
    outbox = opened()
    for i in range(100):
        outbox.put(f"{i}", number(i), local())
    link.bad = {*range(100)}
    one = drain(outbox, link)
    for _ in range(500):
        clock.pass_by(max(one.step() or 0.0, 1.0))
    assert outbox.counts().waiting == 100
    assert len(link.asked) < 2500
    link.bad = set()
    for _ in range(500):
        clock.pass_by(max(one.step() or 0.0, 60.0))
    assert outbox.counts().answered == 100


def test_failures_that_any_input_would_meet_drop_none(opened: Callable[..., Outbox], link: Link, clock: Time) -> None:
    """The remote refuses this client every other minute, for a day; the pauses stay short while it refuses."""
    outbox, working = opened(), False
    for i in range(64):
        outbox.put(f"{i}", number(i), local())

    def ask(inputs: Any, deadline: Deadline) -> list[Prediction | Failure]:
        return link(inputs, deadline) if working else [Failure(Reason.REMOTE_ERROR, "HTTP 401")] * len(inputs)

    one = drain(outbox, ask)
    for minute in range(200):
        working = minute % 2 == 1
        end = clock.monotonic + 60
        one.nudge()  # a forward was answered
        while clock.monotonic < end:
            clock.pass_by(min(max(one.step() or 0.0, 0.5), 60.0))
        outbox.put(f"new {minute}", number(100 + minute), local())
    counts = outbox.counts()
    assert (counts.refused, counts.acknowledged) == (0, 264)
    assert counts.waiting < 10
    assert len(link.asked) < 1000


@pytest.mark.parametrize(
    "wrong", [lambda _: [][0], lambda n: [local()] * (n + 1), lambda _: None, lambda _: sys.exit()]
)
def test_an_error_of_the_sending_function_drops_no_input(
    opened: Callable[..., Outbox], link: Link, clock: Time, wrong: Any
) -> None:
    """For any exception or return value, the inputs stay and are sent again."""
    outbox = opened()
    outbox.put("a", number(1), local())
    one = drain(outbox, lambda inputs, _: wrong(len(inputs)))
    for _ in range(30):
        one.step()
        clock.pass_by(1000)
    assert outbox.counts().waiting == 1
    drain(outbox, link).step()
    assert outbox.counts().answered == 1


def test_a_failed_delivery_is_repeated(
    opened: Callable[..., Outbox], link: Link, clock: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer is tried five times and then counted; the log does not contain the text of the exception."""
    outbox, calls = opened(), Counter[str]()

    def on_late(late: Late) -> None:
        calls[late.key] += 1
        if late.key == "never" or calls[late.key] < 3:
            raise ValueError("a secret")

    for i, key in enumerate(("never", "third")):
        outbox.put(key, number(i), local())
    one = drain(outbox, link, on_late)
    for _ in range(20):
        one.step()
        clock.pass_by(100)
    assert calls == {"never": 5, "third": 3}
    assert (outbox.counts().delivered, outbox.counts().untaken, outbox.counts().acknowledged) == (1, 1, 2)
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_a_delivered_answer_is_not_repeated_on_a_full_disk(
    opened: Callable[..., Outbox], link: Link, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be removed until there is room."""
    outbox, late = opened(), list[Late]()
    for i in range(3):
        outbox.put(f"{i}", number(i), local())

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    one = drain(outbox, link, late.append)
    with monkeypatch.context() as patch:
        patch.setattr(outbox._store, "end", full)
        for _ in range(10):
            assert one.step() != 0.0 or len(late) <= 1
            clock.pass_by(10)
    assert [one.key for one in late] == ["0"]
    clock.pass_by(4000)
    one.step()
    assert [one.key for one in late] == ["0", "1", "2"]
    assert outbox.counts().delivered == 3


def test_late_answers_can_be_iterated(opened: Callable[..., Outbox], link: Link) -> None:
    """Each is removed when the next one is requested or on closing; an answer that was not taken is delivered again."""
    outbox = opened()
    for i in range(4):
        outbox.put(f"{i}", number(i), local())
    drain(outbox, link).step()
    with contextlib.suppress(RuntimeError):
        for late in outbox.late():
            if late.key == "1":
                raise RuntimeError("the application fails")
    assert outbox.counts().answered == 3
    answers = outbox.late()
    assert next(answers).key == "1"
    other = outbox.late()
    assert next(other).key == "2"
    answers.close()
    assert list(answers) == []
    other.close()
    assert [late.key for late in outbox.late()] == ["3"]
    assert outbox.counts().delivered == 4


def test_waiting_for_late_answers_has_a_timeout(path: Path, link: Link) -> None:
    """It ends when an answer arrives, the time is over, or the outbox is closed."""
    with contextlib.closing(Outbox(path)) as outbox:
        started = time.monotonic()
        assert list(outbox.late(0.05)) == []
        assert time.monotonic() - started >= 0.05
        outbox.start(link)
        threading.Timer(0.05, lambda: outbox.put("a", number(1), local())).start()
        threading.Timer(0.5, outbox.close).start()
        assert [late.key for late in outbox.late(None)] == ["a"]


def test_an_idle_thread_sleeps(opened: Callable[..., Outbox], link: Link, clock: Time) -> None:
    """It also sleeps with undelivered answers, and after all data are safe on disk."""
    outbox = opened()
    outbox.put("a", number(1), local())
    one = drain(outbox, link)
    assert one.step() == 0.0
    assert one.step() == pytest.approx(60.0)
    clock.pass_by(60.1)
    assert one.step() == pytest.approx(600.0)
    assert sum(1 for _ in outbox.late()) == 1
    clock.pass_by(60.1)
    assert one.step() is None


def test_a_power_failure_loses_at_most_the_last_minute(
    opened: Callable[..., Outbox], path: Path, link: Link, clock: Time
) -> None:
    """Older data are in the main file and do not depend on the write-ahead log."""
    link.down = Reason.OFFLINE
    outbox = opened()
    one = drain(outbox, link)
    outbox.put("a", number(1), local())
    clock.pass_by(60.1)
    one.step()
    copy = path.with_name("copy.db")
    subprocess.run(["cp", path, copy], check=True)  # not read here: closing it would release the locks of this process
    with contextlib.closing(Outbox(copy)) as copied:
        assert keys(copied) == ["a"]


def test_an_answer_does_not_expire_during_delivery(opened: Callable[..., Outbox], link: Link, clock: Time) -> None:
    """It counts as delivered, however long the application takes."""
    outbox = opened()
    outbox.put("a", number(1), local())
    one = drain(outbox, link)
    one.step()
    for _ in outbox.late():
        clock.pass_by(30 * DAY)
        one.step()
    assert (outbox.counts().delivered, outbox.counts().expired) == (1, 0)


def test_inputs_and_answers_expire(opened: Callable[..., Outbox], link: Link, clock: Time) -> None:
    """They expire after the given time since their arrival, and each is counted."""
    outbox = opened()
    outbox.put("a", number(1), local())
    clock.pass_by(5 * DAY)
    outbox.put("b", number(2), local())
    link.down = Reason.OFFLINE
    one = drain(outbox, link)
    one.step()
    clock.pass_by(2.1 * DAY)
    one.step()
    assert keys(outbox) == ["b"]
    link.down = None
    clock.pass_by(DAY)
    one.step()
    assert outbox.counts().answered == 1
    clock.pass_by(7.1 * DAY)
    one.step()
    counts = outbox.counts()
    assert (counts.expired, counts.waiting, counts.answered, counts.acknowledged) == (2, 0, 0, 2)


@pytest.mark.parametrize("restart", ["none", "process", "machine"])
def test_a_restart_neither_drops_early_nor_stores_forever(
    opened: Callable[..., Outbox], link: Link, clock: Time, restart: str
) -> None:
    """The time for which only the process was off counts, and that for which the machine was off does not."""
    link.down = Reason.OFFLINE
    outbox = opened()
    outbox.put("a", number(1), local())
    one = drain(outbox, link)
    clock.pass_by(2 * DAY)
    one.step()
    if restart != "none":
        outbox.close()
    clock.pass_by(DAY)
    if restart == "machine":
        clock.monotonic, clock.boot = 5.0, "b"
    if restart != "none":
        outbox = opened()
        one = drain(outbox, link)
    outbox.put("b", number(2), local())
    for _ in range(3):
        one.step()
        clock.pass_by(60)
    for _ in range(20):
        one.step()
        clock.pass_by(60)
    assert keys(outbox) == ["a", "b"]
    asked = len(link.asked)
    clock.pass_by(3.5 * DAY)
    one.step()
    assert len(link.asked) > asked
    assert keys(outbox) == ["a", "b"]
    clock.pass_by(1.4 * DAY)
    one.step()
    assert keys(outbox) == (["a", "b"] if restart == "machine" else ["b"])  # it was off for a day
    clock.pass_by(5 * DAY)
    one.step()
    assert outbox.counts().expired == 2


def test_the_time_in_which_the_machine_was_on_counts(opened: Callable[..., Outbox], link: Link, clock: Time) -> None:
    """A device is offline for days and restarts; then both inputs expire in their turn."""
    link.down = Reason.OFFLINE
    outbox = opened()
    outbox.put("a", number(1), local())
    for _ in range(3):
        clock.pass_by(DAY)
        drain(outbox, link).step()
    outbox.close()
    clock.monotonic, clock.boot = 5.0, "b"
    outbox = opened()
    outbox.put("b", number(2), local())
    clock.pass_by(3.9 * DAY)
    one = drain(outbox, link)
    one.step()
    assert keys(outbox) == ["a", "b"]
    clock.pass_by(0.2 * DAY)
    one.step()
    assert keys(outbox) == ["b"]
    clock.pass_by(3 * DAY)
    one.step()
    assert outbox.counts().expired == 2


def test_the_thread_sends_delivers_and_stops(path: Path, link: Link) -> None:
    """It sends as soon as the link is up; closing ends it even during back-off, and may be repeated."""
    late: list[Late] = []
    link.down = Reason.OFFLINE
    outbox = Outbox(path)
    outbox.start(link, late.append)
    assert outbox.put("a", number(1), local())
    until(lambda: len(link.asked) >= 2)
    link.down = None
    outbox.nudge()
    until(lambda: len(late) == 1)
    outbox.put("b", number(2), local())
    until(lambda: len(late) == 2)
    link.down = Reason.OFFLINE
    outbox.put("c", number(3), local())
    until(lambda: link.asked[-1] == [3])
    started = time.monotonic()
    outbox.close()
    outbox.close()
    assert time.monotonic() - started < 4
    assert not any(thread.name == "edgecascade-outbox" for thread in threading.enumerate())
    assert not outbox.put("d", number(4), local())
    assert outbox.counts().not_stored[Cause.CLOSED] == 1
    with contextlib.closing(Outbox(path)) as again:
        assert keys(again) == ["c"]


def test_closing_does_not_wait_for_a_request(path: Path) -> None:
    """The inputs of the request stay, and its later result is ignored."""
    asking, free = threading.Event(), threading.Event()

    def ask(inputs: Any, _: Deadline) -> list[Prediction]:
        asking.set()
        free.wait(20)
        return [local()] * len(inputs)

    outbox = Outbox(path)
    outbox.start(ask)
    outbox.put("a", number(1), local())
    assert asking.wait(10)
    started = time.monotonic()
    outbox.close()
    assert time.monotonic() - started < 4
    with contextlib.closing(Outbox(path)) as again:
        free.set()
        assert again.counts().waiting == 1


@pytest.mark.parametrize("inside", [True, False])
def test_an_answer_is_delivered_once_during_closing(path: Path, link: Link, inside: bool) -> None:
    """Closing waits for the application's function or, called in it, lets it return first."""
    taken, entered = list[str](), threading.Event()

    def on_late(late: Late) -> None:
        entered.set()
        if inside:
            outbox.close()
        else:
            time.sleep(0.1)
        taken.append(late.key)

    outbox = Outbox(path)
    outbox.start(link, on_late)
    outbox.put("a", number(1), local())
    assert entered.wait(10)
    outbox.close()
    until(lambda: outbox._thread is not None and not outbox._thread.is_alive())
    with contextlib.closing(Outbox(path)) as again:
        assert (again.counts().delivered, again.counts().answered, taken) == (1, 0, ["a"])


def test_many_threads_may_put_while_it_drains(path: Path, link: Link) -> None:
    """All acknowledged inputs are delivered once, and the counts agree."""
    delivered: list[str] = []
    kept: list[list[str]] = [[] for _ in range(8)]
    with contextlib.closing(Outbox(path)) as outbox:
        outbox.start(link, lambda late: delivered.append(late.key))

        def put(thread: int) -> None:
            for i in range(100):
                key = f"{thread}/{i}"
                if outbox.put(key, number(i, 200), local(), grace=random.choice([0.0, 0.01])):
                    kept[thread].append(key)
                if i % 3 == 0:
                    outbox.answer(number(i, 200), of(i))

        threads = [threading.Thread(target=put, args=(i,)) for i in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        acknowledged = sorted(key for keys in kept for key in keys)
        until(lambda: outbox.counts().delivered == len(acknowledged))
        assert sorted(delivered) == acknowledged
        counts = outbox.counts()
        assert counts.acknowledged == len(acknowledged)
        assert counts.not_stored[Cause.BUSY] == 800 - len(acknowledged)
        assert counts.waiting_bytes == 0
        assert outbox._store._db.execute("SELECT count(*) FROM content").fetchone() == (0,)


def test_no_other_program_can_change_the_open_file(path: Path) -> None:
    """It is locked for as long as the outbox is open, and delays no input."""
    with contextlib.closing(Outbox(path)) as outbox:
        assert outbox.put("a", number(1), local())
        with contextlib.closing(sqlite3.connect(path, timeout=0.0, isolation_level=None)) as other:
            for statement in ("BEGIN IMMEDIATE", "SELECT * FROM input", "PRAGMA journal_mode=DELETE"):
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute(statement)
            assert outbox.put("b", number(2), local())
        assert keys(outbox) == ["a", "b"]


OTHER = """
import sys, numpy as np
from edgecascade.runtime.outbox import Outbox
from edgecascade.types.errors import ArgumentError
try:
    Outbox(sys.argv[1])
except ArgumentError as error:
    print(error)
"""


def test_one_process_at_a_time_uses_the_file(path: Path) -> None:
    """A second opening raises one sentence; after closing, the file is free."""
    with contextlib.closing(Outbox(path)) as outbox:
        with pytest.raises(ArgumentError, match="in use"):
            Outbox(path)
        ran = subprocess.run([sys.executable, "-c", OTHER, path], capture_output=True, text=True, check=True)
        assert str(path) in ran.stdout
        assert "in use" in ran.stdout
        assert outbox.put("a", number(1), local())
    with contextlib.closing(Outbox(path)) as again:
        assert again.counts().waiting == 1


def test_a_symbolic_link_is_the_file_that_it_points_to(path: Path, tmp_path: Path) -> None:
    """So that two names give no two outboxes."""
    (tmp_path / "link").symlink_to(path)
    with contextlib.closing(Outbox(tmp_path / "link")) as outbox:
        with pytest.raises(ArgumentError, match="in use"):
            Outbox(path)
        assert outbox.put("a", number(1), local())
    with contextlib.closing(Outbox(path)) as again:
        assert again.counts().waiting == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_use_the_file(path: Path, link: Link) -> None:
    """Its calls raise one sentence, and neither they nor its exit disturb the parent."""
    outbox = Outbox(path)
    assert outbox.put("a", number(1), local())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            refused = 0
            for call in (
                outbox.counts,
                outbox.late,
                lambda: outbox.start(link),
                lambda: outbox.answer(number(1), of(1)),
            ):
                try:
                    call()
                except ArgumentError as error:
                    refused += "before a fork" in str(error)
            kept = outbox.put("b", number(1), local())
            outbox.close()
            del outbox, call
            status = 0 if refused == 4 and not kept else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(ArgumentError, match="in use"):
        Outbox(path)
    assert outbox.put("c", number(1), local())
    drain(outbox, link).step()
    assert outbox.counts().answered == 2
    outbox.close()


FULL = """
import resource, sys, numpy as np
from pathlib import Path
from edgecascade.runtime.outbox import Outbox
from edgecascade.runtime.outbox.sender import Sender
from edgecascade.types.answer import Prediction
prediction = Prediction(1, 0.5, np.ones(3, np.float32))

def put(first, last):
    inputs = {str(i): np.full((1, 50_000), i, np.uint8) for i in range(first, last)}
    return [key for key, one in inputs.items() if outbox.put(key, one, prediction)]

def drain():
    delivered = []
    sender = Sender(outbox._store, lambda x, _: [prediction] * len(x), lambda late: delivered.append(late.key),
        keep=1e6, patience=1.0)
    while sender.step() == 0.0: pass
    return delivered

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
limit(500_000)
outbox = Outbox(sys.argv[1])
kept = put(0, 20)
counts = outbox.counts()
assert 0 < len(kept) < 20, kept
assert sum(counts.not_stored.values()) == 20 - len(kept) and counts.acknowledged == len(kept), counts
assert sorted(drain()) == sorted(kept)
again = put(20, 23)  # in the room of those that were delivered
assert len(again) == 3, outbox.counts()
outbox.close()
outbox = Outbox(sys.argv[1])
assert sorted(drain()) == sorted(again)
kept = put(30, 50)
assert 0 < len(kept) < 20, kept
limit(hard)
kept += put(50, 60)
assert len(kept) > 10 and sorted(drain()) == sorted(kept), kept
counts = outbox.counts()
assert counts.damaged_files == 0 and counts.unusable is None and counts.waiting == counts.answered == 0, counts
outbox.close()
print("all well")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits here")
def test_a_full_disk_loses_no_input_and_stops_no_delivery(path: Path) -> None:
    """All that was stored is delivered while the disk is full, also after a restart; further inputs are counted."""
    ran = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "all well", ran.stderr


FULL_FILE_SYSTEM = """
import os, sys, numpy as np
from pathlib import Path
from edgecascade.runtime.outbox import Outbox
from edgecascade.runtime.outbox.sender import Sender
from edgecascade.types.answer import Prediction
prediction = Prediction(1, 0.5, np.ones(1000, np.float32))

def fill():
    with open(Path(sys.argv[1], "other"), "ab", buffering=0) as other:
        try:
            while True: other.write(bytes(4096))
        except OSError:
            pass

delivered = []
def drain(steps):
    sender = Sender(outbox._store, lambda x, _: [prediction] * len(x), lambda late: delivered.append(late.key),
        keep=1e6, patience=1.0)
    for _ in range(steps):
        fill()
        if sender.step() != 0.0: break

outbox = Outbox(Path(sys.argv[1], "outbox"))
sizes = np.random.default_rng(0).integers(1, 200_000, 500)
kept = [str(i) for i, n in enumerate(sizes) if outbox.put(str(i), np.full((1, n), i % 250, np.uint8), prediction)]
assert 50 < len(kept) < 500 and sum(outbox.counts().not_stored.values()) == 500 - len(kept)
fill()
drain(2)
assert 0 < len(delivered) < len(kept)
for _ in range(2):
    fill()
    outbox.close()
    fill()
    outbox = Outbox(Path(sys.argv[1], "outbox"))
    assert outbox.counts().unusable is None, outbox.counts()
    drain(1)
while outbox.counts().waiting:
    drain(1)
assert sorted(delivered) == sorted(kept)
print("all well")
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_file_system_stops_no_delivery(tmp_path: Path) -> None:
    """Another program takes every byte that becomes free, before each step and before a restart."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", tmp_path], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed")
    try:
        ran = subprocess.run(
            [sys.executable, "-c", FULL_FILE_SYSTEM, tmp_path], capture_output=True, text=True, check=False
        )
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert ran.stdout.strip() == "all well", ran.stderr


def test_a_full_file_system_is_reported(path: Path) -> None:
    """The test uses sqlite's own limit, which gives the same error."""
    with contextlib.closing(Outbox(path)) as outbox:
        writer = outbox._store._db
        writer.execute(f"PRAGMA max_page_count={writer.execute('PRAGMA page_count').fetchone()[0] + 4}")
        kept = [outbox.put(f"{i}", number(i, 2000), local()) for i in range(5)]
        assert kept[0]
        assert not kept[-1]
        counts = outbox.counts()
        assert counts.not_stored[Cause.DISK_FULL] == sum(counts.not_stored.values()) == 5 - sum(kept)
        assert counts.acknowledged == sum(kept)


def test_an_unwritable_folder_stores_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The application starts all the same: this is logged and counted."""
    Path(f"{path}-lock").mkdir()
    with contextlib.closing(Outbox(path)) as outbox:
        assert not outbox.put("a", number(1), local())
        outbox.answer(number(1), of(1))
        assert list(outbox.late()) == []
        assert outbox.counts().unusable is Cause.READ_ONLY
        assert outbox.counts().not_stored[Cause.READ_ONLY] == 1
    assert "read-only" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"most": 0}, "most: expected a whole number of 1 or more, got 0"),
        ({"most_bytes": 1.5}, "most_bytes: expected a whole number of 1 or more, got 1.5"),
        ({"keep": 0.0}, "keep: expected seconds above 0, got 0.0"),
        ({"keep": float("nan")}, "keep: expected seconds above 0, got nan"),
    ],
)
def test_invalid_arguments_are_refused(path: Path, options: Any, said: str) -> None:
    """The error is one sentence."""
    with pytest.raises(ArgumentError) as error:
        Outbox(path, **options)
    assert str(error.value) == said


def test_an_invalid_path_is_refused(tmp_path: Path) -> None:
    """Cases are a folder, and a file in a missing folder."""
    for path in (tmp_path, tmp_path / "missing" / "outbox.db"):
        with pytest.raises(ArgumentError, match=r"^path: "):
            Outbox(path)


def test_a_newer_file_is_refused_and_unchanged(path: Path) -> None:
    """The error is one sentence, and the file is not moved."""
    Outbox(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE moment ADD COLUMN other")
        db.execute("PRAGMA user_version=3")
    with pytest.raises(ArgumentError, match=r"^path: expected .* version 2 .* version 3$"):
        Outbox(path)
    assert not list(path.parent.glob("*.damaged*"))
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (3,)


@pytest.mark.parametrize("bit", [0, 7, 24, 25])  # versions far above, negative, 3 and 0
def test_a_flipped_bit_in_the_version_loses_nothing(path: Path, bit: int) -> None:
    """The tables are those of this version, so the file is damaged, and neither newer nor older."""
    with contextlib.closing(Outbox(path)) as outbox:
        assert outbox.put("a", number(1), local())
    with path.open("r+b") as file:  # the version is at byte 60
        file.seek(60 + bit // 8)
        (byte,) = file.read(1)
        file.seek(60 + bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))
    with contextlib.closing(Outbox(path)) as outbox:
        assert outbox.counts().waiting == 1
        assert outbox.counts().damaged == 0


def test_an_older_file_is_renamed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It stays complete under a descriptive name; the log and the counts report it."""
    Outbox(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE moment ADD COLUMN other")
        db.execute("PRAGMA user_version=1")
    content = path.read_bytes()
    with contextlib.closing(Outbox(path)) as outbox:
        assert outbox.put("a", number(1), local())
        assert outbox.counts().damaged_files == 1
    assert Path(f"{path}.old-1").read_bytes() == content
    assert f"{path}.old-1" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions here")
def test_only_the_owner_can_read_the_files(path: Path) -> None:
    """The umask and earlier permissions of the files do not matter."""
    before = os.umask(0)
    try:
        path.touch(0o666)
        with contextlib.closing(Outbox(path)) as outbox:
            outbox.put("a", number(1), local())
            files = [one for one in path.parent.iterdir() if one.name.startswith(path.name)]
            assert {one.name for one in files} >= {path.name, f"{path.name}-wal", f"{path.name}-lock"}
            assert {one.stat().st_mode & 0o777 for one in files} == {0o600}
    finally:
        os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions here")
@pytest.mark.parametrize("ending", ["-lock", "-wal"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_in_a_shared_folder_changes_no_other_file(path: Path, tmp_path: Path, ending: str, exists: bool) -> None:
    """Another user may have placed it where the outbox puts its lock or its log."""
    other = tmp_path / "other"
    if exists:
        other.write_bytes(b"of another program" * 1000)
        other.chmod(0o644)
    Path(f"{path}{ending}").symlink_to(other)
    with contextlib.closing(Outbox(path)) as outbox:
        assert outbox.put("a", number(1), local())
    assert other.exists() == exists
    if exists:
        assert other.read_bytes() == b"of another program" * 1000
        assert other.stat().st_mode & 0o777 == 0o644


def test_equal_inputs_are_sent_once_and_answered_under_each_key(opened: Callable[..., Outbox], link: Link) -> None:
    """Each key counts as an input; the bytes are stored once, and removed with the last key."""
    outbox, late = opened(), list[Late]()
    outbox.put("a", number(1, 5000), local(0))
    alone = outbox.counts().waiting_bytes
    outbox.put("b", number(1, 5000), local(1))
    assert outbox.offer("c", number(1, 5000), local(2))
    outbox.flush()
    assert (outbox.counts().waiting, outbox.counts().waiting_bytes < alone + 1000) == (3, True)
    drain(outbox, link, late.append).step()
    assert link.asked == [[1]]
    assert [(one.key, one.local.label, one.remote.label) for one in late] == [("a", 0, 1), ("b", 1, 1), ("c", 2, 1)]
    counts = outbox.counts()
    assert (counts.delivered, counts.acknowledged, counts.waiting_bytes) == (3, 3, 0)


def test_exchanged_parts_are_detected(path: Path, link: Link) -> None:
    """The sum of words would not change if two parts of an image were exchanged."""
    image = random.Random(0).randbytes(80_000)
    with contextlib.closing(Outbox(path)) as outbox:
        outbox.put("a", np.frombuffer(image, np.uint8)[None], local())
    content = path.read_bytes()
    places = [content.find(image[i : i + 4000]) for i in (10_000, 15_000, 40_000, 45_000)]  # -1 across two pages
    b, c = next(one for one in places[:2] if one > 0), next(one for one in places[2:] if one > 0)
    changed = bytearray(content)
    changed[b : b + 4000], changed[c : c + 4000] = content[c : c + 4000], content[b : b + 4000]
    path.write_bytes(changed)
    with contextlib.closing(Outbox(path)) as outbox:
        drain(outbox, link).step()
        assert outbox.counts().damaged == 1
    assert link.asked == []


def foreign(path: Path) -> None:
    """Return another application's database."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE input(id)")
        db.execute("INSERT INTO input VALUES (7)")
        db.commit()


@pytest.mark.parametrize("write", [foreign, lambda path: path.write_text("no database at all, but a text " * 99)])
def test_a_foreign_file_is_renamed(path: Path, write: Callable[[Path], None], caplog: pytest.LogCaptureFixture) -> None:
    """It stays complete; the last three are stored, and the log and the counts report it."""
    for n in range(1, 6):
        write(path)
        content = path.read_bytes()
        with contextlib.closing(Outbox(path)) as outbox:
            assert outbox.counts().damaged_files == 1
            assert outbox.put("a", number(1), local())
        assert Path(f"{path}.damaged-{n}").read_bytes() == content
        path.unlink()
    assert sorted(one.name for one in path.parent.glob("*damaged*")) == [f"outbox.db.damaged-{n}" for n in (3, 4, 5)]
    assert f"moved to {path}.damaged-1, and a new one" in caplog.text


@pytest.mark.parametrize("damaged", ["moment", "count"])
def test_what_was_postponed_is_due_after_damage(path: Path, damaged: str) -> None:
    """The moment at which the file was written last may be lost, and then no time in it can be compared with now."""
    with contextlib.closing(Outbox(path)) as outbox:
        for i in range(2):
            outbox.put(f"{i}", number(i), local(i))
        outbox.answer(number(0), of(number(0)))
        outbox.flush()
        db = outbox._store._db
        db.execute("UPDATE answer SET arrived=1e6, ready=2e6")
        db.execute("UPDATE question SET ready=2e6, pause=3600.0, tries=1")
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name=?", (damaged,)).fetchone()
    content = path.read_bytes()
    path.write_bytes(content[: 8192 * (page - 1)] + bytes(8192) + content[8192 * page :])
    late: list[Late] = []
    with contextlib.closing(Outbox(path)) as outbox:
        one = drain(outbox, Link(), late.append)
        while one.step() == 0.0:
            pass
        assert (outbox.counts().damaged_files, outbox.counts().damaged) == (1, 0)
    assert sorted(answer.key for answer in late) == ["0", "1"]


def test_damage_of_a_page_costs_only_the_rows_on_it(path: Path) -> None:
    """One page has other bytes: of the header, of an index, of a table, or within an input.

    The sizes are such that the inputs of a page are few: their rows, or one input's bytes.
    """
    sizes = [random.Random(0).choice([1, 10, 100, 3000]) for _ in range(60)]
    with contextlib.closing(Outbox(path)) as outbox:
        for i, size in enumerate(sizes):
            outbox.put(f"{i}" * 100, number(i, size), local(i))  # long keys, so that the rows fill several pages
        one = drain(outbox, Link())
        one.step()
        assert outbox.counts().answered == 32
        delivered = outbox.late()
        gone = {next(delivered).key for _ in range(9)}
        delivered.close()
    content, lost = path.read_bytes(), []
    pages = range(0, len(content), 8192)
    for page in (*pages[:16], *pages[16::3]):
        for each in path.parent.iterdir():
            each.unlink()
        path.write_bytes(content[:page] + random.Random(page).randbytes(8192) + content[page + 8192 :])
        late: dict[str, Late] = {}
        with contextlib.closing(Outbox(path)) as outbox:
            one = drain(outbox, Link(), lambda answer: late.update({answer.key: answer}))  # noqa: B023
            while one.step() == 0.0:
                pass
            counts = outbox.counts()
        assert all(key == f"{answer.remote.label}" * 100 for key, answer in late.items())
        assert all(answer.local.label == answer.remote.label % 3 for answer in late.values())
        assert not late.keys() & gone
        lost.append(60 - len(gone) - len(late))
        assert (counts.damaged, counts.waiting) == (lost[-1], 0)
        assert counts.acknowledged == 60 - (9 if counts.delivered < len(late) + 9 else 0)  # the page of the totals
    assert lost[0] == 0
    assert max(lost) < 30
    assert sum(one > 0 for one in lost) > 10


UNFINISHED = """
import os, signal, sys, numpy as np
from edgecascade.runtime.outbox import Outbox
from edgecascade.types.answer import Prediction
outbox = Outbox(sys.argv[1])
for i in range(40):
    inputs = np.full((1, [3, 3000][i % 2]), i, np.int64)
    assert outbox.put(f"{i}", inputs, Prediction(i % 3, 0.5, np.ones(3, np.float32)))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_damage_of_the_log_costs_only_the_rows_on_a_page(path: Path) -> None:
    """Bytes of a frame, its header or the log's header change after a kill; the frames behind them are not lost."""
    frame = 24 + 8192
    subprocess.run([sys.executable, "-c", UNFINISHED, path], check=False)
    files = {one: one.read_bytes() for one in path.parent.iterdir()}
    log = Path(f"{path}-wal")
    salts, frames = files[log][16:24], 0
    while files[log][32 + frames * frame :][8:16] == salts:
        frames += 1
    last = next(n for n in reversed(range(frames - 1)) if any(files[log][32 + n * frame :][4:8]))
    places = [32 + n * frame + offset for n in range(0, last, frames // 12) for offset in (0, 5, 9, 18, 4000)]
    lost = []
    for at in [-32, -56, -512, -4096, 0, 9, 17, 25, *places]:
        for each in path.parent.iterdir():
            each.unlink()
        for file, content in files.items():
            file.write_bytes(content)
        changed = bytearray(files[log])
        if at < 0:
            changed[:-at] = bytes(-at)  # a sector that cannot be read, with the header of the first frame
        else:
            changed[at] ^= 255
        log.write_bytes(changed)
        late: list[Late] = []
        with contextlib.closing(Outbox(path)) as outbox:
            assert outbox.counts().damaged_files == 1
            one = drain(outbox, Link(), late.append)
            while one.step() == 0.0:
                pass
            assert outbox.counts().damaged == 40 - len(late)
        assert all(answer.key == f"{answer.remote.label}" for answer in late)
        lost.append(40 - len(late))
    assert max(lost) <= 1
    assert sum(lost) < len(lost) / 2


@pytest.mark.parametrize("cut", [0, 1, 25, 5000])
def test_a_log_with_an_unfinished_change_is_whole(path: Path, cut: int) -> None:
    """As the end of the process leaves it: the file is not moved, and all before that change is there."""
    frame = 24 + 8192
    subprocess.run([sys.executable, "-c", UNFINISHED, path], check=False)
    log = Path(f"{path}-wal")
    content, frames = log.read_bytes(), 0
    while content[32 + frames * frame :][8:16] == content[16:24]:
        frames += 1
    end = 32 + (frames - 1) * frame + cut
    log.write_bytes(content[:end] + bytes(len(content) - end))
    with contextlib.closing(Outbox(path)) as outbox:
        assert (outbox.counts().waiting, outbox.counts().damaged_files) == (39, 0)


def test_exchanged_pages_are_noticed(path: Path) -> None:
    """No input is answered with another's answer, and those on other pages are answered."""
    with contextlib.closing(Outbox(path)) as outbox:
        for i in range(40):
            outbox.put(f"{i}", number(i, 2000), local(i))
    content, draw, lost = path.read_bytes(), random.Random(1), 0
    for _ in range(20):
        for each in path.parent.iterdir():
            each.unlink()
        a, b = (8192 * n for n in draw.sample(range(len(content) // 8192), 2))
        changed = bytearray(content)
        changed[a : a + 8192], changed[b : b + 8192] = content[b : b + 8192], content[a : a + 8192]
        path.write_bytes(changed)
        late: list[Late] = []
        with contextlib.closing(Outbox(path)) as outbox:
            one = drain(outbox, Link(), late.append)
            while one.step() == 0.0:
                pass
            assert outbox.counts().damaged == 40 - len(late)
        assert all(
            (answer.key, answer.local.label) == (f"{n}", n % 3) for answer in late for n in [answer.remote.label]
        )
        lost += 40 - len(late)
    assert 0 < lost < 20 * 40 / 2


@pytest.mark.parametrize("killed", [False, True])
def test_a_file_opened_through_links_is_not_moved(path: Path, tmp_path: Path, killed: bool) -> None:
    """Links to the file, to its folder, and to a link; after a close, or with what a killed process left."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "again").symlink_to("folder")
    (tmp_path / "folder" / "link.db").symlink_to(os.path.relpath(path, tmp_path / "folder"))
    (tmp_path / "link.db").symlink_to("again/link.db")
    through = tmp_path / "link.db"
    if killed:
        subprocess.run([sys.executable, "-c", KILLED, through], check=False)
    else:
        with contextlib.closing(Outbox(through)) as outbox:
            assert outbox.put("a", number(1), local())
    for one in (through, tmp_path / "again" / "link.db", path):
        with contextlib.closing(Outbox(one)) as outbox:
            assert (outbox.counts().waiting, outbox.counts().damaged_files) == (1, 0)
    assert through.is_symlink()
    assert path.is_file()
    assert not path.is_symlink()


KILLED = """
import os, signal, sys, numpy as np
from edgecascade.runtime.outbox import Outbox
from edgecascade.types.answer import Prediction
assert Outbox(sys.argv[1]).put("a", np.ones((1, 3)), Prediction(1, 0.5, np.ones(3, np.float32)))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_work_for_an_answer_does_not_depend_on_the_number_that_wait(path: Path) -> None:
    """SQLite's own count of steps is the measure: with 20 and with 5,000 inputs that wait."""
    steps, before = list[int](), 0
    with contextlib.closing(Outbox(path)) as outbox:
        for n in (20, 5000):
            db = outbox._store._db
            outbox._store.save()
            with outbox._store.lock:
                db.execute("BEGIN IMMEDIATE")
                for i in range(before, n):
                    digest = i.to_bytes(16, "big")
                    db.execute("INSERT INTO question VALUES(NULL,?,'k',1,0,0,0)", (digest,))
                    db.execute("INSERT INTO content VALUES(last_insert_rowid(),x'00')")
                    row = (b"%d" % i, digest, 0.0, 0.0, 1, 0, b"")
                    db.execute("INSERT INTO input VALUES(NULL,?,?,?,?,?,?,?)", row)
                db.execute("COMMIT")
            before = n
            outbox._store.save()
            taken = Counter[str]()
            db.set_progress_handler(lambda: taken.update(["steps"]), 1)  # noqa: B023
            (first,) = outbox._store.due(1, 1 << 20)
            outbox._store.due_at()
            outbox._store.expire(1e9)
            outbox._store.answer([(first.digest, b"")])
            db.set_progress_handler(None, 0)
            steps.append(taken["steps"])
    assert steps[1] < steps[0] + 50


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_anywhere_in_the_file_raises_no_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Each input is delivered unchanged, or counted as damaged, or was in a file that was renamed."""
    path = tmp_path_factory.mktemp("damaged") / "outbox.db"
    outbox = Outbox(path)
    for i in range(12):
        outbox.put(f"{i}", number(i, 3000 if i % 2 else 10), local(i))
        if i % 4 == 0:
            outbox.answer(number(i, 3000 if i % 2 else 10), of(i))
    outbox.close()
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        size = data.draw(st.sampled_from([1, 4, 100, 8192]))
        content[at : at + size] = random.Random(at).randbytes(len(content[at : at + size]))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    late: dict[str, Late] = {}
    with contextlib.closing(Outbox(path)) as outbox:
        before = outbox.counts().acknowledged
        one = drain(outbox, Link(), lambda answer: late.update({answer.key: answer}))
        for _ in range(6):
            outbox.put("new", number(77), local())
            one.step()
        counts = outbox.counts()
        assert outbox.put("newer", number(78), local())
    assert "new" in late
    for key, answer in late.items():
        if key in {f"{i}" for i in range(12)}:
            assert answer.remote.label == int(key)
    if counts.damaged_files == 0:
        assert before <= counts.acknowledged


def test_an_input_with_damaged_bytes_is_counted(path: Path, link: Link) -> None:
    """It is not sent, since the remote would answer another input; the others are."""
    outbox = Outbox(path)
    for i in range(3):
        outbox.put(f"{i}", np.full((1, 9000), 65 + i, np.uint8), local())
    outbox.close()
    content = path.read_bytes()
    assert content.count(b"B" * 100) > 1
    path.write_bytes(content.replace(b"B" * 100, b"B" * 99 + b"C", 1))
    with contextlib.closing(Outbox(path)) as outbox:
        drain(outbox, link).step()
        counts = outbox.counts()
        assert (counts.damaged, counts.answered, counts.damaged_files) == (1, 2, 0)
    assert link.asked == [[65, 67]]


class Machine(RuleBasedStateMachine):
    """An outbox compared with a dict of its expected content."""

    @initialize()
    def begin(self) -> None:
        """Start with an empty file."""
        self.folder = tempfile.TemporaryDirectory()
        self.clock, self.link = Time(), Link()
        self.live: dict[str, float] = {}
        self.acknowledged = 0
        self.delivered = Counter[str]()
        self.given = Counter[str]()
        self.outbox = self.open()

    def open(self) -> Outbox:
        """Open the same file."""
        return Outbox(Path(self.folder.name) / "outbox.db", most=6, keep=100.0, clock=self.clock())

    def on_late(self, late: Late) -> None:
        """Record a delivered answer."""
        assert late.key in self.live
        assert str(late.remote.label) == late.key
        self.delivered[late.key] += 1
        del self.live[late.key]

    @rule(key=st.integers(0, 8), grace=st.sampled_from([0.0, 5.0]))
    def put(self, key: int, grace: float) -> None:
        """Put an input, which is stored if there is room or if it is stored already."""
        kept = self.outbox.put(f"{key}", number(key), local(), grace=grace)
        assert kept == (f"{key}" in self.live or len(self.live) < 6)
        if kept and f"{key}" not in self.live:
            self.live[f"{key}"] = self.clock.monotonic
            self.acknowledged += 1

    @rule(key=st.integers(0, 8))
    def answer(self, key: int) -> None:
        """Report a late ordinary answer."""
        self.outbox.answer(number(key), of(key))
        assert self.outbox.flush()

    @rule(down=st.booleans(), taken=st.booleans())
    def drain(self, down: bool, taken: bool) -> None:
        """Send and deliver everything possible."""
        self.link.down = Reason.OFFLINE if down else None
        expired = self.outbox.counts().expired
        one = drain(self.outbox, self.link, self.on_late if taken else None, keep=100.0)
        while one.step() == 0.0:
            pass
        stored = {*keys(self.outbox), *keys(self.outbox, "answer")}
        gone = [key for key in self.live if key not in stored]
        assert self.outbox.counts().expired == expired + len(gone)
        for key in gone:
            assert self.clock.monotonic - self.live.pop(key) > 100.0

    @rule()
    def take(self) -> None:
        """Take an answer through the iterator."""
        for late in self.outbox.late():
            self.on_late(late)

    @rule(seconds=st.sampled_from([0.1, 6.0, 60.0]))
    def wait(self, seconds: float) -> None:
        """Advance the time."""
        self.clock.pass_by(seconds)

    @rule()
    def reopen(self) -> None:
        """Close and reopen; another test kills the process."""
        self.outbox.close()
        self.outbox = self.open()

    @invariant()
    def adds_up(self) -> None:
        """Assert that every acknowledged input is counted exactly once."""
        if not hasattr(self, "outbox"):
            return
        counts = self.outbox.counts()
        assert counts.acknowledged == self.acknowledged
        assert counts.waiting + counts.answered == len(self.live)
        assert counts.delivered == sum(self.delivered.values())
        assert (counts.waiting_bytes == 0) == (not self.live)
        assert {*keys(self.outbox), *keys(self.outbox, "answer")} == set(self.live)

    def teardown(self) -> None:
        """Deliver all remaining inputs."""
        if hasattr(self, "outbox"):
            self.clock.pass_by(10.0)
            self.drain(down=False, taken=True)
            assert not self.live
            self.outbox.close()
            self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30)
