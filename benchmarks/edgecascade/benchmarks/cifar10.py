"""The 10,000 CIFAR-10 *test* images, as lossless PNGs inside the source archive of `bigbench`.

Splits of it are splits of a test set: no figure made from them compares with published CIFAR-10 results.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.packages import Package, fetch
from edgecascade.export.cache import once
from edgecascade.types.errors import BenchmarkError

__all__ = ["CLASSES", "load_cifar10"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PACKAGE = Package(
    "bigbench",
    "1.0.0",
    "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
    megabytes=358,
    sdist=True,
)
_MEMBER = "bigbench-1.0.0/bigbench/benchmark_tasks/cifar10_classification/base64/task.json"


def load_cifar10(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 RGB [10000, 32, 32, 3] and labels [10000], sorted by class as in the archive."""
    path = once(folder / "cifar10-test.npz", lambda part: _extract(fetch(_PACKAGE, folder), part))
    with np.load(path) as arrays:
        return arrays["x"], arrays["y"]


def _extract(archive: Path, part: Path) -> None:
    from PIL import Image

    print("unpacking the images", file=sys.stderr, flush=True)
    examples = json.loads(_member(archive))["examples"]
    images, labels = [], []
    for example in examples:
        with Image.open(io.BytesIO(base64.b64decode(example["input"]))) as image:
            images.append(np.asarray(image.convert("RGB")))
        scores = example["target_scores"]
        labels.append(CLASSES.index(max(scores, key=scores.get)))
    with part.open("wb") as file:
        np.savez(file, x=np.stack(images), y=np.array(labels, np.int64))


def _member(archive: Path) -> bytes:
    with tarfile.open(archive, "r|gz") as stream:
        for member in stream:
            if member.name == _MEMBER:
                extracted = stream.extractfile(member)
                assert extracted is not None
                return extracted.read()
    raise BenchmarkError(f"{archive}: it has no {_MEMBER}")
