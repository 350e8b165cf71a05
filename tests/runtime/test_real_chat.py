"""A real generating model: SmolLM2-135M on llama.cpp's server. The tests do not measure its accuracy."""

import http.client
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from chat_servers import mood_files
from edgecascade.cli import main
from edgecascade.runtime import Cascade, Deadline, Reason, RemoteError, RemoteLabels, Source
from edgecascade.runtime.remotes.chat import Chat

pytestmark = pytest.mark.slow

PATIENCE = 300  # seconds, for a server that shares two cores with other tests
MOODS = ["negative", "positive"]
TEXTS = np.array(["I love it, it is wonderful.", "I hate it, it is terrible.", "What a great and happy day!"])


@pytest.fixture
def port(llama: str) -> int:
    """Return the port of a running server."""
    port = urlsplit(llama).port
    assert port is not None
    return port


@pytest.fixture
def connect(port: int) -> Iterator[Callable[..., Chat]]:
    """Makes remotes, and closes them afterwards."""
    made: list[Chat] = []

    def connect(**options: Any) -> Chat:
        made.append(
            Chat(f"http://127.0.0.1:{options.pop('port', port)}/v1", **{"labels": MOODS, "answer": "letter", **options})
        )
        return made[-1]

    yield connect
    for remote in made:
        remote.close()


@pytest.fixture
def overheard(port: int, serve: Any, respond: Any) -> tuple[int, list[dict[str, Any]]]:
    """Return the port of a relay to the server, and the replies that passed through it."""
    replies: list[dict[str, Any]] = []

    def relay(connection: Any) -> None:
        with connection.makefile("rb") as incoming:
            while first := incoming.readline().decode():
                lines = iter(lambda: incoming.readline().decode().strip(), "")
                headers = dict(line.split(": ", 1) for line in lines)
                server = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
                server.request("POST", first.split()[1], incoming.read(int(headers["Content-Length"])), headers)
                body = server.getresponse().read()
                server.close()
                replies.append(json.loads(body))
                connection.sendall(respond(body))

    return serve(relay).port, replies


def after_an_example(word: str) -> list[dict[str, Any]]:
    """Return a conversation in which each requested word is said, up to the current request."""
    words = ["B", "A"] if word in "AB" else ["dog", "cat"]
    said = [(f"Say {one}.", one) for one in words]
    turns = [turn for ask, reply in said for turn in (("user", ask), ("assistant", reply))]
    return [{"role": role, "content": content} for role, content in [*turns, ("user", f"Say {word}.")]]


def infer(remote: Chat, texts: Any = TEXTS) -> Any:
    """Call the remote with a long deadline."""
    return remote.infer(texts, Deadline.after(PATIENCE))


def test_probabilities_equal_those_of_the_reply(connect: Any, overheard: Any) -> None:
    """The letters' shares of the first token, computed here from the same JSON, are equal and sum to 1."""
    relay, replies = overheard
    for text in TEXTS:
        found = infer(connect(port=relay), np.array([text]))
        listed = replies[-1]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        assert len(listed) == 20
        masses = np.zeros(2)
        for token in listed:
            word = token["token"].strip().casefold()
            if word in ("a", "b"):
                masses["ab".index(word)] += math.exp(token["logprob"])
        assert (masses > 0.05).all()
        np.testing.assert_allclose(found, [masses / masses.sum()], rtol=1e-9)
        assert found.sum() == pytest.approx(1)


def test_confidence_is_computed_from_the_generated_tokens(connect: Any, overheard: Any) -> None:
    """The mean log-probability, computed here from the same JSON, gives the same value of the logistic function."""
    relay, replies = overheard
    scale = (1.5, 0.5)
    remote = connect(port=relay, answer="text", prompt=after_an_example, scale=scale, labels=["cat", "dog"])
    opinions = infer(remote, np.array(["dog"]))
    assert isinstance(opinions, RemoteLabels)
    (choice,) = replies[0]["choices"]
    logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
    assert choice["message"]["content"].strip() == "dog"
    assert opinions.labels.tolist() == [1]
    log_odds = scale[0] * np.mean(logprobs) + scale[1]
    np.testing.assert_allclose(opinions.confidences, [1 / (1 + math.exp(-log_odds))], rtol=1e-9)


def test_the_same_question_gets_the_same_answer(connect: Any) -> None:
    """Alone or in a batch, with letters or words, the answers agree up to the rounding of another batch size."""
    for answer in ("letter", "label"):
        remote = connect(answer=answer)
        together = infer(remote)
        assert together.shape == (3, 2)
        np.testing.assert_allclose(together.sum(axis=1), 1)
        alone = np.concatenate([infer(remote, TEXTS[i : i + 1]) for i in range(3)])
        np.testing.assert_allclose(alone, together, atol=0.05)
    # As words it even distinguishes these; as letters, a model this small prefers A for any text.
    assert min(together[0, 1], together[2, 1]) > together[1, 1]


@pytest.mark.parametrize(("answer", "words"), [("letter", ["A", "B"]), ("label", ["cat", "dog"])])
def test_an_easy_question_gets_the_expected_answer(connect: Any, answer: str, words: list[str]) -> None:
    """Asked after examples to say a word, the model says it."""
    found = infer(connect(answer=answer, prompt=after_an_example, labels=["cat", "dog"]), np.array(words[::-1]))
    assert found.argmax(axis=1).tolist() == [1, 0]
    assert found.max(axis=1).min() > 0.9


def test_a_reply_without_a_label_is_an_error(connect: Any) -> None:
    """Asked for a poem, the model names no letter; the error shows the beginning of the reply."""
    remote = connect(prompt="Write a poem about {input}.", coverage=0.5)
    with pytest.raises(RemoteError, match="expected a reply that names a label"):
        infer(remote, np.array(["the sea"]))


def test_a_refused_request_is_reported(connect: Any) -> None:
    """The error has the server's explanation and is not worth a retry."""
    remote = connect(prompt=lambda _: [{"role": "user"}])
    with pytest.raises(RemoteError, match=r"HTTP [45]") as caught:
        infer(remote, TEXTS[:1])
    assert len(str(caught.value)) < 300


@pytest.fixture
def cascade(make_file: Any) -> Callable[[Chat, float], Cascade]:
    """Return a cascade of a local model of two logits that always forwards, and this remote."""

    def cascade(remote: Chat, deadline: float) -> Cascade:
        probabilities = {"temperature": 1.0, "scores": "probabilities"}
        path = make_file(labels=["negative", "positive", "neither"], remote=probabilities)
        return Cascade.load(path, remote=remote, deadline=deadline)

    return cascade


def test_a_cascade_uses_a_generating_remote(connect: Any, cascade: Any) -> None:
    """With a long deadline it returns the remote's answer; with a short one, the local answer in time."""
    remote = connect(labels=["negative", "positive", "neither"])
    unsure = np.array([0.1, 0, 0], np.float32)
    with cascade(remote, float(PATIENCE)) as patient:
        answer = patient.predict(unsure, original=TEXTS[0])
    assert (answer.source, answer.reason) == (Source.REMOTE, Reason.OFFLOADED), answer.detail
    assert answer.remote is not None
    assert answer.remote.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert remote.traffic.requests == 1
    with cascade(connect(labels=["negative", "positive", "neither"]), 0.002) as hasty:
        started = time.monotonic()
        answer = hasty.predict(unsure, original=TEXTS[1])
    assert (answer.name, answer.source, answer.reason) == ("negative", Source.LOCAL, Reason.DEADLINE)
    assert time.monotonic() - started < 2


def test_a_file_is_calibrated_and_run_with_it(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands need its address alone; the file says how it was asked, and the device asks it so."""
    folder, url = mood_files(tmp_path, n=40), f"http://127.0.0.1:{port}/v1"
    data = ["--data", str(folder / "cal.npz"), "--offload-rate", "0.3", "-o", str(folder / "local.onnx")]
    assert main(["calibrate", str(folder / "body.onnx"), "--remote", url, *data]) == 0
    with Cascade.load(folder / "local.onnx") as cascade:
        asked, remote = cascade.document.remote_chat, cascade.document.remote
    assert (asked.answer, asked.top_logprobs, asked.model) == ("label", 20, None)
    assert "SmolLM2" in asked.reported
    assert "/" not in asked.reported
    assert remote.accuracy.value > 0.6
    capsys.readouterr()
    lines = folder / "lines.txt"
    lines.write_text("".join(f"{text}\n" for text in TEXTS))
    run = ["run", str(folder / "local.onnx"), str(lines), "--remote", url]
    assert main([*run, "--threshold", "2", "--deadline", str(PATIENCE)]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["source"] for one in found] == ["remote"] * len(TEXTS), found
    assert [one["name"] for one in found] == ["positive", "negative", "positive"]
