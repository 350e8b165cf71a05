"""Forwards of many callers leave together, and no caller waits past its deadline for another."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.runtime import Budget, Deadline, Prediction, Rate, Reason, RemoteError, RemoteLabels
from edgecascade.runtime.dispatch import Dispatcher, Failure, Purpose, Request
from edgecascade.runtime.remotes.remote import InProcess
from edgecascade.types.errors import CircuitOpen
from edgecascade.types.policy import Policy, RemoteCalibration


class Waits:
    """A remote that waits to be released, and records the sizes of what it was sent."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.sizes: list[int] = []
        self.lock = threading.Lock()

    def __call__(self, inputs: Any) -> Any:
        """Scores that name the input."""
        arrays = inputs["a"] if isinstance(inputs, dict) else inputs
        with self.lock:
            self.sizes.append(len(arrays))
        self.free.wait(10)
        return np.eye(3, dtype=np.float32)[arrays.reshape(len(arrays), -1)[:, 0].astype(int)] * 9


@pytest.fixture
def held() -> Iterator[Waits]:
    """Let go at the end in any case."""
    remote = Waits()
    yield remote
    remote.free.set()


def dispatcher(remote: Any, **options: Any) -> Dispatcher:
    """A dispatcher for three classes and no temperature."""
    policy = Policy("replace", RemoteCalibration(1.0, False))
    return Dispatcher(InProcess(remote), classes=3, policy=lambda: policy, **options)


LOCAL = Prediction(0, 0.4, np.array([0.4, 0.3, 0.3], np.float32))


def begin(one: Dispatcher, inputs: Any, deadline: Deadline, purpose: Purpose = Purpose.FORWARD) -> list[Request]:
    """Send each input."""
    requests = [Request(x, LOCAL, deadline, purpose=purpose) for x in inputs]
    one.begin(requests)
    return requests


def ask(one: Dispatcher, inputs: Any, deadline: Deadline) -> list[Any]:
    """Return what becomes of each."""
    return [one.end(request) for request in begin(one, inputs, deadline)]


def waiting(held: Waits, n: int) -> None:
    """Until that many requests are under way."""
    until = time.monotonic() + 5
    while len(held.sizes) < n:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_what_waits_leaves_in_one_request(held: Waits) -> None:
    """Of ten callers, while the only request is under way; each gets its own answer."""
    one = dispatcher(held, in_flight=1)
    deadline = Deadline.after(5)
    first = begin(one, [np.array([[0]])], deadline)
    waiting(held, 1)
    others = [begin(one, [np.array([[i % 3]])], deadline)[0] for i in range(10)]
    held.free.set()
    labels = [one.end(forward) for forward in (*first, *others)]
    assert [prediction.label for prediction in labels if isinstance(prediction, Prediction)] == [
        0,
        *(i % 3 for i in range(10)),
    ]
    assert held.sizes == [1, 10]
    one.close()


def test_a_request_holds_inputs_of_one_kind(held: Waits) -> None:
    """Same names, types and shapes; and no more than it may."""
    one = dispatcher(held, in_flight=1, request_inputs=4)
    deadline = Deadline.after(5)
    begin(one, [np.array([[0]])], deadline)
    waiting(held, 1)
    kinds: list[Any] = [np.array([[1]]), np.array([[1.0]]), np.array([[1, 2]]), {"a": np.array([[1]])}]
    forwards = [begin(one, [kinds[i % 4]], deadline)[0] for i in range(24)]
    held.free.set()
    for forward in forwards:
        prediction = one.end(forward)
        assert isinstance(prediction, Prediction)
        assert prediction.label == 1
    assert sorted(held.sizes[1:]) == [2, 2, 2, 2, 4, 4, 4, 4]
    one.close()


def test_what_is_to_stay_apart_does(held: Waits) -> None:
    """In requests of its own."""
    one = dispatcher(held, in_flight=1)
    deadline = Deadline.after(5)
    begin(one, [np.array([[0]])], deadline)
    waiting(held, 1)
    forwards = [
        begin(one, [np.array([[1]])], deadline, Purpose.LATE if i % 2 else Purpose.FORWARD)[0] for i in range(10)
    ]
    held.free.set()
    assert {one.end(forward).label for forward in forwards} == {1}  # type: ignore[union-attr]
    assert held.sizes == [1, 5, 5]
    one.close()


def test_scores_that_are_no_numbers_fail_their_own_input_only() -> None:
    """And not those that went along with it."""
    one = dispatcher(lambda x: np.where(x == 1, np.nan, [[0.0, 9.0, 0.0]]), in_flight=1)
    forwards = [ask(one, [np.array([[float(i)]]) for i in range(3)], Deadline.after(5)) for _ in range(2)][-1]
    assert [getattr(forward, "label", None) for forward in forwards] == [1, None, 1]
    assert isinstance(forwards[1], Failure)
    assert "finite" in forwards[1].detail
    one.close()


@given(n=st.integers(1, 100), in_flight=st.integers(1, 4), request=st.integers(1, 40), room=st.integers(1, 120))
@settings(max_examples=40)
def test_every_input_is_asked_once(n: int, in_flight: int, request: int, room: int) -> None:
    """Whatever the bounds."""
    seen: list[int] = []
    lock = threading.Lock()

    def remote(inputs: NDArray[Any]) -> Any:
        assert len(inputs) <= request
        with lock:
            seen.extend(inputs[:, 0].tolist())
        return np.eye(3)[inputs[:, 0] % 3]

    one = dispatcher(remote, in_flight=in_flight, request_inputs=request, waiting=room)
    predictions = ask(one, [np.array([[i]]) for i in range(n)], Deadline.after(10))
    assert [prediction.label for prediction in predictions if isinstance(prediction, Prediction)] == [
        i % 3 for i in range(n)
    ]
    assert sorted(seen) == list(range(n))
    one.close()


def test_without_room_a_caller_waits_no_longer_than_its_deadline(held: Waits, stalled: Callable[[], float]) -> None:
    """And takes no room from others afterwards."""
    one = dispatcher(held, in_flight=1, waiting=2)
    patient = Deadline.after(5)
    begin(one, [np.array([[0]])], patient)
    waiting(held, 1)
    kept = begin(one, [np.array([[1]]), np.array([[2]])], patient)
    started = time.monotonic()
    (refused,) = ask(one, [np.array([[1]])], Deadline.after(0.1))
    assert isinstance(refused, Failure)
    assert refused.reason is Reason.DEADLINE
    assert 0.09 < time.monotonic() - started < 0.5 + stalled()
    held.free.set()
    assert all(isinstance(one.end(forward), Prediction) for forward in kept)
    assert sum(held.sizes) == 3
    one.close()


def test_a_forward_that_nobody_waits_for_is_not_sent(held: Waits) -> None:
    """Its caller has gone at the deadline."""
    one = dispatcher(held, in_flight=1)
    begin(one, [np.array([[0]])], Deadline.after(5))
    waiting(held, 1)
    (late,) = ask(one, [np.array([[1]])], Deadline.after(0.05))
    assert isinstance(late, Failure)
    assert "waiting" in late.detail
    held.free.set()
    ask(one, [np.array([[2]])], Deadline.after(5))
    assert sum(held.sizes) == 2
    one.close()


class UnreadableError(Exception):
    """An error of foreign code that cannot be looked at."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    @property
    def retry(self) -> bool:
        """Whether to ask again."""
        raise ValueError("nor this")


def test_no_error_of_a_remote_ends_the_asking() -> None:
    """More often than there are workers."""

    def fails(_: Any) -> Any:
        raise UnreadableError

    one = dispatcher(fails, in_flight=2)
    for _ in range(6):
        (failure,) = ask(one, [np.zeros((1, 1))], Deadline.after(5))
        assert failure == Failure(Reason.REMOTE_ERROR, "UnreadableError")
    one.close()


def test_a_listener_that_raises_costs_no_worker(held: Waits) -> None:
    """More often than there are workers."""
    held.free.set()
    one = dispatcher(held, in_flight=2)
    for _ in range(6):
        request = Request(np.array([[1]]), LOCAL, Deadline.after(5))
        request.listener = lambda: 1 / 0
        one.begin([request])
        assert isinstance(one.end(request), Prediction)
    one.close()


def test_closing_answers_those_who_wait(held: Waits) -> None:
    """At once, since the cascade is gone."""
    one = dispatcher(held, in_flight=1)
    begin(one, [np.array([[0]])], Deadline.after(5))
    waiting(held, 1)
    (forward,) = begin(one, [np.array([[1]])], Deadline.after(5))
    one.close()
    failure = one.end(forward)
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.OFFLINE
    assert "closed" in failure.detail


def test_a_remote_that_cannot_be_closed_leaves_nothing_else_open() -> None:
    """The budget admits nothing afterwards."""

    class Stuck(InProcess):
        def close(self) -> None:
            raise OSError("stuck")

    budget = Budget(forwards=Rate(100, 60))
    policy = Policy("replace", RemoteCalibration(1.0, False))
    one = Dispatcher(Stuck(np.zeros_like), classes=3, policy=lambda: policy, budget=budget)
    with pytest.raises(OSError, match="stuck"):
        one.close()
    assert not budget.admits(0, 0, 1)


def test_an_open_circuit_is_a_reason_of_its_own() -> None:
    """Not `offline`: nothing was tried."""

    def refuses(_: Any) -> Any:
        raise CircuitOpen("left alone for 3 s")

    one = dispatcher(refuses)
    assert ask(one, [np.zeros((1, 1))], Deadline.after(5)) == [
        Failure(Reason.CIRCUIT_OPEN, "left alone for 3 s", later=True)
    ]
    one.close()


def test_a_remote_may_give_no_more_than_opinions() -> None:
    """A label and a confidence: the rest is shared by the other classes, before the remote's temperature."""
    one = dispatcher(lambda x: RemoteLabels(np.array([2] * len(x)), np.array([0.8] * len(x))))
    (prediction,) = ask(one, [np.zeros((1, 1))], Deadline.after(5))
    assert isinstance(prediction, Prediction)
    np.testing.assert_allclose(prediction.probabilities, [0.1, 0.1, 0.8], rtol=1e-6)
    one.close()


@pytest.mark.parametrize(
    ("labels", "confidences"),
    [([3], [0.5]), ([-1], [0.5]), ([0], [1.5]), ([0], [np.nan]), ([0.0], [0.5]), ([[0]], [[0.5]]), ([0, 1], [0.5])],
)
def test_opinions_about_other_classes_are_none(labels: list[Any], confidences: list[Any]) -> None:
    """One sentence."""
    with pytest.raises(RemoteError, match=r"^remote: expected"):
        RemoteLabels(np.array(labels), np.array(confidences)).probabilities(3)
