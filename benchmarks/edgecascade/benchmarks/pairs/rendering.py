"""Rendered text whose content and place are known: single lines, and scenes of a few lines.

59 typefaces of nine packages (SIL Open Font License, Apache-2.0 for Caladea) show runs of words from the sentences of
`eld`, made hard to read by low contrast, lost resolution, blur and noise. Each image depends on its number and the seed
alone, so disjoint ranges of numbers are independent draws from one distribution.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import Package, fetch
from edgecascade.benchmarks.pairs.languages import load_sentences

__all__ = ["LINE_SHAPE", "SCENE_SIDE", "Renderer"]

LINE_SHAPE = (48, 320)  # height and width that the recognition models were made for
SCENE_SIDE = 512
_GREY = 128  # right of a line that is shorter than its image: about 0 for the models
_LONGEST, _SHORTEST = 22, 8  # characters in a line
_CROWD = 8  # lines in a scene, at most
_APART = 8  # pixels between two lines of a scene
_FONTS = (
    Package("font-amatic-sc", "0.0.4", "2db7342b0fc448ae8b9f64002b0998ccd0ed8f9307d0c823de8b95c53d01d11e", megabytes=1),
    Package("font-caladea", "0.0.2", "eab5b77f1da830226524f419d16d4bc4cb5b68d2de0f47ef83760a8b202e94bc", megabytes=1),
    Package(
        "font-fredoka-one", "0.0.4", "f177fdb46dcb7be565a68ece3a7b353a92cf038554a037f57b6303f6a5478ff8", megabytes=1
    ),
    Package(
        "font-hanken-grotesk", "0.0.2", "7c3609e9bcdc2c9550b2a3baaed937eb7598fc1034e7df1ebcc4eb5489fa86f9", megabytes=1
    ),
    Package("font-intuitive", "0.0.4", "344184f23f7fa1d3b8cee328f92d268dcf5e18d15e46ef979165863cb897924a", megabytes=1),
    Package("font-lato", "0.1.0", "ff74f2d4647187bac4b853ab8215e6b2afe124fcd01c809629aadd8f4356e959", megabytes=1),
    Package("font-manrope", "0.0.2", "2ca9192f3602a3459323dfd7447c8c5ffa0795696c62fac465ef7c9b0521d292", megabytes=1),
    Package(
        "font-source-sans-pro", "0.0.1", "2250396f565a0fea35726e56059216d1d5d75071d64d075ebdfec183b4b85765", megabytes=2
    ),
    Package(
        "font-source-serif-pro",
        "0.0.1",
        "38dd9a8d8027d22aa8ef2d10d27d7c558701b32772ff9f3790f509577e91dca4",
        megabytes=2,
    ),
)


@dataclass(frozen=True)
class Renderer:
    """Draws lines and scenes.

    Attributes:
        folder: The folder of downloads.
        seed: The seed of all draws.
    """

    folder: Path
    seed: int = 2601

    def lines(self, numbers: Sequence[int]) -> tuple[NDArray[np.uint8], list[str]]:
        """Return images of single lines uint8 [n, 48, 320, 3], and their texts, each from another sentence.

        Args:
            numbers: The numbers of the lines, from 0.
        """
        texts = [self.texts[number] for number in numbers]
        images = [self._line(text, self._rng(0, number)) for number, text in zip(numbers, texts, strict=True)]
        return _in_colour(np.stack(images)), texts

    def scenes(self, numbers: Sequence[int]) -> tuple[NDArray[np.uint8], list[NDArray[np.float64]]]:
        """Return scenes uint8 [n, 512, 512, 3] and, for each, boxes [k, 4] around the ink of its lines, in pixels.

        Args:
            numbers: The numbers of the scenes, from 0.
        """
        images, boxes = zip(*(self._scene(self._rng(1, number)) for number in numbers), strict=True)
        return _in_colour(np.stack(images)), list(boxes)

    def digest(self, kind: str, numbers: Sequence[int]) -> str:
        """Return a SHA-256 that says which images these are: all that they come from is pinned."""
        return hashlib.sha256(f"{kind} {self.seed} {list(numbers)} {_FONTS}".encode()).hexdigest()

    @cached_property
    def texts(self) -> list[str]:
        """Different runs of words, one from each sentence that has one in ASCII, in random order."""
        rng = self._rng(2, 0)
        runs = (_runs(sentence) for _, sentence in load_sentences(self.folder))
        drawn = dict.fromkeys(found[rng.integers(len(found))] for found in runs if found)
        texts = list(drawn)
        return [texts[i] for i in rng.permutation(len(texts))]

    @cached_property
    def _typefaces(self) -> list[bytes]:
        return [file for package in _FONTS for file in _files(fetch(package, self.folder))]

    def _rng(self, kind: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, kind, number])

    def _font(self, rng: np.random.Generator, size: float) -> Any:
        from PIL import ImageFont

        faces = self._typefaces
        return ImageFont.truetype(io.BytesIO(faces[rng.integers(len(faces))]), round(size))

    def _line(self, text: str, rng: np.random.Generator) -> NDArray[np.uint8]:
        from PIL import Image, ImageDraw

        font, (height, width) = self._font(rng, rng.uniform(24, 40)), LINE_SHAPE
        ink = rng.integers(0, 110)
        paper = rng.integers(ink + 90, 256)
        left, top, right, bottom = font.getbbox(text)
        drawn = Image.new("L", (round(right - left) + 12, round(bottom - top) + 10), int(paper))
        ImageDraw.Draw(drawn).text((6 - left, 5 - top), text, font=font, fill=int(ink))
        wide = min(width, round(drawn.width * height / drawn.height))
        pixels = np.full(LINE_SHAPE, _GREY, np.uint8)
        pixels[:, :wide] = _worn(drawn.resize((wide, height), Image.Resampling.BICUBIC), rng, 4.0, 24.0)
        return pixels

    def _scene(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Draw lines of 7 to 40 pixels where there is room, on paper of uneven brightness."""
        from PIL import Image, ImageDraw

        paper = rng.uniform(120, 255)
        shade = Image.fromarray(rng.normal(paper, rng.uniform(0, 25), (5, 5)).clip(0, 255).astype(np.uint8))
        image = shade.resize((SCENE_SIDE, SCENE_SIDE), Image.Resampling.BILINEAR)
        draw, boxes = ImageDraw.Draw(image), list[NDArray[np.float64]]()
        for _ in range(rng.integers(1, _CROWD + 1)):
            font = self._font(rng, np.exp(rng.uniform(np.log(7), np.log(40))))
            text = self.texts[rng.integers(len(self.texts))]
            left, top, right, bottom = font.getbbox(text)
            size = np.array([right - left, bottom - top])
            if (size > SCENE_SIDE - 10).any():
                continue
            corner = rng.integers(4, SCENE_SIDE - np.ceil(size).astype(int) - 3)
            box = np.concatenate([corner, corner + size])
            if any((box[:2] < one[2:] + _APART).all() and (one[:2] < box[2:] + _APART).all() for one in boxes):
                continue
            ink = max(0, round(paper - rng.uniform(30, 180)))
            draw.text((corner[0] - left, corner[1] - top), text, font=font, fill=ink)
            boxes.append(box.astype(np.float64))
        return _worn(image, rng, 2.5, 20.0), np.array(boxes).reshape(-1, 4)


def _in_colour(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return grey images [n, height, width] with three equal channels, which share their memory."""
    return np.broadcast_to(images[..., None], (*images.shape, 3))


def _worn(image: Any, rng: np.random.Generator, least: float, noise: float) -> NDArray[np.uint8]:
    """Return the image at a resolution lower by up to a factor, blurred, with noise of up to some deviation."""
    from PIL import Image, ImageFilter

    factor = np.exp(rng.uniform(0, np.log(least)))
    small = (max(4, round(image.width / factor)), max(4, round(image.height / factor)))
    coarse = image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
    soft = np.asarray(coarse.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2))), np.float64)
    noisy = soft + rng.normal(size=soft.shape) * rng.uniform(0, noise)
    return noisy.round().clip(0, 255).astype(np.uint8)


def _runs(sentence: str) -> list[str]:
    """Return the longest run of words from each word on, as far as it fits into a line and is in ASCII.

    >>> _runs("A naïve ruler measures seven inches")
    ['ruler measures seven', 'measures seven inches', 'seven inches']
    """
    words, found = sentence.split(), list[str]()
    for start in range(len(words)):
        run = ""
        for word in words[start:]:
            if len(run) + len(word) + bool(run) > _LONGEST:
                break
            run = f"{run} {word}".strip()
        if len(run) >= _SHORTEST and run.isascii() and run.isprintable():
            found.append(run)
    return found


def _files(wheel: Path) -> list[bytes]:
    """Return the static typefaces of a package, in the order of their names; TrueType where both kinds are there."""
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith((".ttf", ".otf")))
        others = {name.removesuffix(".otf") for name in names} & {name.removesuffix(".ttf") for name in names}
        chosen = [n for n in names if "Variable" not in n and not (n.endswith(".otf") and n[:-4] in others)]
        return [archive.read(name) for name in chosen]
