"""Request bodies are compressed with gzip where that shrinks them; responses are decompressed within bounds."""

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


@given(st.binary(max_size=2000), st.lists(st.sampled_from(["gzip", "deflate", "x-gzip", "identity"]), max_size=4))
def test_content_codings_are_removed_in_reverse_order(content: bytes, codings: list[str]) -> None:
    """Any number of codings is supported."""
    body = content
    for coding in codings:
        body = body if coding == "identity" else zlib.compress(body) if coding == "deflate" else gzip.compress(body)
    assert decompress(body, ", ".join(codings)) == content


@given(st.binary(max_size=2000))
def test_raw_deflate_is_decoded(content: bytes) -> None:
    """Some servers send deflate without the zlib header."""
    compressor = zlib.compressobj(wbits=-15)
    assert decompress(compressor.compress(content) + compressor.flush(), "deflate") == content


def test_the_size_limit_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of that size is accepted; one more byte is refused before it is decompressed."""
    monkeypatch.setattr(http_response, "LARGEST_RESPONSE", LIMIT)
    assert len(decompress(gzip.compress(bytes(LIMIT)), "gzip")) == LIMIT
    with pytest.raises(RemoteError, match="larger than"):
        decompress(gzip.compress(bytes(LIMIT + 1)), "gzip")
    with pytest.raises(RemoteError, match="larger than"):  # a compression bomb inside another
        decompress(gzip.compress(gzip.compress(bytes(100 * LIMIT))), "gzip, gzip")


@given(st.binary(min_size=1, max_size=300))
def test_random_bytes_are_refused_or_decoded(noise: bytes) -> None:
    """They raise a `RemoteError`, unless they are a valid body."""
    for coding in ("gzip", "deflate"):
        try:
            decompress(noise, coding)
        except RemoteError as error:
            assert "damaged" in str(error)  # noqa: PT017  # most noise raises, and some is a body
