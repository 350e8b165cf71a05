"""Where inputs come from, as it is written on a command line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from edgecascade.runtime.files import check_path, read_inputs
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.runtime.run.given import Given, Refused
from edgecascade.runtime.run.line_input import LineInput
from edgecascade.runtime.run.line_splitter import LineSplitter
from edgecascade.runtime.run.listening import Address, read_listening
from edgecascade.types.errors import ArgumentError, InputError

__all__ = ["Camera", "Files", "Source", "StandardInput", "Video", "read_source"]

_STANDARD_INPUT = 0  # the descriptor: a reader of `sys.stdin` would hold a lock that the end of the process needs
_PIECE = 64 << 10  # bytes


@dataclass(frozen=True)
class Files:
    """A folder, or a file of a known kind."""

    path: str

    def items(self, inputs: ModelInputs) -> Iterator[Given | Refused]:
        """Its inputs; one that cannot be read in the middle of others does not end them."""
        return _items(self.path, read_inputs(self.path, unopened=inputs.images))


@dataclass(frozen=True)
class Video:
    """A video file, of which every so many-th frame counts."""

    path: str
    every: int

    def items(self, _inputs: ModelInputs) -> Iterator[Given | Refused]:
        """Its frames."""
        from edgecascade.runtime.run.video import video_frames

        frames = video_frames(self.path, self.every)
        return _items(f"video:{self.path}", ((f"{self.path}#{number}", frame) for number, frame in frames))


@dataclass(frozen=True)
class Camera:
    """A camera, of which every so many-th frame counts."""

    number: int
    every: int

    def chunks(self, _inputs: ModelInputs) -> Iterator[list[Given | Refused]]:
        """Its frames, as they come."""
        from edgecascade.runtime.run.video import camera_frames

        name = f"camera:{self.number}"
        frames = camera_frames(self.number, self.every)
        for item in _items(name, ((f"{name}#{number}", frame) for number, frame in frames)):
            yield [item]


@dataclass(frozen=True)
class StandardInput:
    """Lines on standard input."""

    def chunks(self, inputs: ModelInputs) -> Iterator[list[Given | Refused]]:
        """Its lines, as they come."""
        reader, splitter, number = LineInput(inputs), LineSplitter(), 0
        while piece := os.read(_STANDARD_INPUT, _PIECE):
            lines = splitter.feed(piece)
            yield _read(reader, lines, number)
            number += len(lines)
        yield _read(reader, splitter.end(), number)


Source: TypeAlias = Files | Video | Camera | StandardInput | Address


def read_source(text: str, *, every: int = 1, anywhere: bool = False) -> Source:
    """The source that is meant by an argument.

    Args:
        text: `-`, `tcp://HOST:PORT`, `unix:PATH`, `video:FILE`, `camera:NUMBER`, or a file or folder.
        every: how many frames of a video there are to one that counts.
        anywhere: whether to listen where others than this machine can connect.

    Raises:
        ArgumentError: it is of no such form.
        InputError: there is no such file, or it is of an unknown kind.
    """
    if text == "-":
        return StandardInput()
    if text.startswith(("tcp:", "unix:")):
        return read_listening(text, anywhere=anywhere)
    if text.startswith("video:"):
        path = text.removeprefix("video:")
        if not os.path.isfile(path):
            raise InputError(f"{path}: no such file")
        return Video(path, every)
    if text.startswith("camera:"):
        if not re.fullmatch(r"camera:[0-9]{1,3}", text):
            raise ArgumentError(f"inputs: expected camera:NUMBER, such as camera:0, got {text}")
        return Camera(int(text.removeprefix("camera:")), every)
    check_path(text)
    return Files(text)


def _items(name: str, inputs: Iterable[tuple[str, Any]]) -> Iterator[Given | Refused]:
    try:
        for where, x in inputs:
            yield Given(where, x)
    except InputError as error:
        yield Refused(name, str(error))


def _read(reader: LineInput, lines: Iterable[bytes | None], before: int) -> list[Given | Refused]:
    read = (reader.read(line, f"-:{number}") for number, line in enumerate(lines, before + 1))
    return [item for item in read if item is not None]
