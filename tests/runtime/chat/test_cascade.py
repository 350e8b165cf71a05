"""`ChatCascade`: the same in Python, with and without an event loop."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chat_endpoints import HEAD, UNSURE, chunked, events_of, saying
from chat_files import chat_document
from edgecascade.chat import ChatCascade, ChatReason
from edgecascade.runtime import ArgumentError, InvalidReply, NoReply, Source

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of two endpoints."""
    (tmp_path / "chat.json").write_text(chat_document().to_json())
    return tmp_path / "chat.json"


def test_an_answer_says_what_it_used_and_cost(path: Path, fake: Any) -> None:
    """Kept or forwarded; the remote's tokens cost 1 and 4 a million."""
    with ChatCascade.load(path, local=fake(saying(["near"])).url, remote=fake(saying(["no"])).url) as cascade:
        kept = cascade.complete(MESSAGES, temperature=0)
    assert (kept.text, kept.source, kept.reason) == ("near", Source.LOCAL, ChatReason.CONFIDENT)
    assert kept.confidence == pytest.approx(0.852, abs=1e-3)
    assert kept.cost == 0
    assert "edgecascade" not in kept.completion
    with ChatCascade.load(path, local=fake(saying(["a"], UNSURE)).url, remote=fake(saying(["b", "c"])).url) as cascade:
        sent = cascade.complete(MESSAGES, temperature=0)
    assert (sent.text, sent.source, sent.reason) == ("bc", Source.REMOTE, ChatReason.OFFLOADED)
    assert {side: usage[:2] for side, usage in sent.usage.items()} == {Source.LOCAL: (7, 1), Source.REMOTE: (7, 2)}
    assert sent.cost == pytest.approx((7 + 2 * 4) / 1e6)
    assert sent.elapsed > 0


def test_it_streams_without_and_with_an_event_loop(path: Path, fake: Any) -> None:
    """The first chunk of a local reply holds the verdict, and the open reply that of any."""
    words = [f" w{i}" for i in range(20)]
    urls = {"local": fake(saying(words)).url, "remote": fake(saying(["no"])).url}
    with ChatCascade.load(path, **urls) as cascade:
        chunks = list(cascade.stream(MESSAGES))
        assert chunks[0]["edgecascade"]["source"] == "local"
        assert "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks) == "".join(words)
        stream = cascade.stream(MESSAGES)
        next(stream)
        stream.close()  # type: ignore[attr-defined]  # a generator

    async def both() -> None:
        async with ChatCascade.load(path, **urls) as cascade:
            answers = await asyncio.gather(*(cascade.complete_async(MESSAGES) for _ in range(5)))
            assert {one.text for one in answers} == {"".join(words)}
            async with cascade.stream_async(MESSAGES) as reply:
                assert reply.verdict.source is Source.LOCAL
                assert b"".join([piece async for piece in reply.pieces()]).endswith(b"[DONE]\n\n")

    asyncio.run(both())


def test_failures_are_exceptions(path: Path, fake: Any, nowhere: str) -> None:
    """A stream that breaks, and two endpoints that are not there."""
    broken = fake(lambda _: [HEAD, *(chunked(one) for one in events_of([f" w{i}" for i in range(20)])[:12]), b""])
    with ChatCascade.load(path, local=broken.url, remote=nowhere) as cascade:
        stream = cascade.stream(MESSAGES)
        with pytest.raises(InvalidReply, match=r"^local: the connection broke"):
            list(stream)
    with ChatCascade.load(path, local=nowhere, remote=nowhere) as cascade, pytest.raises(NoReply) as caught:
        cascade.complete(MESSAGES)
    assert caught.value.local.startswith("local: cannot connect")
    assert caught.value.status == 503


@pytest.mark.parametrize("messages", ["Hi", b"Hi", [], None, 5, ["Hi"], [{"role": "user"}], [{"content": "Hi"}], {}])
def test_what_is_no_message_is_refused_before_anyone_is_asked(path: Path, fake: Any, messages: Any) -> None:
    """A message of the assistant may call a tool, and say nothing."""
    local, remote = fake(saying(["near"])), fake(saying(["no"]))
    with ChatCascade.load(path, local=local.url, remote=remote.url) as cascade:
        with pytest.raises(ArgumentError, match=r"^messages: expected"):
            cascade.complete(messages)
        with pytest.raises(ArgumentError, match=r"^messages: expected"):
            next(cascade.stream(messages))
        assert local.requests == remote.requests == []
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        cascade.complete([*MESSAGES, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "3"}])
        assert len(local.requests) == 1


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_drift_is_told(path: Path, fake: Any, share: float) -> None:
    """Half of the calibration's replies were unsure; if nine in ten are, the scores and the forwards differ."""
    replies = iter(range(10**6))
    local = fake(lambda asked: saying(["near"], UNSURE if next(replies) % 10 < 10 * share else -0.1)(asked))
    told: list[str] = []
    urls = {"local": local.url, "remote": fake(saying(["afar"])).url}
    with ChatCascade.load(
        path, local=urls["local"], remote=urls["remote"], on_alarm=lambda one: told.append(one.name)
    ) as cascade:

        async def ask() -> None:
            for _ in range(50):
                await asyncio.gather(*(cascade.complete_async(MESSAGES) for _ in range(4)))
            await cascade.close_async()

        asyncio.run(ask())
        assert cascade.metrics()["alarms"]["drift"] == (share > 0.5)
    assert (told == ["drift"]) == (share > 0.5)
