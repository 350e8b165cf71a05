"""Where inputs come from: files and folders, videos, cameras, and lines on standard input or a socket."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.commands.lines import Given, LineInput, NumberedLines, Refused
from edgecascade.runtime.commands.sockets import Address, read_address
from edgecascade.runtime.files import check_path, read_inputs
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.types.errors import ArgumentError, InputError, first_line

__all__ = ["Camera", "Files", "Source", "StandardInput", "Video", "camera_frames", "read_source", "video_frames"]

_STANDARD_INPUT = 0  # the descriptor, because reading `sys.stdin` takes a lock that the interpreter needs to exit
_PIECE = 64 << 10  # bytes
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}  # FFmpeg's device, and its names


@dataclass(frozen=True)
class Files:
    """A folder, or a file of a known kind."""

    path: str

    def items(self, inputs: ModelInputs) -> Iterator[Given | Refused]:
        """Yield the inputs; the last is refused if the file breaks off."""
        return _items(self.path, read_inputs(self.path, unopened=inputs.images))


@dataclass(frozen=True)
class Video:
    """Every `every`-th frame of a video file."""

    path: str
    every: int

    def items(self, _inputs: ModelInputs) -> Iterator[Given | Refused]:
        """Yield the frames; the last is refused if the file breaks off."""
        frames = video_frames(self.path, self.every)
        return _items(f"video:{self.path}", ((f"{self.path}#{number}", frame) for number, frame in frames))


@dataclass(frozen=True)
class Camera:
    """Every `every`-th frame of a camera."""

    number: int
    every: int

    def chunks(self, _inputs: ModelInputs) -> Iterator[list[Given | Refused]]:
        """Yield the frames as they arrive, one at a time."""
        name, frames = f"camera:{self.number}", camera_frames(self.number, self.every)
        return ([item] for item in _items(name, ((f"{name}#{number}", frame) for number, frame in frames)))


@dataclass(frozen=True)
class StandardInput:
    """Lines on standard input."""

    def chunks(self, inputs: ModelInputs) -> Iterator[list[Given | Refused]]:
        """Yield the lines as they arrive."""
        lines = NumberedLines(LineInput(inputs), "-:")
        while piece := os.read(_STANDARD_INPUT, _PIECE):
            yield lines.feed(piece)
        yield lines.feed(b"")


Source: TypeAlias = Files | Video | Camera | StandardInput | Address


def read_source(text: str, *, every: int = 1, anywhere: bool = False) -> Source:
    """Return the source that an argument describes.

    Args:
        text: `-`, `tcp://HOST:PORT`, `unix:PATH`, `video:FILE`, `camera:NUMBER`, or a file or folder.
        every: answer one of so many frames.
        anywhere: whether to listen at an address that other machines can reach.

    Raises:
        ArgumentError: the argument has none of these forms.
        InputError: the file does not exist, or is of an unknown kind.
    """
    if text == "-":
        return StandardInput()
    if text.startswith(("tcp:", "unix:")):
        return read_address(text, anywhere=anywhere)
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


def video_frames(path: str | os.PathLike[str], every: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the number, from 0, and the pixels uint8 RGB [height, width, 3] of every `every`-th frame of a file.

    Raises:
        InputError: the file is missing or has no video; or it breaks off, after the frames before.
        ModuleNotFoundError: the `video` extra (PyAV) is not installed.
    """
    if not os.path.isfile(path):
        raise InputError(f"{os.fspath(path)}: no such file")
    # The file may be a playlist, which must not lead to other places.
    return _frames(os.fspath(path), every, file="file:" + os.path.abspath(path), options={"protocol_whitelist": "file"})


def camera_frames(number: int, every: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the frames of a camera as they arrive, as `video_frames` does.

    Raises:
        InputError: there is no camera of that number, or it was unplugged.
        ModuleNotFoundError: the `video` extra (PyAV) is not installed.
    """
    if sys.platform not in _CAMERAS:
        raise InputError(
            f"camera:{number}: expected Linux or macOS, on which cameras can be opened, got {sys.platform}"
        )
    device, name = _CAMERAS[sys.platform]
    return _frames(f"camera:{number}", every, file=name.format(number), format=device)


def _frames(name: str, every: int, **source: Any) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    import av

    try:
        with av.open(**source) as container:
            if not container.streams.video:
                raise InputError(f"{name}: expected a video, got a file without one")
            for number, frame in enumerate(container.decode(video=0)):
                if number % every == 0:
                    yield number, _upright(frame)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        if isinstance(error, InputError):
            raise
        why = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{name}: not a readable video: {why}") from error


def _upright(frame: Any) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turned = np.rot90(pixels, round(getattr(frame, "rotation", 0) / 90))  # phones record how they were held
    return np.ascontiguousarray(turned)


def _items(name: str, inputs: Iterable[tuple[str, Any]]) -> Iterator[Given | Refused]:
    try:
        for where, x in inputs:
            yield Given(where, x)
    except InputError as error:
        yield Refused(name, str(error))
