"""What happens to an input before the body: in the graph (images), or by a tokenizer beside the file (text)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgecascade.types.document.fields import strings, three
from edgecascade.types.document.metadata import DAMAGE, PREPROCESSING_KEY
from edgecascade.types.errors import ArgumentError, ModelFileError

__all__ = [
    "ImagePreprocessing",
    "Preprocessing",
    "TextPreprocessing",
    "parse_preprocessing",
    "preprocessing_dict",
    "read_preprocessing",
]

_ALTERNATIVES = {  # of an image's form, the usual one first
    "channels": ("rgb", "bgr", "grey"),
    "layout": ("NCHW", "NHWC"),
    "dtype": ("float32", "float16", "uint8"),
}


@dataclass(frozen=True)
class ImagePreprocessing:
    """From uint8 RGB [batch, height, width, 3] of any size to what the body takes.

    Attributes:
        height: rows that the body takes.
        width: columns that the body takes.
        mean: subtracted from each channel, in pixel values 0 to 255 and in the body's order of channels.
        std: divides each channel after that.
        interpolation: `linear` or `cubic`, with antialiasing, as Pillow resizes.
        shortest_edge: the shorter side is resized to it, and the centre of height x width is cropped; None resizes to
            height x width and ignores the aspect ratio.
        letterbox: the image is resized to fit into height x width with its aspect ratio, and this pixel value, 0 to
            255, fills the borders on both sides; None adds no borders.
        channels: `rgb`, `bgr`, or `grey`: one channel, the luma 0.299 R + 0.587 G + 0.114 B.
        layout: `NCHW` or `NHWC`.
        dtype: `float32`, `float16`, or `uint8`: pixel values as they are, rounded after resizing.

    Raises:
        ArgumentError: a value is invalid.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "linear"
    shortest_edge: int | None = None
    letterbox: float | None = None
    channels: str = "rgb"
    layout: str = "NCHW"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ArgumentError(f"size: expected at least 1 x 1 pixels, got {self.height} x {self.width}")
        if self.interpolation not in ("linear", "cubic"):
            raise ArgumentError(f"interpolation: expected linear or cubic, got {self.interpolation!r}")
        if self.shortest_edge is not None and self.shortest_edge < max(self.height, self.width):
            raise ArgumentError(
                f"shortest_edge: expected at least {max(self.height, self.width)}, of which the centre is cropped, "
                f"got {self.shortest_edge}"
            )
        if not all(map(math.isfinite, self.mean)):
            raise ArgumentError(f"mean: expected finite numbers, got {self.mean}")
        if 0.0 in self.std or not all(map(math.isfinite, self.std)):
            raise ArgumentError(f"std: expected finite numbers other than 0, got {self.std}")
        if self.letterbox is not None and (self.shortest_edge is not None or not 0 <= self.letterbox <= 255):
            raise ArgumentError(
                f"letterbox: expected a pixel value from 0 to 255 and no shortest_edge, got {self.letterbox} and "
                f"{self.shortest_edge}"
            )
        for name, allowed in _ALTERNATIVES.items():
            if getattr(self, name) not in allowed:
                raise ArgumentError(f"{name}: expected {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.channels == "grey" and (len(set(self.mean)) > 1 or len(set(self.std)) > 1):
            raise ArgumentError(f"mean, std: expected equal numbers for the one channel, got {self.mean}, {self.std}")
        if self.dtype == "uint8" and (any(self.mean) or set(self.std) != {1.0}):
            raise ArgumentError(f"mean, std: expected 0 and 1 with uint8, got {self.mean} and {self.std}")


@dataclass(frozen=True)
class TextPreprocessing:
    """From a sentence to token arrays, by a tokenizer file that lies beside the model file.

    Attributes:
        tokenizer: name of that file.
        sha256: its SHA-256, in hexadecimal.
        max_length: tokens; a longer sentence is truncated.
        inputs: the model's inputs that it makes.
    """

    tokenizer: str
    sha256: str
    max_length: int
    inputs: tuple[str, ...]


Preprocessing = ImagePreprocessing | TextPreprocessing


def preprocessing_dict(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return a preprocessing as it is in JSON."""
    if isinstance(preprocessing, TextPreprocessing):
        return {"kind": "text", **asdict(preprocessing)}
    usual = {"letterbox": None, **{name: allowed[0] for name, allowed in _ALTERNATIVES.items()}}
    return {name: value for name, value in asdict(preprocessing).items() if name not in usual or value != usual[name]}


def read_preprocessing(text: str | None, where: str) -> Preprocessing | None:
    """Read the JSON under the metadata key `edgecascade.preprocessing`, or None if there is none.

    Raises:
        ModelFileError: it is damaged.
    """
    if text is None:
        return None
    try:
        return parse_preprocessing(json.loads(text))
    except DAMAGE as error:
        raise ModelFileError(f"{where}: its `{PREPROCESSING_KEY}` metadata is damaged: {error!r}") from error


def parse_preprocessing(found: Mapping[str, Any] | None) -> Preprocessing | None:
    """Read a preprocessing from its JSON object, or None if there is none."""
    if found is None:
        return None
    if found.get("kind") == "text":
        return TextPreprocessing(
            tokenizer=str(found["tokenizer"]),
            sha256=str(found["sha256"]),
            max_length=int(found["max_length"]),
            inputs=strings(found["inputs"]),
        )
    return ImagePreprocessing(
        height=int(found["height"]),
        width=int(found["width"]),
        mean=three(found["mean"]),
        std=three(found["std"]),
        interpolation=str(found["interpolation"]),
        shortest_edge=None if found.get("shortest_edge") is None else int(found["shortest_edge"]),
        letterbox=None if found.get("letterbox") is None else float(found["letterbox"]),
        **{name: str(found[name]) for name in _ALTERNATIVES if name in found},
    )
