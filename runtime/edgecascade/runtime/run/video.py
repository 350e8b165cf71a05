"""Frames of a video file or a camera, by PyAV."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import InputError, first_line

__all__ = ["camera_frames", "video_frames"]

_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}  # FFmpeg's device, and its names


def video_frames(path: str | os.PathLike[str], every: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Number, from 0, and pixels uint8 RGB [height, width, 3] of every so many-th frame of a file.

    Raises:
        InputError: no file, or no video in it; or it breaks off, after the frames before.
        ModuleNotFoundError: the `video` extra (PyAV) is not installed.
    """
    if not os.path.isfile(path):
        raise InputError(f"{os.fspath(path)}: no such file")
    # A file can be a playlist: it is not to send us elsewhere.
    return _frames(os.fspath(path), every, file="file:" + os.path.abspath(path), options={"protocol_whitelist": "file"})


def camera_frames(number: int, every: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The same of a camera, as they come.

    Raises:
        InputError: no camera has the number, or it went away.
        ModuleNotFoundError: the `video` extra (PyAV) is not installed.
    """
    if sys.platform not in _CAMERAS:
        raise InputError(f"camera:{number}: cameras are opened on Linux and macOS only, not on {sys.platform}")
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
    turned = np.rot90(pixels, round(getattr(frame, "rotation", 0) / 90))  # as phones write down how they were held
    return np.ascontiguousarray(turned)
