"""Read inputs: the pixels of an image in any form, or arrays saved by numpy.

An image gives the same pixels whether it comes as a path, as the bytes of its file, or as an opened PIL image.
"""

from __future__ import annotations

import io
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import InputError, first_line, no_file
from edgecascade.types.extras import naming_extras

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = [
    "IMAGE_SUFFIXES",
    "MOST_PIXELS",
    "check_path",
    "image_files",
    "is_hidden",
    "read_arrays",
    "read_bytes",
    "read_image",
    "read_inputs",
]

IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MOST_PIXELS = 1 << 26  # 8192 x 8192: a few kilobytes of a compressed file could otherwise fill the memory
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # Pillow has others, some of which run programs
_BESIDE = ("__MACOSX", "@eaDir")
_ARRAY_SUFFIXES = (".npy", ".npz")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 258, 262, 274  # tags of TIFF and EXIF
_WIDE = ("I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes of 16 bits
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_log = logging.getLogger(__name__)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of an image file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"x: cannot read the image: {error}") from error


def read_image(source: str | os.PathLike[str] | bytes | PillowImage) -> NDArray[np.uint8]:
    """Return an image file, the bytes of one, or a PIL image as uint8 RGB [height, width, 3].

    The image is turned upright as its EXIF data say. Of 16 bits per channel, the upper 8 are taken. What is
    transparent shows a white background. Of several frames or pages, the first is taken.

    Args:
        source: a BMP, GIF, JPEG, PNG, PPM, TIFF or WebP file as its path or bytes; or a PIL image.

    Raises:
        InputError: it is not a readable image, has more than `MOST_PIXELS` pixels, or has numbers whose range is
            unknown (32 bits per channel).
        ModuleNotFoundError: the `images` extra (Pillow) is not installed.
    """
    with naming_extras():
        from PIL import Image, UnidentifiedImageError

    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "x"
    try:
        if isinstance(source, Image.Image):
            return _pixels(source, name)
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=_FORMATS) as image:
            return _pixels(image, name)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not a readable image: it is none of {', '.join(_FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own limit is higher
        raise InputError(f"{name}: expected an image of 1 to {MOST_PIXELS} pixels, got more") from error
    except Exception as error:  # the decoders raise many kinds
        raise InputError(f"{name}: not a readable image: {first_line(error)}") from error


def _pixels(image: PillowImage, name: str) -> NDArray[np.uint8]:
    """Return the pixels of an image, which may not be decoded yet."""
    from PIL import Image, ImageOps

    width, height = image.size
    if not 0 < width * height <= MOST_PIXELS:
        raise InputError(f"{name}: expected an image of 1 to {MOST_PIXELS} pixels, got {width} x {height}")
    upright = image if image.getexif().get(_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    mode, transparent = upright.mode, upright.info.get("transparency")
    if mode in _WIDE or (mode == "I" and image.format == "PNG"):  # older versions of Pillow call 16 bits `I`
        levels = np.asarray(upright)
        grey = (levels >> (_tag(image, _BITS_PER_SAMPLE, 16) - 8)).astype(np.uint8)  # a TIFF may have 12
        if _tag(image, _PHOTOMETRIC, 1) == 0:  # white is 0, which Pillow turns round in 8 bits only
            grey = 255 - grey
        if transparent is not None:
            grey[levels == transparent] = 255
        return np.repeat(grey[..., None], 3, axis=2)
    if mode in ("I", "F"):
        raise InputError(f"{name}: expected 8 or 16 bits per channel, got 32; convert the image to 8 bits")
    if mode in _WITH_ALPHA or transparent is not None:
        shown = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return np.asarray(upright.convert("RGB"))


def _tag(image: PillowImage, tag: int, otherwise: int) -> int:
    """Return the number that a TIFF file has under a tag, for its first channel."""
    found = getattr(image, "tag_v2", {}).get(tag, otherwise)
    return int(found[0] if isinstance(found, tuple) else found)


def is_hidden(path: Path, folder: Path) -> bool:
    """Return whether a path inside a folder, or a folder between them, has a name that systems and tools give.

    Such a name begins with a dot, as `._photo.jpg` and `.thumbnails` do, or is that of a folder beside unpacked files.
    """
    return any(part.startswith(".") or part in _BESIDE for part in path.relative_to(folder).parts)


def image_files(folder: Path, *, deep: bool, quiet: bool = False) -> list[Path]:
    """Return the image files in a folder in the order of their paths, without hidden ones; log which are skipped.

    Args:
        folder: the folder.
        deep: whether to look into its folders too.
        quiet: whether to log nothing.
    """
    files = [
        file
        for file in (folder.rglob("*") if deep else folder.iterdir())
        if not is_hidden(file, folder) and file.is_file()
    ]
    skipped = Counter(file.suffix.lower() or "no ending" for file in files if file.suffix.lower() not in IMAGE_SUFFIXES)
    if skipped and not quiet:
        endings = ", ".join(f"{n} x {ending}" for ending, n in sorted(skipped.items()))
        _log.warning("%s: skipped %d files that are not images (%s)", folder, skipped.total(), endings)
    return sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)


def check_path(path: str | os.PathLike[str]) -> None:
    """Check that `read_inputs` can read a file or folder.

    Raises:
        InputError: it is missing, or of another kind.
    """
    if not os.fspath(path):  # which would be the working folder
        raise InputError(no_file(path))
    path = Path(path)
    if path.is_dir():
        return
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix.lower() not in (*IMAGE_SUFFIXES, *_ARRAY_SUFFIXES):
        raise InputError(
            f"{path}: expected an image ({', '.join(IMAGE_SUFFIXES)}), .npy, .npz, or lines (.txt, .jsonl)"
        )


def read_inputs(
    path: str | os.PathLike[str], *, unopened: bool = False, axes: int | None = None
) -> Iterator[tuple[str, Any]]:
    """Yield name and input, one by one, from a folder of images, an image, or arrays [n, ...].

    Hidden files are left out; other files in a folder are skipped with a warning. Arrays come from .npy, from `x` in
    .npz, or, for a model with several inputs, from .npz with one under each input's name; then every input is a dict.

    Args:
        path: path of the file or folder.
        unopened: whether to yield the paths of images instead of their pixels.
        axes: number of axes of an input; a .npy array with so many is one input.

    Raises:
        InputError: the file is missing, of another kind or damaged.
    """
    check_path(path)
    path = Path(path)
    if path.is_dir():
        files = image_files(path, deep=True)
        if not files:
            raise InputError(f"{path}: expected images ({', '.join(IMAGE_SUFFIXES)}) in this folder, got none")
        for file in files:
            yield str(file), file if unopened else read_image(file)
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        yield str(path), path if unopened else read_image(path)
    else:
        arrays = read_arrays(path)
        if path.suffix.lower() == ".npy" and arrays["x"].ndim == axes:
            yield str(path), arrays["x"]
            return
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
        arrays = {"x": loaded} if path.suffix.lower() == ".npy" else {name: loaded[name] for name in loaded}
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
