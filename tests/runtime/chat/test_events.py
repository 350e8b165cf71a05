"""A stream is read the same however its bytes are cut, and adds up to the whole reply."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chat_endpoints import events_of
from edgecascade.runtime.chat.events import EventReader, assembled

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
