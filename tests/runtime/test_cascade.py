"""Every call is answered, with the source of the answer and its reason."""

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.runtime import (
    Answer,
    ArgumentError,
    Cascade,
    InputError,
    ModelFileError,
    Outbox,
    Reason,
    RemoteError,
    RemoteUnreachable,
    Source,
)

SURE = np.array([5, 0, 0], np.float32)
UNSURE = np.array([0, 0.5, 0], np.float32)
LOST = np.array([np.nan, 0, 0], np.float32)
BLUE = np.array([0, 0, 4], np.float32)


def says_blue(inputs: NDArray[Any]) -> NDArray[Any]:
    """Return blue for every input."""
    return np.repeat(BLUE[None], len(inputs), axis=0)


def raises(error: Exception) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Raise an error."""

    def remote(_: NDArray[Any]) -> NDArray[Any]:
        raise error

    return remote


def sleeps(inputs: NDArray[Any]) -> NDArray[Any]:
    """Return a correct answer half a second late."""
    time.sleep(0.5)
    return says_blue(inputs)


@pytest.mark.parametrize(
    ("remote", "x", "name", "source", "reason", "detail"),
    [
        pytest.param(says_blue, SURE, "red", Source.LOCAL, Reason.CONFIDENT, "", id="sure: nothing is sent"),
        pytest.param(says_blue, UNSURE, "blue", Source.REMOTE, Reason.OFFLOADED, "", id="unsure: the remote's label"),
        pytest.param(says_blue, LOST, "blue", Source.REMOTE, Reason.NOT_A_NUMBER, "", id="NaN: the remote's label"),
        pytest.param(None, UNSURE, "green", Source.LOCAL, Reason.OFFLINE, "no remote was given", id="no remote"),
        pytest.param(sleeps, UNSURE, "green", Source.LOCAL, Reason.DEADLINE, "in time", id="late"),
        pytest.param(raises(TimeoutError()), UNSURE, "green", Source.LOCAL, Reason.DEADLINE, "in time", id="gave up"),
        pytest.param(
            raises(RemoteUnreachable("nobody")), UNSURE, "green", Source.LOCAL, Reason.OFFLINE, "nobody", id="offline"
        ),
        pytest.param(
            raises(RemoteError("bad day")), UNSURE, "green", Source.LOCAL, Reason.REMOTE_ERROR, "bad day", id="refused"
        ),
        pytest.param(
            raises(KeyError()), UNSURE, "green", Source.LOCAL, Reason.REMOTE_ERROR, "KeyError", id="a bug in the remote"
        ),
        pytest.param(
            lambda _: np.zeros((1, 4)), UNSURE, "green", Source.LOCAL, Reason.REMOTE_ERROR, "[1, 3]", id="other classes"
        ),
        pytest.param(
            lambda _: np.full((1, 3), np.nan), UNSURE, "green", Source.LOCAL, Reason.REMOTE_ERROR, "finite", id="NaN"
        ),
        pytest.param(
            lambda _: np.array([["a"] * 3]), UNSURE, "green", Source.LOCAL, Reason.REMOTE_ERROR, "numbers", id="text"
        ),
    ],
)
def test_an_answer_has_its_source_and_reason(
    file: Path,
    remote: Any,
    x: NDArray[np.float32],
    name: str,
    source: Source,
    reason: Reason,
    detail: str,
    stalled: Callable[[], float],
) -> None:
    """For any outcome of the remote there is a label, a source, a reason, and an error message if it failed."""
    with Cascade.load(file, remote=remote, deadline=0.2) as cascade:
        answer = cascade.predict(x)
    assert (answer.name, answer.source, answer.reason) == (name, source, reason)
    assert detail in answer.detail
    assert bool(answer.detail) == (reason in (Reason.DEADLINE, Reason.OFFLINE, Reason.REMOTE_ERROR))
    assert answer.forwarded == (reason is not Reason.CONFIDENT)
    assert (answer.remote is not None) == (source is Source.REMOTE)
    assert np.isnan(answer.advantage) == (reason is Reason.NOT_A_NUMBER)
    assert answer.elapsed < 0.4 + stalled()


def test_an_answer_holds_both_predictions(file: Path) -> None:
    """It has calibrated probabilities of both models and the advantage that decided."""
    with Cascade.load(file, remote=says_blue) as cascade:
        answer = cascade.predict(UNSURE)
    assert answer.advantage == -0.25
    for prediction, logits in ((answer.local, UNSURE), (answer.remote, BLUE)):
        assert prediction is not None
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(prediction.probabilities, expected, rtol=1e-6)
        assert prediction.label == logits.argmax()
        assert prediction.confidence == pytest.approx(expected.max())
    assert (answer.label, answer.confidence) == (2, answer.remote.confidence if answer.remote else None)


def test_the_remote_temperature_is_applied(make_file: Callable[..., Path]) -> None:
    """It is applied to logits, or to the logarithms of probabilities."""
    for scores, raw in (("logits", BLUE), ("probabilities", np.exp(BLUE) / np.exp(BLUE).sum())):
        path = make_file(remote={"temperature": 2.0, "scores": scores})
        rows = raw[None]
        with Cascade.load(path, remote=lambda _: rows) as cascade:  # noqa: B023
            expected = np.exp(2) / (np.exp(2) + 2)
            assert cascade.predict(UNSURE).confidence == pytest.approx(expected, rel=1e-5)


def test_the_remote_gets_the_original(file: Path) -> None:
    """The large model may use a higher resolution."""
    seen = []

    def remote(inputs: NDArray[Any]) -> NDArray[Any]:
        seen.append(inputs)
        return says_blue(inputs)

    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    with Cascade.load(file, remote=remote) as cascade:
        assert cascade.predict(UNSURE, original=picture).source is Source.REMOTE
    np.testing.assert_array_equal(seen[0], picture[None])


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_every_input_is_answered_and_counted_once(file: Path, data: st.DataObject) -> None:
    """For any inputs and a remote that fails at random, local + forwarded = all, in the order given."""
    rows = np.stack(data.draw(st.lists(st.sampled_from([SURE, UNSURE, LOST]), min_size=1, max_size=80)))
    failing = data.draw(st.sampled_from([None, RemoteError("x"), RemoteUnreachable("y"), TimeoutError(), ValueError()]))
    calls = iter(range(1000))

    def remote(inputs: NDArray[Any]) -> NDArray[Any]:
        if failing is not None and next(calls) % 2:
            raise failing
        return says_blue(inputs)

    with Cascade.load(file, remote=remote) as cascade:
        answers = cascade.predict_batch(rows)
        counts = cascade.counts()
    assert counts.inputs == len(answers) == len(rows)
    assert counts.local + counts.forwarded == counts.inputs
    assert counts.local == sum((row == SURE).all() for row in rows)
    assert sum(counts.sources.values()) == counts.inputs
    for reason in Reason:
        assert counts.reasons[reason] == sum(answer.reason is reason for answer in answers)
    for row, answer in zip(rows, answers, strict=True):
        np.testing.assert_array_equal(np.isnan(answer.local.confidence), np.isnan(row).any())
        np.testing.assert_array_equal(np.isnan(answer.advantage), np.isnan(row).any())
        assert (answer.reason is Reason.CONFIDENT) == (row == SURE).all()


def test_counts_are_exact_from_many_threads(file: Path) -> None:
    """Eight threads use one cascade."""
    with Cascade.load(file, remote=says_blue) as cascade:
        threads = [threading.Thread(target=lambda: [cascade.predict(SURE) for _ in range(50)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert cascade.counts().local == cascade.counts().inputs == 400


def test_a_batch_is_answered_like_its_inputs(file: Path) -> None:
    """Labels and order are the same, also with more forwards than one request holds."""
    rows = np.random.default_rng(0).normal(0, 1, (200, 3)).astype(np.float32)

    def mirror(inputs: NDArray[Any]) -> NDArray[Any]:
        assert len(inputs) <= 32
        return -inputs

    def essence(answer: Answer) -> tuple[Any, ...]:
        return answer.label, round(answer.confidence, 5), answer.source, answer.reason

    with Cascade.load(file, remote=mirror) as cascade:
        together = [essence(answer) for answer in cascade.predict_batch(rows)]
        assert together == [essence(cascade.predict(row)) for row in rows]
    assert len({reason for *_, reason in together}) == 2
    assert sum(reason is Reason.OFFLOADED for *_, reason in together) > 64


@pytest.mark.parametrize("batch", [1, 4])
def test_a_file_of_a_fixed_batch_takes_any_number_of_inputs(make_file: Callable[..., Path], batch: int) -> None:
    """The last batch is filled up, so the file answers one input as it answers many."""
    with Cascade.load(make_file(batch=batch)) as cascade:
        assert cascade.predict(SURE).name == "red"
        for n in (1, 3, 4, 7, 8):
            answers = cascade.predict_batch(np.stack([SURE] * (n - 1) + [UNSURE]))
            assert [answer.forwarded for answer in answers] == [False] * (n - 1) + [True]
        assert cascade.predict_batch(np.zeros((0, 3), np.float32)) == []


@pytest.mark.parametrize(("threshold", "forwarded"), [(-1.0, 0), (1.0, 2)])
def test_the_threshold_can_be_set_at_loading(file: Path, threshold: float, forwarded: int) -> None:
    """It overrides the file's threshold."""
    with Cascade.load(file, threshold=threshold) as cascade:
        assert sum(a.forwarded for a in cascade.predict_batch(np.stack([SURE, UNSURE]))) == forwarded


@pytest.mark.parametrize(
    ("x", "message"),
    [
        pytest.param(SURE.astype(np.int64), r"^x: expected float32 \[3\] per input, got int64 \[3\]", id="type"),
        pytest.param(np.array([1, 2, 1e300]), r"^x: expected numbers that fit float32, got 1e\+300", id="range"),
        pytest.param(np.zeros(4, np.float32), r"^x: expected float32 \[3\] per input, got float32 \[4\]", id="size"),
        pytest.param(np.zeros((3, 1), np.float32), r"^x: expected .* got float32 \[3, 1\]", id="rank"),
        pytest.param("red", r"^x: expected float32", id="text"),
        pytest.param(None, r"^x: expected float32", id="nothing"),
    ],
)
def test_an_invalid_input_is_refused(file: Path, x: Any, message: str) -> None:
    """The error names the argument, the value expected and the value found, and the input is not counted."""
    with Cascade.load(file) as cascade:
        with pytest.raises(InputError, match=message):
            cascade.predict(x)
        assert cascade.counts().inputs == 0


def test_there_is_one_original_per_input(file: Path) -> None:
    """Fewer are refused; an empty batch has no answers."""
    with Cascade.load(file) as cascade:
        with pytest.raises(InputError, match=r"^originals: expected 2, one per input, got 1"):
            cascade.predict_batch(np.stack([SURE, SURE]), originals=np.zeros((1, 2)))
        for wrong in ({}, 5, {"a": np.zeros((2, 1)), "b": np.zeros((1, 1))}):
            with pytest.raises(InputError, match=r"^originals: expected 2, one per input"):
                cascade.predict_batch(np.stack([SURE, SURE]), originals=wrong)
        assert cascade.predict_batch(np.zeros((0, 3), np.float32)) == []


def test_numbers_of_another_precision_are_cast(file: Path) -> None:
    """Arrays made of Python numbers are float64; half precision and the other order of bytes do not matter either."""
    with Cascade.load(file) as cascade:
        wanted = cascade.predict(SURE).local
        for x in (SURE.astype(np.float64), SURE.astype(">f4"), SURE.astype(np.float16), SURE.tolist()):
            assert cascade.predict(x).label == wanted.label
            assert cascade.predict(x).confidence == pytest.approx(wanted.confidence, abs=1e-3)
            assert cascade.predict_batch([x, x])[1].label == wanted.label
        assert cascade.predict(np.array([np.inf, 0, 0])).label == 0


def test_there_is_one_key_per_input(file: Path, tmp_path: Path) -> None:
    """Each identifies the late answer; None requests a generated key."""
    with Cascade.load(file, outbox=Outbox(tmp_path / "outbox")) as cascade:
        with pytest.raises(InputError, match=r"^keys: expected 2, one per input, got 1"):
            cascade.predict_batch(np.stack([SURE, SURE]), keys=["a"])
        first, second, third = cascade.predict_batch(np.stack([UNSURE, SURE, UNSURE]), keys=["a", "b", None])
    assert (first.queued, second.queued) == ("a", "")
    assert third.queued not in ("", "a")


def test_its_text_shows_the_file_and_the_policy(file: Path) -> None:
    """A password in an address is not shown."""
    with Cascade.load(file, remote="http://host:1/v2/models/m?token=secret", deadline=0.5) as cascade:
        shown = repr(cascade)
    for part in (file.name, "http://host:1/v2/models/m", "0.5", "threshold=0.0", "CPUExecutionProvider"):
        assert part in shown
    assert "secret" not in shown
    with Cascade.load(file, remote=says_blue, threshold=0.25) as cascade:
        assert "remote=says_blue" in repr(cascade)
        assert "threshold=0.25" in repr(cascade)


@pytest.mark.parametrize("deadline", [0, -1, math.nan])
def test_an_invalid_deadline_is_refused(file: Path, deadline: float) -> None:
    """The error is one sentence."""
    with pytest.raises(ArgumentError, match=r"^deadline: expected seconds above 0"):
        Cascade.load(file, deadline=deadline)


@pytest.mark.parametrize("remote", ["ftp://host/v2/models/m", "http://host/m", "http:///v2/models/m", 7])
def test_an_invalid_remote_is_refused(file: Path, remote: Any) -> None:
    """Cases are an address of an unknown form and an object that is not a remote."""
    with pytest.raises(ArgumentError, match=r"^remote: expected"):
        Cascade.load(file, remote=remote)


def test_a_remote_can_be_a_file(file: Path, pair: Path) -> None:
    """It runs in the same process; a missing file is reported."""
    image = np.full((1, 8, 8, 3), 127, np.uint8)
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx", threshold=1.0) as cascade:
        assert cascade.predict_batch(image)[0].reason is Reason.OFFLOADED
    with pytest.raises(ModelFileError, match=r"none\.onnx: no such file"):
        Cascade.load(file, remote="none.onnx")


def test_at_most_four_requests_are_in_progress(file: Path, stalled: Callable[[], float]) -> None:
    """With a remote that never answers, twenty callers are still answered by their deadlines."""
    under_way, most, lock, free = 0, 0, threading.Lock(), threading.Event()

    class Silent:
        request_inputs = 1  # otherwise inputs that wait together would be sent in fewer requests

        def infer(self, inputs: Any, _: Any) -> NDArray[Any]:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            free.wait(10)
            return says_blue(inputs)

        def close(self) -> None: ...

    answers: list[Answer] = []
    with Cascade.load(file, remote=Silent(), deadline=0.2) as cascade:
        threads = [threading.Thread(target=lambda: answers.append(cascade.predict(UNSURE))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        free.set()
    assert most == 4
    assert [a.reason for a in answers] == [Reason.DEADLINE] * 20
    assert max(a.elapsed for a in answers) < 0.6 + stalled()


def test_after_close_it_answers_locally(file: Path) -> None:
    """The reason states that it cannot forward."""
    cascade = Cascade.load(file, remote=says_blue)
    cascade.close()
    answer = cascade.predict(UNSURE)
    assert (answer.source, answer.reason) == (Source.LOCAL, Reason.OFFLINE)
