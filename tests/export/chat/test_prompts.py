"""Files of prompts: what is read, and what is said about a line that is not one."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from edgecascade.export import ChatPrompt, ExportError, read_prompts
from edgecascade.export.chat.prompts import prompts_digest

USER = {"role": "user", "content": "Hi"}


def written(path: Path, *rows: Any) -> Path:
    """Write rows as JSON lines."""
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_prompts_and_messages_are_read(tmp_path: Path) -> None:
    """A prompt is one message of the user; other fields are kept; empty lines and a mark of UTF-8 do not count."""
    turns = [{"role": "system", "content": "Be brief."}, USER]
    path = written(
        tmp_path / "p.jsonl",
        {"prompt": "Hi", "reference": ["a", "b"], "subject": "greeting"},
        {"messages": turns, "reference": 3, "options": ["x", "y"]},
    )
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\n\n", 1))
    one, other = read_prompts(path)
    assert one == ChatPrompt((USER,), ["a", "b"], (), {"subject": "greeting"})
    assert other == ChatPrompt(tuple(turns), 3, ("x", "y"))
    assert (one.roles, other.roles) == (("user",), ("system", "user"))
    assert (one.choice, other.choice) == (["a", "b"], {"answer": 3, "options": ["x", "y"]})
    assert len({prompts_digest(some) for some in ([one], [other], [one, other], [other, one])}) == 4


def test_tables_hold_the_same_prompts(tmp_path: Path) -> None:
    """Columns of CSV and parquet have the names of the fields; parquet may hold messages."""
    (tmp_path / "p.csv").write_text('prompt,reference,weight\n"Hi, you",7,0.5\nHo,8,2\n')
    one, other = read_prompts(tmp_path / "p.csv")
    assert one == ChatPrompt(({"role": "user", "content": "Hi, you"},), 7, (), {"weight": 0.5})
    assert other.reference == 8
    table = pa.table({"messages": [[USER]], "reference": ["x"], "options": [["x", "y"]]})
    pyarrow.parquet.write_table(table, tmp_path / "p.parquet")
    assert read_prompts(tmp_path / "p.parquet") == [ChatPrompt((USER,), "x", ("x", "y"))]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Hi", "expected a JSON object, got 'Hi'"),
        ("[1]", "expected a JSON object, got '[1]'"),
        ('{"text": "Hi", "reference": 1}', "expected `messages` or `prompt`, got text, reference"),
        ('{"prompt": "Hi", "messages": [], "reference": 1}', "expected `messages` or `prompt`, got both"),
        ('{"prompt": "Hi"}', "expected a `reference`"),
        ('{"prompt": 3, "reference": 1}', "expected text as the `prompt`, got a int: 3"),
        ('{"messages": [], "reference": 1}', "messages: expected a list of objects with `role`"),
        ('{"messages": ["Hi"], "reference": 1}', "messages[0]: expected an object with a `role`"),
        ('{"messages": [{"role": "user"}], "reference": 1}', "messages[0]: expected text or a list of parts"),
        (
            '{"messages": [{"role": "assistant", "content": "Hi"}], "reference": 1}',
            "messages: expected a last one of the user",
        ),
        ('{"prompt": "Hi", "reference": 1, "options": ["a"]}', "options: expected a list of 2 to 26 texts"),
        ('{"prompt": "Hi", "reference": 1, "options": ["a", null]}', "options: expected texts, got none"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    """The error has the file, the number of the line, what was expected, and what came."""
    path = written(tmp_path / "p.jsonl", {"prompt": "Hi", "reference": 1})
    path.write_text(path.read_text() + "\n" + line + "\n")
    with pytest.raises(ExportError, match=rf"p\.jsonl:3: {re.escape(expected)}"):
        read_prompts(path)


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    """So is one that is missing, or no text."""
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    for name, expected in (("empty", "at least one prompt"), ("bytes", "UTF-8"), ("missing", "no such file")):
        with pytest.raises(ExportError, match=expected):
            read_prompts(tmp_path / f"{name}.jsonl")
