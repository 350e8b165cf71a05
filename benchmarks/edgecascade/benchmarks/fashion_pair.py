"""Two networks trained on Fashion-MNIST's own training images: 2,700 weights against 96,500.

Trained whole and on standard splits, so these figures may be compared with published ones, unlike the
flagship's; the 10,000 test images calibrate and test.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecascade.benchmarks.progress import counting
from edgecascade.export import LabelledData, export_torch, save_model
from edgecascade.export.cache import once

__all__ = ["LARGE", "SMALL", "Network", "trained"]

_RECIPE = 1  # part of the cache's folder name: raise it when training changes
_BATCH = 128
_SEED = 2601


@dataclass(frozen=True)
class Network:
    """One architecture and how long it is trained.

    Attributes:
        name: of its file.
        layers: makes the untrained torch module, from [n, 1, 28, 28] to logits [n, 10].
        epochs: passes over the training images, each flipped left to right at random.
        peak: highest learning rate of the one-cycle schedule.
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


def trained(network: Network, data: LabelledData, cache: Path) -> Path:
    """The network as ONNX, from pixels to logits; trained if that was not done yet (seconds, or minutes)."""
    path = cache / f"fashion-mnist-r{_RECIPE}-s{_SEED}" / f"{network.name}.onnx"
    return once(path, lambda part: save_model(_train(network, data), part))


def _train(network: Network, data: LabelledData) -> Any:
    import torch

    torch.manual_seed(_SEED)
    torch.set_num_threads(os.cpu_count() or 1)
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
