"""Two networks trained on Fashion-MNIST (Xiao et al., 2017, MIT licence): 2,700 weights ask 96,500.

The 70,000 grey images of clothes come from Debian's package of them. The networks are trained whole, on the standard
training images, so these figures are comparable with published ones, unlike the flagship's; the 10,000 test images
calibrate and test.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import once, sha256_of
from edgecascade.benchmarks.pairs.prepared import Prepared, cores, planned_file
from edgecascade.benchmarks.progress import counting
from edgecascade.calibration import Objective
from edgecascade.export import LabelledData, calibrate, export_torch, local_scores, remote_scores, save_model
from edgecascade.types.errors import BenchmarkError

__all__ = [
    "CLASSES",
    "LARGE",
    "SMALL",
    "DebianPackage",
    "Network",
    "fetch_debian",
    "idx",
    "load_fashion_mnist",
    "member",
    "prepare_fashion",
    "trained",
]


@dataclass(frozen=True)
class DebianPackage:
    """One architecture-independent package.

    Attributes:
        name: The name of the package.
        version: Its exact version.
        sha256: The SHA-256 of the file, hexadecimal.
        megabytes: The rough size of the download.
    """

    name: str
    version: str
    sha256: str
    megabytes: int

    @property
    def file(self) -> str:
        """The name of the file on a mirror."""
        return f"{self.name}_{self.version}_all.deb"


CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_PACKAGE = DebianPackage(
    "dataset-fashion-mnist",
    "0.0~git20200523.55506a9-1",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    megabytes=31,
)
_FOLDER = "usr/share/datasets/fashion-mnist"
_RECIPE = 1  # part of the cache's folder name: raise it when training changes
_BATCH = 128
_SEED = 2601
_CALIBRATION = 2000  # of the 10,000 test images, the first ones: they lie in no order


@dataclass(frozen=True)
class Network:
    """One architecture and its training.

    Attributes:
        name: The name of its file.
        layers: Makes the untrained torch module, from [n, 1, 28, 28] to logits [n, 10].
        epochs: Passes over the training images, each flipped left to right at random.
        peak: The highest learning rate of the one-cycle schedule.
    """

    name: str
    layers: Callable[[], Any]
    epochs: int
    peak: float


def _small() -> Any:
    from torch import nn

    return nn.Sequential(
        *_convolution(1, 8, stride=2),
        *_convolution(8, 16, stride=2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 3 * 3, 10),
    )


def _large() -> Any:
    from torch import nn

    return nn.Sequential(
        *_convolution(1, 32),
        *_convolution(32, 32),
        nn.MaxPool2d(2),
        *_convolution(32, 64),
        *_convolution(64, 64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * 7 * 7, 10),
    )


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[Any]:
    from torch import nn

    return [
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


SMALL = Network("fashion-small", _small, epochs=3, peak=0.01)
LARGE = Network("fashion-large", _large, epochs=3, peak=0.005)


def prepare_fashion(cache: Path, objective: Objective) -> Prepared:
    """Prepare the small network as a cascade model that asks the large one; finished steps are taken from the cache."""
    train, test = load_fashion_mnist(cache)
    local, remote = (trained(network, train, cache) for network in (SMALL, LARGE))
    scores = remote_scores(str(remote), test.inputs)
    planning, testing = (_part(test, slice(_CALIBRATION)), _part(test, slice(_CALIBRATION, None)))
    cascade = once(
        local.with_name(planned_file("local", objective)),
        lambda part: calibrate(
            local,
            part,
            planning,
            local_scores(local, planning.inputs),
            scores[:_CALIBRATION],
            objective=objective,
        ),
    )
    return Prepared(cascade, remote, testing, scores[_CALIBRATION:])


def _part(data: LabelledData, part: slice) -> LabelledData:
    digest = hashlib.sha256(f"{data.digest} {part}".encode()).hexdigest()
    return LabelledData(np.asarray(data.inputs)[part], data.labels[part], data.names, digest)


def trained(network: Network, data: LabelledData, cache: Path) -> Path:
    """Return the network as ONNX, from pixels to logits; train it the first time (seconds to minutes)."""
    path = cache / f"fashion-mnist-r{_RECIPE}-s{_SEED}" / f"{network.name}.onnx"
    return once(path, lambda part: save_model(_train(network, data), part))


def _train(network: Network, data: LabelledData) -> Any:
    import torch

    torch.manual_seed(_SEED)
    torch.set_num_threads(cores())
    module = network.layers().to(memory_format=torch.channels_last).train()  # a quarter faster on CPUs
    pixels = np.asarray(data.inputs)
    inputs, labels = torch.from_numpy(pixels), torch.from_numpy(data.labels)
    steps = -(-len(labels) // _BATCH) * network.epochs
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, network.peak, total_steps=steps)
    with counting(f"training {network.name}", network.epochs * len(labels)) as done:
        for _ in range(network.epochs):
            order = torch.randperm(len(labels))
            for start in range(0, len(labels), _BATCH):
                rows = order[start : start + _BATCH]
                flipped = torch.rand(len(rows), 1, 1, 1) < 0.5
                batch = torch.where(flipped, inputs[rows].flip(3), inputs[rows])
                optimizer.zero_grad()
                loss: Any = torch.nn.functional.cross_entropy(module(batch), labels[rows])
                loss.backward()
                optimizer.step()
                schedule.step()
                done(len(rows))
    return export_torch(module.eval(), pixels.shape[1:])


def load_fashion_mnist(folder: Path) -> tuple[LabelledData, LabelledData]:
    """Return the 60,000 training and the 10,000 test images, pixels in [0, 1] as float32 [n, 1, 28, 28]."""
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
    """Read an array of bytes in the IDX format of the MNIST files: magic, one big-endian uint32 per dimension, values.

    >>> idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    array([7, 9], dtype=uint8)
    """
    if data[:3] != b"\0\0\x08":
        raise BenchmarkError(f"data: expected an IDX array of unsigned bytes, got one that begins with {data[:4]!r}")
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def fetch_debian(package: DebianPackage, folder: Path) -> Path:
    """Return the package's file in `folder`, downloaded by apt unless it is there already; it is not installed.

    Raises:
        BenchmarkError: apt is missing or failed, or the file is not the pinned one.
    """
    path = folder / package.file
    if path.exists():
        _check(package, path)
    return once(path, lambda part: _download(package, part))


def member(package: Path, name: str) -> bytes:
    """Return the file that the package would install as `/name`.

    Raises:
        BenchmarkError: This is not a Debian package, or it holds no such file.
    """
    from debian.arfile import ArError
    from debian.debfile import DebError, DebFile

    try:
        with DebFile(filename=str(package)) as archive:
            content = archive.data.get_content(name)
    except (ArError, DebError, EOFError, KeyError) as error:
        raise BenchmarkError(f"{package}: expected a Debian package with the file {name}, got: {error}") from error
    return content or b""


def _download(package: DebianPackage, part: Path) -> None:
    print(f"downloading {package.file} ({package.megabytes} MB)", file=sys.stderr, flush=True)
    by_hand = f"download {package.file} from any Debian mirror and put it into {part.parent}"
    apt = shutil.which("apt-get")
    if apt is None:
        raise BenchmarkError(f"{package.name}: apt-get is not installed; {by_hand}")
    with tempfile.TemporaryDirectory() as folder:
        command = [apt, "-q", "download", f"{package.name}={package.version}"]
        done = subprocess.run(command, cwd=folder, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
        files = list(Path(folder).iterdir())
        if done.returncode or len(files) != 1:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise BenchmarkError(
                f"{package.name}: apt-get failed with {last!r}; run `apt-get update` first, or {by_hand}"
            )
        _check(package, files[0])
        shutil.move(files[0], part)


def _check(package: DebianPackage, path: Path) -> None:
    seen = sha256_of(path)
    if seen != package.sha256:
        raise BenchmarkError(f"{path}: expected SHA-256 {package.sha256}, got {seen}; not used")
