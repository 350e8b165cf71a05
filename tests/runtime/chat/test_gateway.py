"""The gateway gives each request one voice, the right one, and says why; on the way nothing changes."""

import http.client
import json
import socket
from dataclasses import replace
from typing import Any

import pytest

from chat_endpoints import HEAD, LAST, SURE, UNSURE, chunked, events_of, refusal, saying
from edgecascade.types.document import ChatSide

SHORT = ["Par", "is", "."]
LONG = [f" w{i}" for i in range(20)]  # longer than the 8 tokens that are scored whole


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("words", [SHORT, LONG])
def test_a_sure_local_reply_is_kept(fake: Any, gateway: Any, stream: bool, words: list[str]) -> None:
    """The remote is not asked; the reply says who answered and why, and how sure it is."""
    local, remote = fake(saying(words)), fake(saying(["no"]))
    got = gateway(local, remote).ask(stream=stream)
    assert (got.status, got.text()) == (200, "".join(words))
    assert remote.requests == []
    assert got.headers["x-edgecascade-source"] == "local"
    assert got.headers["x-edgecascade-reason"] == "confident"
    said = (got.events()[0] if stream else got.json())["edgecascade"]
    assert (said["source"], said["reason"], said["advantage"]) == ("local", "confident", 0.125)
    assert said["score"] == SURE
    assert said["confidence"] == pytest.approx(0.852, abs=1e-3)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("words", [SHORT, LONG])
def test_an_unsure_local_reply_is_replaced(fake: Any, gateway: Any, stream: bool, words: list[str]) -> None:
    """The client sees the remote's words alone."""
    local, remote = fake(saying(words, UNSURE)), fake(saying(["Lyon"]))
    got = gateway(local, remote).ask(stream=stream)
    assert (got.status, got.text()) == (200, "Lyon")
    assert (got.headers["x-edgecascade-source"], got.headers["x-edgecascade-reason"]) == ("remote", "offloaded")
    assert len(remote.requests) == 1


def test_a_streaming_remote_passes_byte_by_byte(fake: Any, gateway: Any) -> None:
    """Odd spacing, comments, other line ends and unknown fields come as they were sent."""
    body = (
        b': hello\r\n\r\ndata:{"choices" : [{"index":0,"delta":{"content":"\xc3\xa9\\u00e9"}}],  "odd": 1.50}\r\n\r\n'
        b'event: x\ndata: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )

    def remote(_: Any) -> Any:
        yield HEAD
        for at in range(0, len(body), 7):
            yield chunked(body[at : at + 7])
        yield LAST

    got = gateway(fake(saying(SHORT, UNSURE)), fake(remote)).ask(stream=True)
    assert got.body == body
    assert got.headers["content-type"] == "text/event-stream"


def test_a_whole_remote_reply_gains_one_field(fake: Any, gateway: Any) -> None:
    """The rest of its bytes stay; with `plain` all do."""
    body = b'{ "choices": [{"message": {"content": "Ly\\u006fn"}, "x": 1.50}],\n "usage": null }\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    local, remote = fake(saying(SHORT, UNSURE)), fake(lambda _: [head + body])
    got = gateway(local, remote).ask()
    said = got.json().pop("edgecascade")
    assert got.body == body[:-2] + b',"edgecascade":' + json.dumps(said, separators=(",", ":")).encode() + b"}\n"
    plain = gateway(local, remote, served={"plain": True}).ask()
    assert plain.body == body
    assert plain.headers["x-edgecascade-reason"] == "offloaded"


def test_nothing_is_sent_before_the_decision(fake: Any, gateway: Any) -> None:
    """Up to the eighth token nothing comes, not even a header; the ninth decides, and all nine come at once."""
    events = events_of(LONG)

    def slow(_: Any) -> Any:
        yield HEAD
        for one in events[:9]:  # the role and eight tokens
            yield chunked(one)
        yield None
        for one in events[9:]:
            yield chunked(one)
        yield LAST

    local = fake(slow)
    found = gateway(local, fake(saying(["no"])))
    with socket.create_connection(("127.0.0.1", found.port)) as client:
        asked = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": True}).encode()
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(asked) + asked
        )
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(1)
        local.go_on.set()
        client.settimeout(10)
        received = b""
        while b"[DONE]" not in received:
            received += client.recv(65536)
    assert received.startswith(b"HTTP/1.1 200")


def test_requests_pass_with_everything_in_them(fake: Any, gateway: Any) -> None:
    """Unknown fields, JSON mode and tools reach both sides; each gets its own model's name and its own headers."""
    local, remote = fake(saying(SHORT, UNSURE)), fake(saying(["x"]))
    headers = {"local_headers": {"Authorization": "Bearer L"}, "remote_headers": {"Authorization": "Bearer R"}}
    more = {"response_format": {"type": "json_object"}, "odd": {"deep": [1.5, None]}, "tools": [{"type": "function"}]}
    gateway(local, remote, **headers).ask(model="gpt-any", headers={"Authorization": "Bearer client"}, **more)
    asked_local, sent_local = local.requests[0]
    asked_remote, sent_remote = remote.requests[0]
    assert (asked_local["authorization"], asked_remote["authorization"]) == ("Bearer L", "Bearer R")
    assert (sent_local["model"], sent_remote["model"]) == ("small", "large")
    for name, value in more.items():
        assert sent_local[name] == sent_remote[name] == value
    assert sent_local["logprobs"] is True
    assert "logprobs" not in sent_remote
    assert "client" not in json.dumps([asked_local, asked_remote])


def test_log_probabilities_and_usage_are_shown_to_those_who_ask(fake: Any, gateway: Any) -> None:
    """The gateway always asks the local endpoint for them."""
    found = gateway(fake(saying(SHORT)), fake(saying(["no"])))
    assert "logprobs" not in found.ask().json()["choices"][0]
    assert len(found.ask(logprobs=True).json()["choices"][0]["logprobs"]["content"]) == 3
    for asks in (False, True):
        options = {"stream_options": {"include_usage": True}, "logprobs": True} if asks else {}
        events = found.ask(stream=True, **options).events()
        assert any("usage" in one for one in events[:-1]) is asks
        assert any("logprobs" in choice for one in events[:-1] for choice in one["choices"]) is asks
        assert events[-1] == "[DONE]"


@pytest.mark.parametrize("side", ["local", "remote"])
@pytest.mark.parametrize(
    ("fields", "script", "why"),
    [
        ({"n": 2}, saying(["two"]), "n"),
        ({}, saying(["none"], None), "omitted"),
        ({}, saying(["worst"], -9999.0), "unusable"),
        ({"stream": True}, saying(LONG, None), "omitted"),
    ],
)
def test_what_cannot_be_scored_goes_where_it_should(
    fake: Any, gateway: Any, side: str, fields: dict[str, Any], script: Any, why: str
) -> None:
    """`unscored` names the side; the reply says so, and it is counted."""
    local, remote = fake(script), fake(saying(["afar"]))
    found = gateway(local, remote, unscored=side)
    got = found.ask(**fields)
    assert (got.headers["x-edgecascade-source"], got.headers["x-edgecascade-reason"]) == (side, "unscored")
    assert (got.text() == "afar") is (side == "remote")
    assert found.metric("chat_unscored_total", why=why) == 1
    assert found.metric("chat_replies_total", source=side, reason="unscored") == 1


@pytest.mark.parametrize("side", ["local", "remote"])
def test_a_server_that_refuses_log_probabilities_still_answers(fake: Any, gateway: Any, side: str) -> None:
    """As llama.cpp does in streams with tools: it is asked again without them, if it is to answer."""

    def local(asked: dict[str, Any]) -> Any:
        if asked.get("logprobs"):
            return [refusal("400 Bad Request", "logprobs is not supported with tools + stream")]
        return saying(["near"])(asked)

    found = gateway(fake(local), fake(saying(["afar"])), unscored=side)
    got = found.ask(stream=True, tools=[{"type": "function", "function": {"name": "f"}}])
    assert got.text() == {"local": "near", "remote": "afar"}[side]
    assert "logprobs is not supported" in got.headers["x-edgecascade-detail"]
    assert found.metric("chat_unscored_total", why="refused") == 1


def test_a_prompt_beyond_the_local_context_goes_to_the_remote(fake: Any, gateway: Any) -> None:
    """The local endpoint could not answer it."""
    long = "request (18031 tokens) exceeds the available context size (2048 tokens), try increasing it"
    found = gateway(fake(lambda _: [refusal("400 Bad Request", long)]), fake(saying(["afar"])))
    got = found.ask()
    assert (got.text(), got.headers["x-edgecascade-reason"]) == ("afar", "unscored")
    assert found.metric("chat_unscored_total", why="context") == 1


@pytest.mark.parametrize(
    ("fields", "unlike"),
    [
        ({}, None),
        ({"top_p": 1, "n": 1, "seed": 3, "user": "u"}, None),
        ({"temperature": 0.5}, "temperature"),
        ({"temperature": None, "top_k": 3}, "temperature, top_k"),
        ({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]}, "turns"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "y"}]}]}, "content"),
    ],
)
def test_requests_unlike_the_calibration_are_flagged(
    fake: Any, gateway: Any, fields: dict[str, Any], unlike: str | None
) -> None:
    """By headers, in the body and in the counts; the fields that mean nothing for the text do not matter."""
    found = gateway(fake(saying(SHORT)), fake(saying(["no"])))
    got = found.ask(**fields)
    assert got.headers.get("x-edgecascade-uncalibrated") == unlike
    assert ", ".join(got.json()["edgecascade"].get("uncalibrated", [])) == (unlike or "")
    assert found.metric("chat_uncalibrated_total") == (unlike is not None)


def test_fields_of_the_calibration_can_be_filled_in(fake: Any, gateway: Any) -> None:
    """Only those that a request leaves out."""
    local = fake(saying(SHORT))
    found = gateway(local, fake(saying(["no"])), fill=True, document={"fields": {"temperature": 0, "max_tokens": 5}})
    got = found.ask(max_tokens=9)
    assert got.headers["x-edgecascade-uncalibrated"] == "max_tokens"
    assert (local.requests[0][1]["temperature"], local.requests[0][1]["max_tokens"]) == (0, 9)


def test_tokens_and_money_of_both_sides_are_counted(fake: Any, gateway: Any) -> None:
    """The remote's tokens cost 1 and 4 a million; streams that do not tell their usage are estimated."""
    found = gateway(fake(saying(SHORT, UNSURE)), fake(saying(["a", "b"])))
    found.ask()
    assert found.metric("chat_tokens_total", side="local", kind="completion", estimated="false") == 3
    assert found.metric("chat_tokens_total", side="remote", kind="completion", estimated="false") == 2
    assert found.metric("chat_money_total", side="remote") == pytest.approx((7 * 1 + 2 * 4) / 1e6)
    assert found.metric("chat_money_total", side="local") == 0
    found.ask(stream=True)
    assert found.metric("chat_tokens_total", side="remote", kind="completion", estimated="true") == 3
    assert found.metric("chat_tokens_total", side="remote", kind="prompt", estimated="true") == 7
    found.ask(stream=True, stream_options={"include_usage": True})
    assert found.metric("chat_tokens_total", side="remote", kind="completion", estimated="false") == 4


def test_models_health_and_errors_have_the_form_that_clients_expect(fake: Any, gateway: Any) -> None:
    """Errors are objects with a message, a type and a code."""
    found = gateway(fake(saying(SHORT)), fake(saying(["no"])))
    assert [one["id"] for one in found.request("GET", "/v1/models").json()["data"]] == ["both"]
    assert found.request("GET", "/v1/models/both").json()["object"] == "model"
    assert found.request("GET", "/health").json()["circuits"] == {"local": "closed", "remote": "closed"}
    messages: list[Any] = [[], "Hi", None, ["Hi"], [{"content": "Hi"}], [{"role": "user"}], {"role": "user"}]
    malformed = [json.dumps({"messages": one}).encode() for one in messages]
    for status, method, path, body in (
        (404, "GET", "/v1/models/other", None),
        (404, "POST", "/v1/embeddings", b"{}"),
        (405, "GET", "/v1/chat/completions", None),
        (400, "POST", "/v1/chat/completions", b"{"),
        (400, "POST", "/v1/chat/completions", b"[]"),
        *((400, "POST", "/v1/chat/completions", one) for one in malformed),
        (400, "POST", "/v1/chat/completions", b'{"messages": [{"role": "user", "content": "Hi"}], "stream": "false"}'),
        (413, "POST", "/v1/chat/completions", b" " * (33 << 20)),
    ):
        got = found.request(method, path, body)
        assert got.status == status, path
        assert got.json()["error"]["type"] == "invalid_request_error"
        assert got.json()["error"]["message"]
        assert ("messages" in got.json()["error"]["message"]) == (body in malformed)


def test_pages_in_browsers_are_refused(fake: Any, gateway: Any) -> None:
    """Any page could otherwise spend money; with a token it cannot."""
    local = fake(saying(SHORT))
    assert gateway(local, local).ask(headers={"Origin": "https://example.com"}).status == 403
    guarded = gateway(local, local, served={"token": "secret-of-the-gateway"})
    allowed = {"Origin": "https://example.com", "Authorization": "Bearer secret-of-the-gateway"}
    assert guarded.ask(headers=allowed).status == 200


@pytest.mark.parametrize("content", ["\ud83d", "\U0001f600 \u00e9", "\x00\u2028"])
def test_any_text_passes(fake: Any, gateway: Any, content: str) -> None:
    """Halves of characters, too, as some clients send them."""
    local, remote = fake(saying([content], UNSURE)), fake(saying([content]))
    got = gateway(local, remote).ask(content, stream=True)
    assert got.text() == content
    assert local.requests[0][1]["messages"][0]["content"] == content
    kept = gateway(fake(saying([content])), remote).ask(content)
    assert kept.text() == content


def test_a_token_guards_everything_but_health(fake: Any, gateway: Any) -> None:
    """It goes to neither endpoint."""
    local = fake(saying(SHORT))
    found = gateway(local, fake(saying(["no"])), served={"token": "secret-of-the-gateway"})
    assert found.ask().status == found.request("GET", "/metrics").status == 401
    assert found.request("GET", "/health").status == 200
    assert found.ask(headers={"Authorization": "Bearer secret-of-the-gateway"}).status == 200
    assert "secret-of-the-gateway" not in json.dumps(local.requests)


def test_a_kept_reply_comes_while_it_is_generated(fake: Any, gateway: Any) -> None:
    """Tokens after the decision are not held back."""
    events = events_of(LONG)

    def slow(_: Any) -> Any:
        yield HEAD + b"".join(chunked(one) for one in events[:12])
        yield None
        yield b"".join(chunked(one) for one in events[12:]) + LAST

    local = fake(slow)
    found = gateway(local, fake(saying(["no"])))
    connection = http.client.HTTPConnection("127.0.0.1", found.port, timeout=10)
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": True})
    connection.request("POST", "/v1/chat/completions", body)
    response = connection.getresponse()
    first = b""
    while first.count(b"data:") < 12:
        first += response.read1()
    assert b" w10" in first
    assert not local.go_on.is_set()
    local.go_on.set()
    rest = response.read()
    connection.close()
    assert (first + rest).count(b'"content"') == 21


def test_a_whole_reply_that_comes_as_a_stream_is_made_whole(fake: Any, gateway: Any) -> None:
    """As from servers that stream always, such as that of transformers."""

    def streams(asked: dict[str, Any]) -> Any:
        return saying(["a", "far"])({**asked, "stream": True, "stream_options": {"include_usage": True}})

    got = gateway(fake(saying(SHORT, UNSURE)), fake(streams)).ask()
    assert got.headers["content-type"] == "application/json"
    assert (got.text(), got.json()["usage"]["completion_tokens"]) == ("afar", 2)
    assert got.json()["edgecascade"]["source"] == "remote"


@pytest.mark.parametrize(("limit", "streams"), [(8, False), (9, True), (None, True)])
def test_the_local_side_streams_where_that_can_decide_early(
    fake: Any, gateway: Any, limit: int | None, streams: bool
) -> None:
    """A reply of at most eight tokens is decided about at its end anyway."""
    local = fake(saying(SHORT))
    assert gateway(local, fake(saying(["no"]))).ask(max_tokens=limit).text() == "Paris."
    assert local.requests[0][1]["stream"] is streams


def test_connections_are_used_again(fake: Any, gateway: Any, serve: Any) -> None:
    """Those to both sides, after whole replies and streams."""
    local, remote = fake(saying(SHORT, UNSURE)), fake(saying(["afar"]))
    servers = [serve(local), serve(remote)]
    found = gateway(*(f"http://127.0.0.1:{one.port}/v1" for one in servers))
    for stream in (False, True, True, False):
        assert found.ask(stream=stream).text() == "afar"
    assert [one.connections for one in servers] == [1, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_other_models_than_those_of_the_calibration_are_flagged(fake: Any, gateway: Any, stream: bool) -> None:
    """By the names that the servers report, on either side; the folder of a file does not matter."""
    side = ChatSide("http://127.0.0.1:1/v1", None, "")
    for near, far, logprob, unlike in (
        ("some", "some", SURE, "local model"),
        ("some", "some", UNSURE, "local model, remote model"),
        ("/models/fake", "some", SURE, None),
        ("/models/fake", "some", UNSURE, "remote model"),
        ("", "", UNSURE, None),
    ):
        document = {"local": replace(side, reported=near), "remote": replace(side, reported=far)}
        got = gateway(fake(saying(SHORT, logprob)), fake(saying(["afar"])), document=document).ask(stream=stream)
        assert got.headers.get("x-edgecascade-uncalibrated") == unlike
