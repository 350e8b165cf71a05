"""Request bodies in gzip where that makes them smaller; responses decompressed within bounds."""

import gzip
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.runtime.remotes import http_response
from edgecascade.runtime.remotes.http_response import decompress
from edgecascade.runtime.remotes.open_inference import Gzip
from edgecascade.types.errors import RemoteError

LIMIT = 1 << 20


@given(st.binary(max_size=3000), st.integers(1, 40))
def test_what_is_packed_is_smaller_by_a_tenth_and_the_same(part: bytes, times: int) -> None:
    """Other bodies are not compressed."""
    body = part * times
    packed = Gzip().pack(body)
    if packed is not None:
        assert len(body) > 1024
        assert len(packed) <= 0.9 * len(body)
        assert gzip.decompress(packed) == body


def test_after_a_body_that_does_not_shrink_the_next_are_left_alone() -> None:
    """The next 31 are not compressed, since trying costs time."""
    coder, noise, zeros = Gzip(), os.urandom(5000), bytes(5000)
    assert coder.pack(zeros) is not None
    assert coder.pack(noise) is None
    assert [coder.pack(zeros) for _ in range(31)] == [None] * 31
    assert coder.pack(zeros) is not None


def test_a_server_that_refuses_is_not_asked_again() -> None:
    """Its requests are not compressed any more."""
    coder = Gzip()
    coder.refused = True
    assert coder.pack(bytes(5000)) is None


@given(st.binary(max_size=2000), st.lists(st.sampled_from(["gzip", "deflate", "x-gzip", "identity"]), max_size=4))
def test_codings_are_undone_in_reverse(content: bytes, codings: list[str]) -> None:
    """Any number of them."""
    body = content
    for coding in codings:
        body = body if coding == "identity" else zlib.compress(body) if coding == "deflate" else gzip.compress(body)
    assert decompress(body, ", ".join(codings)) == content


@given(st.binary(max_size=2000))
def test_deflate_without_its_frame(content: bytes) -> None:
    """Some servers send bare deflate."""
    compressor = zlib.compressobj(wbits=-15)
    assert decompress(compressor.compress(content) + compressor.flush(), "deflate") == content


def test_the_limit_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of that size is accepted; one more byte is refused before it is decompressed."""
    monkeypatch.setattr(http_response, "LARGEST_RESPONSE", LIMIT)
    assert len(decompress(gzip.compress(bytes(LIMIT)), "gzip")) == LIMIT
    with pytest.raises(RemoteError, match="larger than"):
        decompress(gzip.compress(bytes(LIMIT + 1)), "gzip")
    with pytest.raises(RemoteError, match="larger than"):  # a bomb in a bomb
        decompress(gzip.compress(gzip.compress(bytes(100 * LIMIT))), "gzip, gzip")


@given(st.binary(min_size=1, max_size=300))
def test_noise_is_damaged(noise: bytes) -> None:
    """It raises a `RemoteError`, or happens to be a body."""
    for coding in ("gzip", "deflate"):
        try:
            decompress(noise, coding)
        except RemoteError as error:
            assert "damaged" in str(error)  # noqa: PT017  # most noise raises, and some is a body
