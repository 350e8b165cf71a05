"""A remote that fails repeatedly is not called for a while, and is used again when it recovers."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgecascade.runtime import (
    ArgumentError,
    Cascade,
    Deadline,
    InProcess,
    InputError,
    OpenInference,
    Reason,
    RemoteError,
    RemoteUnreachable,
)
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.remotes.circuit import CircuitBreaker
from edgecascade.runtime.remotes.retry import Retrying
from edgecascade.types.errors import CircuitOpen

X = np.zeros((1, 3), np.float32)
GOOD = np.array([[0.0, 0.0, 9.0]], np.float32)
ABOUT_THE_REQUEST = RemoteError("remote: HTTP 400: no such input")


class Remote:
    """A remote that returns or raises a given outcome."""

    def __init__(self, said: Any = GOOD) -> None:
        self.said = said
        self.asked = 0

    def infer(self, inputs: Batch, deadline: Deadline) -> Any:  # noqa: ARG002
        """Return or raise the outcome."""
        self.asked += 1
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said

    def close(self) -> None:
        """Do nothing."""


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def after(self, seconds: float) -> Deadline:
        """Return a deadline on this clock."""
        return Deadline(self.now + seconds)


@pytest.fixture
def clock() -> Clock:
    """Return a new clock."""
    return Clock()


def breaker(remote: Any, clock: Clock, **options: Any) -> CircuitBreaker:
    """Return a circuit breaker, without jitter by default."""
    return CircuitBreaker(remote, _clock=clock, **{"_random": lambda: 0.5, **options})


def ask(one: CircuitBreaker, clock: Clock, seconds: float = 10.0) -> str:
    """Return the outcome of a request: `good`, or the name of its error."""
    try:
        one.infer(X, clock.after(seconds))
    except BaseException as error:
        return type(error).__name__
    return "good"


# --- comparison with a model


class _Begun:
    """A request in a thread that ends when told."""

    def __init__(self, one: CircuitBreaker, deadline: Deadline, reached: "Queue[_Begun | None]") -> None:
        self.ends: Queue[Any] = Queue()
        self.refused: CircuitOpen | None = None
        self.era, self.reached = 0, reached
        self.thread = threading.Thread(target=self._run, args=(one, deadline), daemon=True)

    def _run(self, one: CircuitBreaker, deadline: Deadline) -> None:
        try:
            one.infer(np.array([self], object), deadline)
        except CircuitOpen as error:
            self.refused = error
            self.reached.put(None)
        except BaseException:  # the outcome
            return


class Told:
    """A remote whose requests end when and how the test tells them."""

    def infer(self, inputs: Any, deadline: Deadline) -> Any:  # noqa: ARG002
        """Signal that it was called, and wait."""
        begun = inputs[0]
        begun.reached.put(begun)
        said = begun.ends.get(timeout=30)
        if isinstance(said, BaseException):
            raise said
        return said

    def close(self) -> None:
        """Do nothing."""


class CircuitMachine(RuleBasedStateMachine):
    """Requests begin and end in any order while time passes; the model has no threads and bounds each pause."""

    @initialize(
        failures=st.integers(1, 4),
        first=st.floats(0.5, 4),
        times=st.floats(1, 20),
        luck=st.floats(0, 1),
    )
    def begin(self, failures: int, first: float, times: float, luck: float) -> None:
        """Start with a closed circuit."""
        self.clock = Clock()
        self.most, self.first, self.longest = failures, first, first * times
        self.one = CircuitBreaker(
            Told(),
            failures=failures,
            first=first,
            longest=self.longest,
            _clock=self.clock,
            _random=lambda: luck,
        )
        self.state, self.changes, self.failed, self.pause = "closed", list[str](), 0, first
        self.earliest = self.latest = self.probe_ends = 0.0
        self.under_way: list[_Begun] = []

    def change(self, state: str) -> None:
        """Change the state of the model."""
        self.state = state
        self.changes.append(state)

    def fail(self, asked: float = 0.0) -> None:
        """Count a failure in the model."""
        self.failed += 1
        if self.state == "half-open":
            self.pause = min(self.longest, 2 * self.pause)
        if self.state == "half-open" or self.failed >= self.most:
            asked = min(asked, self.longest)
            self.earliest = self.clock.now + max(0.8 * self.pause, asked) - 1e-6
            self.latest = self.clock.now + 1.2 * max(self.pause, asked) + 1e-6
            self.change("open")

    @rule(seconds=st.floats(0.001, 100))
    def ask(self, seconds: float) -> None:
        """Begin a request, which passes if and only if the model allows it."""
        now = self.clock.now
        if self.state == "half-open" and now >= self.probe_ends:
            self.fail()
        reached: Queue[_Begun | None] = Queue()
        begun = _Begun(self.one, Deadline(now + seconds), reached)
        begun.thread.start()
        passed = reached.get(timeout=30) is not None
        if self.state == "open" and now >= self.earliest and (passed or now >= self.latest):
            self.change("half-open")
            self.probe_ends = now + seconds
            assert passed
        else:
            assert passed == (self.state == "closed")
        if passed:
            begun.era = len(self.changes)
            self.under_way.append(begun)
        else:
            assert begun.refused is not None
            assert f"after {self.failed} failures in a row" in str(begun.refused)

    @precondition(lambda self: self.under_way)
    @rule(
        which=st.integers(0, 100),
        said=st.sampled_from(
            [
                GOOD,
                ABOUT_THE_REQUEST,
                RemoteUnreachable("no server"),
                TimeoutError("late"),
                RemoteError("busy", retry=True, retry_after=7.0),
                ValueError("foreign"),
            ]
        ),
    )
    def end(self, which: int, said: Any) -> None:
        """End a request, which counts if the state has not changed since it began."""
        begun = self.under_way.pop(which % len(self.under_way))
        begun.ends.put(said)
        begun.thread.join(30)
        if begun.era != len(self.changes):
            return
        if said is GOOD or said is ABOUT_THE_REQUEST:
            self.failed, self.pause = 0, self.first
            if self.state != "closed":
                self.change("closed")
        else:
            self.fail(getattr(said, "retry_after", None) or 0.0)

    @rule(seconds=st.floats(0, 100) | st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        """Advance the time."""
        self.clock.now += seconds

    @invariant()
    def same(self) -> None:
        """Assert that the state and the number of changes equal the model's."""
        if hasattr(self, "one"):
            assert self.one.state == self.state
            assert self.one._circuit._changes == len(self.changes)

    def teardown(self) -> None:
        """End the requests in progress."""
        for begun in getattr(self, "under_way", []):
            begun.ends.put(GOOD)
            begun.thread.join(30)


CircuitMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)
test_the_circuit_is_as_its_model = CircuitMachine.TestCase


# --- examples


def test_it_opens_and_gives_the_reason(clock: Clock) -> None:
    """After five failures in a row the remote is not called; the error gives the remaining time and the cause."""
    remote = Remote(RemoteUnreachable("cannot connect to host:8000: refused\nsecond line"))
    one = breaker(remote, clock)
    assert [ask(one, clock) for _ in range(5)] == ["RemoteUnreachable"] * 5
    clock.now += 0.2
    message = r"^remote: .* another 0\.8 s.* 5 failures in a row.* cannot connect to host:8000: refused$"
    with pytest.raises(CircuitOpen, match=message):
        one.infer(X, clock.after(10))
    assert (remote.asked, one.state) == (5, "open")


@pytest.mark.parametrize("answer", [GOOD, ABOUT_THE_REQUEST, InputError("x: expected [3], got [4]")])
def test_a_success_between_failures_resets_the_count(clock: Clock, answer: Any) -> None:
    """An error that refuses the request also resets it, since the remote is reachable."""
    remote = Remote()
    one = breaker(remote, clock)
    for said in [TimeoutError("late")] * 4 + [answer] + [TimeoutError("late")] * 4:
        remote.said = said
        ask(one, clock)
    assert one.state == "closed"
    ask(one, clock)
    assert str(one.state) == "open"


@pytest.mark.parametrize(
    "failure",
    [
        TimeoutError("late"),
        OSError("no route to host"),
        RemoteError("reset", retry=True),
        RemoteUnreachable("no server"),
        RemoteUnreachable("the certificate has expired", retry=False),
        CircuitOpen("another circuit inside"),
        ZeroDivisionError(),
        SystemExit(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_other_error_is_a_failure(clock: Clock, failure: BaseException) -> None:
    """Cases are a timeout, an unreachable remote, and an exception of the remote itself."""
    one = breaker(Remote(failure), clock, failures=3)
    for _ in range(3):
        assert one.state == "closed"
        assert ask(one, clock) == type(failure).__name__
    assert one.state == "open"


def test_the_pause_doubles_up_to_its_maximum_and_resets(clock: Clock) -> None:
    """It is 1, 2, 4 and then 5 s; after a success it is 1 s again."""
    remote = Remote(TimeoutError("late"))
    one = breaker(remote, clock, failures=1, longest=5)
    ask(one, clock)
    for pause in (1, 2, 4, 5, 5):
        clock.now += pause - 0.01
        assert ask(one, clock) == "CircuitOpen"
        clock.now += 0.02
        assert ask(one, clock) == "TimeoutError"
    clock.now += 5.01
    remote.said = GOOD
    assert (ask(one, clock), one.state) == ("good", "closed")
    remote.said = TimeoutError("late")
    ask(one, clock)
    clock.now += 1.01
    assert ask(one, clock) == "TimeoutError"


@given(luck=st.floats(0, 1), asked=st.none() | st.floats() | st.floats(0, 20), first=st.floats(0.1, 5))
def test_a_pause_is_within_its_bounds(luck: float, asked: float | None, first: float) -> None:
    """The jitter is a fifth, and `retry_after` is a lower bound up to the maximum."""
    clock = Clock()
    remote = Remote(RemoteError("busy", retry=True, retry_after=asked))
    one = breaker(remote, clock, failures=1, first=first, longest=10.0, _random=lambda: luck)
    ask(one, clock)
    bound = min(10.0, max(0.0, asked)) if asked is not None and asked == asked else 0.0
    clock.now += max(0.8 * first, bound) - 1e-6
    assert ask(one, clock) == "CircuitOpen"
    clock.now += 1.2 * max(first, 10.0 if asked != asked else bound)
    assert ask(one, clock) == "RemoteError"


@pytest.mark.parametrize("death", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), MemoryError()])
def test_a_failed_probe_is_followed_by_another_one(clock: Clock, death: BaseException) -> None:
    """The next probe comes after the next pause, whatever ended the last one."""
    remote = Remote(TimeoutError("late"))
    one = breaker(remote, clock, failures=1)
    ask(one, clock)
    clock.now += 1.01
    remote.said = death
    assert ask(one, clock) == type(death).__name__
    assert one.state == "open"
    clock.now += 2.01
    remote.said = GOOD
    assert (ask(one, clock), one.state) == ("good", "closed")


def test_a_probe_that_never_ends_counts_as_failed_at_its_deadline(clock: Clock) -> None:
    """A result after the deadline is ignored."""
    one = breaker(Told(), clock, failures=1)

    def begin(seconds: float) -> _Begun:
        begun = _Begun(one, clock.after(seconds), Queue())
        begun.thread.start()
        assert begun.reached.get(timeout=30) is begun
        return begun

    first = begin(10)
    first.ends.put(TimeoutError("late"))
    first.thread.join(30)
    clock.now += 1.01
    hung = begin(5)
    assert (one.state, ask(one, clock)) == ("half-open", "CircuitOpen")
    clock.now += 5.01
    assert (ask(one, clock), one.state) == ("CircuitOpen", "open")
    clock.now += 2.01
    probe = begin(5)
    for end, state in ((hung, "half-open"), (probe, "closed")):
        end.ends.put(GOOD)
        end.thread.join(30)
        assert one.state == state


def test_a_request_past_its_deadline_is_neither_failure_nor_probe(clock: Clock) -> None:
    """Its outcome does not depend on the remote."""
    remote = Remote(TimeoutError("late"))
    one = breaker(remote, clock, failures=2)
    assert [ask(one, clock, seconds=0) for _ in range(5)] == ["TimeoutError"] * 5
    assert (remote.asked, one.state) == (0, "closed")
    ask(one, clock)
    ask(one, clock)
    clock.now += 1.01
    assert (ask(one, clock, seconds=-1), one.state) == ("TimeoutError", "open")
    remote.said = GOOD
    assert ask(one, clock) == "good"


@pytest.mark.parametrize("end", ["good", "bad"])
def test_one_of_many_concurrent_requests_is_the_probe(clock: Clock, end: str) -> None:
    """Of 32 threads at the half-open moment, 31 get `CircuitOpen`, ten times in a row."""
    remote = Remote(TimeoutError("late"))
    release, inside = threading.Event(), list[int]()

    def infer(inputs: Any) -> Any:
        inside.append(1)
        release.wait(30)
        return remote.infer(inputs, clock.after(1))

    one = breaker(InProcess(infer), clock, failures=1)
    for _ in range(10):
        release.set()
        remote.said = TimeoutError("late")
        ask(one, clock)
        clock.now += 100
        release.clear()
        inside.clear()
        remote.said = GOOD if end == "good" else TimeoutError("late")
        outcomes: list[str] = []
        barrier = threading.Barrier(32)

        def caller(outcomes: list[str] = outcomes, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(30)
            outcomes.append(ask(one, clock))

        threads = [threading.Thread(target=caller) for _ in range(32)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 30
        while len(outcomes) < 31:
            assert time.monotonic() < until
            time.sleep(0.001)
        assert (len(inside), outcomes, one.state) == (1, ["CircuitOpen"] * 31, "half-open")
        release.set()
        for thread in threads:
            thread.join(30)
        assert outcomes[31] == ("good" if end == "good" else "TimeoutError")
        assert one.state == ("closed" if end == "good" else "open")
        if end == "bad":  # the next round then begins with a circuit that is not open
            clock.now += 100
            remote.said = GOOD
            assert ask(one, clock) == "good"
    assert one._circuit._changes == 10 * (3 if end == "good" else 5)


# --- other properties


def test_an_open_circuit_does_not_retain_the_inputs(clock: Clock) -> None:
    """It stores the message of the last error, not the error."""

    def fail(inputs: Any) -> Any:  # noqa: ARG001
        raise TimeoutError("late")

    one = breaker(InProcess(fail), clock, failures=1)
    inputs = np.zeros(10)
    gone = weakref.ref(inputs)
    gc.disable()
    try:
        with pytest.raises(TimeoutError, match="late"):
            one.infer(inputs, clock.after(1))
        del inputs
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failures": 0}, "failures: expected 1 or more, got 0"),
        ({"first": 0.0}, r"first: expected seconds above 0 and at most 60.0 \(longest\), got 0.0"),
        ({"first": 100.0}, "first: expected"),
        ({"longest": float("nan")}, "first: expected"),
    ],
)
def test_an_invalid_argument_is_refused(options: Any, message: str) -> None:
    """The error names the argument, the value expected and the value found."""
    with pytest.raises(ArgumentError, match=message):
        CircuitBreaker(Remote(), **options)


def test_a_recovered_server_is_used_again(serve: Callable[..., Any], answering: Any, respond: Any, file: Path) -> None:
    """In a cascade over a socket, the remote answers again after its failures and the open circuit."""
    replies = [respond({"error": "busy"}, "503 Service Unavailable")]
    server = serve(answering(lambda connection: connection.sendall(replies[-1])))
    remote = CircuitBreaker(Retrying(OpenInference(server.address), attempts=1), failures=2, first=0.3, longest=0.3)
    unsure = np.array([0.2, 0.1, 0.0], np.float32)
    with Cascade.load(file, remote=remote, deadline=20) as cascade:
        assert [cascade.predict(unsure).reason for _ in range(2)] == [Reason.REMOTE_ERROR] * 2
        left_alone = cascade.predict(unsure)
        assert left_alone.reason is Reason.CIRCUIT_OPEN
        assert "HTTP 503" in left_alone.detail
        replies.append(respond(GOOD))
        until = time.monotonic() + 20
        while (answer := cascade.predict(unsure)).reason is Reason.CIRCUIT_OPEN:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert (answer.reason, answer.label) == (Reason.OFFLOADED, 2)
    assert remote.state == "closed"
