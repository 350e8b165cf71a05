"""HTTP/1.1 responses are parsed from pieces of any size."""

import contextlib
import http.client
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.runtime import InvalidReply, RemoteError, RemoteRefusal
from edgecascade.runtime.remotes.http_response import Response, ResponseReader


def reading(data: bytes, cuts: list[int] | None = None) -> ResponseReader:
    """Return a reader of data in pieces of these sizes, repeated."""
    source = io.BytesIO(data)
    sizes = cuts or [len(data) or 1]
    calls = iter(range(1 << 30))
    return ResponseReader(lambda: source.read(sizes[next(calls) % len(sizes)]))


def read(data: bytes) -> Response:
    """Return the only response."""
    return reading(data).read()


def chunked(pieces: list[bytes], trailers: bytes = b"") -> bytes:
    """Return a body in chunks."""
    return b"".join(b"%x;note=1\r\n%b\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n" + trailers + b"\r\n"


HEAD = b"HTTP/1.1 200 OK\r\n"
PIECES = st.lists(st.binary(max_size=50), max_size=5)


@given(PIECES, st.lists(st.integers(1, 9), min_size=1, max_size=5), st.booleans())
def test_a_body_does_not_depend_on_its_pieces(pieces: list[bytes], cuts: list[int], in_chunks: bool) -> None:
    """The bytes of this response and the next are unchanged."""
    body = b"".join(pieces)
    one = b"%bTransfer-Encoding: chunked\r\n\r\n%b" % (HEAD, chunked(pieces, b"A: b\r\n"))
    if not in_chunks:
        one = b"%bContent-Length: %d\r\n\r\n%b" % (HEAD, len(body), body)
    reader = reading(one + one, cuts)
    assert [reader.read().body for _ in range(2)] == [body, body]
    assert reader.reusable
    with pytest.raises(ConnectionResetError, match="without a response"):
        reader.read()


class _Given(io.BytesIO):
    def makefile(self, _: str) -> io.BytesIO:
        return self


@given(
    st.sampled_from(
        [
            HEAD + b"Content-Length: 2\r\n\r\nok",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            HEAD + b"X: a\r\nX: b\r\nEmpty:\r\n\r\nok",
            b"HTTP/1.0 404 Not Found\r\ncontent-length:2\r\n\r\nok",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 503 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok",
        ]
    )
)
def test_responses_are_read_as_by_the_standard_library(data: bytes) -> None:
    """Status, body, and whether the connection is reusable are compared."""
    theirs: Any = http.client.HTTPResponse(_Given(data))  # type: ignore[arg-type]
    theirs.begin()
    reader = reading(data)
    ours = reader.read()
    assert (ours.status, ours.body) == (theirs.status, theirs.read())
    assert dict(ours.headers) == {name.lower(): ", ".join(theirs.headers.get_all(name)) for name in theirs.headers}
    assert reader.reusable is not theirs.will_close


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", "b'SSH-2.0", id="another protocol"),
        pytest.param(b"HTTP/2 200\r\n\r\n", "b'HTTP/2 200'", id="another version"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "status is 101", id="switched"),
        pytest.param(b"HTTP/1.1 000 Odd\r\n\r\n", "status is 0", id="status 0"),
        pytest.param(HEAD + b"nonsense\r\n\r\n", "header.*nonsense", id="no header"),
        pytest.param(HEAD + b"Content-Length: many\r\n\r\n", "Content-Length.* 'many'", id="a length of many"),
        pytest.param(HEAD + b"Content-Length: -1\r\n\r\n", "Content-Length.* '-1'", id="a length below 0"),
        pytest.param(
            HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "Content-Length.* '1, 2'", id="two lengths"
        ),
        pytest.param(HEAD + b"Content-Length: 67108865\r\n\r\n", "larger than 67108864", id="too long"),
        pytest.param(HEAD + b"Transfer-Encoding: gzip\r\n\r\n", "coding.* 'gzip'", id="another coding"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "chunk.* b'xyz'", id="a size of xyz"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", "chunk.* b'-1'", id="a size below 0"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "chunk.*longer", id="a longer chunk"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n4000001\r\n", "larger than", id="a huge chunk"),
        pytest.param(HEAD + b"A: b\r\n" * 20_000, "headers.* 65536 bytes", id="headers without end"),
    ],
)
def test_invalid_http_is_refused(data: bytes, said: str) -> None:
    """The error shows the data and is not worth a retry."""
    with pytest.raises(RemoteError, match=said) as raised:
        read(data)
    assert not raised.value.retry
    assert "\n" not in str(raised.value)


@given(st.integers(0, 60), st.booleans())
def test_a_truncated_response_is_a_broken_connection(length: int, in_chunks: bool) -> None:
    """This holds at any length."""
    whole = HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" + chunked([b"hello"]) if in_chunks else b"")
    whole += b"" if in_chunks else b"Content-Length: 40\r\n\r\n" + b"x" * 40
    with pytest.raises(ConnectionResetError, match="the server closed it"):
        read(whole[: min(length, len(whole) - 1)])


@given(st.binary(max_size=200), st.sampled_from([b"", b"HTTP/", HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"]))
def test_random_bytes_raise_a_known_error(noise: bytes, start: bytes) -> None:
    """They raise one of two errors, unless they are a response."""
    with contextlib.suppress(RemoteError, ConnectionResetError):
        assert isinstance(read(start + noise), Response)


@pytest.mark.parametrize(("status", "retry"), [(401, False), (404, False), (429, True), (503, True)])
def test_an_error_status_is_a_refusal(status: int, retry: bool) -> None:
    """It carries the status; a reply that is not HTTP is another kind of failure."""
    with pytest.raises(RemoteRefusal, match=f"HTTP {status}: no") as raised:
        read(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status).content()
    assert (raised.value.status, raised.value.retry) == (str(status), retry)
    with pytest.raises(InvalidReply):
        read(b"SSH-2.0-OpenSSH_9.6\r\n")
