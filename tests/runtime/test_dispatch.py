"""Forwards of many callers are batched, and no caller waits past its deadline for another."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.runtime import Budget, Deadline, Prediction, Rate, Reason, RemoteError, RemoteLabels, Retrying
from edgecascade.runtime.dispatch import Dispatcher
from edgecascade.runtime.remotes.remote import InProcess
from edgecascade.runtime.reply import ScoreReader
from edgecascade.runtime.request import Failure, Purpose, Request
from edgecascade.types.errors import CircuitOpen, RemoteRefusal
from edgecascade.types.policy import Policy, RemoteCalibration


class Waits:
    """A remote that waits to be released, and records the sizes of its batches."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.sizes: list[int] = []
        self.lock = threading.Lock()

    def __call__(self, inputs: Any) -> Any:
        """Return scores that identify the input."""
        arrays = inputs["a"] if isinstance(inputs, dict) else inputs
        with self.lock:
            self.sizes.append(len(arrays))
        self.free.wait(10)
        return np.eye(3, dtype=np.float32)[arrays.reshape(len(arrays), -1)[:, 0].astype(int)] * 9


@pytest.fixture
def held() -> Iterator[Waits]:
    """Return such a remote, and release it at the end."""
    remote = Waits()
    yield remote
    remote.free.set()


def dispatcher(remote: Any, **options: Any) -> Dispatcher:
    """Return a dispatcher for three classes without a temperature."""
    policy = Policy("replace", RemoteCalibration(1.0, False))
    return Dispatcher(InProcess(remote), read=ScoreReader(("0", "1", "2"), lambda: policy), **options)


LOCAL = Prediction(0, 0.4, np.array([0.4, 0.3, 0.3], np.float32))


def begin(one: Dispatcher, inputs: Any, deadline: Deadline, purpose: Purpose = Purpose.FORWARD) -> list[Request]:
    """Submit each input."""
    requests = [Request(x, LOCAL, deadline, purpose=purpose) for x in inputs]
    one.begin(requests)
    return requests


def ask(one: Dispatcher, inputs: Any, deadline: Deadline) -> list[Any]:
    """Return the outcome of each."""
    return [one.end(request) for request in begin(one, inputs, deadline)]


def waiting(held: Waits, n: int) -> None:
    """Wait until this many requests are in progress."""
    until = time.monotonic() + 5
    while len(held.sizes) < n:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_waiting_inputs_are_sent_in_one_request(held: Waits) -> None:
    """Ten callers wait while the only request is in progress; each gets its own answer."""
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
    one.close(1.0)


def test_a_request_holds_inputs_of_one_kind(held: Waits) -> None:
    """Names, types and shapes are equal, and the number is bounded."""
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
    one.close(1.0)


def test_a_request_of_large_inputs_holds_few(held: Waits) -> None:
    """Two frames of a camera, and not 32; the rest leaves in others at the same time."""
    one = dispatcher(held, in_flight=3)
    deadline = Deadline.after(5)
    for n in range(1, 4):
        begin(one, [np.array([[0]])], deadline)
        waiting(held, n)
    frames = [np.full((1, 6 << 20), i % 3, np.uint8) for i in range(6)]
    forwards = [begin(one, [frame], deadline)[0] for frame in frames]
    held.free.set()
    assert [one.end(forward).label for forward in forwards] == [0, 1, 2, 0, 1, 2]  # type: ignore[union-attr]
    assert held.sizes[3:] == [2, 2, 2]
    one.close(1.0)


@pytest.mark.parametrize("status", ["413", "RESOURCE_EXHAUSTED"])
def test_inputs_that_are_too_large_together_are_sent_in_parts(status: str) -> None:
    """All are answered, and later requests are as small; an input that is too large by itself gets the error."""
    sizes = list[int]()

    def takes_little(inputs: Any) -> Any:
        sizes.append(inputs.nbytes)
        if inputs.nbytes > 3000:
            raise RemoteRefusal("remote: the request is too large", status=status)
        return np.eye(3, dtype=np.float32)[inputs[:, 0]] * 9

    one = dispatcher(takes_little, in_flight=1)
    inputs = [np.full((1, 1000), i % 3, np.uint8) for i in range(16)]
    outcomes = ask(one, inputs, Deadline.after(20))
    assert [outcome.label for outcome in outcomes] == [i % 3 for i in range(16)]
    refused = sum(size > 3000 for size in sizes)
    assert all(isinstance(outcome, Prediction) for outcome in ask(one, inputs, Deadline.after(20)))
    assert sum(size > 3000 for size in sizes) == refused > 0
    (outcome,) = ask(one, [np.zeros((1, 4000), np.uint8)], Deadline.after(20))
    assert (outcome.reason, outcome.about_input) == (Reason.REMOTE_ERROR, True)
    one.close(1.0)


def test_requests_grow_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time after the remote refused one as too large, another server may take larger ones."""
    monkeypatch.setattr("edgecascade.runtime.dispatch._SMALLER", 0.5)
    largest, sizes = 3000, list[int]()

    def takes_some(inputs: Any) -> Any:
        if inputs.nbytes > largest:
            raise RemoteRefusal("remote: the request is too large", status="413")
        sizes.append(inputs.nbytes)
        return np.eye(3, dtype=np.float32)[inputs[:, 0]] * 9

    one = dispatcher(takes_some, in_flight=1)
    inputs = [np.full((1, 1000), i % 3, np.uint8) for i in range(16)]
    ask(one, inputs, Deadline.after(20))
    assert max(sizes) <= largest
    largest = 1 << 20
    time.sleep(0.6)
    ask(one, inputs, Deadline.after(20))
    assert max(sizes) > 3000
    one.close(1.0)


def test_inputs_whose_callers_have_left_are_not_kept(held: Waits) -> None:
    """A remote that hangs does not fill the memory with them; others take their place."""
    one = dispatcher(held, in_flight=1, waiting=3)
    begin(one, [np.array([[0]])], Deadline.after(5))
    waiting(held, 1)
    kept = []
    for i in range(20):
        array = np.array([[i]])
        kept.append(weakref.ref(array))
        assert isinstance(ask(one, [array], Deadline.after(0.01))[0], Failure)
        del array
    gc.collect()
    assert not any(reference() is not None for reference in kept)
    held.free.set()
    one.close(1.0)


def test_inputs_that_must_be_sent_alone_are(held: Waits) -> None:
    """Each has its own request."""
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
    one.close(1.0)


def test_nan_scores_fail_only_their_own_input() -> None:
    """Other inputs of the same request are answered."""
    one = dispatcher(lambda x: np.where(x == 1, np.nan, [[0.0, 9.0, 0.0]]), in_flight=1)
    forwards = [ask(one, [np.array([[float(i)]]) for i in range(3)], Deadline.after(5)) for _ in range(2)][-1]
    assert [getattr(forward, "label", None) for forward in forwards] == [1, None, 1]
    assert isinstance(forwards[1], Failure)
    assert "finite" in forwards[1].detail
    one.close(1.0)


@pytest.mark.parametrize(
    ("probabilities", "row", "label"),
    [
        (False, [0, -np.inf, 2], 2),
        (False, [0, np.inf, 2], None),
        (False, [-np.inf] * 3, None),
        (False, [0, np.nan, 2], None),
        (True, [0, 0.25, 0.75], 2),
        (True, [-1e-9, 0.25, 0.75], 2),
        (True, [0, 0, 0], None),
        (True, [-1, 0, 0], None),
        (True, [-3, -2, -1], None),
        (True, [-0.5, 0.75, 0.75], None),
        (True, [0, np.nan, 1], None),
        (True, [0, np.inf, 1], None),
    ],
)
def test_scores_that_say_nothing_are_no_answer(probabilities: bool, row: list[float], label: int | None) -> None:
    """A logit of -inf masks a class, as in calibration; probabilities are positive somewhere and negative nowhere."""
    policy = Policy("replace", RemoteCalibration(1.0, probabilities))
    remote = InProcess(lambda inputs: np.array([row, [0.25, 0.5, 0.25]])[: len(inputs)])
    one = Dispatcher(remote, read=ScoreReader(("0", "1", "2"), lambda: policy), in_flight=1)
    first, second = ask(one, [np.array([[0]])], Deadline.after(5)), ask(one, [np.array([[0]])], Deadline.after(5))
    for (outcome,) in (first, second):
        if label is None:
            assert isinstance(outcome, Failure)
            assert outcome.reason is Reason.REMOTE_ERROR
            assert "probabilities" in outcome.detail if probabilities else "finite" in outcome.detail
        else:
            assert outcome.label == label
            assert np.isfinite(outcome.probabilities).all()
    one.close(1.0)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("columns", [None, (1, 0)])
@pytest.mark.parametrize(
    ("probabilities", "score", "expected"),
    [(False, 3.0, 1 / (1 + np.exp(-1.5))), (False, -1, 1 / (1 + np.exp(0.5))), (True, 0.8, 2 / 3), (True, 1, 1)],
)
def test_one_score_for_two_classes_is_that_of_the_second(
    shape: tuple[int, ...], columns: tuple[int, ...] | None, probabilities: bool, score: float, expected: float
) -> None:
    """The temperature, 2, is that of the logit, which is 0 for the first class; or of the log-odds."""
    policy = Policy("replace", RemoteCalibration(2.0, probabilities, columns=columns))
    remote = InProcess(lambda inputs: np.full(len(inputs), score).reshape(shape))
    one = Dispatcher(remote, read=ScoreReader(("no", "yes"), lambda: policy))
    (outcome,) = ask(one, [np.array([[0]])], Deadline.after(5))
    one.close(1.0)
    assert not isinstance(outcome, Failure)
    both = [1 - expected, expected] if columns is None else [expected, 1 - expected]
    np.testing.assert_allclose(outcome.probabilities, both, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("score", [1.5, -0.25, np.nan])
def test_one_score_that_is_no_probability_is_no_answer(score: float) -> None:
    """Beside it stands one below 0."""
    policy = Policy("replace", RemoteCalibration(2.0, True))
    one = Dispatcher(InProcess(lambda x: np.full((len(x), 1), score)), read=ScoreReader(("no", "yes"), lambda: policy))
    (outcome,) = ask(one, [np.array([[0]])], Deadline.after(5))
    one.close(1.0)
    assert isinstance(outcome, Failure)
    assert "probabilities" in outcome.detail


def test_a_remote_is_told_the_number_of_classes() -> None:
    """It may bound replies by it, also inside another remote."""
    told: list[int] = []

    class Asking(InProcess):
        def expect(self, labels: Sequence[str]) -> None:
            told.append(len(labels))

    policy = Policy("replace", RemoteCalibration(1.0, False))
    for remote in (Asking(lambda _: None), Retrying(Asking(lambda _: None)), InProcess(lambda _: None)):  # type: ignore[arg-type,return-value]
        Dispatcher(remote, read=ScoreReader(tuple("abcdefg"), lambda: policy)).close(1.0)
    assert told == [7, 7]


@given(n=st.integers(1, 100), in_flight=st.integers(1, 4), request=st.integers(1, 40), room=st.integers(1, 120))
@settings(max_examples=40)
def test_every_input_is_sent_once(n: int, in_flight: int, request: int, room: int) -> None:
    """This holds for any bounds."""
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
    one.close(1.0)


def test_without_room_a_caller_waits_until_its_deadline(held: Waits, stalled: Callable[[], float]) -> None:
    """It takes no room from others afterwards."""
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
    one.close(1.0)


def test_a_forward_past_its_deadline_is_not_sent(held: Waits) -> None:
    """Its caller has already been answered."""
    one = dispatcher(held, in_flight=1)
    begin(one, [np.array([[0]])], Deadline.after(5))
    waiting(held, 1)
    (late,) = ask(one, [np.array([[1]])], Deadline.after(0.05))
    assert isinstance(late, Failure)
    assert "waiting" in late.detail
    held.free.set()
    ask(one, [np.array([[2]])], Deadline.after(5))
    assert sum(held.sizes) == 2
    one.close(1.0)


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
        assert failure == Failure(Reason.REMOTE_ERROR, "UnreadableError", about_input=True, error="UnreadableError")
    one.close(1.0)


def test_a_listener_that_raises_costs_no_worker(held: Waits) -> None:
    """More often than there are workers."""
    held.free.set()
    one = dispatcher(held, in_flight=2)
    for _ in range(6):
        request = Request(np.array([[1]]), LOCAL, Deadline.after(5))
        request.listener = lambda: 1 / 0
        one.begin([request])
        assert isinstance(one.end(request), Prediction)
    one.close(1.0)


def test_closing_answers_waiting_callers(held: Waits) -> None:
    """They are answered at once."""
    one = dispatcher(held, in_flight=1)
    begin(one, [np.array([[0]])], Deadline.after(5))
    waiting(held, 1)
    (forward,) = begin(one, [np.array([[1]])], Deadline.after(5))
    one.close(1.0)
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
    one = Dispatcher(Stuck(np.zeros_like), read=ScoreReader(("0", "1", "2"), lambda: policy), budget=budget)
    with pytest.raises(OSError, match="stuck"):
        one.close(1.0)
    assert not budget.admits(0, 0, 1)


def test_an_open_circuit_has_its_own_reason() -> None:
    """The reason is not `offline`, since nothing was tried."""

    def refuses(_: Any) -> Any:
        raise CircuitOpen("left alone for 3 s")

    one = dispatcher(refuses)
    (failure,) = ask(one, [np.zeros((1, 1))], Deadline.after(5))
    assert failure == Failure(Reason.CIRCUIT_OPEN, "left alone for 3 s", error="CircuitOpen")
    one.close(1.0)


def test_a_remote_may_return_predictions() -> None:
    """A prediction is a label and a confidence; the other classes share the rest, before the remote's temperature."""
    one = dispatcher(lambda x: RemoteLabels(np.array([2] * len(x)), np.array([0.8] * len(x))))
    (prediction,) = ask(one, [np.zeros((1, 1))], Deadline.after(5))
    assert isinstance(prediction, Prediction)
    np.testing.assert_allclose(prediction.probabilities, [0.1, 0.1, 0.8], rtol=1e-6)
    one.close(1.0)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 50.0])
@pytest.mark.parametrize("classes", [2, 3, 1000])
def test_the_label_of_a_remote_stays_the_most_probable(classes: int, temperature: float) -> None:
    """Also where its confidence is less than an equal share; any higher confidence is taken as it is."""
    confidences = np.array([0.0, 0.3 / classes, 1 / classes, 1.1 / classes, 1.0])
    for label in (0, classes - 1):
        found = RemoteLabels(np.full(5, label), confidences).probabilities(classes)
        np.testing.assert_allclose(found.sum(axis=1), 1.0)
        np.testing.assert_allclose(found[3:, label], confidences[3:])
        calibrated = RemoteCalibration(temperature, probabilities=True)(found)
        assert calibrated.argmax(axis=1).tolist() == [label] * 5
        assert (np.sort(calibrated, axis=1)[:, -2] < calibrated[:, label]).all()


@pytest.mark.parametrize(
    ("labels", "confidences"),
    [([3], [0.5]), ([-1], [0.5]), ([0], [1.5]), ([0], [np.nan]), ([0.0], [0.5]), ([[0]], [[0.5]]), ([0, 1], [0.5])],
)
def test_predictions_of_other_classes_are_refused(labels: list[Any], confidences: list[Any]) -> None:
    """The error is one sentence."""
    with pytest.raises(RemoteError, match=r"^remote: expected"):
        RemoteLabels(np.array(labels), np.array(confidences)).probabilities(3)


def test_probabilities_are_no_logits() -> None:
    """A server that was calibrated by its logits and gives their softmax now would be misread in silence."""
    logits = np.random.default_rng(0).normal(size=(4, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for scores, right in (
        (logits, True),
        (shares, False),
        (shares.astype(np.float16), False),
        (np.eye(3)[[0, 1, 2, 0]], True),
    ):
        one = dispatcher(lambda x, scores=scores: scores[: len(x)])
        for outcome in ask(one, np.zeros((4, 2), np.float32), Deadline.after(5.0)):
            assert isinstance(outcome, Prediction) == right
            assert right or "expected logits, as in calibration, got probabilities" in outcome.detail


def test_originals_of_unknown_size_stop_no_worker() -> None:
    """An application may send objects of its own; after as many as there are workers, others are still forwarded."""
    one = dispatcher(lambda x: np.zeros((len(x), 3)))
    odd = np.empty(1, object)
    odd[0] = Path("a.jpg")
    for _ in range(8):
        assert isinstance(ask(one, [odd], Deadline.after(5.0))[0], Prediction)
    assert isinstance(ask(one, np.zeros((1, 1, 2), np.float32), Deadline.after(5.0))[0], Prediction)


def test_a_worker_that_ends_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the grouping of requests costs those requests only."""
    one = dispatcher(lambda x: np.zeros((len(x), 3)))
    x = np.zeros((1, 2), np.float32)
    with monkeypatch.context() as patched:
        patched.setattr("edgecascade.runtime.dispatch._MOST_BYTES", None)
        patched.setattr("edgecascade.runtime.dispatch.bytes_of", lambda _: 1 / 0)
        for _ in range(8):
            assert isinstance(ask(one, x[None], Deadline.after(0.05))[0], Failure)
    assert isinstance(ask(one, x[None], Deadline.after(5.0))[0], Prediction)
