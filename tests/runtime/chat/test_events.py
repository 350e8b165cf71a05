"""A stream is read the same however its bytes are cut, and adds up to the whole reply."""

import asyncio
import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chat_endpoints import event, events_of
from edgecascade.chat.events import EventReader, assembled
from edgecascade.chat.open_reply import to_json
from edgecascade.chat.reply import LocalReply
from edgecascade.types.errors import RemoteError

STREAM = b"".join(events_of(["é", " w", "\n\n", "data: x"]))


@given(st.lists(st.integers(1, 40), max_size=200), st.booleans())
def test_events_do_not_depend_on_how_bytes_are_cut(sizes: list[int], crlf: bool) -> None:
    """Lines may end in CR and LF, and a comment may come between events."""
    stream = STREAM.replace(b"\n\n", b"\n\n: ping\n\n")
    stream = stream.replace(b"\n", b"\r\n") if crlf else stream
    reader, found, at = EventReader(), [], 0
    for size in [*sizes, len(stream)]:
        found += reader.feed(stream[at : at + size])
        at += size
    assert found == EventReader().feed(STREAM)
    assert found[-1] == b"[DONE]"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.sampled_from(["", "a", "stop", "assistant"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "choices",
                        "delta",
                        "message",
                        "content",
                        "logprobs",
                        "logprob",
                        "token",
                        "bytes",
                        "index",
                        "error",
                    ),
                    *("finish_reason", "tool_calls", "usage", "prompt_tokens", "model", "role"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


class Sent:
    """An exchange whose bytes are given."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [*pieces, b""]

    async def piece(self) -> bytes:
        """Return the next."""
        return self.pieces.pop(0) if self.pieces else b""

    def named(self, error: RemoteError) -> RemoteError:
        """Return the error."""
        return error

    def close(self) -> None:
        """Do nothing."""


@given(st.lists(JSON, max_size=4), st.lists(JSON, max_size=3), st.integers(0, 3))
def test_a_stream_of_anything_is_a_reply_or_a_remote_error(whole: list[Any], inner: list[Any], tokens: int) -> None:
    """Whatever JSON its events hold, and whatever is in their choices."""
    events = [*whole, *({"choices": [one]} for one in inner), *({"choices": [{"delta": one}]} for one in inner)]
    events += [{"choices": [{"delta": {}, "logprobs": {"content": one}}]} for one in inner]

    async def read() -> None:
        for some in (events, [*events, {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}]):
            reply = LocalReply(Sent([event(one) for one in some]), stream=True)  # type: ignore[arg-type]
            with contextlib.suppress(RemoteError):
                await reply.until(tokens)
                assert all(isinstance(one, float) for one in reply.logprobs)
                found = await reply.completion()
                assert to_json(found)
                assert isinstance(found["choices"], list)
            reply.close()

    asyncio.run(read())


def test_chunks_add_up_to_a_whole_completion() -> None:
    """Text is joined, tool calls are merged by their index, the usage and what is unknown stay."""
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "reasoning": "Hm"},
        {"reasoning": "m.", "tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}, {"index": 1, "id": "b", "function": {}}]},
        {},
    ]
    chunks = [
        {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    chunks[-1]["choices"][0]["finish_reason"] = "tool_calls"  # type: ignore[index]
    found = assembled([*chunks, {"choices": [], "usage": {"total_tokens": 3}, "timings": {"ms": 1}}])
    assert found["object"] == "chat.completion"
    assert (found["usage"], found["timings"]) == ({"total_tokens": 3}, {"ms": 1})
    (choice,) = found["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning": "Hmm.",
        "tool_calls": [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x": 1}'}},
            {"index": 1, "id": "b", "function": {}},
        ],
    }


def test_a_streamed_reply_is_the_whole_one() -> None:
    """With its log-probabilities."""
    events = [json.loads(one) for one in EventReader().feed(b"".join(events_of(["a", "b"]))) if one != b"[DONE]"]
    (choice,) = assembled(events)["choices"]
    assert choice["message"]["content"] == "ab"
    assert [one["token"] for one in choice["logprobs"]["content"]] == ["a", "b"]
