"""Sources of inputs: files and folders, videos, cameras, streams, and lines on standard input or a socket."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.commands.lines import Given, LineInput, NumberedLines, Refused
from edgecascade.runtime.commands.sockets import Address, read_address
from edgecascade.runtime.inputs import check_path, read_inputs
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.runtime.remotes.remote import shown
from edgecascade.types.errors import ArgumentError, InputError, first_line, no_file
from edgecascade.types.extras import naming_extras

__all__ = ["Live", "Source", "Stored", "camera_frames", "read_source", "stream_frames", "video_frames"]

_STANDARD_INPUT = 0  # the descriptor, because reading `sys.stdin` takes a lock that the interpreter needs to exit
_LINES = (".txt", ".jsonl")
_PIECE = 64 << 10  # bytes
_SILENCE = 10.0  # seconds without a frame after which a stream has broken off
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}  # FFmpeg's device, and its names


@dataclass(frozen=True)
class Stored:
    """Stored inputs: a folder, or a file.

    Attributes:
        items: returns the inputs for a model; the last is refused if the file breaks off.
    """

    items: Callable[[ModelInputs], Iterator[Given | Refused]]


@dataclass(frozen=True)
class Live:
    """Inputs that arrive over time: a camera, or standard input.

    Attributes:
        chunks: returns the inputs for a model as they arrive, and blocks until one does.
    """

    chunks: Callable[[ModelInputs], Iterator[list[Given | Refused]]]


Source: TypeAlias = Stored | Live | Address


def read_source(text: str, *, every: int = 1, anywhere: bool = False) -> Source:
    """Return the source that an argument describes.

    Args:
        text: `-`, `tcp://HOST:PORT`, `unix:PATH`, `video:FILE`, `video:-`, `camera:NUMBER`, `rtsp://...`, or a file or
            folder.
        every: answer one of so many frames.
        anywhere: whether to listen at an address that other machines can reach.

    Raises:
        ArgumentError: the argument has another form.
        InputError: the file does not exist, or is of an unknown kind.
    """
    kind, _, rest = text.partition(":")
    if text == "-":
        return Live(_standard_input)
    if kind in ("tcp", "unix") and text != kind:
        return read_address(text, anywhere=anywhere)
    if kind in ("rtsp", "rtsps") and rest.startswith("//"):
        name = shown(text)
        return Live(lambda _: ([item] for item in _items(name, name, stream_frames(text, every))))
    if text == "video:-":
        piped = {"file": f"pipe:{_STANDARD_INPUT}", "options": {"protocol_whitelist": "pipe"}}
        return Live(lambda _: ([item] for item in _items(text, text, _frames(text, every, **piped))))
    if kind == "video" and text != kind:
        if not os.path.isfile(rest):
            raise InputError(no_file(rest))
        return Stored(lambda _: _items(text, rest, video_frames(rest, every)))
    if kind == "camera" and text != kind:
        if not re.fullmatch("[0-9]{1,3}", rest):
            raise ArgumentError(f"inputs: expected camera:NUMBER, such as camera:0, got {text}")
        return Live(lambda _: ([item] for item in _items(text, text, camera_frames(int(rest), every))))
    if os.path.splitext(text)[1].lower() in _LINES and not os.path.isdir(text):
        if not os.path.isfile(text):
            raise InputError(no_file(text))
        return Stored(lambda inputs: _file_of_lines(text, inputs))
    check_path(text)
    return Stored(lambda inputs: _given(text, read_inputs(text, unopened=inputs.images, axes=_axes(inputs))))


def _axes(inputs: ModelInputs) -> int | None:
    """Return the number of axes of an input, or None if the model takes text or several arrays."""
    alone = inputs.text is None and len(inputs.declared) == 1
    return len(inputs.declared[0].shape) - 1 if alone else None


def _standard_input(inputs: ModelInputs) -> Iterator[list[Given | Refused]]:
    return _lines(inputs, "-", _STANDARD_INPUT)


def _file_of_lines(path: str, inputs: ModelInputs) -> Iterator[Given | Refused]:
    try:
        with open(path, "rb") as file:
            for items in _lines(inputs, path, file.fileno()):
                yield from items
    except OSError as error:
        yield Refused(path, f"cannot read the file: {error.strerror}")


def _lines(inputs: ModelInputs, name: str, descriptor: int) -> Iterator[list[Given | Refused]]:
    lines = NumberedLines(LineInput(inputs, only_json=name.lower().endswith(".jsonl")), f"{name}:")
    while piece := os.read(descriptor, _PIECE):
        yield lines.feed(piece)
    yield lines.feed(b"")


def _items(source: str, name: str, frames: Iterable[tuple[int, Any]]) -> Iterator[Given | Refused]:
    return _given(source, ((f"{name}#{number}", frame) for number, frame in frames))


def _given(source: str, inputs: Iterable[tuple[str, Any]]) -> Iterator[Given | Refused]:
    try:
        for name, x in inputs:
            yield Given(name, x)
    except InputError as error:
        yield Refused(source, str(error))


def video_frames(path: str | os.PathLike[str], every: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the number, from 0, and the pixels uint8 RGB [height, width, 3] of every `every`-th frame of a file.

    Raises:
        InputError: the file is missing or has no video; or it breaks off, after the frames before.
        ModuleNotFoundError: the `video` extra (PyAV) is not installed.
    """
    if not os.path.isfile(path):
        raise InputError(no_file(path))
    # The file may be a playlist, which must not lead to other places.
    return _frames(os.fspath(path), every, file="file:" + os.path.abspath(path), options={"protocol_whitelist": "file"})


def camera_frames(number: int, every: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the frames of a camera as they arrive, as `video_frames` does.

    Raises:
        InputError: no camera has that number, or it was unplugged.
        ModuleNotFoundError: the `video` extra (PyAV) is not installed.
    """
    if sys.platform not in _CAMERAS:
        raise InputError(
            f"camera:{number}: expected Linux or macOS, on which cameras can be opened, got {sys.platform}"
        )
    device, name = _CAMERAS[sys.platform]
    return _frames(f"camera:{number}", every, file=name.format(number), format=device)


def stream_frames(address: str, every: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the frames of an RTSP stream, over TCP, as they arrive, as `video_frames` does.

    Args:
        address: `rtsp://HOST[:PORT]/PATH` or `rtsps://`, perhaps with `USER:PASSWORD@`, which no error repeats.
        every: yield one of so many frames.

    Raises:
        InputError: nothing is there, it ends, or nothing comes for ten seconds.
        ModuleNotFoundError: the `video` extra (PyAV) is not installed.
    """
    options = {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtsps,rtp,tcp,tls", "fflags": "nobuffer"}
    yield from _frames(shown(address), every, file=address, options=options, timeout=_SILENCE)
    raise InputError(f"{shown(address)}: expected a stream without an end, got one that ended")


def _frames(name: str, every: int, **source: Any) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    with naming_extras():
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
