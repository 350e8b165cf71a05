"""Asking two endpoints: each prompt once, whatever fails, and never beyond the budget."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asked_endpoints import FakeEndpoint, Raw, completion, large, prompts_about, refusal, small, streamed
from edgecascade.chat import Usage
from edgecascade.export import Asked, AskedEndpoint, ExportError, ask_both
from edgecascade.export.chat import ask
from edgecascade.export.chat.replies import Replies
from edgecascade.types.document import TokenPrice
from edgecascade.types.errors import ArgumentError, RemoteError

STREAM = {"Content-Type": "text/event-stream"}
Serve = Callable[[Any], FakeEndpoint]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait only milliseconds before a retry."""
    monkeypatch.setattr(ask, "_FIRST_WAIT", 0.002)
    monkeypatch.setattr(ask, "_LONGEST_WAIT", 0.01)


def asked_of(servers: tuple[FakeEndpoint, FakeEndpoint], n: int = 20, **options: Any) -> Asked:
    """Ask a local and a remote server about n prompts."""
    sides = {side: options.pop(side, {}) for side in ("local", "remote")}
    local, remote = (
        AskedEndpoint(side, server.url, **sides[side]) for side, server in zip(sides, servers, strict=True)
    )
    try:
        prompts, replies = options.pop("prompts", prompts_about(n)), options.pop("replies", Replies(None))
        return ask_both(prompts, local, remote, replies, **options)
    finally:
        local.close()
        remote.close()


def test_each_endpoint_is_asked_once_about_every_prompt(serve: Serve) -> None:
    """The local one for a stream with log-probabilities, as the gateway does, the remote one for the text alone."""
    servers = serve(small), serve(large)
    found = asked_of(servers, local={"model": "m", "fields": {"max_tokens": 9, "seed": 1}})
    for server, scored in zip(servers, (True, None), strict=True):
        assert Counter(server.asked()) == Counter(f"Say {at}" for at in range(20))
        assert {(one.get("logprobs"), one.get("stream")) for one in server.requests} == {(scored, scored)}
        assert {one["temperature"] for one in server.requests} == {0}
    assert {(one["model"], one["max_tokens"], one["seed"]) for one in servers[0].requests} == {("m", 9, 1)}
    assert {"model" in one for one in servers[1].requests} == {False}
    assert (found.new, found.pairs, found.failures, found.exhausted) == (40, 20, {"local": (), "remote": ()}, False)
    for at, prompt in enumerate(prompts_about(20)):
        expected = small({"messages": prompt.messages})["choices"][0]
        reply = found.local[at]
        assert reply is not None
        assert reply.text == expected["message"]["content"]
        assert reply.logprobs == tuple(one["logprob"] for one in expected["logprobs"]["content"])
        assert (reply.model, reply.usage, reply.cut_off) == ("small-1", Usage(10, 5), False)
        other = found.remote[at]
        assert other is not None
        assert (other.model, other.usage, other.logprobs) == ("large-1", Usage(20, 10), None)


def test_what_was_replied_is_not_asked_again(serve: Serve, tmp_path: Path) -> None:
    """An interruption loses no reply that came; another model, address or field asks anew."""
    servers = serve(small), serve(large)
    replies = Replies(tmp_path / "replies.jsonl")
    calls = 0

    def interrupt(_side: str, _cost: float) -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked_of(servers, replies=replies, progress=interrupt, concurrency=1)
    kept = sum(line.count(b"logprobs") for line in (tmp_path / "replies.jsonl").read_bytes().splitlines())
    assert 10 <= kept < 40
    again = asked_of(servers, replies=Replies(tmp_path / "replies.jsonl"))
    assert again.pairs == 20
    assert max(len(server.requests) for server in servers) <= 21  # one each was under way
    assert asked_of(servers, replies=Replies(tmp_path / "replies.jsonl")).new == 0
    other = asked_of(servers, replies=Replies(tmp_path / "replies.jsonl"), local={"fields": {"max_tokens": 3}})
    assert other.new == 20


@pytest.mark.parametrize("slow", ["local", "remote"])
def test_no_endpoint_is_far_ahead_of_the_other(serve: Serve, slow: str) -> None:
    """So that an interruption leaves prompts with both replies, and no reply is paid for long before it is of use."""
    sides: list[str] = []
    waiting, lead = threading.Event(), 0

    def told(side: str, _: float) -> None:
        nonlocal lead
        sides.append(side)
        lead = max(lead, len(sides) - 2 * sides.count(slow))

    def slowly(reply: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        def replied(asked: dict[str, Any]) -> Any:
            waiting.wait(0.005)
            return reply(asked)

        return replied

    servers = serve(slowly(small) if slow == "local" else small), serve(slowly(large) if slow == "remote" else large)
    assert asked_of(servers, 60, progress=told, concurrency=1).pairs == 60
    assert 2 <= lead <= 10


def test_closing_ends_requests_under_way(serve: Serve) -> None:
    """With an error, at once: llama.cpp in this process ends only after its clients."""
    asked, ended, said = threading.Event(), threading.Event(), []

    def never(_: dict[str, Any]) -> Any:
        asked.set()
        ended.wait(30)
        return completion("x", [-1.0])

    endpoint = AskedEndpoint("local", serve(never).url)

    def ask_it() -> None:
        try:
            endpoint.ask([{"role": "user", "content": "Hi"}])
        except RemoteError as error:
            said.append(str(error))

    asking = threading.Thread(target=ask_it)
    asking.start()
    assert asked.wait(10)
    endpoint.close()
    asking.join(10)
    ended.set()
    assert len(said) == 1
    with pytest.raises(RemoteError):
        endpoint.ask([{"role": "user", "content": "Hi"}])


def test_a_server_that_wants_a_model_is_told_with_its_models(serve: Serve) -> None:
    """Only where none was named."""
    servers = serve(small), serve(lambda _: refusal(404, "The model None does not exist"))
    with pytest.raises(ExportError, match=r"no model was named, which --remote-model does; it has small-1, large-1"):
        asked_of(servers)
    with pytest.raises(ExportError, match=r"^remote: HTTP 404: The model None does not exist( \(.*)?$"):
        asked_of(servers, remote={"model": "m"})


def test_the_same_prompt_twice_is_asked_once(serve: Serve) -> None:
    """Both places get the reply."""
    servers = serve(small), serve(large)
    twice = [*prompts_about(5), *prompts_about(5)]
    found = asked_of(servers, prompts=twice)
    assert (found.new, found.pairs) == (10, 10)
    assert found.local[:5] == found.local[5:]


@pytest.mark.parametrize(
    "fault",
    [
        refusal(429, "slow down", Retry_After="0"),
        refusal(503, "loading"),
        Raw(200, b'{"choices": [{"message"', whole=False),
        Raw(200, streamed(completion("It is", [-0.1])), STREAM, whole=False),
    ],
    ids=["429", "503", "cut", "cut stream"],
)
def test_a_failure_that_passes_is_retried(serve: Serve, fault: Raw) -> None:
    """Each prompt fails once on each side, then succeeds."""
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def failing(reply: Any) -> Any:
        def first(asked: dict[str, Any]) -> Any:
            key = f"{'logprobs' in asked} {asked['messages'][-1]['content']}"
            with lock:
                seen[key] += 1
            return fault if seen[key] == 1 else reply(asked)

        return first

    found = asked_of((serve(failing(small)), serve(failing(large))), n=8)
    assert (found.pairs, found.failures) == (8, {"local": (), "remote": ()})


def test_a_long_wait_is_told_once(serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """A server that is busy for a while is named with its reason, so that the command does not seem to hang."""
    monkeypatch.setattr("edgecascade.export.chat.ask._NOTICED", 0.0)
    seen: Counter[str] = Counter()

    def busy(asked: dict[str, Any]) -> Any:
        seen[asked["messages"][-1]["content"]] += 1
        return refusal(503, "loading") if seen[asked["messages"][-1]["content"]] == 1 else large(asked)

    assert asked_of((serve(small), serve(busy)), n=6).pairs == 6
    (record,) = caplog.records
    assert record.getMessage().startswith("remote: HTTP 503: loading; ")


@pytest.mark.parametrize("side", [0, 1])
def test_an_endpoint_that_refuses_everyone_is_given_up_at_once(serve: Serve, side: int) -> None:
    """A wrong key costs one request, and the error has the server's words without the key."""
    key = "Bearer sk-0123456789abcdef"

    def closed(asked: dict[str, Any]) -> Raw:
        return refusal(401, f"wrong key {key} for {asked.get('model')}")

    servers = [serve(small), serve(large)]
    servers[side] = serve(closed)
    name = ("local", "remote")[side]
    given: dict[str, Any] = {name: {"headers": {"Authorization": key}}}
    with pytest.raises(ExportError, match=f"{name}: HTTP 401: wrong key") as caught:
        asked_of((servers[0], servers[1]), **given)
    assert "0123456789" not in str(caught.value)
    assert f"--{name}-header-file" in str(caught.value)
    assert len(servers[side].requests) == 1
    assert {one.get("authorization") for one in servers[1 - side].headers} <= {None}


def test_nothing_listens(serve: Serve) -> None:
    """An address without a server is an error within a second or two."""
    gone = FakeEndpoint("http://127.0.0.1:9/v1")
    with pytest.raises(ExportError, match=r"local: cannot connect to 127\.0\.0\.1:9"):
        asked_of((gone, serve(large)))


def test_a_server_that_breaks_later_is_given_up(serve: Serve) -> None:
    """After some failures in a row the rest is not asked, and what came is kept."""
    count = 0

    def breaking(asked: dict[str, Any]) -> Any:
        nonlocal count
        count += 1
        return large(asked) if count <= 5 else refusal(500, "out of memory")

    replies, server = Replies(None), serve(breaking)
    with pytest.raises(ExportError, match=r"remote: HTTP 500: out of memory .*kept"):
        asked_of((serve(small), server), n=60, replies=replies, concurrency=1)
    endpoint = AskedEndpoint("remote", server.url)
    assert sum(replies.get(one.digest, "remote", endpoint.request) is not None for one in prompts_about(60)) == 5
    assert len(server.requests) < 5 + 60


def test_prompts_that_are_refused_are_left_out(serve: Serve) -> None:
    """One that is too long for a model does not end the others; what the server said is told."""

    def choosy(asked: dict[str, Any]) -> Any:
        long = asked["messages"][-1]["content"].endswith("7")
        return refusal(400, "the prompt is too long") if long else small(asked)

    found = asked_of((serve(choosy), serve(large)))
    assert found.pairs == 18
    assert found.failures == {"local": ("local: HTTP 400: the prompt is too long",) * 2, "remote": ()}


# --- log-probabilities


def end_alone() -> dict[str, Any]:
    """Return a reply that has no token but the end of the text, as llama.cpp lists it."""
    found = completion("", [-0.5])
    found["choices"][0]["logprobs"]["content"][0] |= {"token": "", "bytes": []}
    return found


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            lambda asked: refusal(400, "logprobs is not supported") if "logprobs" in asked else large(asked),
            "HTTP 400: logprobs is not supported; a local endpoint must give log-probabilities, as llama.cpp",
        ),
        (lambda _: completion("x"), "expected log-probabilities.*the reply has no log-probabilities"),
        (lambda _: completion("x", []), "expected log-probabilities.*the reply has no log-probabilities"),
        (lambda _: end_alone(), "expected log-probabilities.*no tokens but the end of the text"),
        (lambda _: completion("x", [-0.1, None]), "expected log-probabilities.*for token 1, got None"),
        (lambda _: completion("x", [-9999.0]), "expected log-probabilities.*for token 0, got -9999"),
    ],
    ids=["refused", "omitted", "empty", "end", "null", "unlikely"],
)
def test_a_local_endpoint_without_logprobs_is_said_before_the_rest_is_asked(
    serve: Serve, reply: Any, expected: str
) -> None:
    """Three prompts tell; the remote is not asked at all."""
    servers = serve(reply), serve(large)
    with pytest.raises(ExportError, match=f"local: {expected}"):
        asked_of(servers)
    assert len(servers[0].requests) == 3
    assert servers[1].requests == []


@pytest.mark.parametrize(
    ("field", "advice"),
    [("temperature", '{"temperature": null}'), ("max_tokens, use max_completion_tokens", '"max_completion_tokens": N')],
)
def test_a_refused_field_can_be_left_out(serve: Serve, field: str, advice: str) -> None:
    """The error says how, and then it works."""
    name = field.partition(",")[0]

    def choosy(asked: dict[str, Any]) -> Any:
        return refusal(400, f"unsupported: {field}") if name in asked else large(asked)

    servers = serve(small), serve(choosy)
    with pytest.raises(ExportError, match=re.escape(advice)):
        asked_of(servers)
    assert asked_of(servers, remote={"fields": {name: None, "max_completion_tokens": 9}}).pairs == 20


def test_single_replies_without_logprobs_are_kept_unscored(serve: Serve) -> None:
    """They have a text and a reason."""

    def sometimes(asked: dict[str, Any]) -> Any:
        return completion("x", [None]) if asked["messages"][-1]["content"].endswith("3") else small(asked)

    found = asked_of((serve(sometimes), serve(large)))
    unscored = [one for one in found.local if one is not None and one.logprobs is None]
    assert [(one.text, "got None" in one.unscored) for one in unscored] == [("x", True)] * 2


@pytest.mark.parametrize(
    "body",
    [
        *(b"null", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [{"message": 3}]}'),
        b'{"error": {"message": "overloaded"}}',
        *(b"<html>", b"\xff"),
    ],
)
def test_garbage_is_an_error_of_its_side(serve: Serve, body: bytes) -> None:
    """It is named, and never an exception of another kind."""
    for found in (Raw(200, body), Raw(200, body, STREAM), Raw(200, b"data: " + body + b"\n\n", STREAM)):
        with pytest.raises(ExportError, match=r"^local: "):
            asked_of((serve(lambda _, found=found: found), serve(large)))


def test_a_local_endpoint_must_stream(serve: Serve) -> None:
    """Else the gateway could not ask it; with tools, the gateway asks for whole replies."""
    with pytest.raises(ExportError, match="local: expected a stream of events"):
        asked_of((serve(lambda asked: Raw(200, json.dumps(small(asked)).encode())), serve(large)))
    server = serve(small)
    assert asked_of((server, serve(large)), n=3, local={"fields": {"tools": [{"type": "function"}]}}).pairs == 3
    assert {"stream" in one for one in server.requests} == {False}


def test_a_slow_reply_is_given_up(serve: Serve) -> None:
    """The time for one request is bounded."""
    wait = threading.Event()

    def slow(_asked: dict[str, Any]) -> Any:
        wait.wait(5)
        return completion("x", [-1.0])

    with pytest.raises(ExportError, match=r"local: no reply within 0\.2 s"):
        asked_of((serve(slow), serve(large)), local={"timeout": 0.2})
    wait.set()


# --- money


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_than_the_budget_is_spent(serve: Serve, counted: bool, concurrency: int) -> None:
    """What is spent is what the server counted, or at most that; the rest is not asked, and no reply is alone."""

    def priced(asked: dict[str, Any]) -> Any:
        found = large(asked)
        return found if counted else {name: value for name, value in found.items() if name != "usage"}

    servers = serve(small), serve(priced)
    price = TokenPrice(100.0, 1000.0)
    cost = (100 * 20 + 1000 * 10) / 1e6
    remote = {"price": price, "fields": {"max_tokens": 12}}
    found = asked_of(servers, n=40, remote=remote, max_cost=20 * cost, concurrency=concurrency)
    n = len(servers[1].requests)
    assert found.exhausted
    assert found.cost <= 20 * cost
    if counted:
        assert found.cost == pytest.approx(n * cost)
        assert 18 - concurrency <= n <= 20
    assert 0 < found.pairs == n < 40
    assert len(servers[0].requests) <= n + 2 * concurrency + 1
    again = asked_of(servers, n=40, remote=remote, max_cost=200 * cost)
    assert not again.exhausted


def test_a_budget_needs_a_price_and_a_bound(serve: Serve) -> None:
    """Both errors come before a request."""
    servers = serve(small), serve(large)
    with pytest.raises(ArgumentError, match="max_cost: expected the price"):
        asked_of(servers, max_cost=1.0)
    unbounded = {"price": TokenPrice(1.0, 1.0), "fields": {"max_tokens": None}}
    with pytest.raises(ArgumentError, match="fields: expected max_tokens"):
        asked_of(servers, max_cost=1.0, local=unbounded)
    assert servers[0].requests == []


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"model": "another"},
        {"stream": False},
        {"logprobs": False},
        {"n": 2},
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": 9.5},
        {"max_tokens": True},
        {"max_completion_tokens": -1},
    ],
)
def test_fields_cannot_change_what_is_measured_or_bounded(fields: dict[str, Any]) -> None:
    """Each would replace the prompts, ask for other replies than those that are scored, or lift the bound of a cost."""
    with pytest.raises(ArgumentError, match=f"fields: expected .*{next(iter(fields))}"):
        AskedEndpoint("remote", "http://127.0.0.1:1/v1", fields=fields)


def test_progress_tells_the_cost_so_far(serve: Serve) -> None:
    """It rises to the cost of all, and names the side of each reply."""
    told: list[tuple[str, float]] = []
    found = asked_of(
        (serve(small), serve(large)),
        remote={"price": TokenPrice(1.0, 2.0)},
        progress=lambda side, cost: told.append((side, cost)),
    )
    assert Counter(side for side, _ in told) == {"local": 20, "remote": 20}
    assert max(cost for _, cost in told) == found.cost == pytest.approx(20 * 40e-6)
