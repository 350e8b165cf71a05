"""Decisions and answers as arrays: the same as one by one, for any remote, merge rule and kind of task."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.runtime import (
    Answer,
    Budget,
    Cascade,
    CircuitBreaker,
    Columns,
    Outbox,
    Rate,
    RemoteRefusal,
    RemoteUnreachable,
    Watch,
)
from edgecascade.types.answer import Prediction, Reason, Source
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.errors import ArgumentError, InputError
from edgecascade.types.merge import MERGES, PredictionRows, merge, merge_rows
from task_files import SURE, UNSURE, boxes_file, twice_file

RNG = np.random.default_rng(4)
LOGITS = RNG.normal(0, 2, (5000, 3)).astype(np.float32)
LOGITS[17] = np.nan


def large(x: NDArray[Any]) -> NDArray[Any]:
    """Return scores that depend on the input, most of them for another class."""
    return np.asarray(np.nan_to_num(x[:, ::-1], nan=1.0) * 3)


def assert_same(columns: Columns, answers: Sequence[Answer]) -> None:
    """Check every property of every row, bit for bit."""
    assert len(columns) == len(answers)
    assert columns.label.tolist() == [one.label for one in answers]
    assert columns.source.tolist() == [one.source.value for one in answers]
    assert columns.reason.tolist() == [one.reason.value for one in answers]
    assert columns.forward.tolist() == [one.forwarded for one in answers]
    for name in ("confidence", "advantage"):
        found = getattr(columns, name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.array([getattr(one, name) for one in answers], np.float32))


@pytest.mark.parametrize("rule", MERGES)
@pytest.mark.parametrize("n", [0, 1, 5, 5000])
def test_columns_are_the_answers_one_by_one(make_file: Callable[..., Path], rule: str, n: int) -> None:
    """Whatever the number of inputs, and so of runs and requests, every row is what `predict` says."""
    with Cascade.load(make_file(), remote=large, deadline=60.0) as cascade:
        cascade.swap(replace(cascade.policy, merge=rule))
        columns = cascade.predict_columns(LOGITS[:n], request_inputs=100)
        assert_same(columns, [cascade.predict(one) for one in LOGITS[:n]])
        assert cascade.counts().inputs == 2 * n
        assert cascade.counts().forwarded == 2 * int(columns.forward.sum())


@pytest.mark.parametrize("rule", MERGES)
def test_two_stages_give_what_one_call_does(make_file: Callable[..., Path], rule: str) -> None:
    """`decide` in one place, the large model in another, `merged` in a third, from arrays alone; nothing is counted."""
    with Cascade.load(make_file(), remote=large) as cascade:
        cascade.swap(replace(cascade.policy, merge=rule))
        decided = cascade.decide(LOGITS)
        names = ("label", "confidence", "advantage", "forward", "probabilities")
        sent = {name: getattr(decided, name) for name in names}
        merged = cascade.merged(Columns.decided(**sent), large(LOGITS[decided.forward]))
        assert cascade.counts().inputs == 0
        whole = cascade.predict_columns(LOGITS)
    for name in (*names, "source_codes", "reason_codes"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
    assert decided.reason[decided.forward].tolist() == ["offline"] * int(decided.forward.sum())


def test_a_row_of_scores_that_is_no_answer_stays_local(file: Path) -> None:
    """The others do not; scores of another number of rows are refused."""
    with Cascade.load(file) as cascade:
        decided = cascade.decide(LOGITS)
        scores = large(LOGITS[decided.forward])
        scores[3] = np.nan
        merged = cascade.merged(decided, scores)
        row = np.flatnonzero(decided.forward)[3]
        assert merged.reason[row] == "remote error"
        assert merged.label[row] == decided.label[row]
        assert merged.counts()[Source.LOCAL, Reason.REMOTE_ERROR] == 1
        for wrong in (scores[1:], [[1.0, 2.0], [1.0]], None):
            with pytest.raises(InputError, match="scores"):
                cascade.merged(decided, wrong)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"^columns: .* decide"):
            cascade.merged(merged, scores)


@pytest.mark.parametrize("x", [np.array(5.0), {}, {"z": np.array(5.0)}, {"q": LOGITS}])
@pytest.mark.parametrize("call", ["decide", "predict_columns", "predict_batch"])
def test_what_has_no_rows_is_refused(file: Path, call: str, x: Any) -> None:
    """In one sentence, by every call."""
    with Cascade.load(file) as cascade, pytest.raises(InputError, match=r"^x[\[:]"):
        getattr(cascade, call)(x)


@given(st.integers(0, 2**32 - 1), st.sampled_from(MERGES), st.sampled_from([None, "classes", "matrix"]))
def test_rows_merge_as_single_predictions(seed: int, rule: str, kind: str | None) -> None:
    """For every rule and kind of costs, and where the local confidence is NaN."""
    rng = np.random.default_rng(seed)
    tables = rng.dirichlet(np.ones(4), (2, 30)).astype(np.float32)
    tables[0, 0] = np.nan
    matrix = rng.uniform(0.1, 5, (4, 4)) * (1 - np.eye(4))
    costs = None if kind is None else ErrorCosts((matrix[0] + 1 if kind == "classes" else matrix).tolist())
    ours, theirs = (
        PredictionRows(table.argmax(axis=1), np.take_along_axis(table, table.argmax(axis=1)[:, None], 1)[:, 0], table)
        for table in tables
    )
    rows, sources = merge_rows(rule, ours, theirs, costs)
    for i in range(30):
        local, remote = (
            Prediction(int(one.label[i]), float(one.confidence[i]), one.probabilities[i]) for one in (ours, theirs)
        )
        expected, source = merge(rule, local, remote, costs)
        assert (rows.label[i], rows.confidence[i]) == (expected.label, np.float32(expected.confidence))
        np.testing.assert_array_equal(rows.probabilities[i], expected.probabilities)
        assert tuple(Source)[sources[i]] is source


class Recording:
    """A remote that records the sizes of requests and how many are under way at the same time."""

    def __init__(
        self, fails: Callable[[NDArray[Any]], BaseException | None] = lambda _: None, seconds: float = 0
    ) -> None:
        self.sizes: list[int] = []
        self.under_way = self.most = 0
        self._fails, self._seconds, self._lock = fails, seconds, threading.Lock()

    def infer(self, inputs: Any, deadline: Any) -> NDArray[Any]:  # noqa: ARG002
        """Answer as `large`, or raise."""
        with self._lock:
            self.sizes.append(len(inputs))
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(self._seconds)
        with self._lock:
            self.under_way -= 1
        error = self._fails(inputs)
        if error is not None:
            raise error
        return large(inputs)

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("call", ["predict_columns", "predict_batch"])
def test_without_a_deadline_every_forward_is_answered(file: Path, call: str) -> None:
    """Requests are as large and as many as asked for, however long they take beside the deadline of the cascade."""
    remote = Recording(seconds=0.05)
    with Cascade.load(file, remote=remote, deadline=0.001) as cascade:
        options: dict[str, Any] = {"request_inputs": 60, "in_flight": 3}
        if call == "predict_columns":
            forwarded = int(cascade.predict_columns(LOGITS[:800], **options).forward.sum())
        else:
            answers = cascade.predict_batch(LOGITS[:800], deadline=None, **options)
            forwarded = sum(one.forwarded for one in answers)
            assert all(one.remote is not None for one in answers if one.forwarded)
        assert cascade.counts().missed == {}
        assert cascade.counts().forwarded == forwarded
    assert sum(remote.sizes) == forwarded
    assert max(remote.sizes) == 60
    assert remote.most == 3


def test_a_call_may_have_its_own_deadline(file: Path) -> None:
    """It is the deadline of this call only."""
    with Cascade.load(file, remote=Recording(seconds=0.3), deadline=60.0) as cascade:
        (answer,) = cascade.predict_batch([UNSURE_LOGITS], deadline=0.01)
        assert answer.reason is Reason.DEADLINE
        (answer,) = cascade.predict_batch([UNSURE_LOGITS])
        assert answer.reason is Reason.OFFLOADED


UNSURE_LOGITS = np.array([0, 0.5, 0], np.float32)


@pytest.mark.parametrize(
    "options",
    [{"deadline": 0.0}, {"deadline": None, "request_inputs": 0}, {"deadline": None, "in_flight": 0}, {"deadline": -1}],
)
def test_numbers_out_of_range_are_refused(file: Path, options: dict[str, Any]) -> None:
    """Before anything is decided."""
    with Cascade.load(file) as cascade:
        with pytest.raises(ArgumentError):
            cascade.predict_batch(LOGITS[:2], **options)
        assert cascade.counts().inputs == 0


def test_a_remote_that_is_away_for_a_while_is_waited_for(file: Path) -> None:
    """Also one behind an open circuit: all forwards are answered once it is back."""
    back = time.monotonic() + 1.0
    remote = Recording(lambda _: RemoteUnreachable("away") if time.monotonic() < back else None)
    with Cascade.load(file, remote=CircuitBreaker(remote, failures=1, first=0.2)) as cascade:
        columns = cascade.predict_columns(LOGITS[:500], request_inputs=20)
        assert cascade.counts().missed == {}
    assert Reason.CIRCUIT_OPEN.value not in columns.reason


def test_a_remote_that_stays_away_is_given_up_once(file: Path) -> None:
    """The patience is that of the call, and not of each request."""
    remote = Recording(lambda _: RemoteUnreachable("away"))
    with Cascade.load(file, remote=remote) as cascade:
        started = time.monotonic()
        columns = cascade.predict_columns(LOGITS[:1000], request_inputs=5, in_flight=1, patience=0.6)
        assert 0.6 <= time.monotonic() - started < 10
    assert {*columns.reason[columns.forward].tolist()} == {"offline"}
    assert len(remote.sizes) >= columns.forward.sum() / 5


def test_an_outbox_stores_what_a_batch_without_a_deadline_could_not_send(file: Path, tmp_path: Path) -> None:
    """Columns have no place for late answers, and store nothing."""
    remote = Recording(lambda _: RemoteUnreachable("away"))
    with Cascade.load(file, remote=remote, outbox=Outbox(tmp_path / "outbox.db")) as cascade:
        columns = cascade.predict_columns(LOGITS[:50], patience=0)
        assert cascade.metrics()["outbox"]["waiting"] == 0
        answers = cascade.predict_batch(LOGITS[:50], deadline=None, patience=0, keys=[f"row {i}" for i in range(50)])
        assert {one.queued for one in answers if one.forwarded} == {f"row {i}" for i in np.flatnonzero(columns.forward)}


def test_a_refused_request_costs_no_other_its_answer(file: Path) -> None:
    """One that is too large is sent in parts."""
    wrong = np.flatnonzero(np.abs(LOGITS).max(axis=1) < 1)[:1]

    def fails(x: NDArray[Any]) -> BaseException | None:
        if len(x) > 40:
            return RemoteRefusal("too large", status="413")
        return ValueError("bad input") if (x == LOGITS[wrong[0]]).all(axis=1).any() else None

    with Cascade.load(file, remote=Recording(fails)) as cascade:
        columns = cascade.predict_columns(LOGITS[:1000], request_inputs=100)
    assert columns.reason[wrong[0]] == "remote error"
    assert 1 <= (columns.reason == "remote error").sum() <= 40
    assert (columns.source == "remote").sum() == columns.forward.sum() - (columns.reason == "remote error").sum()


def test_egress_and_budget_hold(file: Path) -> None:
    """What they hold back is not sent, and says why."""
    sent: list[NDArray[Any]] = []

    def remote(x: NDArray[Any]) -> NDArray[Any]:
        sent.extend(x)
        return large(x)

    budget = Budget(forwards=Rate.per_day(50))
    with Cascade.load(file, remote=remote, budget=budget, egress=lambda x: bool(x[0] > 0)) as cascade:
        columns = cascade.predict_columns(LOGITS)
    assert 1 <= len(sent) <= 50
    assert all(one[0] > 0 for one in sent)
    assert {*columns.reason[columns.forward].tolist()} == {"egress", "budget", "offloaded"}
    assert (columns.reason == "offloaded").sum() == len(sent)


def test_a_watch_sees_columns_as_it_sees_answers(file: Path) -> None:
    """It counts every input, compares the forwarded ones, and audits others."""
    watch = Watch(share=1.0, seed=1)
    with Cascade.load(file, remote=large, watch=watch, deadline=30.0) as cascade:
        columns = cascade.predict_columns(LOGITS[:300])
        until = time.monotonic() + 20
        while watch.health().compared < 299 and time.monotonic() < until:
            time.sleep(0.01)
        health = watch.health()
    assert (health.inputs, health.forwarded) == (300, int(columns.forward.sum()))
    assert health.audited == 300 - health.forwarded
    assert health.compared == 300


def test_outputs_of_a_classifier_come_along(file: Path) -> None:
    """They are the local model's."""
    with Cascade.load(file, remote=large, outputs=["logits"]) as cascade:
        columns = cascade.predict_columns(LOGITS)
        np.testing.assert_array_equal(columns.outputs["logits"], LOGITS)


def test_outputs_of_a_general_task_are_of_the_model_that_answered(tmp_path: Path) -> None:
    """Each has None where that model has no such output; `merged` takes arrays by name."""
    inputs = np.stack([SURE, UNSURE, SURE, UNSURE])
    with Cascade.load(twice_file(tmp_path), remote=lambda x: {"tripled": 3 * x}) as cascade:
        answers = cascade.predict_batch(inputs)
        whole = cascade.predict_columns(inputs)
        merged = cascade.merged(cascade.decide(inputs), {"tripled": 3 * inputs[[1, 3]]})
        for columns in (whole, merged):
            assert_same(columns, answers)
            for name in ("twice", "quality", "tripled"):
                for found, answer in zip(columns.outputs[name], answers, strict=True):
                    np.testing.assert_array_equal(found, answer.outputs.get(name))
        with pytest.raises(InputError, match="scores"):
            cascade.merged(cascade.decide(inputs), {"other": 3 * inputs[[1, 3]]})


def test_outputs_of_any_shape_stay_arrays_of_their_own(tmp_path: Path) -> None:
    """A file without a batch axis in its outputs runs on one input at a time."""
    inputs = np.array([[2, 0, -1], [2, 3, 4]], np.float32)
    with Cascade.load(boxes_file(tmp_path)) as cascade:
        columns = cascade.decide(inputs)
        for found, answer in zip(columns.outputs["boxes"], cascade.predict_batch(inputs), strict=True):
            np.testing.assert_array_equal(found, answer.outputs["boxes"])


def test_images_of_several_sizes_are_decided(pair: Path) -> None:
    """A list of images, as `predict_batch` takes it; those that are forwarded go to the remote by their sizes."""
    images = np.load(pair / "test.npz")["x"][:40]
    mixed = [image if i % 2 else image.repeat(2, axis=0) for i, image in enumerate(images)]
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx", deadline=60.0) as cascade:
        assert_same(cascade.predict_columns(mixed), cascade.predict_batch(mixed))


def test_an_interrupted_call_ends_before_the_remote_replies(file: Path) -> None:
    """An exception that a signal handler raises leaves the requests under way behind."""
    asked, over = threading.Event(), threading.Event()

    def remote(x: NDArray[Any]) -> NDArray[Any]:
        asked.set()
        over.wait(60)
        return large(x)

    def interrupt() -> None:
        asked.wait(60)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with Cascade.load(file, remote=remote) as cascade:
        with pytest.raises(KeyboardInterrupt):
            cascade.predict_batch(LOGITS[:100], deadline=None)
        over.set()
