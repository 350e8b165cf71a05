"""What errors quote of files and servers is printable."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.export import load_model
from edgecascade.export.data import read_labelled
from edgecascade.runtime import Cascade
from edgecascade.runtime.inputs import read_inputs
from edgecascade.types.errors import EdgecascadeError, RemoteRefusal, cut, first_line, no_file, printable

EVIL = {
    "a terminal's command": ("a\x1b[2Jb", r"a\x1b[2Jb"),
    "a carriage return": ("refused\rall well", r"refused\x0dall well"),
    "a control character of Latin-1": ("\x9b2J", r"\x9b2J"),
    "another direction": ("cat\u202egod", r"cat\u202egod"),
    "a separator of lines": ("one\u2028two", r"one\u2028two"),
    "half a character": ("\ud83d", r"\ud83d"),
    "what is printable": ("Größe 3 µm, 猫\t\n", "Größe 3 µm, 猫\t\n"),
}


@pytest.mark.parametrize("name", EVIL)
def test_control_characters_become_escapes(name: str) -> None:
    """In a text, and in the message of every error."""
    text, shown = (one.replace(r"\x0d", r"\r") for one in EVIL[name])
    assert printable(text) == shown
    assert str(RemoteRefusal(text, status="500")) == shown


@given(st.text(st.characters()))
def test_a_printable_text_can_be_written_and_stays(text: str) -> None:
    """It has no control characters, and encodes as UTF-8."""
    shown = printable(text)
    assert printable(shown) == shown
    assert all(one in "\t\n" or one.isprintable() or ord(one) > 0x9F for one in shown)
    shown.encode()


def test_the_first_line_of_a_foreign_error_is_printable() -> None:
    """Libraries quote what a server sends."""
    assert first_line(ValueError("a\x1b[0m\nb")) == r"a\x1b[0m"
    assert first_line(EdgecascadeError("")) == "EdgecascadeError"


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    """A folder, a pipe and an empty path are not called missing."""
    os.mkfifo(tmp_path / "pipe")
    assert no_file(tmp_path / "none").endswith("none: no such file")
    assert no_file(tmp_path) == f"{tmp_path}: expected a file, got a folder"
    assert no_file(tmp_path / "pipe").endswith("pipe: expected a regular file")
    assert no_file("") == "expected the path of a file, got an empty one"
    for read in (read_labelled, load_model, lambda path: list(read_inputs(path)), Cascade.load):
        with pytest.raises(EdgecascadeError, match="expected the path of a file, got an empty one"):
            read("")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("short", "short"), ("red, green, blue", "red ..."), ("unbreakable-text", "unbreakabl ...")],
)
def test_long_texts_are_cut_at_a_word(text: str, shown: str) -> None:
    """What fits stays as it is."""
    assert cut(text, 10) == shown
