"""The replies file: what is added is read, also after an interruption at any byte."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecascade.chat import Usage
from edgecascade.export import ChatReply, ExportError, read_replies
from edgecascade.export.chat.replies import Replies, prompt_digest

TEXT = st.text(st.characters(codec="utf-8"))
REPLY = st.builds(
    ChatReply,
    text=TEXT,
    model=TEXT,
    usage=st.none() | st.builds(Usage, st.integers(0, 10**6), st.integers(0, 10**6), st.just(False)),
    logprobs=st.none() | st.lists(st.floats(-50, 0), min_size=1).map(tuple),
    unscored=TEXT,
    cut_off=st.booleans(),
    request=st.sampled_from(["", "a", "b"]),
)


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from(["local", "remote"]), REPLY), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_added_is_read(tmp_path: Path, added: list[tuple[str, str, ChatReply]]) -> None:
    """The last reply to each request counts, at once and when the file is read again."""
    path = tmp_path / "replies.jsonl"
    path.unlink(missing_ok=True)
    replies = Replies(path)
    expected = {}
    for prompt, side, reply in added:
        replies.add(prompt, {"is": prompt}, side, reply)
        expected[prompt, side, reply.request] = reply
    for again in (replies, Replies(path)):
        assert {key: again.get(*key) for key in expected} == expected
        assert again.get("p", "local", "another request") is None
    latest = {(prompt, side): reply for prompt, side, reply in added}
    found = read_replies(path)
    read = {(one.prompt, side): getattr(one, side) for one in found.values() for side in ("local", "remote")}
    assert {key: reply for key, reply in read.items() if reply is not None} == latest
    assert all(one.reference == {"is": prompt} for prompt, one in found.items())


def test_an_interruption_at_any_byte_loses_at_most_the_last_line(tmp_path: Path) -> None:
    """The file is read, and goes on, from what is whole."""
    whole = tmp_path / "whole.jsonl"
    replies = [ChatReply(f"answer {at} \u00fc", "m", logprobs=(-0.5,)) for at in range(3)]
    store = Replies(whole)
    for at, reply in enumerate(replies):
        store.add(str(at), None, "local", reply)
    content = whole.read_bytes()
    for size in range(len(content) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(content[:size])
        ends = content[:size].count(b"\n")
        resumed = Replies(path)
        assert [resumed.get(str(at), "local", "") for at in range(3)] == [*replies[:ends], *[None] * (3 - ends)]
        resumed.add("new", "R", "remote", replies[0])
        assert list(read_replies(path)) == [*map(str, range(ends)), "new"]
        assert Replies(path).get("new", "remote", "") == replies[0]


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"prompt": "a", "local": {}}', '{"prompt": "a", "local": 3}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    """The error has the file and the number of the line."""
    path = tmp_path / "replies.jsonl"
    Replies(path).add("a", None, "local", ChatReply("x", "m"))
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ExportError, match=r"replies\.jsonl:2: not a line"):
        read_replies(path)
    with pytest.raises(ExportError, match="no such file"):
        read_replies(tmp_path / "missing.jsonl")


def test_a_line_of_both_sides_and_unknown_fields_is_read(tmp_path: Path) -> None:
    """Files that others wrote may have one line for each prompt, and more in it."""
    path = tmp_path / "replies.jsonl"
    line = {
        "prompt": "a",
        "reference": ["x"],
        "note": 1,
        "local": {"text": "l", "logprobs": [-1]},
        "remote": {"text": "r"},
    }
    path.write_text(json.dumps(line) + "\n")
    assert read_replies(path)["a"] == ("a", ["x"], ChatReply("l", "", logprobs=(-1.0,)), ChatReply("r", ""))


def test_a_prompt_is_known_by_its_messages() -> None:
    """The order of fields does not matter; everything else does."""
    one = [{"role": "user", "content": "Hi"}]
    assert prompt_digest(one) == prompt_digest([{"content": "Hi", "role": "user"}])
    others = [[{"role": "system", "content": "Hi"}], [*one, *one], [{"role": "user", "content": "Hi "}], []]
    assert len({prompt_digest(some) for some in [one, *others]}) == 5
