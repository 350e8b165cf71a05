"""Gzip where it pays, and content codings undone within bounds (RFC 9110, section 8.4.1)."""

from __future__ import annotations

import zlib

__all__ = ["Gzip", "decoded"]

_SMALLEST = 1024  # bytes
_PAYS = 0.9  # of the size before
_PAUSE = 32  # bodies
_GZIP, _GZIP_OR_ZLIB, _BARE = 31, 47, -15  # what zlib calls window bits says the format too


class Gzip:
    """Compresses request bodies as long as that makes them smaller; safe to share between threads.

    Raw pixels shrink and JPEG does not, and one application mostly sends one of them: after a body that did not
    shrink by a tenth, the next 31 are left alone.

    Attributes:
        refused: whether the server is known not to read it.
        accepted: whether the server is known to read it.
    """

    def __init__(self) -> None:
        self.refused = self.accepted = False
        self._pause = 0

    def pack(self, body: bytes) -> bytes | None:
        """The body compressed, or None if it is to be sent as it is."""
        if self.refused or len(body) <= _SMALLEST:
            return None
        if self._pause > 0:
            self._pause -= 1
            return None
        compressor = zlib.compressobj(level=1, wbits=_GZIP)
        packed = compressor.compress(body) + compressor.flush()
        if len(packed) <= _PAYS * len(body):
            return packed
        self._pause = _PAUSE - 1
        return None


def decoded(body: bytes, codings: str, limit: int) -> bytes:
    """What a body was before its codings, which are as `Content-Encoding` lists them.

    Raises:
        OverflowError: it is larger than `limit` bytes.
        ValueError: it is damaged, or a coding is neither gzip nor deflate.
    """
    for coding in reversed(codings.lower().split(",")):
        if coding.strip() in ("gzip", "x-gzip", "deflate"):
            body = _inflated(body, limit)
        elif coding.strip() not in ("", "identity"):
            raise ValueError(f"a body in {coding.strip()!r} cannot be read")
    return body


def _inflated(body: bytes, limit: int) -> bytes:
    # By `deflate` HTTP means zlib's format, and some servers mean what is inside it.
    bare = body[:2] != b"\x1f\x8b" and (len(body) < 2 or body[0] & 15 != 8 or int.from_bytes(body[:2], "big") % 31)
    inflater = zlib.decompressobj(_BARE if bare else _GZIP_OR_ZLIB)
    try:
        content = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise ValueError(f"a compressed body is damaged: {error}") from error
    if len(content) > limit:
        raise OverflowError
    if not inflater.eof or inflater.unused_data:
        raise ValueError("a compressed body is damaged: it ends too early or too late")
    return content
