"""A remote that generates text: its requests, and the label probabilities read from its tokens."""

import base64
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgecascade.calibration import Platt
from edgecascade.cli import main
from edgecascade.runtime import (
    ArgumentError,
    Cascade,
    CircuitBreaker,
    Deadline,
    InvalidReply,
    Reason,
    RemoteError,
    RemoteLabels,
    RemoteRefusal,
    RemoteUnreachable,
    Retrying,
    SecondOpinion,
    Source,
)
from edgecascade.runtime.inputs import read_image
from edgecascade.runtime.remotes.chat import Chat
from edgecascade.runtime.remotes.chat_reply import (
    LabelMatcher,
    Position,
    Reply,
    Token,
    label_probabilities,
    read_reply,
    text_confidence,
)
from edgecascade.runtime.remotes.remote import InProcess
from edgecascade.runtime.remotes.remote import connect as connect_to
from edgecascade.runtime.reply import ScoreReader
from edgecascade.runtime.request import Failure
from edgecascade.types.answer import Prediction
from edgecascade.types.document import AskedChat, template_sha256

COLOURS = ["red", "green", "blue"]
X = np.array(["grass"])


def at(sampled: str, **others: float) -> dict[str, Any]:
    """Return a generated token in the API's format, from its probability and those of alternatives."""
    listed = [{"token": token, "logprob": math.log(p)} for token, p in others.items()]
    return {"token": sampled, "logprob": math.log(others[sampled]), "top_logprobs": listed}


def completion(*tokens: dict[str, Any], text: str | None = None, finish: str = "stop") -> dict[str, Any]:
    """Return a reply with one choice."""
    content = "".join(token["token"] for token in tokens) if text is None else text
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"object": "chat.completion", "choices": [{**choice, "logprobs": {"content": list(tokens)}}]}


@pytest.fixture
def connect() -> Iterator[Callable[..., Chat]]:
    """Make remotes, and close them afterwards."""
    made: list[Chat] = []

    def connect(server: Any, **options: Any) -> Chat:
        made.append(Chat(f"http://127.0.0.1:{server.port}/v1", **{"labels": COLOURS, "answer": "letter", **options}))
        return made[-1]

    yield connect
    for remote in made:
        remote.close()


@pytest.fixture
def ask(connect: Any, serve: Any, answering: Any, respond: Any) -> Callable[..., Any]:
    """Return the remote's scores for one reply."""

    def ask(reply: Any, *, status: str = "200 OK", **options: Any) -> Any:
        remote = connect(serve(answering(respond(reply, status))), **options)
        return remote.infer(X, Deadline.after(5))

    return ask


def scores(*tokens: dict[str, Any], labels: list[str] = COLOURS, coverage: float = 0.1) -> list[float]:
    """Return the probabilities of labels, read from tokens without a server."""
    reply = read_reply(completion(*tokens))
    return [float(p) for p in label_probabilities(reply, LabelMatcher(labels), coverage=coverage)]


# --- requests


def test_a_request_is_a_multiple_choice_question(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """Labels are listed as A, B and C before the input; one token and its likeliest alternatives are requested."""
    record, requests = recording
    server = serve(record(respond(completion(at("B", A=0.2, B=0.5, C=0.3)))))
    remote = connect(server, model="m", headers={"Authorization": "Bearer secret"}, fields={"seed": 1})
    np.testing.assert_allclose(remote.infer(X, Deadline.after(5)), [[0.2, 0.5, 0.3]])
    ((first, headers, body),) = requests
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert (headers["authorization"], headers["content-type"]) == ("Bearer secret", "application/json")
    request = json.loads(body)
    (message,) = request.pop("messages")
    assert message["role"] == "user"
    assert "\nA. red\nB. green\nC. blue\n" in message["content"].partition("grass")[0]
    assert request == {
        "model": "m",
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 20,
        "seed": 1,
    }
    assert (remote.traffic.requests, remote.traffic.sent > len(body)) == (1, True)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/v1?api-version=2", "/openai/v1/chat/completions?api-version=2"),
    ],
)
def test_the_address_may_be_that_of_the_api_or_the_endpoint(
    serve: Any, recording: Any, respond: Any, path: str, target: str
) -> None:
    """Both lead to the endpoint, and a query is preserved."""
    record, requests = recording
    server = serve(record(respond(completion(at("B", A=0.5, B=0.5)))))
    remote = Chat(f"http://127.0.0.1:{server.port}{path}", labels=COLOURS, answer="letter")
    remote.infer(X, Deadline.after(5))
    remote.close()
    assert requests[0][0] == f"POST {target} HTTP/1.1"


@pytest.mark.parametrize("scores", [[-3.0, 1.0, 4.0], [0.2, 0.3, 0.1], [0.9, 0.9, 0.9], [2.0, -1.0, 0.0]])
def test_scores_of_another_model_are_no_answers_of_a_generative_one(make_file: Any, scores: list[float]) -> None:
    """Logits, or numbers that do not sum to 1, fail; probabilities that a float16 server rounded are read."""
    policy = Cascade.load(make_file(**PROBABILITIES)).policy
    read = ScoreReader(tuple(COLOURS), lambda: policy, asked())
    good = np.array([[0.2, 0.7, 0.1]], np.float16)
    remote = InProcess(lambda x: x)
    failed, answered = read(np.concatenate([[scores], good]), 2, remote)
    assert isinstance(failed, Failure)
    assert failed.about_input
    assert isinstance(answered, Prediction)


@pytest.mark.parametrize(
    "text",
    [
        '{"messages": []}',
        '{"model": "n"}',
        '{"stream": true}',
        '{"logprobs": null}',
        '{"n": 2}',
        '{"max_tokens": 0}',
        '{"seed": NaN}',
        '{"top_p": 1e999}',
    ],
)
def test_fields_that_are_set_elsewhere_or_no_json_are_refused(
    make_file: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """By the class and by the command, before anything is sent."""
    with pytest.raises(ArgumentError, match=r"^fields: expected"):
        Chat("http://nowhere.test/v1", fields=json.loads(text))
    np.save(tmp_path / "inputs.npy", UNSURE[None])
    command = ["run", str(make_file(**PROBABILITIES)), str(tmp_path / "inputs.npy"), "--remote"]
    assert main([*command, "http://nowhere.test/v1", "--remote-fields", text]) == 2
    assert "--remote-fields: expected" in capsys.readouterr().err


def test_a_field_set_to_none_is_omitted(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """This supports servers with another name for `max_tokens` or shorter lists of tokens."""
    record, requests = recording
    server = serve(record(respond(completion(at("B", A=0.5, B=0.5)))))
    fields = {"max_tokens": None, "max_completion_tokens": 1, "top_logprobs": 5}
    connect(server, fields=fields).infer(X, Deadline.after(5))
    request = json.loads(requests[0][2])
    assert "max_tokens" not in request
    assert (request["max_completion_tokens"], request["top_logprobs"]) == (1, 5)


def content_sent(connect: Any, serve: Any, recording: Any, respond: Any, x: Any, **options: Any) -> Any:
    """Return the messages for one input."""
    record, requests = recording
    server = serve(record(respond(completion(at("B", A=0.5, B=0.5), text="red"))))
    connect(server, **options).infer(x, Deadline.after(5))
    return json.loads(requests[0][2])["messages"]


def test_braces_in_a_text_are_not_substituted(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """Only the placeholders of the prompt are replaced."""
    x = np.array(["{labels} {input} {0} \ud800 ü"])
    sent = content_sent(connect, serve, recording, respond, x, prompt="{labels} | {input} | {input} {x}", answer="text")
    assert sent == [{"role": "user", "content": f"red, green, blue | {x[0]} | {x[0]} {{x}}"}]


@pytest.mark.parametrize("written", ["Is it 3?", [{"role": "system", "content": "Be brief."}]])
def test_a_function_describes_any_input_in_words(
    connect: Any, serve: Any, recording: Any, respond: Any, written: Any
) -> None:
    """It gets one input without the batch axis, by name if there are several, and returns a text or messages."""
    seen: list[Any] = []

    def prompt(one: Any) -> Any:
        seen.append(one)
        return written

    x = {"a": np.array([[1, 2]]), "b": np.array(["c"])}
    sent = content_sent(connect, serve, recording, respond, x, prompt=prompt)
    assert sent == ([{"role": "user", "content": written}] if isinstance(written, str) else written)
    assert seen[0]["a"].tolist() == [1, 2]
    assert seen[0]["b"] == "c"


def test_an_image_file_becomes_a_data_url(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """The file is sent unchanged after the text."""
    file = b"\xff\xd8\xff\x00\x00"
    x = np.empty(1, object)
    x[0] = file
    (message,) = content_sent(connect, serve, recording, respond, x, encoded=True)
    text, image = message["content"]
    assert "A. red" in text["text"]
    assert image["image_url"]["url"] == "data:image/jpeg;base64," + base64.b64encode(file).decode()


def test_image_files_are_requested_only_if_needed(connect: Any, serve: Any) -> None:
    """`encoded` tells the cascade whether to pass image files."""
    server = serve(lambda _: None)
    assert [connect(server, encoded=wanted).encoded for wanted in (False, True)] == [False, True]


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((1, 3), np.float32), {}, "expected a text, got float32; pass a function as `prompt`"),
        (np.array([None], object), {}, "expected a text, got NoneType"),
        (np.array([b"GIX"], object), {}, "expected the bytes of a JPEG, PNG, GIF or WebP file"),
        ({"z": X}, {}, "expected a text, got dict"),
        (X, {"prompt": lambda _: 3}, "prompt: expected a function that returns text or messages"),
        (X, {"prompt": lambda _: [{"content": math.nan}]}, "the request cannot be written as JSON"),
        (X, {"prompt": lambda _: [{"content": X}]}, "the request cannot be written as JSON"),
    ],
)
def test_an_unsupported_input_is_refused(
    connect: Any, serve: Any, x: Any, options: dict[str, Any], message: str
) -> None:
    """The error has one line, and nothing is sent."""
    server = serve(lambda _: None)
    with pytest.raises(RemoteError, match=message):
        connect(server, **options).infer(x, Deadline.after(5))
    assert server.connections == 0


# --- probabilities of labels


def test_variants_of_a_letter_are_added() -> None:
    """Spaces, quotes, brackets, case and text after the letter are ignored."""
    found = scores(
        at(" B", **{" B": 0.3, "b": 0.1, "(B": 0.05, "B.": 0.05, "A": 0.2, "▁C": 0.1, "But": 0.1}), labels=list("ABC")
    )
    np.testing.assert_allclose(found, np.array([0.2, 0.5, 0.1]) / 0.8)


def test_a_path_of_tokens_leads_to_the_labels() -> None:
    """A label after a bracket adds to the same label without one, weighted by the bracket's probability."""
    found = scores(
        at("(", **{"(": 0.5, "A": 0.4, "I": 0.1}), at("B", B=0.9, A=0.1), at(")", **{")": 1.0}), labels=["A", "B"]
    )
    np.testing.assert_allclose(found, np.array([0.4 + 0.05, 0.45]) / 0.9)


def test_a_longer_path_is_less_probable() -> None:
    """Every token multiplies its probability; a listed label is never less probable than an unlisted one."""
    path = at(" ", **{" ": 0.5, "A": 0.1, "I": 0.4}), at("(", **{"(": 0.5, "A": 0.5}), at("B", B=0.8, A=0.1, I=0.04)
    np.testing.assert_allclose(scores(*path, labels=["A", "B"]), np.array([0.1 + 0.25 + 0.025, 0.2]) / 0.575)
    found = scores(at("(", **{"(": 0.9, "A": 0.001}), at("B", B=0.7, I=0.1), labels=["A", "B", "C"])
    np.testing.assert_allclose(found, np.array([0.001, 0.63, 0.001]) / 0.632)


def test_labels_with_a_common_prefix_are_distinguished() -> None:
    """A generated prefix is followed; a prefix that was not generated counts for all its labels."""
    cities = ["New York", "New Jersey", "Boston"]
    found = scores(at("New", New=0.8, Bos=0.2), at(" York", **{" York": 0.75, " Jersey": 0.25}), labels=cities)
    np.testing.assert_allclose(found, [0.6, 0.2, 0.2])
    found = scores(at("Boston", New=0.4, Boston=0.6), labels=cities)
    np.testing.assert_allclose(found, [0.2, 0.2, 0.6])


def test_a_label_that_is_a_prefix_ends_with_the_text() -> None:
    """After `art`, the end or a full stop gives `art`, and `ist` gives `artist`."""
    ways = {"ist": 0.5, "": 0.3, ".": 0.1, "if": 0.1}
    found = scores(at("art", art=1.0), at("ist", **ways), labels=["art", "artist"])
    np.testing.assert_allclose(found, np.array([0.4, 0.5]) / 0.9)
    found = scores(at("art", art=1.0), at("", **ways), labels=["art", "artist"])
    np.testing.assert_allclose(found, np.array([0.4, 0.5]) / 0.9)


def test_another_word_is_not_a_label() -> None:
    """`possibly` begins like `positive` and is distinguished if it was generated; `I` alone is not `insect`."""
    labels = ["positive", "insect"]
    tokens = at("pos", **{"pos": 0.7, "I": 0.2, "insect": 0.1}), at("sibly", **{"sibly": 0.9, "itive": 0.1})
    np.testing.assert_allclose(scores(*tokens, labels=labels), np.array([0.07, 0.1]) / 0.17)


def test_tokens_are_decoded_from_bytes() -> None:
    """A character may be split over tokens, in which case only their bytes are valid."""
    first, second, other = "积".encode()[:2], "积".encode()[2:] + "极".encode(), "消极".encode()

    def token(raw: bytes, p: float) -> dict[str, Any]:
        return {"token": raw.decode(errors="replace"), "bytes": list(raw), "logprob": math.log(p)}

    tokens = [
        {**token(first, 0.6), "top_logprobs": [token(first, 0.6), token(other, 0.4)]},
        {**token(second, 1.0), "top_logprobs": [token(second, 1.0)]},
    ]
    np.testing.assert_allclose(scores(*tokens, labels=["积极", "消极"]), [0.6, 0.4])


def test_a_label_outside_the_list_has_positive_probability() -> None:
    """It shares the remaining probability and is at most as probable as the least probable listed token."""
    np.testing.assert_allclose(scores(at("A", A=0.9, I=0.05), labels=list("ABC")), np.array([0.9, 0.025, 0.025]) / 0.95)
    np.testing.assert_allclose(scores(at("A", A=0.5, I=0.1), labels=["A", "B"]), np.array([0.5, 0.1]) / 0.6)
    all_told = scores(at("A", A=1.0), labels=["A", "B"])
    assert 0 < all_told[1] < 1e-8


@given(
    masses=st.lists(st.floats(1e-6, 1), min_size=1, max_size=20),
    other=st.floats(0, 1),
    unlisted=st.integers(0, 6),
    unsaid=st.floats(0, 0.5),
)
def test_probabilities_of_labels_sum_to_1(masses: list[float], other: float, unlisted: int, unsaid: float) -> None:
    """They are positive; listed labels keep their proportions, and no unlisted one exceeds a listed one."""
    assume(len(masses) + unlisted >= 2)
    total = (math.fsum(masses) + other) / (1 - unsaid)
    shares = [mass / total for mass in masses]
    tokens = [Token(bytes([65 + i]), math.log(share)) for i, share in enumerate(shares)]
    others = (*tokens[1:], Token(b"Well", math.log(other / total) if other / total > 0 else -math.inf))
    letters = LabelMatcher([chr(65 + i) for i in range(len(masses) + unlisted)])
    reply = Reply("A", (Position(tokens[0], others, True),), False)
    found = label_probabilities(reply, letters, coverage=1e-9)
    assert (found > 0).all()
    assert found.sum() == pytest.approx(1)
    listed, rest = found[: len(masses)], found[len(masses) :]
    seen = np.array(shares)
    np.testing.assert_allclose(listed / listed.sum(), np.maximum(seen, 1e-9) / np.maximum(seen, 1e-9).sum(), rtol=1e-6)
    assert rest.max(initial=0.0) <= listed.min() * (1 + 1e-9)
    assert (rest == rest[:1]).all()
    assert rest.sum() <= max(unsaid / max(1e-9, seen.sum()), 1e-8 / seen.min()) * (1 + 1e-6)


def test_a_reply_without_a_label_is_an_error(ask: Any) -> None:
    """It is raised if all labels together have a probability below `coverage`."""
    reply = completion(at("The", The=0.8, A=0.04, B=0.04), text="The " + 300 * "x")
    with pytest.raises(
        RemoteError, match=r"expected a reply that names a label; the labels have 8\.0% of its probability"
    ) as caught:
        ask(reply)
    assert len(str(caught.value)) < 200
    np.testing.assert_allclose(ask(reply, coverage=0.05).sum(), 1)


def test_labels_may_be_read_as_words(ask: Any) -> None:
    """With `label`, whole words are read instead of letters."""
    np.testing.assert_allclose(
        ask(completion(at("blue", red=0.1, green=0.3, blue=0.4, A=0.1)), answer="label"), [[0.125, 0.375, 0.5]]
    )


# --- generated text


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("green", 1),
        (" **Green**.", 1),
        ("blue, not red", 2),
        ("I would say it is RED.", 0),
        ("It is red. Yes, red!", 0),
    ],
)
def test_a_text_names_a_label(ask: Any, text: str, label: int) -> None:
    """The label is at the beginning of the text, or is the only one in it as a word."""
    opinions = ask(completion(at("x", x=0.5), at("y", y=0.25), text=text), answer="text")
    assert isinstance(opinions, RemoteLabels)
    assert opinions.labels.tolist() == [label]
    np.testing.assert_allclose(opinions.confidences, math.exp((math.log(0.5) + math.log(0.25)) / 2))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Neither red nor blue", "expected a reply with one label, got several labels"),
        ("bored, evergreen", "expected a reply with one label, got no labels"),
        ("", "expected a reply with one label, got no labels"),
    ],
)
def test_a_text_without_a_unique_label_is_an_error(ask: Any, text: str, found: str) -> None:
    """With no label or several, the error says whether the text was truncated."""
    with pytest.raises(RemoteError, match=f"{found}.*, which max_tokens cut off"):
        ask(completion(at("x", x=0.5), text=text, finish="length"), answer="text")


def test_the_longest_matching_label_is_chosen(ask: Any) -> None:
    """One label may be part of another."""
    labels = ["art", "art history", "modern art"]
    for text, label in [("Art history.", 1), ("It is modern art", 2), ("art", 0)]:
        assert ask(completion(at("x", x=0.5), text=text), answer="text", labels=labels).labels.tolist() == [label]


@given(
    logprobs=st.lists(st.floats(-700, 0), min_size=1, max_size=20), slope=st.floats(-50, 50), shift=st.floats(-50, 50)
)
def test_confidence_is_platt_scaled_as_in_calibration(logprobs: list[float], slope: float, shift: float) -> None:
    """It equals `Platt` of the mean log-probability, for any slope and intercept."""
    tokens = tuple(Position(Token(b"x", one), (), False) for one in logprobs)
    mean = Reply("red", tokens, False).mean_logprob
    assert mean == pytest.approx(np.mean(logprobs))
    assert text_confidence(mean, (slope, shift)) == pytest.approx(
        float(Platt(slope, shift)(np.array([mean]))[0]), abs=1e-12
    )


def test_text_is_requested_without_alternatives(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """The likeliest tokens are not needed and may be missing."""
    record, requests = recording
    token = {"token": "red", "logprob": -0.5}
    server = serve(record(respond(completion(token))))
    opinions = connect(server, answer="text", scale=(2.0, 1.0)).infer(X, Deadline.after(5))
    np.testing.assert_allclose(opinions.confidences, [0.5])
    assert "top_logprobs" not in json.loads(requests[0][2])
    assert json.loads(requests[0][2])["max_tokens"] == 32


# --- errors

GOOD = completion(at("A", A=0.5, B=0.5))


def changed(**changes: Any) -> dict[str, Any]:
    """Return a valid reply with another choice."""
    return {"choices": [{**GOOD["choices"][0], **changes}]}


def with_token(**changes: Any) -> dict[str, Any]:
    """Return a valid reply with another token."""
    return changed(logprobs={"content": [{**at("A", A=0.5, B=0.5), **changes}]})


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"<html>", "JSON"),
        (b"[" * 100_000, "JSON"),
        (json.dumps(GOOD).encode()[:-40], "JSON"),
        (b"3", "the reply lacks choices"),
        ({"choices": []}, r"the reply lacks choices\[0\]"),
        ({"choices": [{}]}, r"the reply lacks choices\[0\].message"),
        ({"choices": None, "error": None}, r"the reply lacks choices\[0\]"),
        ({"error": {"message": "no such model" + 300 * "!"}}, "the server says: no such model!"),
        (changed(message=None), r"the reply lacks choices\[0\].message.content"),
        (changed(logprobs=None), r"the reply lacks choices\[0\].logprobs.content"),
        (changed(logprobs={"content": []}), r"no tokens in choices\[0\].logprobs.content"),
        (changed(logprobs={"content": {"a": 1}}), r"no tokens in choices\[0\].logprobs.content"),
        (changed(logprobs={"content": ["A"]}), "the reply lacks token"),
        (changed(logprobs={"content": [{"token": "A"}]}), "the reply lacks logprob"),
        (with_token(logprob=None), "logprob: expected a number, at most 0, got None"),
        (with_token(logprob=True), "logprob: expected a number, at most 0, got True"),
        (with_token(logprob="-1" * 100), "logprob: expected a number, at most 0, got '-1-1"),
        (with_token(token=7), "token: expected a string, got 7"),
        (with_token(logprob=math.nan), "logprob: expected a number, at most 0, got nan"),
        (with_token(logprob=0.5), "logprob: expected a number, at most 0, got 0.5"),
        (with_token(logprob=-math.inf), "expected a finite number for a generated token"),
        (with_token(bytes=["x"]), "bytes"),
        (with_token(logprob=-(10**400)), "logprob: expected a number, at most 0, got -1000"),
        (with_token(bytes=10**12), "bytes"),
        (with_token(bytes=[256]), "bytes"),
        (with_token(top_logprobs=None), "the reply lacks top_logprobs"),
        (with_token(top_logprobs=[]), "the reply lacks top_logprobs"),
        (with_token(top_logprobs={"A": -1}), "top_logprobs: expected a list, got dict"),
        (with_token(top_logprobs=[{"token": "B", "logprob": -0.1}]), r"top_logprobs: .* got 1\.4"),
    ],
)
def test_an_invalid_reply_is_an_error(ask: Any, reply: Any, message: str) -> None:
    """The error describes the fault in one line, without the reply."""
    with pytest.raises(RemoteError, match=message) as caught:
        ask(reply)
    assert len(str(caught.value)) < 260
    assert str(caught.value).startswith("remote: ")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(["token", "logprob"]), inside),
    max_leaves=6,
)


@given(data=st.data())
def test_any_json_is_a_reply_or_an_error(data: st.DataObject) -> None:
    """Any value at any path gives probabilities or a `RemoteError`."""
    reply = completion(at("B", A=0.4, B=0.6), at(".", **{".": 0.9}))
    place: Any = reply
    while True:
        step = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[step], dict | list) or not place[step] or data.draw(st.integers(0, 4)) == 0:
            break
        place = place[step]
    place[step] = data.draw(ANY_JSON)
    try:
        read = read_reply(reply)
        found = label_probabilities(read, LabelMatcher(["A", "B"]), coverage=0.1)
    except RemoteError:
        return
    assert found.sum() == pytest.approx(1)
    assert (found > 0).all()
    assert 0 <= math.exp(read.mean_logprob) <= 1


def test_rounding_errors_are_accepted(ask: Any) -> None:
    """A log-probability slightly above 0, as in half precision, is 0; minus infinity is allowed in the list."""
    listed = [{"token": "A", "logprob": 1e-4}, {"token": "B", "logprob": -math.inf}]
    found = ask(with_token(logprob=1e-4, top_logprobs=listed))
    np.testing.assert_allclose(found, [[1, 0, 0]], atol=1e-8)
    assert (found > 0).all()


@pytest.mark.parametrize(
    ("status", "retry"), [("400 Bad", False), ("401 No", False), ("429 Slow", True), ("503 Down", True)]
)
def test_an_error_status_is_reported(ask: Any, status: str, retry: bool) -> None:
    """The error has the status, the server's explanation, and whether to retry."""
    with pytest.raises(RemoteError, match=f"HTTP {status[:3]}: .*quota") as caught:
        ask({"error": {"message": "quota"}}, status=status)
    assert caught.value.retry is retry


def test_an_address_without_a_server_is_unreachable() -> None:
    """The error is the same as for every remote."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(RemoteUnreachable, match="cannot connect"):
        Chat(f"http://127.0.0.1:{port}/v1", labels=COLOURS).infer(X, Deadline.after(5))


def test_a_call_after_close_raises(connect: Any, serve: Any) -> None:
    """It does not hang."""
    remote = connect(serve(lambda _: None))
    remote.close()
    with pytest.raises(RemoteError, match="cannot ask"):
        remote.infer(X, Deadline.after(5))


# --- several inputs, and time


def read_question(connection: socket.socket) -> str:
    """Read one request, up to the last word of the default prompt."""
    received = b""
    while b"letter alone." not in received:
        more = connection.recv(65536)
        if not more:
            raise OSError("closed")
        received += more
    return received.decode()


def test_several_inputs_are_sent_in_parallel(connect: Any, serve: Any, respond: Any) -> None:
    """At most `concurrency` requests run at once on keep-alive connections; rows are in the order of the inputs."""
    lock, now, most = threading.Lock(), 0, 0
    together = threading.Barrier(3)

    def behave(connection: socket.socket) -> None:
        nonlocal now, most
        while True:
            question = read_question(connection)
            with lock:
                now += 1
                most = max(most, now)
            together.wait(10)
            with lock:
                now -= 1
            letter = question.partition("Input: ")[2][:1]
            connection.sendall(respond(completion(at(letter, **{letter: 0.9}))))

    server = serve(behave)
    remote = connect(server, concurrency=3)
    asked = "ABCCBAABC"
    found = remote.infer(np.array(list(asked)), Deadline.after(10))
    assert found.argmax(axis=1).tolist() == ["ABC".index(one) for one in asked]
    assert most == 3
    assert server.connections == 3
    assert remote.traffic.requests == 9


def test_an_empty_batch_sends_nothing(connect: Any, serve: Any) -> None:
    """The scores have no rows."""
    server = serve(lambda _: None)
    assert connect(server).infer(X[:0], Deadline.after(1)).shape == (0, 3)
    opinions = connect(server, answer="text").infer(X[:0], Deadline.after(1))
    assert opinions.probabilities(3).shape == (0, 3)
    assert server.connections == 0


def silence(connection: socket.socket) -> None:
    """Send nothing until the client disconnects."""
    while connection.recv(65536):
        pass


def test_one_deadline_holds_for_all_inputs(connect: Any, serve: Any) -> None:
    """Requests that have not begun by the deadline are not sent."""
    server = serve(silence)
    remote = connect(server, concurrency=2)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        remote.infer(np.repeat(X, 20), Deadline.after(0.3))
    assert 0.25 < time.monotonic() - started < 2
    assert server.connections <= 2


def test_the_first_error_ends_the_call(connect: Any, serve: Any, respond: Any) -> None:
    """It does not wait for the other requests."""

    def behave(connection: socket.socket) -> None:
        if "Input: bad" in read_question(connection):
            connection.sendall(respond({}, "400 Bad"))
        silence(connection)

    remote = connect(serve(behave))
    started = time.monotonic()
    with pytest.raises(RemoteError, match="HTTP 400"):
        remote.infer(np.array(["good", "bad", "good"]), Deadline.after(8))
    assert time.monotonic() - started < 4


def test_many_threads_share_one_remote(connect: Any, serve: Any, respond: Any, answering: Any) -> None:
    """Each caller gets its own number of rows."""
    remote = connect(serve(answering(respond(GOOD))), concurrency=2)
    found: list[tuple[int, ...]] = []
    callers = [
        threading.Thread(target=lambda n=n: found.append(remote.infer(np.repeat(X, n), Deadline.after(10)).shape))
        for n in range(1, 9)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(15)
    assert sorted(found) == [(n, 3) for n in range(1, 9)]
    assert remote.traffic.requests == 36


# --- in a cascade

UNSURE = np.array([0, 0.5, 0], np.float32)
PROBABILITIES = {"remote": {"temperature": 1.0, "scores": "probabilities"}}


def test_a_cascade_uses_the_chat_remote(make_file: Any, connect: Any, serve: Any, answering: Any, respond: Any) -> None:
    """Its probabilities are the remote prediction; the text sent may differ from the local model's input."""
    remote = connect(serve(answering(respond(completion(at("C", A=0.2, B=0.2, C=0.6))))))
    with Cascade.load(make_file(**PROBABILITIES), remote=remote, deadline=5) as cascade:
        answer = cascade.predict(UNSURE, original="the sky")
    assert (answer.name, answer.source, answer.reason) == ("blue", Source.REMOTE, Reason.OFFLOADED), answer.detail
    assert answer.remote is not None
    np.testing.assert_allclose(answer.remote.probabilities, [0.2, 0.2, 0.6], rtol=1e-6)


@pytest.mark.parametrize("answer", ["letter", "text"])
def test_labels_in_another_order_are_matched_by_name(
    make_file: Any, connect: Any, serve: Any, answering: Any, respond: Any, answer: str
) -> None:
    """The letter A is then the first of the labels, not of the cascade's classes."""
    said = at("A", A=0.6, B=0.2, C=0.2) if answer == "letter" else at("blue", blue=0.6)
    remote = connect(serve(answering(respond(completion(said)))), labels=["blue", "red", "green"], answer=answer)
    with Cascade.load(make_file(**PROBABILITIES), remote=remote, deadline=5) as cascade:
        found = cascade.predict(UNSURE, original="the sky")
    assert (found.name, found.source) == ("blue", Source.REMOTE), found.detail
    assert found.remote is not None
    np.testing.assert_allclose(found.remote.probabilities, [0.2, 0.2, 0.6], rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["blue", "red", "yellow"], "labels: expected the classes red, green, blue, got blue, red, yellow"),
        (["blue", "red"], "labels: expected 3, one per class, got 2"),
    ],
)
def test_labels_of_other_classes_are_refused_at_once(file: Path, labels: list[str], said: str) -> None:
    """No request has been sent by then; the same holds for a second opinion."""
    remote = Chat("http://nowhere.test/v1", labels=labels)
    for asked in (remote, SecondOpinion(lambda x: x, remote)):
        with pytest.raises(ArgumentError, match=said):
            Cascade.load(file, remote=asked)
    remote.close()


@pytest.mark.parametrize(
    ("behaviour", "reason", "detail"),
    [
        (silence, Reason.DEADLINE, "did not answer in time"),
        (completion(at("The", The=1.0)), Reason.REMOTE_ERROR, "expected a reply that names a label"),
    ],
)
def test_a_cascade_answers_locally_on_failure(
    make_file: Any, connect: Any, serve: Any, answering: Any, respond: Any, behaviour: Any, reason: Reason, detail: str
) -> None:
    """If the chat server is late or names no label, the answer is local, with its reason."""
    remote = connect(serve(behaviour if callable(behaviour) else answering(respond(behaviour))))
    with Cascade.load(Path(make_file(**PROBABILITIES)), remote=remote, deadline=0.5) as cascade:
        answer = cascade.predict(UNSURE, original="the sky")
    assert (answer.name, answer.source, answer.reason) == ("green", Source.LOCAL, reason), answer.detail
    assert detail in answer.detail
    assert answer.elapsed < 2


# --- as in calibration


def asked(**changes: Any) -> AskedChat:
    """Return how a model was asked for text in calibration."""
    prompt = changes.pop("prompt", "One of {labels}: {input}")
    sha256 = template_sha256(prompt) if prompt else None
    given = {"answer": "text", "scale": (2.0, 1.0), "model": "m", "reported": "m-1", "fields": {"max_tokens": 9}}
    return AskedChat(**{**given, **changes, "prompt": prompt, "prompt_sha256": sha256})


def test_labels_may_come_with_the_cascade(make_file: Any, serve: Any, answering: Any, respond: Any) -> None:
    """Until then nothing can be asked; afterwards other classes are refused."""
    server = serve(answering(respond(completion(at("blue", red=0.2, green=0.2, blue=0.6)))))
    remote = Chat(f"http://127.0.0.1:{server.port}/v1")
    with pytest.raises(ArgumentError, match="labels"):
        remote.infer(X, Deadline.after(5))
    assert remote.class_names == ()
    with Cascade.load(make_file(**PROBABILITIES), remote=remote, deadline=5) as cascade:
        answer = cascade.predict(UNSURE, original="the sky")
        assert (answer.name, answer.source) == ("blue", Source.REMOTE), answer.detail
        assert remote.class_names == tuple(COLOURS)
        with pytest.raises(ArgumentError, match="labels"):
            remote.expect(["dog", "cat", "cow"])
        remote.expect(["blue", "red", "green"])


def test_an_address_is_wrapped_as_others_are() -> None:
    """It takes image files, and no output can be named."""
    remote = connect_to("http://host.test/v1")
    assert isinstance(remote, CircuitBreaker)
    assert isinstance(remote._remote, Retrying)
    assert isinstance(remote._remote._remote, Chat)
    assert remote.encoded
    with pytest.raises(AttributeError):
        connect_to("http://host.test/v2/models/v1").asked  # type: ignore[union-attr]  # noqa: B018
    with pytest.raises(ArgumentError, match="output"):
        connect_to("http://host.test/v1", output="logits")


def test_it_asks_as_the_file_says(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """Form, prompt, model, fields and scale are taken over; further fields and another model may be given."""
    record, requests = recording
    server = serve(record(respond(completion(at("red", red=0.5)))))
    given: list[tuple[dict[str, Any], str]] = [({}, "m"), ({"model": "n", "fields": {"seed": 1}}, "n")]
    for options, model in given:
        remote = connect(server, answer=None, **options)
        remote.expect_asked(asked())
        opinions = remote.infer(X, Deadline.after(5))
        np.testing.assert_allclose(opinions.confidences, [1 / (1 + math.exp(-(2 * math.log(0.5) + 1)))])
        request = json.loads(requests[-1][2])
        assert request.pop("messages")[0]["content"] == "One of red, green, blue: grass"
        assert request == {"model": model, "max_tokens": 9, "logprobs": True, **options.get("fields", {})}
    assert remote.asked == replace(asked(), model="n", fields={"max_tokens": 9, "seed": 1}, reported="")


@pytest.mark.parametrize(
    ("options", "changes", "named"),
    [
        ({"answer": "label"}, {}, "answer"),
        ({"answer": "text", "scale": (1.0, 1.0)}, {}, "scale"),
        ({"prompt": "{input}"}, {}, "prompt"),
        ({"prompt": [{"role": "user", "content": "{input}"}]}, {}, "prompt"),
        ({"prompt": lambda _: "x"}, {}, "prompt"),
        ({}, {"prompt": None}, "prompt"),
        ({"prompt": "{input}"}, {"prompt": None}, "prompt"),
    ],
)
def test_another_way_to_ask_than_in_calibration_is_refused(
    options: dict[str, Any], changes: dict[str, Any], named: str
) -> None:
    """Its replies would mean something else. Nothing is sent."""
    remote = Chat("http://nowhere.test/v1", **options)
    with pytest.raises(ArgumentError, match=f"^{named}: expected"):
        Retrying(remote).expect_asked(asked(**changes))
    remote.close()


def test_the_same_way_to_ask_is_accepted() -> None:
    """A function can stand in for the one of the calibration; one remote does not serve two ways."""
    template = "One of {labels}: {input}"
    remote = Chat("http://nowhere.test/v1", answer="text", prompt=template, scale=(2.0, 1.0))
    remote.expect_asked(asked())
    remote.expect_asked(asked())
    with pytest.raises(ArgumentError):
        remote.expect_asked(asked(fields={}))
    remote.close()
    with closing(Chat("http://nowhere.test/v1", prompt=lambda _: "x")) as described:
        described.expect_asked(asked(prompt=None))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"answer": "label"}, {"logprobs", "top_logprobs"}),
        ({"answer": "text"}, {"logprobs"}),
        ({"answer": "text", "scale": (2.0, 1.0)}, {"logprobs"}),
        ({"answer": "text", "scale": (0.0, 1.0)}, set()),
    ],
)
def test_only_needed_log_probabilities_are_asked_for(
    connect: Any, serve: Any, recording: Any, respond: Any, options: dict[str, Any], wanted: set[str]
) -> None:
    """Whatever the fields say: a server may refuse them. Without any, the confidence is the same for every text."""
    record, requests = recording
    server = serve(record(respond(completion(at("red", red=0.5, green=0.5)))))
    replied = connect(server, fields={"top_logprobs": 3}, **options).infer(X, Deadline.after(5))
    assert {"logprobs", "top_logprobs"} & json.loads(requests[0][2]).keys() == wanted
    if not wanted:
        np.testing.assert_allclose(replied.confidences, 1 / (1 + math.exp(-1)))


def test_a_capped_list_of_tokens_is_remembered(connect: Any, serve: Any, respond: Any) -> None:
    """The number that the server names is asked for, or else five; a number that is given is not changed."""
    sent: list[int] = []

    def capped(most: int, said: str) -> Any:
        def behave(connection: socket.socket) -> None:
            with connection.makefile("rb") as incoming:
                while incoming.readline():
                    headers = dict(
                        line.split(": ", 1) for line in iter(lambda: incoming.readline().decode().strip(), "")
                    )
                    sent.append(json.loads(incoming.read(int(headers["Content-Length"])))["top_logprobs"])
                    if sent[-1] > most:
                        connection.sendall(respond({"error": {"message": said}}, "400 Bad Request"))
                    else:
                        connection.sendall(respond(completion(at("B", A=0.2, B=0.5, C=0.3))))

        return behave

    for most, said, steps in (
        (8, "top_logprobs must be in [0, 8]", [20, 8, 8]),
        (5, "too many logprobs", [20, 5, 5]),
        (2, "top_logprobs: at most 2 of 20", [20, 2, 2]),
    ):
        sent.clear()
        remote = connect(serve(capped(most, said)))
        for _ in range(2):
            np.testing.assert_allclose(remote.infer(X, Deadline.after(5)), [[0.2, 0.5, 0.3]])
        assert sent == steps
        assert remote.asked.top_logprobs == most
    with pytest.raises(RemoteRefusal):
        connect(serve(capped(5, "at most 5 logprobs")), fields={"top_logprobs": 9}).infer(X, Deadline.after(5))


def test_replies_without_a_label_leave_the_circuit_closed(
    connect: Any, serve: Any, answering: Any, respond: Any
) -> None:
    """The model is there, and may name one for the next input; without log-probabilities it never does."""
    for reply, state in ((completion(at("The", The=1.0)), "closed"), (changed(logprobs=None), "open")):
        breaker = CircuitBreaker(connect(serve(answering(respond(reply)))), failures=3)
        for _ in range(3):
            with pytest.raises(InvalidReply):
                breaker.infer(X, Deadline.after(5))
        assert breaker.state == state


def test_pixels_become_an_image(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """They are sent without loss, in the last message that shows the input."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, 5, 7, 3), np.uint8)
    prompt = [{"role": "user", "content": content} for content in ("Look at {input}: {labels}.", "{input}?", "Well?")]
    messages = content_sent(connect, serve, recording, respond, pixels, prompt=prompt, encoded=True)
    assert [isinstance(one["content"], str) for one in messages] == [True, False, True]
    text, image = messages[1]["content"]
    assert text == {"type": "text", "text": "the image?"}
    file = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(read_image(file), pixels[0])


def test_a_model_that_is_called_by_its_path_is_known_by_its_file() -> None:
    """The folders on the server's disk are no part of its name, while an organization is."""
    names = {
        "/srv/models/small.gguf": "small.gguf",
        "C:\\models\\small.gguf": "small.gguf",
        "org/small": "org/small",
        "": "",
    }
    for said, name in names.items():
        assert read_reply({**completion(at("A", A=1.0)), "model": said}).model == name
    assert read_reply({**completion(at("A", A=1.0)), "model": 3}).model == ""


# --- arguments


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1/v1",
        "ftp://h/v1",
        "http:///v1",
        "http://h:99999/v1",
        "http://h:x/v1",
        "http://[::1/v1",
        "http://h",
        "http://h/",
        "http://h/v 1",
        "http://h/v\u00e9",
        "http://h/v1\r\nX: y",
    ],
)
def test_an_invalid_address_is_refused(url: str) -> None:
    """It is refused at once, and the error shows the expected form."""
    with pytest.raises(ArgumentError, match=r"url: expected http\[s\]://host\[:port\]/v1, got"):
        Chat(url, labels=COLOURS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["red"]}, "labels: expected two or more names, got"),
        ({"labels": "red"}, "labels: expected two or more names, got 'red'"),
        ({"labels": [1, 2], "answer": "text"}, r"labels: expected two or more names, got \[1, 2\]"),
        ({"labels": ["a", " "], "answer": "label"}, "labels: expected names, got ' '"),
        ({"labels": ["a", "b", "(A"], "answer": "label"}, r"labels: 'a' and '\(A' look the same"),
        (
            {"labels": [str(i) for i in range(27)], "answer": "letter"},
            "at most 26 .*, got 27; use answer='label'",
        ),
        ({"answer": "word"}, "answer: expected 'letter', 'label' or 'text', got 'word'"),
        ({"prompt": "Which one?"}, r"prompt: expected a text with \{input\}, got 'Which one"),
        ({"scale": (1.0, math.nan), "answer": "text"}, "scale: expected a slope and an intercept, got"),
        ({"scale": (1.0,), "answer": "text"}, "scale: expected a slope and an intercept, got"),
        ({"scale": (1.0, 0.0), "answer": "letter"}, "scale: .*answer='text'"),
        ({"coverage": 0}, "coverage: expected .*, got 0"),
        ({"coverage": math.nan}, "coverage: expected .*, got nan"),
        ({"max_tokens": 0}, "max_tokens: expected 1 or more, got 0"),
        ({"concurrency": 0}, "concurrency: expected 1 or more, got 0"),
    ],
)
def test_an_invalid_argument_is_refused(options: dict[str, Any], message: str) -> None:
    """It is refused at once, and the error names it."""
    with pytest.raises(ArgumentError, match=message):
        Chat("http://h/v1", **{"labels": COLOURS, **options})


def test_a_listed_token_without_a_probability_is_left_out() -> None:
    """Its label gets an equal part of the unlisted probability, as if it were not listed."""
    listed = at("B", A=0.25, B=0.5)
    unknown = {**listed, "top_logprobs": [*listed["top_logprobs"], {"token": "C", "logprob": None}]}
    labels = ["A", "B", "C"]
    assert scores(unknown, labels=labels) == scores(listed, labels=labels)
    with pytest.raises(InvalidReply, match="logprob: expected a number"):
        scores({**listed, "logprob": None}, labels=labels)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("top_logprobs must be at most 5", r"pass fields=\{'top_logprobs': N\}"),
        ("Requested sample logprobs of 20, which is greater than max allowed: 5", r"pass fields=\{'top_logprobs': N\}"),
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", r"'max_completion_tokens': N"),
    ],
)
def test_a_server_with_other_limits_is_explained(ask: Any, said: str, advice: str) -> None:
    """The error quotes the server and says what to set."""
    with pytest.raises(RemoteRefusal, match=advice) as raised:
        ask({"error": {"message": said}}, status="400 Bad Request")
    assert said in str(raised.value)
    assert raised.value.status == "400"


def test_a_reply_is_bounded_by_what_its_tokens_can_need(ask: Any) -> None:
    """Twenty long tokens at every place fit; a reply without bound does not."""
    token = {"token": "\U0001f600" * 8, "logprob": -20.123456789012345, "bytes": list(b"\xf0\x9f\x98\x80" * 8)}
    place = at("B", A=0.4, B=0.6)
    place["top_logprobs"] += [token] * 18
    np.testing.assert_allclose(ask(completion(*[place] * 4, text="B"), answer="label", labels=["A", "B"]), [[0.4, 0.6]])
    replies: list[Any] = [completion(*[place] * 9999), {"choices": [[]] * 100_000}, {"a": "b" * 10_000_000}]
    for reply in replies:
        with pytest.raises(InvalidReply, match=r"larger than|more than|not valid JSON"):
            ask(reply)


def test_a_user_in_the_address_is_refused() -> None:
    """The error says how to send one, and shows no secret."""
    for url in ("http://me:s3cret@h/v1", "http://me:s3cret@h?key=s3cret"):
        with pytest.raises(ArgumentError) as raised:
            Chat(url, labels=COLOURS)
        assert "s3cret" not in str(raised.value)
