"""Read inputs from files: the pixels of an image, lines of text, or arrays saved by numpy."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import InputError
from edgecascade.types.extras import naming_extras

__all__ = ["IMAGE_SUFFIXES", "check_path", "read_arrays", "read_bytes", "read_image", "read_inputs"]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
_OTHER_SUFFIXES = (".npy", ".npz", ".txt")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of an image file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        raise InputError(f"x: cannot read the image: {error}") from error


def read_image(source: str | os.PathLike[str] | bytes) -> NDArray[np.uint8]:
    """Return an image file, or the bytes of one, as uint8 RGB [height, width, 3], upright according to its EXIF data.

    Raises:
        InputError: it not a readable image.
        ModuleNotFoundError: the `images` extra (Pillow) is not installed.
    """
    with naming_extras():
        from PIL import Image, ImageOps

    name = "x" if isinstance(source, bytes) else source
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: not a readable image: {error}") from error


def check_path(path: str | os.PathLike[str]) -> None:
    """Check that `read_inputs` can read a file or folder.

    Raises:
        InputError: it is missing, or of another kind.
    """
    path = Path(path)
    if path.is_dir():
        return
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix.lower() not in IMAGE_SUFFIXES and path.suffix not in _OTHER_SUFFIXES:
        raise InputError(f"{path}: expected an image ({', '.join(IMAGE_SUFFIXES)}), .npy, .npz or .txt")


def read_inputs(path: str | os.PathLike[str], *, unopened: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield name and input, one by one, from a folder of images, an image, lines of text (.txt), or arrays [n, ...].

    Arrays come from .npy, from `x` in .npz, or, for a model with several inputs, from .npz with one under each
    input's name; then every input is a dict.

    Args:
        path: path of the file or folder.
        unopened: whether to yield the paths of images instead of their pixels.

    Raises:
        InputError: the file is missing, of another kind or damaged.
    """
    check_path(path)
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise InputError(f"{path}: expected images ({', '.join(IMAGE_SUFFIXES)}) in this folder, got none")
        for file in files:
            yield str(file), file if unopened else read_image(file)
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        yield str(path), path if unopened else read_image(path)
    elif path.suffix == ".txt":
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                yield f"{path}:{number}", line.rstrip("\r\n")
    else:
        arrays = read_arrays(path)
        for position in range(len(next(iter(arrays.values())))):
            one = {name: array[position] for name, array in arrays.items()}
            yield f"{path}[{position}]", one.get("x", one)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return inputs [n, ...] by name: `x` if the file has it or is a .npy, otherwise every array except the labels.

    Raises:
        InputError: the file is missing or damaged, or its arrays differ in length.
    """
    path = Path(path)
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"x": loaded} if path.suffix == ".npy" else {name: loaded[name] for name in loaded}
    except Exception as error:  # numpy and zipfile raise many kinds
        raise InputError(f"{path}: cannot read an array from it: {error}") from error
    inputs = {"x"} if "x" in arrays else arrays.keys() - {"y", "names"}  # the labels
    arrays = {name: array for name, array in arrays.items() if name in inputs}
    if not arrays:
        raise InputError(f"{path}: expected `x`, or one array for each input of the model, got no such array")
    if any(array.ndim == 0 for array in arrays.values()):
        raise InputError(f"{path}: expected inputs [n, ...], got a single number")
    if len({len(array) for array in arrays.values()}) != 1:
        counts = ", ".join(f"{len(array)} in {name}" for name, array in arrays.items())
        raise InputError(f"{path}: expected as many inputs in every array, got {counts}")
    return arrays
