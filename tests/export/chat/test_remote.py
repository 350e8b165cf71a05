"""A generative model as the remote of a classifier: calibrated by a command, and asked the same on the device."""

import json
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from chat_servers import MOODS, ChatServer, chat_server, mood_files, mood_sentences
from edgecascade.calibration import fit_platt
from edgecascade.cli import main
from edgecascade.export import ExportError
from edgecascade.export.chat.remote import KeptReplies, ask_all, ask_chat
from edgecascade.runtime import Cascade, Chat, InProcess, Reason, Source, prometheus_text
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.remotes.remote import Replied
from edgecascade.types.document import AskedChat, template_sha256
from edgecascade.types.errors import ArgumentError, RemoteError, RemoteRefusal, RemoteUnreachable


@pytest.fixture(scope="module")
def moods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a body and its calibration data."""
    return mood_files(tmp_path_factory.mktemp("moods"))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """Run a server that lists likely tokens."""
    with chat_server() as server:
        yield server


def calibrate(moods: Path, out: Path, url: str, *options: str) -> int:
    """Run the command."""
    data = ["--data", str(moods / "cal.npz"), "--offload-rate", "0.3", "-o", str(out)]
    return main(["calibrate", str(moods / "body.onnx"), "--remote", url, *data, *options])


def asked_in(path: Path) -> AskedChat:
    """Return how the remote was asked, as the file says."""
    with Cascade.load(path) as cascade:
        asked = cascade.document.remote_chat
    assert isinstance(asked, AskedChat)
    return asked


def fields_of(server: ChatServer) -> set[str]:
    """Return what the requests have beside their messages."""
    return {
        json.dumps({name: value for name, value in one.items() if name != "messages"}, sort_keys=True)
        for one in server.requests
    }


def test_a_chat_address_is_calibrated_and_then_asked_the_same(
    moods: Path, server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The device needs the address and nothing else: the requests differ in the inputs alone."""
    out = tmp_path / "local.onnx"
    assert calibrate(moods, out, server.url, "--remote-model", "oracle", "--remote-fields", '{"seed": 3}') == 0
    asked = asked_in(out)
    assert (asked.answer, asked.model, asked.reported, asked.top_logprobs) == ("label", "oracle", "oracle-1", 20)
    assert asked.fields == {"temperature": 0, "max_tokens": 4, "seed": 3}
    (fields,) = fields_of(server)
    texts = {one["messages"][0]["content"].partition("Input: ")[2].partition("\n")[0] for one in server.requests}
    assert texts == set(np.load(moods / "cal.npz")["x"].tolist())
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    assert {part for part in ("oracle-1", '"seed": 3', json.dumps(asked.prompt)) if part not in shown} == set()

    server.requests.clear()
    lines = tmp_path / "lines.txt"
    lines.write_text("I love this spoon.\nI hate this spoon.\n")
    capsys.readouterr()
    assert main(["run", str(out), str(lines), "--remote", server.url, "--threshold", "2", "--deadline", "30"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["name"], one["source"]) for one in answers] == [("positive", "remote"), ("negative", "remote")]
    assert fields_of(server) == {fields}


@pytest.mark.parametrize(
    ("lists", "answer", "top_logprobs", "scale", "notes"),
    [
        ("all", "label", 20, "none", 1),
        ("few", "label", 5, "none", 2),
        ("none", "text", None, "fitted", 2),
        ("null", "text", None, "constant", 2),
        ("absent", "text", None, "constant", 2),
        ("refused", "text", None, "constant", 2),
    ],
)
def test_every_kind_of_log_probabilities_has_a_way(
    server: ChatServer, lists: str, answer: str, top_logprobs: int | None, scale: str, notes: int
) -> None:
    """Capped, missing, null and refused ones are done without, which a note says; the labels are read all the same."""
    server.lists = lists
    x, y = mood_sentences()
    found = ask_chat(partial(Chat, server.url), x[:60], MOODS, y[:60])
    assert (found.asked.answer, found.asked.top_logprobs) == (answer, top_logprobs)
    right = np.array([MOODS.index(server.says(text)) for text in x[:60]])
    assert found.scores.argmax(axis=1).tolist() == right.tolist()
    assert len(found.notes) == notes
    said = np.array([server.sure(text) for text in x[:60]])
    confidence = found.scores.max(axis=1)
    if scale == "none":
        assert found.asked.scale is None
        np.testing.assert_allclose(confidence, said, rtol=1e-9)
    elif scale == "fitted":
        expected = fit_platt(np.log(said), right == y[:60])
        assert found.asked.scale == pytest.approx((expected.slope, expected.intercept))
        np.testing.assert_allclose(confidence, expected(np.log(said)), rtol=1e-9)
    else:
        assert found.asked.scale is not None
        assert found.asked.scale[0] == 0
        np.testing.assert_allclose(confidence, ((right == y[:60]).sum() + 1) / 62)
    for request in server.requests[-60:]:
        assert request.get("top_logprobs") == top_logprobs
        assert ("logprobs" in request) == (scale != "constant")


@pytest.mark.parametrize("lists", ["none", "refused"])
def test_a_device_reads_the_text_as_it_was_calibrated(
    moods: Path, server: ChatServer, tmp_path: Path, lists: str
) -> None:
    """Without likely tokens, and without any log-probabilities, the remote answers all the same."""
    server.lists = lists
    assert calibrate(moods, tmp_path / "local.onnx", server.url) == 0
    server.requests.clear()
    with Cascade.load(tmp_path / "local.onnx", remote=server.url, threshold=2.0, deadline=30) as cascade:
        answer = cascade.predict("I love this spoon.")
        scale = cascade.document.remote_chat.scale
    assert (answer.name, answer.source, answer.reason) == ("positive", Source.REMOTE, Reason.OFFLOADED), answer.detail
    assert ("logprobs" in server.requests[0]) == (scale[0] != 0) == (lists == "none")


@pytest.mark.parametrize("lists", ["none", "null", "refused"])
def test_a_form_that_is_asked_for_is_not_replaced(moods: Path, server: ChatServer, tmp_path: Path, lists: str) -> None:
    """The command fails, says so, and writes nothing."""
    server.lists = lists
    assert calibrate(moods, tmp_path / "local.onnx", server.url, "--answer", "label") == 2
    assert not (tmp_path / "local.onnx").exists()


def test_replies_without_a_label_are_counted(server: ChatServer) -> None:
    """All labels are equally probable for a few; more than a tenth of them are refused."""
    x, y = mood_sentences()
    says, where = server.says, [i for i in range(10, 60) if server.sure(str(x[i])) > 0.9][:5]
    silent = set(x[where].tolist())
    server.says = lambda text: "whatever" if text.partition("\n")[0] in silent else says(text)
    found = ask_chat(partial(Chat, server.url), x[:60], MOODS, y[:60])
    np.testing.assert_array_equal(found.scores[where], 0.5)
    assert (np.delete(found.scores, where, axis=0).max(axis=1) > 0.5).all()
    assert len(found.notes) == 2
    with pytest.raises(ExportError):
        ask_chat(partial(Chat, server.url), x[:40], MOODS, y[:40])


@pytest.mark.parametrize("lists", ["all", "none"])
def test_no_reply_is_paid_for_twice(
    moods: Path, server: ChatServer, tmp_path: Path, lists: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an interruption, or for another objective, only the first eight inputs are asked about again."""
    server.lists, whole, out = lists, tmp_path / "whole.onnx", tmp_path / "local.onnx"
    assert calibrate(moods, whole, server.url) == 0
    asked, says = len(server.requests), server.says

    def interrupting(text: str) -> str:
        if len(server.requests) == 60:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return says(text)

    server.requests.clear()
    server.says = interrupting
    assert calibrate(moods, out, server.url) == 130
    kept = tmp_path / "local.onnx.replies.jsonl"
    assert f"the replies so far are in {kept}" in capsys.readouterr().err
    assert not out.exists()
    there = len(kept.read_text().splitlines())
    server.requests.clear()
    server.says = says
    assert calibrate(moods, out, server.url) == 0
    (used,) = re.findall(r"(\d+) of 100 replies are from an earlier run", capsys.readouterr().out)
    assert 0 < there <= int(used) <= there + 8  # up to eight were under way
    assert 0 <= len(server.requests) - (asked - int(used)) <= 8
    assert read_document(open_session(out), out) == read_document(open_session(whole), whole)
    server.requests.clear()
    assert calibrate(moods, out, server.url, "--merge", "replace") == 0
    assert len(server.requests) == asked - 100
    server.requests.clear()
    assert calibrate(moods, out, server.url, "--remote-fields", '{"seed": 3}') == 0
    assert len(server.requests) == asked


def test_a_damaged_file_of_replies_is_named(moods: Path, server: ChatServer, tmp_path: Path) -> None:
    """Before anything is asked; a last line that was cut off is left out."""
    kept = tmp_path / "local.onnx.replies.jsonl"
    for content, code in (("nonsense\n", 2), ('{"input": "a", "request": "b"}\n', 2), ('{"input', 0)):
        kept.write_text(content)
        server.requests.clear()
        assert calibrate(moods, tmp_path / "local.onnx", server.url) == code
        assert bool(server.requests) == (code == 0)
    assert kept.read_text().count('"input"') == 100


@pytest.mark.parametrize(
    "more",
    [
        ("--remote-prompt", "missing"),
        ("--remote-prompt", "plain.txt"),
        ("--header-file", "missing"),
        ("--header-file", "plain.txt"),
        ("--remote-examples", "missing.npz"),
        ("--remote-fields", '{"stream": true}'),
        ("--remote-kind", "logits"),
        ("--prior", "0.2,0.3,0.5"),
        ("--bins", "0"),
        ("--data", "floats.npz"),
        ("-o", "taken.onnx"),
        ("-o", "damaged.onnx"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_told_before_anything_runs(
    moods: Path,
    server: ChatServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, str],
) -> None:
    """Neither the body, which may take long, nor the remote, which may cost money."""
    monkeypatch.chdir(tmp_path)
    Path("plain.txt").write_text("without a place for the text")
    Path("taken.onnx.replies.jsonl").mkdir()
    Path("damaged.onnx.replies.jsonl").write_text("nonsense\n")
    np.savez("floats.npz", x=np.zeros((20, 3), np.float32), y=np.arange(20) % 2, names=MOODS)
    assert calibrate(moods, tmp_path / "local.onnx", server.url, *more) == 2
    assert "running the body" not in capsys.readouterr().err
    assert server.requests == []


def test_a_kind_that_is_needed_is_told_before_the_remote_is_asked(
    server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One value in [0, 1] may be a probability or a logit; nothing has been paid for by then."""
    nodes = [
        helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["most"], value_float=255.0),
        helper.make_node("Div", ["float", "most"], ["share"]),
        helper.make_node("ReduceMean", ["share"], ["y"], axes=[1, 2, 3], keepdims=0),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 8, 8, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "d.npz", x=pixels, y=np.arange(40) % 2, names=MOODS)
    given = ["calibrate", str(tmp_path / "b.onnx"), "--remote", server.url, "--data", str(tmp_path / "d.npz")]
    assert main([*given, "--while-it-helps", "-o", str(tmp_path / "o.onnx")]) == 2
    assert "--kind" in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.parametrize(
    "more",
    [
        ("--answer", "text"),
        ("--remote-prompt", "p.txt"),
        ("--remote-fields", "{}"),
        ("--header-file", "h.txt"),
        ("--remote-model", "m"),
        ("--remote-examples", "e.npz"),
        ("--remote-kind", "logits"),
    ],
    ids=" ".join,
)
def test_recalibration_without_a_remote_refuses_what_is_about_one(
    moods: Path, server: ChatServer, tmp_path: Path, more: tuple[str, str]
) -> None:
    """The threshold moves along the curve in the file, for which no remote is asked."""
    out = tmp_path / "local.onnx"
    assert calibrate(moods, out, server.url) == 0
    move = ["recalibrate", str(out), "--offload-rate", "0.1", "-o", str(tmp_path / "moved.onnx")]
    assert main([*move, *more]) == 2
    assert main(move) == 0


def test_a_remote_that_fails_is_an_error(moods: Path, tmp_path: Path) -> None:
    """So are inputs that it cannot be sent, and classes without names."""
    assert calibrate(moods, tmp_path / "local.onnx", "http://127.0.0.1:9/v1") == 2
    np.savez(tmp_path / "bare.npz", x=np.zeros((20, 3), np.float32), y=np.arange(20) % 2)
    with chat_server() as server, pytest.raises(ExportError):
        ask_chat(partial(Chat, server.url), np.zeros((20, 3), np.float32), MOODS, np.arange(20) % 2)


class Fragile(InProcess):
    """Fails so many times for each text, each time with the same error, and says then that it is positive."""

    def __init__(self, error: RemoteError, times: float) -> None:
        super().__init__(lambda x: np.tile([0.1, 0.9], (len(x), 1)))
        self.error, self.times, self.asked = error, times, Counter[str]()

    def infer(self, inputs: Batch, deadline: Deadline) -> Replied:
        """Return the probabilities, or raise the error."""
        text = str(np.asarray(inputs)[0])
        self.asked[text] += 1
        if self.asked[text] <= self.times:
            raise self.error
        return super().infer(inputs, deadline)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait milliseconds between attempts."""
    monkeypatch.setattr("edgecascade.export.chat.remote._FIRST", 1e-3)
    monkeypatch.setattr("edgecascade.export.chat.remote._LONGEST", 1e-3)


PASSING = (
    RemoteRefusal("too many requests", status="429", retry=True),
    RemoteRefusal("too many requests", status="503", retry=True, retry_after=0.001),
    RemoteError("the connection broke", retry=True),
    RemoteUnreachable("cannot connect"),
)


@pytest.mark.parametrize("error", PASSING, ids=str)
@pytest.mark.usefixtures("quick")
def test_a_failure_that_passes_is_waited_out(error: RemoteError) -> None:
    """However many inputs meet it, and however often each does."""
    remote = Fragile(error, 20)
    replies = ask_all(remote, np.array(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]))
    assert [reply.tolist() for reply in replies if isinstance(reply, np.ndarray)] == [[[0.1, 0.9]]] * 10
    assert set(remote.asked.values()) == {21}


@pytest.mark.parametrize("error", [*PASSING, RemoteError("refused this client")], ids=str)
@pytest.mark.usefixtures("quick")
def test_a_failure_that_stays_is_no_missing_label(
    error: RemoteError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends after the patience for one input, and the replies before are kept."""
    monkeypatch.setattr("edgecascade.export.chat.remote._PATIENCE", 0.3)
    kept, remote = KeptReplies(tmp_path / "replies.jsonl", "here"), Fragile(error, 0)
    kept.begin(AskedChat("label"), MOODS)
    ask_all(remote, np.array(["a", "b"]), kept=kept)
    remote.times = np.inf
    with pytest.raises(ExportError):
        ask_all(remote, np.array(["a", "b", "c"]), kept=kept)
    assert len(kept.path.read_text().splitlines()) == 2
    assert (remote.asked["c"] > 1) == error.retry


@pytest.mark.usefixtures("quick")
def test_the_first_inputs_are_waited_for_too(server: ChatServer) -> None:
    """A server that refuses for now is not a wrong address."""
    x, y = mood_sentences()
    reply, refused = server.reply, Counter[str]()

    def busy(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        text = request["messages"][-1]["content"]
        refused[text] += 1
        return (429, {"error": {"message": "slow down"}}) if refused[text] <= 6 else reply(request)

    server.reply = busy  # type: ignore[method-assign]
    found = ask_chat(partial(Chat, server.url), x[:20], MOODS, y[:20])
    assert len(found.notes) == 1


def test_a_template_travels_in_the_file(moods: Path, server: ChatServer, tmp_path: Path) -> None:
    """A text or messages; the device fills it in, and another template is refused before anything is sent."""
    turns = [
        {"role": "user", "content": "One of {labels}. Input: I loathe it."},
        {"role": "assistant", "content": "negative"},
        {"role": "user", "content": "Input: {input}"},
    ]
    (tmp_path / "turns.json").write_text(json.dumps(turns))
    (tmp_path / "other.txt").write_text("Input: {input}")
    out = tmp_path / "local.onnx"
    assert calibrate(moods, out, server.url, "--remote-prompt", str(tmp_path / "turns.json")) == 0
    asked = asked_in(out)
    assert (asked.prompt, asked.prompt_sha256) == (tuple(turns), template_sha256(turns))
    server.requests.clear()
    with Cascade.load(out, remote=server.url, threshold=2.0, deadline=30) as cascade:
        assert cascade.predict("I love this spoon.").source is Source.REMOTE
    (request,) = server.requests
    assert [one["content"] for one in request["messages"]] == [
        "One of negative, positive. Input: I loathe it.",
        "negative",
        "Input: I love this spoon.",
    ]
    line = tmp_path / "line.txt"
    line.write_text("I love this spoon.\n")
    run = ["run", str(out), str(line), "--remote", server.url, "--threshold", "2", "--deadline", "30"]
    assert main([*run, "--remote-prompt", str(tmp_path / "turns.json")]) == 0
    assert main([*run, "--remote-prompt", str(tmp_path / "other.txt")]) == 2
    assert main([*run, "--answer", "letter"]) == 2
    assert len(server.requests) == 2


@pytest.mark.parametrize(("answer", "said"), [("label", ["negative", "positive"]), ("letter", ["A", "B"])])
def test_examples_stand_before_the_question(
    moods: Path, server: ChatServer, tmp_path: Path, answer: str, said: list[str]
) -> None:
    """One of each class with its label or letter, on the device too; they are not those of the calibration."""
    server.says = lambda text: said["love" in text or "adore" in text or "enjoy" in text]
    x, y = mood_sentences()
    np.savez(tmp_path / "examples.npz", x=x[:20], y=y[:20], names=MOODS)
    out, shown = tmp_path / "local.onnx", ["--remote-examples", str(tmp_path / "examples.npz"), "--answer", answer]
    assert calibrate(moods, out, server.url, *shown) == 0
    server.requests.clear()
    with Cascade.load(out, remote=server.url, threshold=2.0, deadline=30) as cascade:
        assert cascade.predict("I love this spoon.").name == "positive"
    ((*turns, last),) = (request["messages"] for request in server.requests)
    assert [one["content"] for one in turns[1::2]] == said
    for turn, mood in zip(turns[::2], (0, 1), strict=True):
        assert turn["content"].partition("Input: ")[2].partition("\n")[0] == x[np.flatnonzero(y == mood)[0]]
        assert turn["content"].partition("Input: ")[0] == last["content"].partition("Input: ")[0]
    assert calibrate(moods, out, server.url, "--remote-examples", str(moods / "cal.npz")) == 2
    assert calibrate(moods, out, str(moods / "body.onnx"), *shown[:2]) == 2


def test_another_kind_of_remote_is_refused(moods: Path, server: ChatServer, tmp_path: Path) -> None:
    """The scores of an ONNX file are no probabilities of a generative model."""
    assert calibrate(moods, tmp_path / "local.onnx", server.url) == 0
    with pytest.raises(ArgumentError):
        Cascade.load(tmp_path / "local.onnx", remote=str(moods / "body.onnx"))


def test_another_model_is_counted(moods: Path, server: ChatServer, tmp_path: Path) -> None:
    """Its answers are used, and health and metrics say that it is not the one of the calibration."""
    assert calibrate(moods, tmp_path / "local.onnx", server.url) == 0
    with Cascade.load(tmp_path / "local.onnx", remote=server.url, threshold=2.0, deadline=30) as cascade:
        assert cascade.predict("I love this spoon.").source is Source.REMOTE
        assert cascade.health().alarms == frozenset()
        server.model = "oracle-2"
        assert [cascade.predict("I hate this spoon.").source for _ in range(2)] == [Source.REMOTE] * 2
        assert cascade.health().alarms == {"remote model"}
        assert cascade.metrics()["other_model"] == 2
        assert "edgecascade_remote_other_model_total 2\n" in prometheus_text(cascade.metrics())


def test_recalibration_asks_as_the_file_says(moods: Path, server: ChatServer, tmp_path: Path) -> None:
    """Unless the options say otherwise; another kind of remote leaves nothing of it."""
    first, again, other = (tmp_path / f"{name}.onnx" for name in ("first", "again", "other"))
    (tmp_path / "prompt.txt").write_text("{labels}? Input: {input}")
    prompt = ["--remote-prompt", str(tmp_path / "prompt.txt"), "--remote-fields", '{"seed": 3}']
    assert calibrate(moods, first, server.url, "--answer", "text", *prompt) == 0
    options = ["--data", str(moods / "cal.npz"), "--offload-rate", "0.3", "--remote"]
    assert main(["recalibrate", str(first), *options, server.url, "-o", str(again)]) == 0
    assert asked_in(again) == asked_in(first)
    assert asked_in(first).fields == {"temperature": 0, "max_tokens": 32, "seed": 3}
    assert main(["recalibrate", str(first), *options, server.url, "--answer", "label", "-o", str(other)]) == 0
    assert asked_in(other).answer == "label"
    moved = tmp_path / "moved.onnx"
    assert main(["recalibrate", str(first), "--offload-rate", "0.1", "-o", str(moved)]) == 0
    assert asked_in(moved) == asked_in(first)
    np.save(tmp_path / "remote.npy", np.random.default_rng(0).dirichlet([1, 1], 100))
    assert main(["recalibrate", str(first), *options, str(moods / "body.onnx"), "-o", str(other)]) == 0
    with Cascade.load(other) as cascade:
        assert cascade.document.remote_chat is None


def test_the_benchmark_asks_as_the_file_says(moods: Path, server: ChatServer, tmp_path: Path) -> None:
    """Once for the scores of all inputs, and once more while it answers them."""
    out = tmp_path / "local.onnx"
    assert calibrate(moods, out, server.url) == 0
    (fields,) = fields_of(server)
    server.requests.clear()
    x, y = mood_sentences()
    np.savez(tmp_path / "test.npz", x=x[-12:], y=y[-12:], names=MOODS)
    data = ["--data", str(tmp_path / "test.npz"), "--out", str(tmp_path / "report"), "--deadline", "30"]
    assert main(["bench", "offload", str(out), "--remote", server.url, *data]) == 0
    assert fields_of(server) == {fields}
    assert 12 <= len(server.requests) <= 36
