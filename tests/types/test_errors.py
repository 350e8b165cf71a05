"""What errors quote of files and servers is printable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.types.errors import EdgecascadeError, RemoteRefusal, first_line, printable

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
