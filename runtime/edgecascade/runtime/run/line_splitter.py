"""Lines out of bytes that come in pieces, none of them longer than it may be."""

from __future__ import annotations

__all__ = ["LONGEST_LINE", "LineSplitter"]

LONGEST_LINE = 16 << 20  # bytes


class LineSplitter:
    """Collects pieces until a line is whole. Of a line that is too long, nothing is kept.

    Args:
        longest: bytes that a line may have, without its end.
    """

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._line = bytearray()
        self._too_long = False

    def feed(self, piece: bytes) -> list[bytes | None]:
        """The lines that are whole now, without their ends; None for one that was too long."""
        *ended, begun = piece.split(b"\n")
        lines = []
        for part in ended:
            self._grow(part)
            lines.append(self._take())
        self._grow(begun)
        return lines

    def end(self) -> list[bytes | None]:
        """The last line, if nothing ended it."""
        return [self._take()] if self._line or self._too_long else []

    def _grow(self, part: bytes) -> None:
        if self._too_long or len(self._line) + len(part) > self._longest:
            self._too_long, self._line = True, bytearray()
        else:
            self._line += part

    def _take(self) -> bytes | None:
        line = None if self._too_long else bytes(self._line).removesuffix(b"\r")
        self._too_long, self._line = False, bytearray()
        return line
