"""General tasks: the outputs of whichever model answers, decoded, and how remotes fail to answer."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.cli import main
from edgecascade.runtime import (
    Answer,
    ArgumentError,
    Budget,
    Cascade,
    Chat,
    CircuitBreaker,
    Hedged,
    InputError,
    ModelFileError,
    Outbox,
    Rate,
    Reason,
    Retrying,
    SecondOpinion,
    Source,
    Watch,
)
from edgecascade.runtime.decode import Boxes, Value
from edgecascade.runtime.remotes.remote import connect
from edgecascade.types.platt import Platt
from task_files import SURE, UNSURE, boxes_file, remote_file, tripled, twice_file

X = np.stack([SURE, UNSURE, SURE + 1, UNSURE - 1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file whose remote answers `tripled`."""
    return twice_file(tmp_path)


def total(outputs: Any) -> float:
    """Decode either model's outputs."""
    return float(next(iter(outputs.values())).sum())


def check(x: NDArray[Any], answer: Answer, *, decoded: bool = False) -> None:
    """Check the answer to an input, whichever model it is to come from."""
    local = x[0] >= 0.5
    assert (answer.label, answer.name) == (-1, "")
    assert answer.advantage == (0.25 if local else -0.25)
    sure = 1 / (1 + math.exp(2 - 4 * float(x[0])))
    assert answer.local.confidence == pytest.approx(sure, abs=1e-6)
    assert answer.local.probabilities.shape == (0,)
    np.testing.assert_array_equal(answer.local.outputs["twice"], 2 * x)
    np.testing.assert_array_equal(answer.local.outputs["quality"], x[:1])
    if local:
        assert (answer.source, answer.reason, answer.remote) == (Source.LOCAL, Reason.CONFIDENT, None)
        assert answer.outputs is answer.local.outputs
        assert answer.confidence == answer.local.confidence
    else:
        assert (answer.source, answer.reason) == (Source.REMOTE, Reason.OFFLOADED)
        assert answer.remote is not None
        assert answer.outputs is answer.remote.outputs
        assert list(answer.outputs) == ["tripled"]
        np.testing.assert_array_equal(answer.outputs["tripled"], 3 * x)
        assert math.isnan(answer.confidence)
    expected = float((2 if local else 3) * x.sum()) if decoded else None
    assert answer.result == pytest.approx(expected)
    assert answer.local.result == (answer.result if local else None)


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_answers_hold_the_outputs_of_the_model_that_answered(tmp_path: Path, batch: int | str) -> None:
    """This holds for single inputs, batches, streams and asyncio, for files of any batch and of a fixed one."""
    path = twice_file(tmp_path, batch=batch)
    with Cascade.load(path, remote=tripled, decode=total, remote_decode=total, deadline=10.0) as cascade:
        ways: list[Callable[[], Sequence[Answer]]] = [
            lambda: [cascade.predict(x) for x in X],
            lambda: cascade.predict_batch(X),
            lambda: list(cascade.stream(X)),
            lambda: asyncio.run(gathered(cascade)),
        ]
        for way in ways:
            for x, answer in zip(X, way(), strict=True):
                check(x, answer, decoded=True)
        assert (cascade.counts().local, cascade.counts().forwarded) == (8, 8)
        assert cascade.document.task.name == "detection"


async def gathered(cascade: Cascade) -> list[Answer]:
    """Return the answers to all inputs at once."""
    return [*await asyncio.gather(*(cascade.predict_async(x) for x in X))]


def test_some_outputs_can_be_chosen(path: Path) -> None:
    """An output that the task does not have is refused, and so is a decoder's name."""
    with Cascade.load(path, outputs=["quality"]) as cascade:
        assert list(cascade.predict(SURE).outputs) == ["quality"]
    with pytest.raises(ArgumentError, match=r"^outputs: expected names among quality, twice, got 'score'"):
        Cascade.load(path, outputs=["score"])
    with pytest.raises(ArgumentError, match=r"^decode: expected a function of the outputs of one input, got 'value'"):
        Cascade.load(path, decode="value")  # type: ignore[arg-type]


def test_outputs_without_a_batch_axis_belong_to_their_input(tmp_path: Path) -> None:
    """Such a model runs on one input at a time, here and in the process of the remote; none may be found."""
    path = boxes_file(tmp_path)
    rows = [np.array([2, 1, 1], np.float32), np.array([-1, 1, -1], np.float32), np.array([-1, -1, -1], np.float32)]

    def boxes(x: NDArray[Any]) -> list[dict[str, NDArray[Any]]]:
        return [{"boxes": np.argwhere(one > 0)} for one in x]

    for remote in (boxes, path):
        with Cascade.load(path, remote=remote, deadline=10.0) as cascade:
            sure, unsure, nothing = cascade.predict_batch(np.stack(rows))
        np.testing.assert_array_equal(sure.outputs["boxes"], [[0, 0], [0, 1], [0, 2]])
        np.testing.assert_array_equal(unsure.local.outputs["boxes"], [[0, 1]])  # a single box keeps its axis
        if remote is path:
            np.testing.assert_array_equal(unsure.outputs["boxes"], [[0, 1]])
        assert (unsure.source, nothing.source) == (Source.REMOTE, Source.REMOTE)
        assert nothing.outputs["boxes"].shape[0] == 0


def test_the_policy_can_change_in_the_field(path: Path) -> None:
    """Threshold, table and confidence are overridden as in the graph; the certificate is void then."""
    with Cascade.load(path, threshold=-1.0) as cascade:
        assert cascade.predict(UNSURE).reason is Reason.CONFIDENT
        assert cascade.health().bound is None
        cascade.swap(replace(cascade.policy, threshold=0.0, values=(0.5, -0.5), confidence=Platt(0.0, 0.0)))
        answer = cascade.predict(SURE)
        assert (answer.reason, answer.advantage, answer.confidence) == (Reason.OFFLINE, -0.5, 0.5)
        assert cascade.predict(UNSURE).reason is Reason.CONFIDENT


def test_a_score_that_is_not_a_number_is_forwarded(path: Path) -> None:
    """The answer is the remote's, or the local one without it."""
    x = np.array([np.nan, 1, 2], np.float32)
    with Cascade.load(path, remote=tripled, deadline=10.0) as cascade:
        answer = cascade.predict(x)
        assert (answer.source, answer.reason) == (Source.REMOTE, Reason.NOT_A_NUMBER)
        assert math.isnan(answer.advantage)
    with Cascade.load(path) as cascade:
        assert cascade.predict(x).reason is Reason.OFFLINE


def test_the_local_answer_is_decoded_only_where_it_is_final(path: Path) -> None:
    """Its exception reaches the caller, in every way to ask."""
    seen: list[float] = []

    def decode(outputs: Any) -> float:
        seen.append(float(outputs["quality"][0]))
        if outputs["quality"][0] == 9:
            raise LookupError("private")
        return seen[-1]

    with Cascade.load(path, remote=tripled, decode=decode, remote_decode=dict, deadline=10.0) as cascade:
        cascade.predict_batch(X)
        assert seen == [2, 3]
        bad = np.array([9, 0, 0], np.float32)
        for ask in (cascade.predict, lambda x: cascade.predict_batch([SURE, x]), lambda x: list(cascade.stream([x]))):
            with pytest.raises(LookupError):
                ask(bad)
        assert cascade.predict(SURE).result == 2
    with Cascade.load(path, decode=decode) as cascade:
        assert cascade.predict(UNSURE).result == -2


def test_one_decoder_reads_the_outputs_of_both_models(path: Path) -> None:
    """Unless the remote has one of its own."""
    for own, times in (({}, 3), ({"remote_decode": lambda outputs: 5 * total(outputs)}, 15)):
        with Cascade.load(path, remote=tripled, decode=total, deadline=10.0, **own) as cascade:  # type: ignore[arg-type]
            answer = cascade.predict(UNSURE)
            assert (answer.source, answer.result) == (Source.REMOTE, pytest.approx(times * float(UNSURE.sum())))


@pytest.mark.parametrize(
    ("decode", "remote_decode", "message"),
    [
        (Value(), None, "decode: expected output=NAME, one of twice, quality, got none"),
        (Value("third"), None, "decode: expected an output 'third', got twice, quality"),
        (Boxes(scores="quality", labels="kinds"), None, "decode: expected an output 'kinds', got"),
        (Value("twice"), None, "remote_decode: expected an output 'twice', got tripled"),
        (Value("twice"), Value(), None),
        (Boxes(scores="quality"), total, None),
    ],
)
def test_a_decoder_of_other_outputs_is_refused_before_the_first_input(
    path: Path, decode: Any, remote_decode: Any, message: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its error names the outputs, of the local model and of the remote; the command says the same."""
    if message is None:
        Cascade.load(path, remote=tripled, decode=decode, remote_decode=remote_decode).close()
        return
    with pytest.raises(ArgumentError, match=f"^{message}"):
        Cascade.load(path, remote=tripled, decode=decode, remote_decode=remote_decode)
    if isinstance(decode, Value):
        np.save(tmp_path / "sure.npy", SURE)
        command = ["run", str(path), str(tmp_path / "sure.npy"), "--remote", str(remote_file(tmp_path))]
        assert main([*command, "--decode", f"value:output={decode.output}" if decode.output else "value"]) == 2
        shown = capsys.readouterr()
        assert (shown.out, message.partition(":")[2] in shown.err) == ("", True)


BAD: list[tuple[Any, str]] = [
    (lambda x: {"other": x}, "expected the outputs tripled, got other"),
    (lambda _: {}, "expected the outputs tripled, got none"),
    (lambda x: {"tripled": np.zeros((len(x) + 1, 3))}, "expected 1 rows in the output 'tripled'"),
    (lambda _: {"tripled": np.float32(3)}, "expected 1 rows in the output 'tripled'"),
    (lambda x: {"tripled": np.full((len(x), 3), np.nan)}, "got only NaN"),
    (lambda x: {"tripled": np.full((len(x), 3), None)}, "expected numbers or text"),
    (lambda x: {"tripled": np.zeros((len(x), 3), "M8[s]")}, "expected numbers or text"),
    (lambda x: [{"other": one} for one in x], "expected the outputs tripled, got other"),
    (lambda x: [{"tripled": one} for one in x] * 2, "expected the outputs of 1 inputs, got those of 2"),
    (lambda x: np.zeros((len(x), 3)), "expected arrays by name, got ndarray"),
    (lambda _: None, "expected arrays by name, got NoneType"),
    (lambda _: "text", "expected arrays by name, got str"),
    (lambda x: {"tripled": [[1, 2], [3]] * len(x)}, ""),
]


@pytest.mark.parametrize(("remote", "said"), BAD)
def test_a_reply_that_is_no_answer_is_a_failure(path: Path, remote: Any, said: str) -> None:
    """The answer is local, with one sentence about why."""
    with Cascade.load(path, remote=remote, decode=total, deadline=10.0) as cascade:
        answer = cascade.predict(UNSURE)
    assert (answer.source, answer.reason) == (Source.LOCAL, Reason.REMOTE_ERROR)
    assert said in answer.detail
    assert "\n" not in answer.detail
    assert answer.result == pytest.approx(2 * UNSURE.sum())


def test_an_exception_of_the_remotes_decoder_is_a_failure_of_one_input(path: Path) -> None:
    """The detail names its type and not its words; the other inputs of the request are answered."""

    def decode(outputs: Any) -> float:
        if outputs["tripled"][0] < -7:
            raise LookupError("private")
        return 0.5

    with Cascade.load(path, remote=tripled, remote_decode=decode, deadline=10.0) as cascade:
        good, bad = cascade.predict_batch(np.stack([UNSURE, UNSURE - 1]))
    assert (good.source, good.result) == (Source.REMOTE, 0.5)
    assert (bad.source, bad.reason) == (Source.LOCAL, Reason.REMOTE_ERROR)
    assert "LookupError" in bad.detail
    assert "private" not in bad.detail


def test_text_and_bytes_are_answers(path: Path) -> None:
    """Arrays of text and of objects that are text pass as they are."""
    arrays = [np.array(["a text"]), np.array([b"\0bytes\0"], object)]
    replies = iter(arrays)
    with Cascade.load(path, remote=lambda _: {"tripled": next(replies)}, deadline=10.0) as cascade:
        for array in arrays:
            assert cascade.predict(UNSURE).outputs["tripled"].item() == array[0]


def test_a_remote_that_cannot_answer_in_arrays_is_refused(path: Path, tmp_path: Path, pair: Path) -> None:
    """So is a file that lacks an output; one sentence says why."""
    chat = Chat("http://127.0.0.1:9/v1", labels=["a", "b"])
    for remote in (chat, SecondOpinion(tripled, tripled)):
        with pytest.raises(ArgumentError, match=r"^remote: expected a remote for a general task, got"):
            Cascade.load(path, remote=CircuitBreaker(Retrying(remote)))
    with pytest.raises(ArgumentError, match=r"^remote: expected the outputs tripled in .*, got quality"):
        Cascade.load(path, remote=_without(tmp_path))
    with pytest.raises(ArgumentError, match=r"^remote_decode: expected with the file of a general task"):
        Cascade.load(pair / "local.onnx", remote_decode=total)
    chat.close()


def _without(folder: Path) -> Path:
    """Write an ONNX file whose only output is `quality`."""
    from onnx import helper

    from edgecascade.export import save_model
    from task_files import _body

    save_model(_body([helper.make_node("Identity", ["x"], ["quality"])], "n", {"quality": (1, ["n", 3])}), folder / "q")
    (folder / "q").rename(folder / "q.onnx")
    return folder / "q.onnx"


@pytest.mark.parametrize("wrap", [lambda one: one, Retrying, CircuitBreaker, lambda one: Hedged(Retrying(one))])
def test_an_onnx_file_answers_through_every_wrapper(path: Path, tmp_path: Path, wrap: Any) -> None:
    """It returns the outputs that the document names, and no other."""
    remote = connect(remote_file(tmp_path))
    with Cascade.load(path, remote=wrap(remote), deadline=10.0) as cascade:
        for x, answer in zip(X, cascade.predict_batch(X), strict=True):
            check(x, answer)


def test_the_deadline_and_a_late_answer(path: Path, tmp_path: Path) -> None:
    """The local answer comes in time; the late one has the remote's outputs and result, also from the disk."""
    slow = {"wait": 0.4}

    def remote(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
        time.sleep(slow["wait"])
        return tripled(x)

    late: list[Any] = []
    outbox = Outbox(tmp_path / "unsent.db")
    options: dict[str, Any] = {"decode": total, "remote_decode": total}
    with Cascade.load(path, remote=remote, outbox=outbox, on_late=late.append, deadline=0.1, **options) as cascade:
        started = time.monotonic()
        answer = cascade.predict(UNSURE, key="mine")
        assert time.monotonic() - started < 0.3
        assert (answer.source, answer.reason, answer.queued) == (Source.LOCAL, Reason.DEADLINE, "mine")
        assert answer.result == pytest.approx(2 * UNSURE.sum())
        until = time.monotonic() + 20
        while not late and time.monotonic() < until:
            time.sleep(0.01)
    (one,) = late
    assert one.key == "mine"
    assert (one.answer.source, one.answer.local.outputs) == (Source.REMOTE, {})
    np.testing.assert_array_equal(one.answer.outputs["tripled"], 3 * UNSURE)
    assert one.answer.result == pytest.approx(3 * UNSURE.sum())


def test_an_input_waits_for_the_remote_on_the_disk(path: Path, tmp_path: Path) -> None:
    """A later process sends it; a decoder that fails for what is stored costs the result, and not the answer."""
    with Cascade.load(path, outbox=Outbox(tmp_path / "unsent.db")) as cascade:
        assert cascade.predict(UNSURE, key="a").queued == "a"
    answers: list[Any] = []

    def decode(_: Any) -> Any:
        if answers:
            raise LookupError
        answers.append(None)
        return 1

    with Cascade.load(path, remote=tripled, outbox=Outbox(tmp_path / "unsent.db"), remote_decode=decode) as cascade:
        (late,) = [next(cascade.late(timeout=20.0))]
    np.testing.assert_array_equal(late.answer.outputs["tripled"], 3 * UNSURE)
    assert late.answer.result is None
    assert "LookupError" in late.answer.detail


def test_a_watch_compares_the_results(path: Path) -> None:
    """Its agreement is the mean of the application's function, over audited and forwarded inputs."""
    seen: list[tuple[float, float]] = []

    def agreement(ours: float, theirs: float) -> float:
        seen.append((ours, theirs))
        return 0.75 if ours > 0 else 0.25

    watch = Watch(share=1.0, agreement=agreement)
    options: dict[str, Any] = {"decode": total, "remote_decode": total, "deadline": 10.0}
    with Cascade.load(path, remote=tripled, watch=watch, **options) as cascade:
        cascade.predict(SURE)
        cascade.predict(UNSURE)
        wait_for(lambda: watch.health().compared == 2)
    health = watch.health()
    assert {(round(a, 3), round(b, 3)) for a, b in seen} == {
        (2 * float(x.sum()), 3 * float(x.sum())) for x in (SURE, UNSURE)
    }
    assert health.agreement_local.value == 0.75
    assert health.agreement_forwarded.value == 0.75
    assert health.agreement.low < 0.75 < health.agreement.high
    assert health.calibration_gap.value == pytest.approx(1 / (1 + math.exp(-6)) - 0.75, abs=1e-6)


def wait_for(done: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is so, and fail if it never is."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("said", [1.5, np.ones(3, bool)])
def test_without_decoders_a_watch_compares_the_outputs(path: Path, said: Any) -> None:
    """A function that returns no number from 0 to 1 counts nothing, and costs no answer."""
    seen: list[Any] = []

    def agreement(ours: Any, theirs: Any) -> float:
        seen.append((sorted(ours), sorted(theirs)))
        return said  # type: ignore[no-any-return]

    watch = Watch(share=1.0, agreement=agreement)
    with Cascade.load(path, remote=tripled, watch=watch, deadline=10.0) as cascade:
        assert cascade.predict(UNSURE).source is Source.REMOTE
        wait_for(lambda: bool(seen))
    assert seen == [(["quality", "twice"], ["tripled"])]
    assert watch.health().compared == 0


def test_a_watch_without_a_function_audits_nothing(path: Path, pair: Path, tmp_path: Path) -> None:
    """It counts inputs; pairs cannot be recorded, and a classifier needs no function."""
    watch, asked = Watch(share=1.0), list[int]()

    def remote(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
        asked.append(len(x))
        return tripled(x)

    with Cascade.load(path, remote=remote, watch=watch) as cascade:
        cascade.predict(SURE)
    assert (watch.health().inputs, watch.health().audited, asked) == (1, 0, [])
    with pytest.raises(ArgumentError, match=r"^record: expected with the file of a classifier"):
        Cascade.load(path, watch=Watch(record=tmp_path / "pairs"))
    with pytest.raises(ArgumentError, match=r"^agreement: expected with the file of a general task"):
        Cascade.load(pair / "local.onnx", watch=Watch(agreement=lambda a, b: float(a == b)))


def test_the_command_says_that_a_task_without_agreement_is_not_audited(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, which names the option; with it there is none."""
    np.save(tmp_path / "sure.npy", SURE)
    (tmp_path / "mine.py").write_text("def same(ours, theirs):\n    return 1.0\n")
    command = ["run", str(path), str(tmp_path / "sure.npy"), "--remote", str(remote_file(tmp_path)), "--audit", "0.5"]
    for further, warned in (([], True), (["--agreement", f"{tmp_path / 'mine.py'}:same"], False)):
        assert main([*command, *further]) == 0
        assert ("--agreement" in capsys.readouterr().err) is warned


@pytest.mark.parametrize("x", [np.zeros(4, np.float32), np.zeros(3, int), np.zeros((1, 3), np.float32)])
def test_inputs_that_do_not_fit_are_refused(path: Path, x: NDArray[Any]) -> None:
    """Nothing else raises."""
    with Cascade.load(path) as cascade:
        with pytest.raises(InputError, match=r"^x: expected float32"):
            cascade.predict(x)
        assert cascade.predict_batch(np.zeros((0, 3), np.float32)) == []


def test_a_file_without_the_outputs_of_its_document_is_refused(path: Path) -> None:
    """The message names them."""
    import onnx

    model = onnx.load(path)
    for output in list(model.graph.output):
        if output.name == "twice":
            model.graph.output.remove(output)
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"lacks the outputs \['twice'\]"):
        Cascade.load(path)


def test_egress_and_budget_hold_for_general_tasks(path: Path) -> None:
    """What they keep on the device is answered there, and counted by its reason."""
    asked: list[int] = []

    def remote(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
        asked.append(len(x))
        return tripled(x)

    options: dict[str, Any] = {"remote": remote, "decode": total, "remote_decode": total, "deadline": 10.0}
    with Cascade.load(path, egress=lambda x: x[0] > -2.5, **options) as cascade:
        answers = [cascade.predict(x) for x in X]
    assert [one.reason for one in answers] == [Reason.CONFIDENT, Reason.OFFLOADED, Reason.CONFIDENT, Reason.EGRESS]
    assert answers[3].result == pytest.approx(2 * float(X[3].sum()))
    with Cascade.load(path, budget=Budget(forwards=Rate(1, 3600.0)), **options) as cascade:
        reasons = [cascade.predict(UNSURE).reason for _ in range(3)]
        assert reasons == [Reason.OFFLOADED, Reason.BUDGET, Reason.BUDGET]
        assert cascade.metrics()["forwarded"] == 3
    assert asked == [1, 1]


def test_a_remote_that_never_answers_costs_no_more_than_the_deadline(path: Path) -> None:
    """A batch of outputs returns as a whole by then, decoded; a hanging decoder of the remote is such a remote."""
    free = threading.Event()

    def hang(_: Any) -> Any:
        free.wait(30)

    for options in ({"remote": hang}, {"remote": tripled, "remote_decode": hang}):
        with Cascade.load(path, decode=total, deadline=0.2, **options) as cascade:
            started = time.monotonic()
            answers = cascade.predict_batch(np.tile(UNSURE, (40, 1)))
            assert time.monotonic() - started < 2.0
            assert {one.reason for one in answers} == {Reason.DEADLINE}
            assert {one.result for one in answers} == {2 * float(UNSURE.sum())}
    free.set()
