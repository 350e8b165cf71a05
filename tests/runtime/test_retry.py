"""Retries are made where they may help, within the deadline, and as a small share of requests."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecascade.runtime import ArgumentError, Deadline, InProcess, OpenInference, RemoteError, RemoteUnreachable
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.remotes.http_response import retry_after, worth_a_retry
from edgecascade.runtime.remotes.retry import ExtraRequests, Retrying, backoff
from edgecascade.types.errors import CircuitOpen

X = np.zeros((1, 3), np.float32)
GOOD = np.array([[1.0, 2.0, 3.0]], np.float32)
ORDERED = np.array([[0.0, 0.0, 9.0]], np.float32)


class Scripted:
    """A remote that returns or raises scripted outcomes in turn, and repeats the last."""

    encoded = True

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked = 0
        self.closed = False

    def infer(self, inputs: Batch, deadline: Deadline) -> Any:  # noqa: ARG002
        """Return or raise the next outcome."""
        said = self.script[min(self.asked, len(self.script) - 1)]
        self.asked += 1
        if isinstance(said, BaseException):
            raise said
        return said

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


class Clock(threading.Event):
    """An event that waits on this clock without real time, and records the waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Advance the clock by this time."""
        assert timeout is not None
        self.waits.append(timeout)
        self.now += timeout
        return self.is_set()

    def deadline(self, seconds: float) -> Deadline:
        """Return a deadline on this clock."""
        clock = self

        class OnThisClock(Deadline):
            def remaining(self) -> float:
                return max(0.0, self.at - clock.now)

        return OnThisClock(self.now + seconds)


def retrying(remote: Any, clock: Clock, **options: Any) -> Retrying:
    """Return a remote with retries that waits on that clock."""
    one = Retrying(remote, **options)
    one._closed = clock
    return one


def busy(seconds: float | None = None) -> RemoteError:
    """Return an error that is worth a retry."""
    return RemoteError("remote: HTTP 503: busy", retry=True, retry_after=seconds)


# --- errors that are worth a retry


@pytest.mark.parametrize("error", [busy(), RemoteUnreachable("no server"), RemoteError("reset", retry=True)])
def test_a_transient_error_is_retried(error: Exception) -> None:
    """Two failures are followed by an answer."""
    remote = Scripted(error, error, GOOD)
    assert retrying(remote, Clock()).infer(X, Deadline.after(100)) is GOOD
    assert remote.asked == 3


@pytest.mark.parametrize(
    "error",
    [
        RemoteError("remote: HTTP 400: no such input"),
        CircuitOpen("left alone"),
        TimeoutError("late"),
        OSError("foreign"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_not_retried(error: BaseException) -> None:
    """An invalid request stays invalid, and after the deadline there is no time."""
    remote = Scripted(error, GOOD)
    with pytest.raises(type(error)) as raised:
        retrying(remote, Clock()).infer(X, Deadline.after(100))
    assert raised.value is error
    assert remote.asked == 1


@given(attempts=st.integers(1, 8))
def test_the_number_of_attempts_is_bounded(attempts: int) -> None:
    """If the remote does not recover, the last error is raised."""
    errors = [busy() for _ in range(10)]
    remote = Scripted(*errors)
    with pytest.raises(RemoteError) as raised:
        retrying(remote, Clock(), attempts=attempts).infer(X, Deadline.after(100))
    assert remote.asked == attempts
    assert raised.value is errors[attempts - 1]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_transient_statuses_are_retried(status: int) -> None:
    """The server is overloaded, restarting, or behind a proxy that cannot reach it."""
    assert worth_a_retry(status, b'{"error": "CUDA out of memory"}')


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, b"") for status in (201, 301, 400, 401, 403, 404, 413, 415, 422, 501, 505)),
        (500, b'{"error":"failed to parse the request JSON buffer: Missing a name for object member. at 1"}'),
        (500, b'{"error":"UnicodeDecodeError : \'utf-8\' codec can\'t decode byte 0x80 in position 1"}'),
        (500, b'{"error":"Unexpected shape for input \'z\'"}'),
        (500, b"Traceback:\n" + b"  File ...\n" * 500 + b"UnicodeDecodeError: invalid start byte"),
    ],
)
def test_permanent_statuses_are_not_retried(status: int, body: bytes) -> None:
    """The request is invalid; some servers report that with a 500 and an explanation."""
    assert not worth_a_retry(status, body)


# --- the wait before a retry


@given(
    attempt=st.integers(0, 5000),
    first=st.floats(1e-4, 10),
    times=st.floats(1, 1e6),
    luck=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_within_its_bounds(attempt: int, first: float, times: float, luck: float) -> None:
    """It is from 0 to the first wait, doubled for each attempt, up to the maximum."""
    longest = first * times
    ceiling = longest
    for k in range(min(attempt, 60)):
        if first * 2**k >= longest:
            break
    else:
        ceiling = min(longest, first * 2 ** min(attempt, 60))
    seconds = backoff(attempt, first=first, longest=longest, random=lambda: luck)
    assert 0 <= seconds <= ceiling
    assert seconds == pytest.approx(luck * ceiling)


@given(
    attempts=st.integers(1, 12),
    first=st.floats(0.001, 1),
    times=st.floats(1, 100),
    seconds=st.floats(0, 20),
    asked=st.lists(st.none() | st.floats(-1, 10), min_size=12, max_size=12),
    luck=st.lists(st.floats(0, 1, exclude_max=True), min_size=12, max_size=12),
)
def test_no_wait_exceeds_the_deadline(
    attempts: int, first: float, times: float, seconds: float, asked: list[float | None], luck: list[float]
) -> None:
    """None is shorter than the remote requested, and a retry is omitted only if its wait would be too long."""
    longest = first * times
    draws = iter(luck)
    clock, errors = Clock(), [busy(after) for after in asked]
    remote = Scripted(*errors)
    one = retrying(remote, clock, attempts=attempts, first=first, longest=longest, _random=lambda: next(draws))
    with pytest.raises(RemoteError) as raised:
        one.infer(X, clock.deadline(seconds))
    assert raised.value is errors[remote.asked - 1]
    assert len(clock.waits) == remote.asked - 1
    assert sum(clock.waits) <= seconds
    due = [
        max(0.0, after or 0.0) + share * min(longest, first * 2**k)
        for k, (after, share) in enumerate(zip(asked, luck, strict=True))
    ]
    assert clock.waits == pytest.approx(due[: len(clock.waits)])
    if remote.asked < min(attempts, 11):  # saves up 10 retries
        assert sum(due[: remote.asked]) >= seconds - 1e-9


@given(when=st.integers(0, 4_000_000_000), seconds=st.integers(-1000, 10_000))
def test_a_date_is_relative_to_the_clock_of_the_server(when: int, seconds: int) -> None:
    """The device's clock does not matter; a past date requests no wait."""
    headers = {"date": formatdate(when, usegmt=True), "retry-after": formatdate(max(0, when + seconds), usegmt=True)}
    assert retry_after(headers) == max(0, max(0, when + seconds) - when)


def test_without_a_server_date_the_clock_of_the_device_is_used() -> None:
    """The precision is one second."""
    asked = retry_after({"retry-after": formatdate(time.time() + 1000, usegmt=True)})
    assert asked == pytest.approx(1000, abs=60)


def test_seconds_are_parsed() -> None:
    """They are whole numbers of any size."""
    assert retry_after({"retry-after": " 120 "}) == 120
    assert retry_after({"retry-after": "0"}) == 0
    assert retry_after({"retry-after": "9" * 400}) == float("inf")
    assert retry_after({}) is None


@given(st.text() | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ \S*", fullmatch=True), st.text())
def test_invalid_values_request_no_wait_or_a_finite_one(said: str, date: str) -> None:
    """Every value of these headers is handled."""
    asked = retry_after({"retry-after": said, "date": date})
    assert asked is None or asked >= 0


# --- the number of retries


@given(
    share=st.sampled_from([0.0, 0.05, 0.2, 0.25, 0.5, 1.0]),
    failing=st.lists(st.booleans(), max_size=300),
    attempts=st.integers(1, 5),
)
@settings(max_examples=60)
def test_retries_stay_within_their_share_of_requests(share: float, failing: list[bool], attempts: int) -> None:
    """Over any run of requests, they are at most ten plus the share of the requests."""
    clock = Clock()
    remote = Scripted(GOOD)
    one = retrying(remote, clock, attempts=attempts, share=share)
    saved, made = 10.0, []
    for fails in failing:
        remote.script, remote.asked = [busy() if fails else GOOD], 0
        try:
            one.infer(X, clock.deadline(1e6))
        except RemoteError:
            assert fails
        saved = min(10.0, saved + share)
        wanted = attempts - 1 if fails else 0
        granted = min(wanted, int(saved))
        saved -= granted
        made.append(remote.asked - 1)
        assert abs(made[-1] - granted) <= 1  # sums of floats may round to either side of a whole number
        saved += granted - made[-1]
    for start in range(0, len(made), 7):
        for end in range(start + 1, len(made) + 1, 5):
            assert sum(made[start:end]) <= 10 + share * (end - start) + 1e-6


def test_many_successes_save_up_a_bounded_number_of_retries() -> None:
    """After ten thousand answers, a failed server gets ten retries, and then one for five requests."""
    clock, remote = Clock(), Scripted(*[GOOD] * 10_000, busy())
    one = retrying(remote, clock)
    for _ in range(10_000):
        one.infer(X, clock.deadline(100))
    for _ in range(100):
        with pytest.raises(RemoteError):
            one.infer(X, clock.deadline(100))
    assert 10_000 + 100 + 29 <= remote.asked <= 10_000 + 100 + 30


def test_threads_share_the_bound_on_retries() -> None:
    """The bound holds for any number of concurrent callers."""
    asked = [0] * 8

    def ask(i: int) -> None:
        for _ in range(50):
            with pytest.raises(RemoteError):
                one.infer(np.full((1, 1), i), Deadline.after(100))

    def remote(inputs: Any) -> Any:
        asked[inputs[0, 0]] += 1
        raise busy()

    one = Retrying(InProcess(remote), first=1e-6, longest=1e-6, share=0.25)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 400 + 100 <= sum(asked) <= 400 + 100 + 10


@given(st.lists(st.booleans(), max_size=200), st.floats(0, 1), st.floats(0, 10))
def test_retries_never_exceed_those_saved_up(earns: list[bool], share: float, saved: float) -> None:
    """They are at most the initial number plus a share of the requests since."""
    extras = ExtraRequests(share, saved=saved)
    requests = spent = 0
    for earn in earns:
        if earn:
            extras.earn()
            requests += 1
        else:
            spent += extras.spend()
        assert spent <= saved + share * requests + 1e-6


# --- closing


def test_closing_ends_waits() -> None:
    """A caller in a wait of a minute gets the last error at once."""
    remote = Scripted(busy(60), GOOD)
    one = Retrying(remote)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            one.infer(X, Deadline.after(1000))
        except RemoteError as error:
            raised.append(error)

    caller = threading.Thread(target=ask)
    caller.start()
    while not remote.asked:
        time.sleep(0.001)
    one.close()
    caller.join(20)
    assert raised == [remote.script[0]]
    assert remote.asked == 1
    assert remote.closed


def test_it_has_the_properties_of_the_wrapped_remote() -> None:
    """It passes on what the remote accepts and counts; without counts it has none."""
    assert Retrying(Scripted(GOOD)).encoded
    assert not Retrying(InProcess(lambda x: x)).encoded
    assert Retrying(Retrying(OpenInference("http://127.0.0.1:9/v2/models/m"))).traffic.requests == 0
    assert getattr(Retrying(Scripted(GOOD)), "traffic", None) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "attempts: expected 1 or more, got 0"),
        ({"first": 0.0}, r"first: expected seconds above 0 and at most 1.0 \(longest\), got 0.0"),
        ({"first": 2.0}, "first: expected"),
        ({"first": float("nan")}, "first: expected"),
        ({"share": 1.5}, "share: expected a number from 0 to 1, got 1.5"),
        ({"share": float("nan")}, "share: expected"),
    ],
)
def test_an_invalid_argument_is_refused(options: Any, message: str) -> None:
    """The error names the argument, the value expected and the value found."""
    with pytest.raises(ArgumentError, match=message):
        Retrying(Scripted(GOOD), **options)


def test_an_address_in_place_of_a_remote_is_refused() -> None:
    """This is a common mistake."""
    with pytest.raises(ArgumentError, match="remote: expected a Remote, got str"):
        Retrying("http://host/v2/models/m")  # type: ignore[arg-type]


# --- real sockets


@pytest.fixture
def ask() -> Iterator[Callable[..., Any]]:
    """Call a server with retries, and close the connections."""
    opened: list[Retrying] = []

    def ask(server: Any, deadline: Deadline, **options: Any) -> Any:
        opened.append(Retrying(OpenInference(server.address), **options))
        return opened[-1].infer(X, deadline)

    yield ask
    for one in opened:
        one.close()


def in_turn(*behaviours: Callable[[socket.socket], Any]) -> tuple[Callable[[socket.socket], None], list[float]]:
    """Return a behaviour for each inference in turn, with the last one repeated, and the list of their times."""
    lock, came = threading.Lock(), list[float]()

    def behave(connection: socket.socket) -> None:
        with lock:
            came.append(time.monotonic())
            behaviour = behaviours[min(len(came), len(behaviours)) - 1]
        behaviour(connection)

    return behave, came


def sending(data: bytes) -> Callable[[socket.socket], Any]:
    """Return a behaviour that sends these bytes."""
    return lambda connection: connection.sendall(data)


def hanging_up(connection: socket.socket) -> None:
    """Reset the connection in the middle of a reply."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()


@pytest.mark.parametrize("status", ["503 Service Unavailable", "502 Bad Gateway", "429 Too Many Requests"])
def test_a_server_that_recovers_is_retried(
    serve: Any, answering: Any, respond: Any, ask: Callable[..., Any], status: str
) -> None:
    """It refuses twice and then answers, without an error to the caller."""
    refusal = sending(respond({"error": "busy"}, status))
    behave, came = in_turn(refusal, refusal, sending(respond(ORDERED)))
    scores = ask(serve(answering(behave)), Deadline.after(20), first=0.01)
    np.testing.assert_array_equal(scores, ORDERED)
    assert len(came) == 3


def test_retry_after_is_respected(serve: Any, answering: Any, respond: Any, ask: Callable[..., Any]) -> None:
    """After `Retry-After: 1`, no request comes within that second."""
    refusal = sending(respond({"error": "busy"}, "503 Service Unavailable", Retry_After="1"))
    behave, came = in_turn(refusal, sending(respond(ORDERED)))
    np.testing.assert_array_equal(ask(serve(answering(behave)), Deadline.after(20), first=0.01), ORDERED)
    assert came[1] - came[0] >= 1


@pytest.mark.parametrize("asked", ["3600", formatdate(4_000_000_000, usegmt=True)], ids=["seconds", "date"])
def test_a_retry_after_past_the_deadline_is_not_waited_for(
    serve: Any, answering: Any, respond: Any, ask: Callable[..., Any], asked: str
) -> None:
    """The error is raised at once."""
    behave, came = in_turn(sending(respond({"error": "slow down"}, "429 Too Many Requests", Retry_After=asked)))
    deadline = Deadline.after(60)
    with pytest.raises(RemoteError, match=r"HTTP 429: .*slow down") as raised:
        ask(serve(answering(behave)), deadline)
    assert len(came) == 1
    assert raised.value.retry
    assert raised.value.retry_after is not None
    assert raised.value.retry_after >= 3600
    assert deadline.remaining() > 30


def test_a_broken_connection_is_retried(serve: Any, answering: Any, respond: Any, ask: Callable[..., Any]) -> None:
    """It is reset in the middle of a reply, and then works."""
    behave, came = in_turn(hanging_up, sending(respond(ORDERED)))
    np.testing.assert_array_equal(ask(serve(answering(behave)), Deadline.after(20), first=0.01), ORDERED)
    assert len(came) == 2


def test_invalid_http_is_not_retried(serve: Any, answering: Any, ask: Callable[..., Any]) -> None:
    """The next response would be invalid too."""
    behave, came = in_turn(sending(b"SSH-2.0-OpenSSH_9.6\r\n"))
    with pytest.raises(RemoteError, match="HTTP") as raised:
        ask(serve(answering(behave)), Deadline.after(20))
    assert len(came) == 1
    assert not raised.value.retry


def test_an_invalid_request_is_sent_once(serve: Any, answering: Any, respond: Any, ask: Callable[..., Any]) -> None:
    """A 404 is permanent."""
    behave, came = in_turn(sending(respond({"error": "no such model"}, "404 Not Found")))
    with pytest.raises(RemoteError, match="HTTP 404") as raised:
        ask(serve(answering(behave)), Deadline.after(20))
    assert len(came) == 1
    assert not raised.value.retry
