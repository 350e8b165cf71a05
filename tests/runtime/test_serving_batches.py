"""Requests that wait for a model of `edgecascade serve` run together, and none of them notices the others."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, save

from edgecascade.runtime import Cascade, InputError
from edgecascade.runtime.serving.batcher import Batcher, Batching
from edgecascade.runtime.serving.served import ServedModel, _batch, served_cascade, served_file
from task_files import twice_file

TABLE = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
UNSURE, SURE = np.array([[0, 0.5, 0]], np.float32), np.array([[5, 0, 0]], np.float32)


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., Path]:
    """Write a file that adds an offset to the rows of ids from 0 to 4, and fails on another id."""

    def write(side: str = "batch", further: Sequence[Any] = (), outputs: Sequence[Any] = ()) -> Path:
        graph = helper.make_graph(
            [
                helper.make_node("Gather", ["table", "ids"], ["found"]),
                helper.make_node("Add", ["found", "offset"], ["logits"]),
                *further,
            ],
            "rows",
            [
                helper.make_tensor_value_info("ids", TensorProto.INT64, [side]),
                helper.make_tensor_value_info("offset", TensorProto.FLOAT, ["batch", 1]),
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]), *outputs],
            [numpy_helper.from_array(TABLE, "table")],
        )
        path = tmp_path / "rows.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path

    return write


def ask(model: ServedModel, *requests: dict[str, Any], names: Sequence[str] = ("logits",)) -> list[Any]:
    """Return the outputs, or the error, of requests that come at one moment."""

    async def gathered() -> list[Any]:
        asked = (model.infer(feeds, [*names]) for feeds in requests)
        return [*await asyncio.gather(*asked, return_exceptions=True)]

    return asyncio.run(gathered())


def of_ids(*ids: int, offset: Sequence[float] | None = None) -> dict[str, Any]:
    """Return the inputs of a request."""
    offsets = [0.0] * len(ids) if offset is None else offset
    return {"ids": np.array(ids, np.int64), "offset": np.array(offsets, np.float32)[:, None]}


@given(
    requests=st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(1, 9)), max_size=40),
    most=st.integers(1, 8),
    instances=st.integers(1, 3),
)
def test_every_request_gets_its_own_result(requests: list[tuple[str | None, int]], most: int, instances: int) -> None:
    """A batch holds one kind and at most so many inputs, or one request; and at most so many run at once."""
    ran: list[list[int]] = []
    running, highest = 0, 0
    lock = threading.Lock()

    def run(items: Sequence[int]) -> list[int | Exception]:
        nonlocal running, highest
        with lock:
            running += 1
            highest = max(highest, running)
            ran.append([*items])
        results: list[int | Exception] = [KeyError(one) if one % 7 == 6 else -one for one in items]
        with lock:
            running -= 1
        return results

    async def all_of() -> tuple[list[Any], Batcher[int, int]]:
        batcher = Batcher(run, Batching(most, instances))
        asked = (batcher(i, kind=kind, rows=n) for i, (kind, n) in enumerate(requests))
        return await asyncio.gather(*asked, return_exceptions=True), batcher

    found, batcher = asyncio.run(all_of())
    for i, one in enumerate(found):
        assert isinstance(one, KeyError) if i % 7 == 6 else one == -i
    assert sorted(i for batch in ran for i in batch) == [*range(len(requests))]
    for batch in ran:
        assert len({requests[i][0] for i in batch}) == 1
        assert len(batch) == 1 or (sum(requests[i][1] for i in batch) <= most and requests[batch[0]][0] is not None)
    assert highest <= instances
    assert (batcher.batches, batcher.rows) == (len(ran), sum(n for _, n in requests))


def test_the_oldest_request_is_never_passed_over() -> None:
    """Requests of another kind go on waiting in their order, however many of the first kind come."""
    ran: list[list[int]] = []

    def run(items: Sequence[int]) -> list[int | Exception]:
        ran.append([*items])
        return [*items]

    async def all_of() -> None:
        batcher: Batcher[int, int] = Batcher(run, Batching(3, 1))
        await asyncio.gather(*(batcher(i, kind=kind, rows=1) for i, kind in enumerate("abaabbaa")))

    asyncio.run(all_of())
    assert ran == [[0], [1, 4, 5], [2, 3, 6], [7]]


def test_a_request_without_a_client_is_not_run() -> None:
    """Cancelling it while it waits leaves the others as they are."""
    ran: list[int] = []

    def run(items: Sequence[int]) -> list[int | Exception]:
        ran.extend(items)
        return [*items]

    async def all_of() -> list[Any]:
        batcher: Batcher[int, int] = Batcher(run, Batching(8, 1))
        tasks = [asyncio.ensure_future(batcher(i, kind="a", rows=1)) for i in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(all_of())
    assert isinstance(found.pop(2), asyncio.CancelledError)
    assert found == ran == [0, 1, 3, 4]


@pytest.mark.parametrize("most", [1, 8, 32])
def test_requests_at_one_moment_share_runs(rows: Callable[..., Path], most: int) -> None:
    """The first runs alone, the others in full batches, and each reply has the rows of its request."""
    model = served_file(rows(), Batching(most, 1))
    requests = [of_ids(*(np.arange(i, i + 1 + i % 2) % 5), offset=[i] * (1 + i % 2)) for i in range(40)]
    for request, found in zip(requests, ask(model, *requests), strict=True):
        np.testing.assert_allclose(found["logits"], TABLE[request["ids"]] + request["offset"], rtol=1e-6)
    assert model.batcher.rows == 60
    assert model.batcher.batches == (40 if most == 1 else 1 + math.ceil(59 / most))


def test_a_request_that_fails_fails_alone(rows: Callable[..., Path]) -> None:
    """Those that ran with it are answered, and its error names no file."""
    model = served_file(rows())
    requests = [of_ids(i % 7, 1) for i in range(21)]
    for request, found in zip(requests, ask(model, *requests), strict=True):
        if request["ids"][0] > 4:
            assert isinstance(found, InputError)
            assert "rows.onnx" not in str(found)
        else:
            np.testing.assert_allclose(found["logits"], TABLE[request["ids"]], rtol=1e-6)


def test_inputs_of_different_lengths_are_not_mixed_with_others(rows: Callable[..., Path]) -> None:
    """What the model would spread over the inputs of one request does not move the inputs of the next."""
    model = served_file(rows())
    requests = [of_ids(*range(1 + i % 4), offset=[10.0 * i]) for i in range(12)]
    for request, found in zip(requests, ask(model, *requests), strict=True):
        np.testing.assert_allclose(found["logits"], TABLE[request["ids"]] + request["offset"], rtol=1e-6)


def test_outputs_of_other_names_and_of_unknown_rows_run_alone(rows: Callable[..., Path]) -> None:
    """A file whose inputs and outputs do not share a first side says nothing about whose the rows are."""
    found = helper.make_node("NonZero", ["ids"], ["places"])
    places = helper.make_tensor_value_info("places", TensorProto.INT64, [1, "found"])
    model = served_file(rows(further=[found], outputs=[places]))
    replies = ask(model, *[of_ids(0, i) for i in range(1, 5)], names=["places"])
    assert [one["places"].tolist() for one in replies] == [[[1]]] * 4
    assert model.batcher.batches == 4
    assert served_file(rows(side="other")).batcher.batches == 0
    other = served_file(rows(side="other"))
    ask(other, *[of_ids(i) for i in range(5)])
    assert other.batcher.batches == 5


def test_a_file_that_breaks_its_declaration_answers_each_request_alone(rows: Callable[..., Path]) -> None:
    """Its output has as many rows as it likes, whatever it declares."""
    twice = helper.make_node("Concat", ["logits", "logits"], ["doubled"], axis=0)
    model = served_file(
        rows(further=[twice], outputs=[helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["batch", 3])])
    )
    for i, found in enumerate(ask(model, *[of_ids(i) for i in range(5)], names=["doubled"])):
        np.testing.assert_allclose(found["doubled"], TABLE[[i, i]], rtol=1e-6)


def test_a_cascade_answers_requests_together_as_alone(file: Path) -> None:
    """Labels, decisions and reasons are the same, and every answer is counted once."""
    inputs = np.random.default_rng(1).normal(0, 2, (60, 1, 3)).astype(np.float32)
    with Cascade.load(file) as cascade:
        expected = [cascade.predict(one[0]) for one in inputs]
    with ThreadPoolExecutor(2) as threads, Cascade.load(file) as cascade:
        model = served_cascade(cascade, threads)
        names = ["label", "confidence", "forwarded", "reason"]
        found = ask(model, *[{"z": one} for one in inputs], names=names)
        assert cascade.counts().inputs == len(inputs)
    assert model.batcher.batches == 3
    for answer, one in zip(expected, found, strict=True):
        assert one["label"].tolist() == [answer.label]
        assert one["forwarded"].tolist() == [answer.forwarded]
        assert one["reason"].tolist() == [answer.reason.value.encode()]
        np.testing.assert_allclose(one["confidence"], [answer.confidence], rtol=1e-6)


def test_a_local_answer_does_not_wait_for_the_forwards_of_its_batch(file: Path) -> None:
    """Those come at their own deadlines."""
    free = threading.Event()

    def silent(inputs: Any) -> Any:
        free.wait(60)
        return np.zeros((len(inputs), 3), np.float32)

    async def timed(model: ServedModel, one: Any) -> tuple[bytes, float]:
        started = time.monotonic()
        found = await model.infer({"z": one}, ["reason"])
        return found["reason"].tolist()[0], time.monotonic() - started

    async def all_of(model: ServedModel) -> list[tuple[bytes, float]]:
        return await asyncio.gather(*(timed(model, one) for one in [UNSURE, SURE] * 8))

    with ThreadPoolExecutor(2) as threads, Cascade.load(file, remote=silent, deadline=1.5) as cascade:
        model = served_cascade(cascade, threads)
        answers = asyncio.run(all_of(model))
        free.set()
    assert model.batcher.batches == 2
    assert [reason for reason, _ in answers] == [b"deadline", b"confident"] * 8
    assert all(seconds < 1.2 for _, seconds in answers[1::2])
    assert all(1.4 < seconds < 5 for _, seconds in answers[::2])


def test_a_decoder_that_fails_for_one_request_fails_it_alone(tmp_path: Path) -> None:
    """The others of its batch are answered."""

    def decode(outputs: Any) -> float:
        if outputs["twice"][1] < 0:
            raise KeyError("twice")
        return float(outputs["twice"][1])

    inputs = [{"x": np.array([[2, sign, -1]], np.float32)} for sign in (1, -1, 1, -1, 1)]
    with ThreadPoolExecutor(2) as threads, Cascade.load(twice_file(tmp_path), decode=decode) as cascade:
        model = served_cascade(cascade, threads)
        found = ask(model, *inputs, names=["result"])
    assert [isinstance(one, KeyError) for one in found] == [False, True, False, True, False]
    assert found[0]["result"].tolist() == [b"2.0"]
    assert model.batcher.batches == 2


def test_a_long_sentence_among_short_ones_takes_no_memory() -> None:
    """Numpy's type for text would take the memory of the longest for each, 400 GB here."""
    texts = np.array([b"a" * 1_000_000, *[b"b"] * 100_000], object)
    found = _batch({"text": texts}, text=True)
    assert isinstance(found, np.ndarray)
    assert found.nbytes < 1 << 20
    assert found[1] == "b"
