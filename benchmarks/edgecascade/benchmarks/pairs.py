"""The built-in pairs as saved outputs: what both models say about labelled images that neither was fitted on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.efficientnet_lite import LITE0_96, LITE0_224, LITE2_260
from edgecascade.benchmarks.fashion_mnist import load_fashion_mnist
from edgecascade.benchmarks.fashion_pair import LARGE, SMALL, trained
from edgecascade.benchmarks.flagship import Protocol, body, scores, split
from edgecascade.calibration import Pair, fit_temperature

__all__ = ["PairOutputs", "fashion_pair", "flagship_pairs"]


@dataclass(frozen=True)
class PairOutputs:
    """Logits of two models on the same labelled inputs.

    Attributes:
        name: for tables.
        local: float32 [n, classes].
        remote: float32 [n, classes].
        labels: int64 [n].
    """

    name: str
    local: NDArray[np.float32]
    remote: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """How many inputs."""
        return len(self.labels)

    def __getitem__(self, rows: NDArray[np.intp]) -> PairOutputs:
        """Some of the inputs."""
        return PairOutputs(self.name, self.local[rows], self.remote[rows], self.labels[rows])

    @property
    def digest(self) -> str:
        """SHA-256 of all outputs and labels, hexadecimal."""
        digest = hashlib.sha256()
        for array in (self.local, self.remote, self.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()

    def fitted(self, rows: NDArray[np.intp]) -> Pair:
        """All inputs, with both temperatures fitted on some of them."""
        return Pair(
            self.local,
            fit_temperature(self.local[rows], self.labels[rows]),
            self.remote,
            fit_temperature(self.remote[rows], self.labels[rows]),
            self.labels,
        )


def flagship_pairs(cache: Path) -> tuple[PairOutputs, PairOutputs]:
    """Small > large, and two of comparable scale, on the 5,000 images that fitted no head."""
    protocol = Protocol()
    work = cache / protocol.folder
    head, *others = split(protocol, cache)
    labels = np.concatenate([part.labels for part in others])

    def logits(name: str, path: Path) -> NDArray[np.float32]:
        saved = [scores(path, part, work / f"{name}-{i}.npy") for i, part in zip(_PARTS, others, strict=True)]
        return np.concatenate([np.load(one) for one in saved])

    small, middle, large = (body(variant, head, cache, work) for variant in (LITE0_96, LITE0_224, LITE2_260))
    remote = logits("remote", large)
    return (
        PairOutputs("small > large", logits("lite0-96", small), remote, labels),
        PairOutputs("comparable", logits("lite0-224", middle), remote, labels),
    )


def fashion_pair(cache: Path) -> PairOutputs:
    """A small and a larger network trained on Fashion-MNIST, on its 10,000 test images."""
    train, test = load_fashion_mnist(cache)
    paths = [trained(network, train, cache) for network in (SMALL, LARGE)]
    local, remote = (np.load(scores(path, test, path.with_suffix(".npy"))) for path in paths)
    return PairOutputs("Fashion-MNIST", local, remote, test.labels)


_PARTS = ("calibration", "test")
