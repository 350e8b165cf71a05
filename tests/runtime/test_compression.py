"""Request bodies are compressed with gzip where that shrinks them; responses are decompressed within bounds."""

import gzip
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.runtime.remotes.http_response import decompress
from edgecascade.runtime.remotes.open_inference import Gzip
from edgecascade.types.errors import RemoteError

LIMIT = 1 << 20


@given(st.binary(max_size=3000), st.integers(1, 40))
def test_a_compressed_body_is_at_least_a_tenth_smaller(part: bytes, times: int) -> None:
    """Other bodies are sent uncompressed."""
    body = part * times
    packed = Gzip().pack(body)
    if packed is not None:
        assert len(body) > 1024
        assert len(packed) <= 0.9 * len(body)
        assert gzip.decompress(packed) == body


def test_after_an_incompressible_body_the_next_are_not_tried() -> None:
    """The next 31 bodies are sent uncompressed, since trying costs time."""
    coder, noise, zeros = Gzip(), os.urandom(5000), bytes(5000)
    assert coder.pack(zeros) is not None
    assert coder.pack(noise) is None
    assert [coder.pack(zeros) for _ in range(31)] == [None] * 31
    assert coder.pack(zeros) is not None


def test_a_server_that_refuses_gzip_gets_no_more_of_it() -> None:
    """Later requests to it are uncompressed."""
    coder = Gzip()
    coder.refused = True
    assert coder.pack(bytes(5000)) is None


@given(st.binary(max_size=2000))
def test_a_coding_that_was_asked_for_is_undone(content: bytes) -> None:
    """That is gzip, under both of its names; a body that is not coded stays as it is."""
    for coding in ("gzip", "X-Gzip "):
        assert decompress(gzip.compress(content), coding, largest=LIMIT, gzip=True) == content
    for coding in ("", "identity"):
        assert decompress(content, coding, largest=LIMIT, gzip=False) == content


@pytest.mark.parametrize(("coding", "allowed"), [("gzip", False), ("deflate", True), ("gzip, gzip", True)])
def test_a_coding_that_was_not_asked_for_is_refused(coding: str, allowed: bool) -> None:
    """Nothing is decompressed."""
    with pytest.raises(RemoteError, match="which the request did not ask for"):
        decompress(gzip.compress(b"a"), coding, largest=LIMIT, gzip=allowed)


def test_the_size_limit_is_exact() -> None:
    """A body of that size is accepted; one more byte is refused before it is decompressed."""
    assert len(decompress(gzip.compress(bytes(LIMIT)), "gzip", largest=LIMIT, gzip=True)) == LIMIT
    for size in (LIMIT + 1, 100 * LIMIT):
        with pytest.raises(RemoteError, match="larger than"):
            decompress(gzip.compress(bytes(size)), "gzip", largest=LIMIT, gzip=True)


@given(st.binary(min_size=1, max_size=300))
def test_random_bytes_are_refused_or_decoded(noise: bytes) -> None:
    """They raise a `RemoteError`, unless they are a valid body."""
    try:
        decompress(noise, "gzip", largest=LIMIT, gzip=True)
    except RemoteError as error:
        assert "damaged" in str(error)  # noqa: PT017  # most noise raises, and some is a body
