"""Whatever an endpoint or a client does, a request ends: with the reply of one side, or an error in OpenAI's form."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from chat_endpoints import HEAD, LAST, UNSURE, Fake, Gateway, answer, chunked, event, events_of, refusal, saying
from edgecascade.chat.endpoint import Endpoint
from edgecascade.types.errors import ArgumentError

LONG = [f" w{i}" for i in range(20)]
BROKEN: dict[str, Callable[[Any], Any]] = {
    "reset": lambda _: [b""],
    "head alone": lambda _: [HEAD, b""],
    "garbage": lambda _: [b"\x00\x01 not HTTP\r\n\r\n", b""],
    "page": lambda _: [b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"],
    "no choices": lambda _: [answer(b'{"object": "chat.completion"}')],
    "error in 200": lambda _: [answer(b'{"error": {"message": "out of memory"}}')],
    "error as event": lambda _: [HEAD, chunked(event({"error": {"message": "out of memory"}})), LAST],
    "redirect": lambda _: [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"],
    "429": lambda _: [refusal("429 Too Many Requests", "slow down")],
    "500": lambda _: [refusal("500 Internal Server Error", "it hurts")],
    "503": lambda _: [refusal("503 Service Unavailable", "loading model")],
    "401": lambda _: [refusal("401 Unauthorized", "who are you")],
    "404": lambda _: [refusal("404 Not Found", "no such model")],
    "400": lambda _: [refusal("400 Bad Request", "no")],
    "slow": lambda _: [None],
    "compressed": lambda _: [answer(b"{}", Content_Encoding="br")],
}
QUICK = {"deadline": 0.6, "patience": 0.6}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_remote_that_fails_gives_the_local_reply(fake: Any, gateway: Any, fault: str, stream: bool) -> None:
    """The reason says what happened, in a word and a sentence."""
    found = gateway(fake(saying(LONG, UNSURE)), fake(BROKEN[fault]), **QUICK)
    started = time.monotonic()
    got = found.ask(stream=stream)
    assert time.monotonic() - started < 10
    assert (got.status, got.text()) == (200, "".join(LONG))
    assert got.headers["x-edgecascade-source"] == "local"
    assert got.headers["x-edgecascade-reason"] == ("deadline" if fault == "slow" else "remote error")
    assert got.headers["x-edgecascade-detail"].startswith("remote: ")
    if stream:
        assert got.events()[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_local_endpoint_that_fails_gives_the_remote_reply(fake: Any, gateway: Any, fault: str, stream: bool) -> None:
    """The remote's words come alone."""
    found = gateway(fake(BROKEN[fault]), fake(saying(["afar"])), **QUICK)
    got = found.ask(stream=stream)
    assert (got.status, got.text()) == (200, "afar")
    assert (got.headers["x-edgecascade-source"], got.headers["x-edgecascade-reason"]) == ("remote", "local error")
    assert got.headers["x-edgecascade-detail"].startswith("local: ")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BROKEN)
def test_two_endpoints_that_fail_give_an_error_with_both_reasons(
    fake: Any, gateway: Any, fault: str, stream: bool
) -> None:
    """It has OpenAI's form; only where both blame the request does it have their status."""
    found = gateway(fake(BROKEN[fault]), fake(BROKEN[fault]), **QUICK)
    got = found.ask(stream=stream)
    assert got.status == (400 if fault == "400" else 503)
    error = got.json()["error"]
    assert error["code"] == "no_endpoint_replied"
    assert "local: " in error["message"]
    assert "remote: " in error["message"]
    assert found.metric("chat_unanswered_total") == 1


@pytest.mark.parametrize("stream", [False, True])
def test_endpoints_that_are_not_there(gateway: Any, fake: Any, nowhere: str, stream: bool) -> None:
    """Either may be missing; without both there is an error."""
    assert gateway(nowhere, fake(saying(["afar"]))).ask(stream=stream).text() == "afar"
    got = gateway(fake(saying(LONG, UNSURE)), nowhere).ask(stream=stream)
    assert (got.text(), got.headers["x-edgecascade-reason"]) == ("".join(LONG), "offline")
    neither = gateway(nowhere, nowhere).ask(stream=stream)
    assert neither.status == 503
    assert neither.json()["error"]["message"].count("cannot connect") == 2


def until_broken(words: list[str], logprob: float, events: int) -> Callable[[Any], Any]:
    """Return the script of an endpoint that is killed after so many events, or in the middle of a whole reply."""

    def script(asked: dict[str, Any]) -> Any:
        if not asked.get("stream"):
            return [answer(b'{"choices": [').replace(b"Length: 13", b"Length: 999"), b""]
        return [HEAD, *(chunked(one) for one in events_of(words, logprob)[:events]), None, b""]

    return script


def killed(found: Gateway, one: Fake) -> Any:
    """Ask for a stream, and let the endpoint break once the client has the beginning of it."""
    connection = http.client.HTTPConnection("127.0.0.1", found.port, timeout=10)
    with contextlib.closing(connection):
        body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": True})
        connection.request("POST", "/v1/chat/completions", body)
        response = connection.getresponse()
        first = response.read1()
        one.go_on.set()
        return response, first + response.read()


@pytest.mark.parametrize("side", ["local", "remote"])
def test_a_side_that_is_killed_in_mid_stream_ends_in_an_error_event(fake: Any, gateway: Any, side: str) -> None:
    """What the client has seen cannot be taken back, and nothing of the other side follows it."""
    local = fake(until_broken(LONG, -0.1, 12) if side == "local" else saying(["unsure"], UNSURE))
    remote = fake(until_broken(LONG, -0.1, 12) if side == "remote" else saying(["afar"]))
    found = gateway(local, remote)
    response, body = killed(found, local if side == "local" else remote)
    assert response.headers["x-edgecascade-source"] == side
    *chunks, last = [json.loads(one.removeprefix(b"data: ")) for one in body.split(b"\n\n") if one.strip()]
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks) == "".join(LONG[:11])
    assert last["error"]["code"] == "stream_broken"
    assert last["error"]["message"] == f"{side}: the connection broke before the end of the reply"
    assert found.metric("chat_broken_streams_total", side=side) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_side_that_is_killed_early_loses_nothing(fake: Any, gateway: Any, stream: bool) -> None:
    """Before the first byte has gone to the client, the other side answers."""
    local = fake(until_broken(LONG, -0.1, 5))
    local.go_on.set()
    assert gateway(local, fake(saying(["afar"]))).ask(stream=stream).text() == "afar"
    remote = fake(until_broken(LONG, -0.1, 0))
    remote.go_on.set()
    got = gateway(fake(saying(LONG, UNSURE)), remote).ask(stream=stream)
    assert got.text() == "".join(LONG)
    whole = fake(until_broken(LONG, -0.1, 12))  # kept, but broken before a whole reply is complete
    whole.go_on.set()
    if not stream:
        assert gateway(whole, fake(saying(["afar"]))).ask().text() == "afar"


def test_a_local_reply_that_is_still_generated_is_the_fallback(fake: Any, gateway: Any) -> None:
    """While the remote is awaited the local endpoint goes on; when the remote fails, all of its tokens come."""
    events = events_of(LONG, UNSURE)

    def slow(_: Any) -> Any:
        yield HEAD + b"".join(chunked(one) for one in events[:12])
        yield None
        yield b"".join(chunked(one) for one in events[12:]) + LAST

    def failing(_: Any) -> Any:
        local.go_on.set()
        time.sleep(0.2)
        yield refusal("400 Bad Request", "no")

    local = fake(slow)
    got = gateway(local, fake(failing)).ask(stream=True)
    assert (got.text(), got.headers["x-edgecascade-reason"]) == ("".join(LONG), "remote error")


def test_a_stream_that_falls_silent_ends(fake: Any, gateway: Any) -> None:
    """After `patience` without a byte, the client gets an error event."""
    found = gateway(fake(until_broken(LONG, -0.1, 12)), fake(saying(["no"])), patience=0.3)
    got = found.ask(stream=True)
    assert b"no byte came for 0.3 s" in got.body


def test_a_remote_that_fails_often_is_left_alone(fake: Any, gateway: Any) -> None:
    """After five failures in a row it is not asked, and the local reply comes at once."""
    remote = fake(lambda _: [refusal("401 Unauthorized", "who are you")])
    found = gateway(fake(saying(["near"], UNSURE)), remote)
    reasons = [found.ask().headers["x-edgecascade-reason"] for _ in range(7)]
    assert reasons == ["remote error"] * 5 + ["circuit open"] * 2
    assert len(remote.requests) == 5
    assert found.metric("chat_circuit_state", side="remote", state="open") == 1


def test_each_side_that_is_left_alone_is_called_by_its_name(gateway: Any, nowhere: str) -> None:
    """The error of a local endpoint does not blame the remote."""
    found = gateway(nowhere, nowhere)
    for _ in range(6):
        message = found.ask().json()["error"]["message"]
    local, _, remote = message.removeprefix("no endpoint replied: ").partition("; remote: ")
    assert local.startswith("local: not asked for another")
    assert remote.startswith("not asked for another")
    assert "remote: " not in local + remote


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("http://u:p@h/v1", {}, "local: expected an address without user:password@"),
        ("http://[::1/v1", {}, r"local: expected http\[s\]://host"),
        ("http://h/v1", {"proxy": "nowhere"}, "proxy: expected http://"),
    ],
)
def test_an_address_that_cannot_be_is_refused_at_once(url: str, options: dict[str, Any], said: str) -> None:
    """The error names the side that it is of."""
    with pytest.raises(ArgumentError, match=said):
        Endpoint("local", url, **options)


def test_a_failure_that_may_pass_is_tried_again(fake: Any, gateway: Any) -> None:
    """A remote that is overloaded for a moment replies after all."""
    replies = iter([[refusal("503 Service Unavailable", "busy")], [refusal("429 Too Many Requests", "busy")]])
    remote = fake(lambda asked: next(replies, None) or saying(["afar"])(asked))
    got = gateway(fake(saying(["near"], UNSURE)), remote).ask()
    assert (got.text(), len(remote.requests)) == ("afar", 3)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("waits_for", ["decision", "remote", "rest of the local reply", "rest of the remote's"])
def test_a_client_that_leaves_cancels_both_sides(fake: Any, gateway: Any, waits_for: str, stream: bool) -> None:
    """The endpoints see the disconnect, whatever is being waited for."""
    logprob = UNSURE if "remote" in waits_for else -0.1
    held = {"decision": 5, "rest of the local reply": 12}.get(waits_for, 12)
    events = events_of(LONG, logprob)

    def local(_: Any) -> Any:
        return [HEAD, *(chunked(one) for one in events[:held]), None]

    def remote(asked: Any) -> Any:
        begun = waits_for == "rest of the remote's" and asked.get("stream")
        return [*([HEAD, *(chunked(one) for one in events[:5])] if begun else []), None]

    one, other = fake(local), fake(remote)
    found = gateway(one, other)
    connection = http.client.HTTPConnection("127.0.0.1", found.port, timeout=10)
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": stream})
    connection.request("POST", "/v1/chat/completions", body)
    awaited = other if "remote" in waits_for else one
    wait_until(lambda: bool(awaited.requests))
    time.sleep(0.2)
    connection.close()
    assert one.left.wait(5), "the local endpoint did not see it"
    if "remote" in waits_for:
        assert other.left.wait(5), "the remote did not see it"
    wait_until(lambda: found.metric("chat_cancelled_total") == 1)


@pytest.mark.parametrize("call", ["write", "write_eof"])
def test_a_client_that_has_gone_is_no_failure(
    fake: Any, gateway: Any, call: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not when an event cannot be sent, nor at the end: clients close at the last event, a few bytes before it."""
    found = gateway(fake(saying(["near"], UNSURE)), fake(saying(["afar"])))

    async def gone(self: web.StreamResponse, *_: Any) -> None:
        assert self.prepared
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    with monkeypatch.context() as patched:
        patched.setattr(web.StreamResponse, call, gone)
        with contextlib.suppress(http.client.HTTPException, ConnectionError):
            found.ask(stream=True)
    assert caplog.records == []
    assert found.metric("chat_cancelled_total") == (call == "write")
    assert found.ask(stream=True).text() == "afar"


def test_a_remote_that_answers_ends_the_local_reply(fake: Any, gateway: Any) -> None:
    """The local endpoint stops generating what nobody will read."""
    events = events_of(LONG, UNSURE)
    local = fake(lambda _: [HEAD, *(chunked(one) for one in events[:12]), None])
    assert gateway(local, fake(saying(["afar"]))).ask(stream=True).text() == "afar"
    assert local.left.wait(5)


def test_budget_and_egress_keep_requests_on_the_device(fake: Any, gateway: Any) -> None:
    """The reply is then the local one, with the reason; an egress function that raises keeps them as well."""
    from edgecascade.runtime import Budget, Rate

    local, remote = fake(saying(["near"], UNSURE)), fake(saying(["afar"]))
    found = gateway(local, remote, budget=Budget(forwards=Rate.per_hour(1)))
    assert [found.ask().headers["x-edgecascade-reason"] for _ in range(2)] == ["offloaded", "budget"]
    assert found.metric("budget_level") < 0.1
    private = gateway(local, remote, egress=lambda asked: "secret" not in json.dumps(asked["messages"]))
    assert private.ask("a secret").headers["x-edgecascade-reason"] == "egress"
    assert private.ask("a letter").headers["x-edgecascade-reason"] == "offloaded"
    assert gateway(local, remote, egress=lambda _: 1 / 0).ask().headers["x-edgecascade-reason"] == "egress"
    assert len(remote.requests) == 2


def test_errors_do_not_repeat_secrets(fake: Any, gateway: Any) -> None:
    """A server that quotes the credentials in its refusal is not quoted with them."""
    remote = fake(lambda _: [refusal("401 Unauthorized", "no access for Bearer very-secret-key-123")])
    headers = {"Authorization": "Bearer very-secret-key-123"}
    got = gateway(fake(saying(["near"], UNSURE)), remote, remote_headers=headers).ask()
    assert "very-secret" not in json.dumps(got.headers) + got.body.decode()
    assert "no access for" in got.headers["x-edgecascade-detail"]


def test_many_at_once_keep_their_own_words(fake: Any, gateway: Any) -> None:
    """Requests under way together do not mix."""

    def echo(asked: dict[str, Any]) -> Any:
        number = int(asked["messages"][0]["content"])
        return saying([f"local {number}"] * 12, UNSURE if number % 2 else -0.1)(asked)

    found = gateway(fake(echo), fake(lambda asked: saying([f"remote {asked['messages'][0]['content']}"])(asked)))
    said: dict[int, str] = {}

    def ask(number: int) -> None:
        said[number] = found.ask(str(number), stream=number % 3 == 0).text()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert said == {n: f"remote {n}" if n % 2 else f"local {n}" * 12 for n in range(40)}


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something for a few seconds."""
    until = time.monotonic() + 8
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("status", "check"), [(401, "--remote-header-file"), (403, "--remote-header-file"), (404, "--remote")]
)
def test_a_remote_that_refuses_everyone_is_told_once(
    fake: Any, gateway: Any, caplog: pytest.LogCaptureFixture, status: int, check: str
) -> None:
    """Because local replies hide it; the health shows it until the remote answers."""
    refuses = True

    def remote(asked: Any) -> Any:
        return [refusal(f"{status} No", "not for you")] if refuses else saying(["far"])(asked)

    found = gateway(fake(saying(["near"], UNSURE)), fake(remote))
    assert found.request("GET", "/health").json()["refused"] == {}
    assert [found.ask().text() for _ in range(2)] == ["near", "near"]
    (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert warning.startswith(f"remote: HTTP {status}")
    assert check in warning.split()
    assert found.request("GET", "/health").json() == {
        "status": "ok",
        "circuits": {"local": "closed", "remote": "closed"},
        "refused": {"remote": status},
    }
    refuses = False
    assert found.ask().text() == "far"
    assert found.request("GET", "/health").json()["refused"] == {}
