"""JSON from strangers is decoded as by the standard library, within bounds, while other threads run."""

import json
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.runtime import Deadline
from edgecascade.runtime.bounded_json import Pace, read_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)
PADDING = b" " * 3000  # more than the standard library decodes in one step


def read(text: bytes, values: int = 100_000, seconds: float = 60) -> Any:
    """Decode with a long deadline."""
    return read_json(text, values=values, pace=Pace(Deadline.after(seconds)))


def by_the_standard_library(text: bytes) -> Any:
    """Return what the standard library decodes, or `ValueError`."""
    try:
        return json.loads(text)
    except ValueError:
        return ValueError


@given(DOCUMENTS, st.sampled_from([None, 0, 3]), st.booleans())
def test_documents_are_decoded_alike(document: Any, indent: int | None, ascii_only: bool) -> None:
    """The length and the spaces do not matter."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    for padded in (text, text + PADDING, PADDING + text):
        assert read(padded) == by_the_standard_library(padded)


@given(st.lists(st.sampled_from([*b'[]{},:"\\ 0e-.1n', *b"\xc3\xa9"]), max_size=12), DOCUMENTS)
def test_damaged_documents_are_refused_alike(noise: list[int], document: Any) -> None:
    """What the standard library refuses is refused, and nothing else is."""
    whole = json.dumps(document).encode()
    for at in {0, len(whole) // 2, len(whole)}:
        text = whole[:at] + bytes(noise) + whole[at:] + PADDING
        expected = by_the_standard_library(text)
        if expected is ValueError:
            with pytest.raises(ValueError):  # noqa: PT011  # in whichever words
                read(text)
        else:
            assert read(text) == expected


@given(
    st.lists(st.sampled_from(["a", "é", "€", "\U0001f600", '"', "\\", "\n", "\ud800", "\udc00", "\x7f"]), max_size=30),
    st.integers(4080, 4100),
    st.booleans(),
)
def test_long_texts_are_decoded_alike(characters: list[str], start: int, ascii_only: bool) -> None:
    """They are decoded in windows, wherever these cut them."""
    text = "a" * start + "".join(characters) * 300
    raw = json.dumps([text], ensure_ascii=ascii_only).encode(errors="replace")  # halves can only be escaped
    assert read(raw) == by_the_standard_library(raw)


def test_long_lists_of_numbers_are_decoded_alike() -> None:
    """They are decoded in windows."""
    numbers = [1 / (i + 1) - i for i in range(50_000)]
    for text in (json.dumps(numbers), json.dumps({"a": [numbers, [1], numbers]}, indent=1)):
        assert read(text.encode(), values=200_000) == json.loads(text)
    assert str(read(b"[NaN, -Infinity, null, true]" + PADDING)) == "[nan, -inf, None, True]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(b"[" * 100_000, "nested more than 64 deep", id="nested"),
        pytest.param(b"[" * 1500, "nested more than 64 deep", id="nested and short"),
        pytest.param(b"[" + b"[]," * 100_000 + b"0]", "more than 1000 values", id="lists"),
        pytest.param(b"[" + b"0," * 100_000 + b"0]", "more than 1000 values", id="numbers"),
        pytest.param(
            b"{" + b",".join(b'"%d":0' % i for i in range(9999)) + b"}", "more than 1000 values", id="members"
        ),
        pytest.param(b'["' + b"a" * 100_000, "expected other characters", id="a string without end"),
        pytest.param(b"[" + b"1" * 100_000 + b"]", "expected other characters", id="a long number"),
        pytest.param(b"[0, " + b" " * 100_000 + b",0]", "expected other characters", id="spaces"),
        pytest.param(b'["' + b'\\"' * 100_000, "expected other characters", id="quotes"),
    ],
)
def test_bounds_are_kept(text: bytes, said: str) -> None:
    """The error says which."""
    with pytest.raises(ValueError, match=said):
        read(text, values=1000)


def test_decoding_ends_at_the_deadline() -> None:
    """A caller does not wait for a long document."""
    begun = time.perf_counter()
    with pytest.raises(TimeoutError):
        read(b"[" + b"{}," * 3_000_000 + b"0]", values=10**9, seconds=0.1)
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize(
    ("part", "times"),
    [
        pytest.param(b"[],", 100_000, id="lists"),
        pytest.param(b'{"a":0},', 40_000, id="objects"),
        pytest.param(b'"\\u00e9",', 40_000, id="strings"),
        pytest.param(b'"' + b"\\u00e9" * 300_000 + b'",', 1, id="a string"),
        pytest.param(b"1.5,", 500_000, id="numbers"),
        pytest.param(b" " * 50 + b"0,", 100_000, id="spaces"),
    ],
)
def test_other_threads_run_meanwhile(part: bytes, times: int) -> None:
    """A thread that needs the interpreter gets it within a few milliseconds, however the document is made."""
    text = b"[" + part * times + b"0]"
    longest, over = 0.0, threading.Event()

    def decode() -> None:
        read(text, values=10**9)
        over.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(10)  # only pauses let this thread run
    try:
        threading.Thread(target=decode).start()
        waits = []
        while not over.is_set():
            begun = time.perf_counter()
            time.sleep(1e-4)
            waits.append(time.perf_counter() - begun)
    finally:
        sys.setswitchinterval(before)
    longest = sorted(waits)[int(0.99 * len(waits))]
    assert len(waits) > 10
    assert longest < 0.02
