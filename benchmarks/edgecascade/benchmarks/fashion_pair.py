"""Two networks trained on Fashion-MNIST's own training images: 2,700 weights against 96,500.

Trained whole and on standard splits, so these figures may be compared with published ones, unlike the
flagship's; the 10,000 test images calibrate and test.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecascade.benchmarks.fashion_mnist import load_fashion_mnist
from edgecascade.benchmarks.prepared import Prepared, planned_file
from edgecascade.benchmarks.progress import counting
from edgecascade.calibration import Objective
from edgecascade.export import LabelledData, calibrate, export_torch, local_scores, remote_scores, save_model
from edgecascade.export.cache import once

__all__ = ["LARGE", "SMALL", "Network", "prepare_fashion", "trained"]

_RECIPE = 1  # part of the cache's folder name: raise it when training changes
_BATCH = 128
_SEED = 2601
_CALIBRATION = 2000  # of the 10,000 test images, the first ones: they lie in no order


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


def prepare_fashion(cache: Path, objective: Objective) -> Prepared:
    """The small network as a cascade model that asks the large one; the cache is asked for what is prepared already."""
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
