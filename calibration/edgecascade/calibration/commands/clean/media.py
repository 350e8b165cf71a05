"""What a person sees of an input: a small image, a text, or a player or link for audio, video and anything else."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.commands.outputs import read_array
from edgecascade.types.errors import CalibrationError, first_line

__all__ = ["KINDS", "Inputs", "Shown", "open_inputs"]

KINDS = ("images", "texts", "links")

_SIDE = 320  # pixels, of the longer side of an image
_EXACT = 64  # pixels, up to which an image is kept without loss
_BYTES = 21_000  # of one image; 500 make a page of about 14 MB
_QUALITIES = (82, 70, 55, 40, 25)
_MOST_PIXELS = 1 << 26  # 8192 x 8192: a few kilobytes of a compressed file could otherwise fill the memory
_LONGEST = 20_000  # characters of a text
_ARRAYS = ("x", "inputs", "image", "images", "img", "text", "texts", "sentence")
_IMAGES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
_MEDIA = {
    **dict.fromkeys((".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav"), "audio"),
    **dict.fromkeys((".m4v", ".mkv", ".mov", ".mp4", ".ogv", ".webm"), "video"),
}


@dataclass(frozen=True)
class Shown:
    """One input as a person sees it: one of image, text and link is given.

    Attributes:
        image: a WebP image as a data URI.
        text: the text, or its beginning.
        link: an address: http, https, or a path relative to the page.
        media: `audio` or `video` for a link that a browser plays, `image` for one that it shows, otherwise empty.
    """

    image: str | None = None
    text: str | None = None
    link: str | None = None
    media: str = ""


@dataclass(frozen=True)
class Inputs:
    """The inputs of all judged rows, read one at a time.

    Attributes:
        kind: `images`, `texts` or `links`.
        values: what there is for each row: pixels, encoded images or texts; or None, and the ids are texts or paths.
        ids: of the rows; empty if there are none.
        folder: the ids are paths in it.
        address: put in front of ids to make addresses of files, instead of embedding them; None to embed them.
    """

    kind: str
    values: Sequence[Any] | NDArray[Any] | None
    ids: Sequence[str]
    folder: Path
    address: str | None = None

    def shown(self, row: int, page: Path) -> Shown:
        """Return the input of a row, for a page at the given path.

        Raises:
            CalibrationError: an image cannot be read, or an id is not an address that may be linked.
        """
        if self.kind == "texts":
            text = str(self.ids[row] if self.values is None else self.values[row])
            return Shown(text=text if len(text) <= _LONGEST else f"{text[:_LONGEST]} [...]")
        if self.address is not None and self.ids:
            return Shown(link=self.address + quote(self.ids[row]), media=_media(self.ids[row]) or "image")
        if self.kind == "links":
            return _link(self.ids[row], self.folder, page)
        if self.values is not None:
            return Shown(image=_data_uri(self.values[row], f"row {row}"))
        return Shown(image=_data_uri(self.folder / self.ids[row], str(self.folder / self.ids[row])))


def open_inputs(data: str | None, ids: Sequence[str], n: int, kind: str | None = None) -> Inputs:
    """Find what there is to show for n rows.

    Args:
        data: a folder that the ids are paths in; an .npy file, or an .npz or .parquet file with an array such as `x`,
            of images uint8 [n, height, width, 3] or [n, height, width], encoded images, or texts; a .txt file with a
            text per line; or None, where the ids are paths or texts themselves.
        ids: of the rows; empty if there are none.
        n: number of rows.
        kind: `images`, `texts` or `links`; None to tell it from the data.

    Raises:
        CalibrationError: the data cannot be read, or do not fit the rows.
        ModuleNotFoundError: the file is a .parquet, and pyarrow is not installed.
    """
    if data is None or Path(data).is_dir():
        if not len(ids):
            raise CalibrationError(
                "--data: expected a file with the inputs, or ids [n] in the file of outputs that say where they are"
            )
        folder = Path(data or ".")
        return Inputs(kind or _kind_of(ids, folder, data is not None), None, ids, folder)
    values = _values(Path(data))
    if len(values) != n:
        raise CalibrationError(f"{data}: expected {n} inputs, one per judged row, got {len(values)}")
    text = n > 0 and isinstance(values[0], str)
    found = "texts" if text else "images"
    if kind == "links" and text:
        return Inputs("links", None, [str(one) for one in values], Path())
    if kind not in (None, found):
        raise CalibrationError(f"{data}: expected {kind}, got {found}")
    return Inputs(found, values, ids, Path())


def _kind_of(ids: Sequence[str], folder: Path, paths: bool) -> str:
    some = [str(ids[row]) for row in range(0, len(ids), max(1, len(ids) // 50))]
    if all(_is_address(one) for one in some):
        return "links"
    if paths or all(_exists(folder / one) for one in some):
        return "images" if all(Path(one).suffix.lower() in _IMAGES for one in some) else "links"
    if any(Path(one).suffix.lower() in _IMAGES | _MEDIA.keys() for one in some):
        raise CalibrationError(f"--data: expected the folder that the ids are paths in, as {some[0]} is not found here")
    return "texts"


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text that is too long for a path, or has a null character
        return False


def _values(path: Path) -> Sequence[Any] | NDArray[Any]:
    if path.suffix == ".txt":
        try:
            return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, ValueError) as error:
            raise CalibrationError(f"{path}: is not a file of UTF-8 text: {first_line(error)}") from error
    if path.suffix == ".parquet":
        return _column(path)
    if path.suffix == ".npy":
        values = read_array(path)
    elif path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                name = next((one for one in _ARRAYS if one in archive), None)
                if name is None:
                    raise CalibrationError(f"{path}: expected one of the arrays {', '.join(_ARRAYS)}, got none of them")
                values = archive[name]
        except FileNotFoundError as error:
            raise CalibrationError(f"{path}: no such file") from error
        except CalibrationError:
            raise
        except Exception as error:  # numpy and zipfile raise many types
            raise CalibrationError(f"{path}: is not an .npz file of plain arrays: {first_line(error)}") from error
    else:
        raise CalibrationError(f"{path}: expected a folder, or an .npy, .npz, .parquet or .txt file with the inputs")
    image = values.dtype == np.uint8 and (values.ndim == 3 or (values.ndim == 4 and values.shape[3] in (1, 3)))
    if not image and not (values.dtype.kind == "U" and values.ndim == 1):
        raise CalibrationError(
            f"{path}: expected images uint8 [n, height, width, 3] or [n, height, width], or texts [n], got "
            f"{values.dtype} {list(values.shape)}"
        )
    return values.tolist() if values.dtype.kind == "U" else values


def _column(path: Path) -> list[Any]:
    """Return texts or encoded images of a parquet file; images may be structures as in Hugging Face's `datasets`."""
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
        name = next((one for one in _ARRAYS if one in names), None)
        if name is None:
            raise CalibrationError(f"{path}: expected one of the columns {', '.join(_ARRAYS)}, got none of them")
        values = pyarrow.parquet.read_table(path, columns=[name])[name].to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise CalibrationError(f"{path}: is not a readable .parquet file: {first_line(error)}") from error
    values = [one.get("bytes") if isinstance(one, dict) else one for one in values]
    odd = next((one for one in values if not isinstance(one, (str, bytes)) or type(one) is not type(values[0])), None)
    if odd is not None:
        raise CalibrationError(f"{path}: expected texts or encoded images in {name}, got {type(odd).__name__}")
    return values


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _link(text: str, folder: Path, page: Path) -> Shown:
    if _is_address(text):
        return Shown(link=text, media=_media(urlsplit(text).path))
    path = folder / text
    if not _exists(path):
        raise CalibrationError(f"{path}: no such file; expected ids that are paths, or addresses with http or https")
    relative = os.path.relpath(path.resolve(), page.resolve().parent)
    return Shown(link=quote(Path(relative).as_posix()), media=_media(text))


def _media(path: str) -> str:
    return _MEDIA.get(Path(path).suffix.lower(), "")


def _data_uri(source: Path | bytes | NDArray[np.uint8], where: str) -> str:
    """Return an image, at most 320 pixels long and about 20 kB, as the address of a WebP image."""
    from PIL import Image, ImageOps

    try:
        if isinstance(source, np.ndarray):
            image = Image.fromarray(source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source)
        else:
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"expected at most {_MOST_PIXELS} pixels, got {image.width} x {image.height}")
            image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits
            image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
        image = _on_white(image)
        image.thumbnail((_SIDE, _SIDE))
    except FileNotFoundError as error:
        raise CalibrationError(f"{where}: no such file") from error
    except Exception as error:  # Pillow raises many types for damaged files
        raise CalibrationError(f"{where}: is not a readable image: {first_line(error)}") from error
    return f"data:image/webp;base64,{base64.b64encode(_encoded(image)).decode()}"


def _on_white(image: Any) -> Any:
    """Return an image in RGB, with a white background where it is transparent."""
    from PIL import Image

    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _encoded(image: Any) -> bytes:
    """Return an image as WebP; what is still too large at the lowest quality, such as noise, is made smaller."""
    if max(image.size) <= _EXACT:
        return _webp(image, lossless=True)
    while True:
        for quality in _QUALITIES:
            content = _webp(image, quality=quality, method=2)
            if len(content) <= _BYTES or max(image.size) <= _EXACT:
                return content
        image.thumbnail([0.7 * side for side in image.size])


def _webp(image: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, "WEBP", **options)
    return content.getvalue()
