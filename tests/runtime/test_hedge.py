"""Hedging sends a second request if the first is unusually late, rarely and within the deadline."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.runtime import ArgumentError, Deadline, InProcess, OpenInference, RemoteError, RemoteUnreachable
from edgecascade.runtime.remotes.circuit import CircuitBreaker
from edgecascade.runtime.remotes.hedge import Hedged
from edgecascade.runtime.remotes.retry import Retrying

X = np.zeros((1, 3), np.float32)
GOOD = np.array([[0.0, 0.0, 9.0]], np.float32)
OTHER = np.array([[9.0, 0.0, 0.0]], np.float32)


class Remote:
    """A remote whose requests return, raise or call scripted outcomes; requests beyond the script succeed at once."""

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.asked = 0
        self.lock = threading.Lock()
        self.release = threading.Event()
        self.second = threading.Event()
        self.closed = False

    def infer(self, inputs: Any, deadline: Deadline) -> Any:  # noqa: ARG002
        """Run the next outcome of the script."""
        with self.lock:
            self.asked += 1
            said = self.script[self.asked - 1] if self.asked <= len(self.script) else GOOD
        if self.asked > 1:
            self.second.set()
        if callable(said):
            said = said()
        if isinstance(said, BaseException):
            raise said
        return said

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


@pytest.fixture
def hedged() -> Iterator[Callable[..., Hedged]]:
    """Make remotes with known latencies of a millisecond that may hedge at once, and release them after the test."""
    made: list[tuple[Hedged, Any]] = []

    def make(remote: Any, warm: int = 20, saved: float = 1.0, **options: Any) -> Hedged:
        one = Hedged(remote, **options)
        for _ in range(warm):
            one._latencies.append(0.001)
        one._extras._saved = saved
        made.append((one, remote))
        return one

    yield make
    for one, remote in made:
        one.close()
        with suppress(AttributeError):
            remote.release.set()


def threads() -> set[threading.Thread]:
    """Return the module's threads of all tests so far."""
    return {thread for thread in threading.enumerate() if thread.name == "edgecascade-hedge"}


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for up to 30 s."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


# --- the second request


def test_a_late_reply_is_replaced_by_a_second_one(hedged: Callable[..., Hedged]) -> None:
    """The first request hangs; the second is answered long before the deadline."""
    remote: Remote = Remote(lambda: remote.release.wait(30))
    deadline = Deadline.after(25)
    assert hedged(remote).infer(X, deadline) is GOOD
    assert remote.asked == 2
    assert deadline.remaining() > 5


def test_the_first_successful_reply_is_returned(hedged: Callable[..., Hedged]) -> None:
    """It may be that of the first request while the second hangs."""

    def first() -> Any:
        assert remote.second.wait(30)
        return OTHER

    remote: Remote = Remote(first, lambda: remote.release.wait(30))
    assert hedged(remote).infer(X, Deadline.after(25)) is OTHER
    assert remote.asked == 2


def test_without_enough_latencies_there_is_no_second_request(hedged: Callable[..., Hedged]) -> None:
    """Nineteen latencies are too few; twenty are enough."""

    def slow() -> Any:
        time.sleep(0.1)
        return OTHER

    remote: Remote = Remote(slow, lambda: remote.release.wait(30))
    one = hedged(remote, warm=19)
    assert one.infer(X, Deadline.after(25)) is OTHER
    assert remote.asked == 1
    assert one.infer(X, Deadline.after(25)) is GOOD
    assert remote.asked == 3


def test_second_requests_stay_within_their_share(hedged: Callable[..., Hedged]) -> None:
    """The bound holds even if every request is later than those before."""

    def slow() -> Any:
        time.sleep(0.005)
        return GOOD

    remote = Remote(*[slow] * 1000)
    one = hedged(remote, warm=256, saved=0.0, share=0.25)
    for i in range(1, 101):
        for _ in range(100):  # so that a latency near 0 stays the usual one
            one._latencies.append(0.0)
        one.infer(X, Deadline.after(25))
        until(lambda: one._free._value == 16)
        assert remote.asked <= 1.25 * i
    assert remote.asked >= 115


def test_a_share_of_0_turns_hedging_off(hedged: Callable[..., Hedged]) -> None:
    """No second request is sent."""

    def slow() -> Any:
        time.sleep(0.05)
        return GOOD

    remote = Remote(*[slow] * 3)
    one = hedged(remote, saved=0.0, share=0.0)
    for _ in range(3):
        one.infer(X, Deadline.after(25))
    assert remote.asked == 3


def test_a_second_request_past_the_deadline_is_not_sent(hedged: Callable[..., Hedged]) -> None:
    """Its reply would come too late."""
    remote: Remote = Remote(lambda: remote.release.wait(30))
    one = hedged(remote, warm=0)
    for _ in range(20):
        one._latencies.append(60.0)
    with pytest.raises(TimeoutError):
        one.infer(X, Deadline.after(0.1))
    assert remote.asked == 1


# --- failures


def test_a_failure_before_the_second_request_is_raised_at_once(hedged: Callable[..., Hedged]) -> None:
    """Retries are the task of another wrapper."""
    error = RemoteError("remote: HTTP 503: busy", retry=True)
    remote = Remote(error)
    one = hedged(remote, warm=0)
    for _ in range(20):
        one._latencies.append(20.0)
    deadline = Deadline.after(60)
    with pytest.raises(RemoteError) as raised:
        one.infer(X, deadline)
    assert raised.value is error
    assert remote.asked == 1
    assert deadline.remaining() > 45


@pytest.mark.parametrize("failing", ["first", "second"])
def test_one_failure_of_two_requests_is_not_raised(hedged: Callable[..., Hedged], failing: str) -> None:
    """The other request may still be answered."""
    done = threading.Event()

    def fail() -> Any:
        assert remote.second.wait(30)
        done.set()
        return RemoteError("reset", retry=True)

    def answer() -> Any:
        assert done.wait(30)
        time.sleep(0.02)
        return OTHER

    remote = Remote(*((fail, answer) if failing == "first" else (answer, fail)))
    assert hedged(remote).infer(X, Deadline.after(25)) is OTHER


def test_the_first_of_two_failures_is_raised(hedged: Callable[..., Hedged]) -> None:
    """The first in time is that of the second request here."""
    early, late, done = RemoteError("early"), RemoteError("late"), threading.Event()

    def first() -> Any:
        assert done.wait(30)
        time.sleep(0.02)
        return late

    def second() -> Any:
        done.set()
        return early

    with pytest.raises(RemoteError) as raised:
        hedged(Remote(first, second)).infer(X, Deadline.after(25))
    assert raised.value is early


def test_a_failure_is_raised_at_the_deadline(hedged: Callable[..., Hedged]) -> None:
    """The failure is more informative than a timeout."""
    remote: Remote = Remote(lambda: remote.release.wait(30), RemoteError("reset"))
    with pytest.raises(RemoteError, match="reset"):
        hedged(remote).infer(X, Deadline.after(2))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), ZeroDivisionError()])
def test_every_exception_of_the_remote_reaches_the_caller(hedged: Callable[..., Hedged], error: BaseException) -> None:
    """It passes from the request's thread to the caller's."""
    remote = Remote(error)
    one = hedged(remote, warm=0)
    with pytest.raises(type(error)):
        one.infer(X, Deadline.after(25))
    assert one.infer(X, Deadline.after(25)) is GOOD


# --- the deadline, and threads


@pytest.mark.parametrize("warm", [0, 20])
def test_the_deadline_holds_for_a_remote_that_ignores_it(hedged: Callable[..., Hedged], warm: int) -> None:
    """This remote never answers."""
    remote: Remote = Remote(*[lambda: remote.release.wait(60)] * 2)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        hedged(remote, warm=warm).infer(X, Deadline.after(0.2))
    assert 0.2 <= time.monotonic() - started < 20


def test_a_deadline_that_has_passed_sends_nothing(hedged: Callable[..., Hedged]) -> None:
    """No request is made."""
    remote = Remote()
    with pytest.raises(TimeoutError):
        hedged(remote).infer(X, Deadline.after(-1))
    assert remote.asked == 0


def test_threads_are_bounded_and_released(hedged: Callable[..., Hedged]) -> None:
    """Forty callers of a hanging remote return in time with sixteen requests made; later calls succeed."""
    before = threads()
    remote: Remote = Remote(*[lambda: remote.release.wait(60)] * 16)
    one = hedged(remote, saved=10.0)
    outcomes: list[str] = []

    def ask() -> None:
        try:
            one.infer(X, Deadline.after(0.3))
        except TimeoutError:
            outcomes.append("late")

    callers = [threading.Thread(target=ask) for _ in range(40)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert outcomes == ["late"] * 40
    assert remote.asked == 16
    assert len(threads() - before) == 16
    remote.release.set()
    assert [one.infer(X, Deadline.after(30)) is GOOD for _ in range(20)] == [True] * 20


def test_many_callers_get_their_own_answers(hedged: Callable[..., Hedged]) -> None:
    """Requests and second requests may end in any order."""

    def echo(inputs: Any) -> Any:
        time.sleep(0.0005 * (int(inputs[0, 0]) % 5))
        return inputs + 1

    one = hedged(InProcess(echo), share=1.0)
    wrong: list[int] = []

    def ask(start: int) -> None:
        for i in range(start, start + 100):
            scores: Any = one.infer(np.array([[i]]), Deadline.after(60))
            wrong.extend([i] * int(scores[0, 0] != i + 1))

    callers = [threading.Thread(target=ask, args=(1000 * k,)) for k in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(120)
    assert wrong == []
    until(lambda: one._free._value == 16)


def test_a_closed_remote_sends_nothing_and_ends_its_threads(hedged: Callable[..., Hedged]) -> None:
    """A request in progress is completed."""
    before = threads()
    remote: Remote = Remote(lambda: remote.release.wait(30) and OTHER)
    one = hedged(remote, saved=0.0)
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(one.infer(X, Deadline.after(25))))
    caller.start()
    until(lambda: remote.asked == 1)
    one.close()
    with pytest.raises(RemoteUnreachable, match="closed"):
        one.infer(X, Deadline.after(25))
    remote.release.set()
    caller.join(30)
    assert answers == [OTHER] or answers[0] is OTHER
    assert remote.closed
    until(lambda: not threads() - before)


def test_a_failure_to_start_a_thread_does_not_hang(
    hedged: Callable[..., Hedged], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a thread for the first request the call fails at once; without one for the second the first continues."""

    def slow() -> Any:
        time.sleep(0.1)
        return OTHER

    start, refused = threading.Thread.start, list[int]()

    def refuse(thread: threading.Thread) -> None:
        if len(refused) < 1:
            refused.append(1)
            start(thread)
        else:
            raise RuntimeError("can't start new thread")

    one = hedged(Remote(slow))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert one.infer(X, Deadline.after(25)) is OTHER
    with pytest.raises(RemoteUnreachable, match="can't start new thread"):
        one.infer(X, Deadline.after(25))
    assert one._free._value == 16


def test_a_hanging_request_does_not_block_the_exit_of_the_process() -> None:
    """The process can end before the request does."""
    code = (
        "import threading\n"
        "from edgecascade.runtime import Deadline, InProcess\n"
        "from edgecascade.runtime.remotes.hedge import Hedged\n"
        "try: Hedged(InProcess(lambda x: threading.Event().wait())).infer(None, Deadline.after(0.1))\n"
        "except TimeoutError: print('late')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "late\n"


@pytest.mark.parametrize("seconds", [0.0, 0.1], ids=["one request", "two"])
def test_a_failure_does_not_retain_the_inputs(hedged: Callable[..., Hedged], seconds: float) -> None:
    """They are freed with the error, without the garbage collector."""

    def fail(inputs: Any) -> Any:  # noqa: ARG001
        time.sleep(seconds)
        raise RemoteError("reset")

    one = hedged(InProcess(fail), warm=20 if seconds else 0)
    inputs = np.zeros(10)
    gone = weakref.ref(inputs)
    gc.disable()
    try:
        with pytest.raises(RemoteError):
            one.infer(inputs, Deadline.after(25))
        del inputs
        until(lambda: gone() is None)
    finally:
        gc.enable()


# --- the threshold of latency


@given(
    seconds=st.lists(st.floats(0, 10) | st.sampled_from([0.5, 1.0]), min_size=1, max_size=600),
    share=st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_a_reply_is_late_beyond_a_quantile_of_recent_latencies(seconds: list[float], share: float) -> None:
    """The threshold is the least of the last 256 latencies that this share does not exceed."""
    one = Hedged(Remote(), quantile=share, warm_up=1)
    one._latencies.extend(seconds)
    latest = sorted(seconds[-256:])
    assert one._patience() == latest[ceil(share * len(latest)) - 1]
    assert sum(known <= one._patience() for known in latest) >= share * len(latest) - 1e-9


def test_refusals_are_not_latencies_and_late_replies_are(hedged: Callable[..., Hedged]) -> None:
    """A timeout counts only if it came later than usual replies."""

    def late() -> Any:
        time.sleep(0.05)
        return TimeoutError("late")

    one = hedged(Remote(RemoteError("busy"), TimeoutError("a deadline of nothing"), late), saved=0.0)
    expected: list[tuple[type[Exception], int]] = [(RemoteError, 20), (TimeoutError, 20), (TimeoutError, 21)]
    for error, known in expected:
        one._latencies.clear()
        one._latencies.extend([0.02] * 20)
        with pytest.raises(error):
            one.infer(X, Deadline.after(25))
        assert len(one._latencies) == known


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantile": 1.0}, "quantile: expected a number between 0 and 1, got 1.0"),
        ({"quantile": float("nan")}, "quantile: expected"),
        ({"share": -0.1}, "share: expected a number from 0 to 1, got -0.1"),
        ({"warm_up": 0}, "warm_up: expected 1 to 256 requests, got 0"),
        ({"warm_up": 257}, "warm_up: expected 1 to 256 requests, got 257"),
    ],
)
def test_an_invalid_argument_is_refused(options: Any, message: str) -> None:
    """The error names the argument, the value expected and the value found."""
    with pytest.raises(ArgumentError, match=message):
        Hedged(Remote(), **options)


# --- against a real socket


def test_a_server_that_stalls_once_is_bypassed(
    serve: Any, answering: Any, respond: Any, hedged: Callable[..., Hedged]
) -> None:
    """With retries and a circuit breaker, 30 answers arrive although one request is never answered."""
    came, release = list[int](), threading.Event()

    def behave(connection: Any) -> None:
        came.append(1)
        if len(came) == 25:
            release.wait(60)
        connection.sendall(respond(GOOD))

    server = serve(answering(behave))
    inner = hedged(OpenInference(server.address), warm=0)
    remote = CircuitBreaker(Retrying(inner))
    deadline = Deadline.after(50)
    for _ in range(30):
        np.testing.assert_array_equal(remote.infer(X, deadline), GOOD)
    assert len(came) >= 31
    assert deadline.remaining() > 5
    assert remote.traffic.requests >= 30
    assert remote.state == "closed"
    release.set()
    until(lambda: inner._free._value == 16)
    remote.close()
