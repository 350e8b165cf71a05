"""The built-in image pairs as saved outputs: what both models say about images that neither was fitted on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import once
from edgecascade.benchmarks.pairs.bag_of_tokens import language_body
from edgecascade.benchmarks.pairs.fashion_mnist import LARGE, SMALL, load_fashion_mnist, trained
from edgecascade.benchmarks.pairs.flagship import LITE0_96, LITE0_224, LITE2_260, Protocol, body, split
from edgecascade.benchmarks.pairs.languages import language_scores
from edgecascade.benchmarks.pairs.prepared import save_array, saved_scores
from edgecascade.calibration import Pair, fit_temperature
from edgecascade.export.scores import local_scores
from edgecascade.types.softmax import log_probabilities

__all__ = ["PairOutputs", "fashion_pair", "flagship_pairs", "language_pair"]


@dataclass(frozen=True)
class PairOutputs:
    """Logits of two models on the same labelled inputs.

    Attributes:
        name: The name in tables.
        local: float32 [n, classes].
        remote: float32 [n, classes].
        labels: int64 [n].
    """

    name: str
    local: NDArray[np.float32]
    remote: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.labels)

    def __getitem__(self, rows: NDArray[np.intp]) -> PairOutputs:
        """Return some of the inputs."""
        return PairOutputs(self.name, self.local[rows], self.remote[rows], self.labels[rows])

    @property
    def digest(self) -> str:
        """The SHA-256 of all outputs and labels, hexadecimal."""
        digest = hashlib.sha256()
        for array in (self.local, self.remote, self.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()

    def fitted(self, rows: NDArray[np.intp]) -> Pair:
        """Return all inputs, with both temperatures fitted on some of them."""
        return Pair(
            self.local,
            fit_temperature(self.local[rows], self.labels[rows]),
            self.remote,
            fit_temperature(self.remote[rows], self.labels[rows]),
            self.labels,
        )


def flagship_pairs(cache: Path) -> tuple[PairOutputs, PairOutputs]:
    """Return small > large, and two models of comparable scale, on the 5,000 images that fitted no head."""
    protocol = Protocol()
    work = cache / protocol.folder
    head, *others = split(protocol, cache)
    labels = np.concatenate([part.labels for part in others])

    def logits(name: str, path: Path) -> NDArray[np.float32]:
        parts = zip(("calibration", "test"), others, strict=True)
        return np.concatenate([saved_scores(path, data, work / f"{name}-{part}.npy") for part, data in parts])

    small, middle, large = (body(variant, head, cache, work) for variant in (LITE0_96, LITE0_224, LITE2_260))
    remote = logits("remote", large)
    return (
        PairOutputs("small > large", logits("lite0-96", small), remote, labels),
        PairOutputs("comparable", logits("lite0-224", middle), remote, labels),
    )


def fashion_pair(cache: Path) -> PairOutputs:
    """Return a small and a larger network trained on Fashion-MNIST, on its 10,000 test images."""
    train, test = load_fashion_mnist(cache)
    paths = [trained(network, train, cache) for network in (SMALL, LARGE)]
    local, remote = (saved_scores(path, test, path.with_suffix(".npy")) for path in paths)
    return PairOutputs("Fashion-MNIST", local, remote, test.labels)


def language_pair(cache: Path) -> PairOutputs:
    """Return a bag of tokens and lingua on the snippets in 54 languages that trained neither."""
    data, work, remote = language_scores(cache)
    body = language_body(data.train, work)
    parts = {"calibration": data.calibration, "test": data.test}

    def local(name: str) -> NDArray[np.float32]:
        made = once(work / f"body-{name}.npy", lambda part: save_array(part, local_scores(body, parts[name].inputs)))
        scores: NDArray[np.float32] = np.load(made)
        return scores

    return PairOutputs(
        "languages",
        np.concatenate([local(name) for name in parts]),
        log_probabilities(np.concatenate([remote[name] for name in parts]).astype(np.float32)),
        np.concatenate([part.labels for part in parts.values()]),
    )
