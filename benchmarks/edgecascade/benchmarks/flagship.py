"""The image pairs: EfficientNet-Lite0, at 96 px in int8 or of comparable scale at 224 px, asks EfficientNet-Lite2.

Every step leaves a file in the cache, so an interrupted run goes on where it stopped and a second run
measures again without preparing again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.benchmarks.cifar10 import CLASSES, load_cifar10
from edgecascade.benchmarks.efficientnet_lite import (
    LITE0_96,
    LITE0_224,
    LITE2_260,
    Head,
    Variant,
    classifier,
    feature_extractor,
    fit_head,
)
from edgecascade.benchmarks.prepared import Prepared, planned_file
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.torch_remote import TorchRemote
from edgecascade.calibration import MostAccuracy, Objective
from edgecascade.export import (
    LabelledData,
    calibrate,
    export_torch,
    local_scores,
    prepend,
    quantize_int8,
    remote_scores,
    save_model,
)
from edgecascade.export.cache import once
from edgecascade.export.preprocess import standalone
from edgecascade.runtime.engine import open_session

__all__ = ["BUDGET", "Protocol", "body", "prepare_comparable", "prepare_flagship", "scores", "split"]

BUDGET = 0.2  # offload rate that is planned for if nothing else is asked
_RECIPE = 6  # part of the cache's folder name: raise it when a step below changes
_QUANTIZATION_IMAGES = 256


@dataclass(frozen=True)
class Protocol:
    """How the images are split, and what is asked of the cascade.

    Attributes:
        head: images that fit the two linear heads (and, of the first 256, the int8 ranges).
        calibration: images that fit both temperatures, the advantage table and the threshold.
        test: images that every figure is measured on.
        seed: of the shuffle before the split.
        objective: what the cascade is planned for.
    """

    head: int = 5000
    calibration: int = 1000
    test: int = 4000
    seed: int = 2601
    objective: Objective = field(default_factory=lambda: MostAccuracy(BUDGET))

    @property
    def folder(self) -> str:
        """Where the steps of this protocol are kept."""
        return f"flagship-r{_RECIPE}-{self.head}-{self.calibration}-{self.test}-s{self.seed}"


def prepare_flagship(protocol: Protocol, cache: Path, device: str | None = None) -> Prepared:
    """Small > large, planned by the paper's own rule; what is prepared already is taken from the cache.

    Args:
        protocol: splits and objective.
        cache: folder for downloads and finished steps.
        device: where torch runs the large model, in this process; by default it is served as ONNX from another.
    """
    paper: dict[str, Any] = {"scores": ["confidence"], "merges": ["replace"], "estimate": "confidences"}
    return _prepare(protocol, cache, LITE0_96, "local", paper, device)


def prepare_comparable(protocol: Protocol, cache: Path, device: str | None = None) -> Prepared:
    """Two models of comparable scale, with score and merge rule chosen on the calibration images; arguments alike."""
    return _prepare(protocol, cache, LITE0_224, "comparable", {}, device)


def _prepare(
    protocol: Protocol, cache: Path, variant: Variant, name: str, choices: dict[str, Any], device: str | None
) -> Prepared:
    work = cache / protocol.folder
    head, calibration, test = split(protocol, cache)
    local, remote = (body(one, head, cache, work) for one in (variant, LITE2_260))
    on_calibration, on_test = (
        np.load(scores(remote, part, work / f"remote-{part_name}.npy"))
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
    if device is None:
        return Prepared(cascade, remote, test, on_test)
    module = classifier(LITE2_260, _head(LITE2_260, head, cache, work), cache)
    return Prepared(cascade, TorchRemote(module, LITE2_260.preprocessing, remote, device), test, on_test)


def split(protocol: Protocol, cache: Path) -> tuple[LabelledData, LabelledData, LabelledData]:
    """Images for the heads, for calibration and for the test, downloaded if need be."""
    images, labels = load_cifar10(cache)
    order = np.random.default_rng(protocol.seed).permutation(len(images))
    ends = np.cumsum([protocol.head, protocol.calibration, protocol.test])
    parts = np.split(order[: ends[-1]], ends[:-1])
    head, calibration, test = (LabelledData(images[part], labels[part], CLASSES, _name(part)) for part in parts)
    return head, calibration, test


def _name(part: NDArray[np.int64]) -> str:
    """Which images, rather than what is in them: their archive is pinned by checksum."""
    import hashlib

    return hashlib.sha256(part.tobytes()).hexdigest()


def body(variant: Variant, head: LabelledData, cache: Path, work: Path) -> Path:
    """The variant with its head fitted, as ONNX from pixels to logits; int8 if it is the local one."""

    def make(part: Path) -> None:
        module = classifier(variant, _head(variant, head, cache, work), cache)
        exported = export_torch(module, (3, variant.size, variant.size))
        if variant is LITE0_96:
            exported = quantize_int8(exported, _pixels(variant, exported, head))
        save_model(prepend(variant.preprocessing, exported), part)

    return once(work / f"{variant.architecture}-{variant.size}.onnx", make)


def _head(variant: Variant, data: LabelledData, cache: Path, work: Path) -> Head:
    path = work / f"{variant.architecture}-{variant.size}-features.npy"
    return fit_head(np.load(once(path, lambda part: _features(variant, data, cache, part))), data.labels)


def _features(variant: Variant, head: LabelledData, cache: Path, part: Path) -> None:
    exported = export_torch(feature_extractor(variant, cache), (3, variant.size, variant.size), output="features")
    session = open_session(prepend(variant.preprocessing, exported).SerializeToString(), threads=_cores())
    images, rows = np.asarray(head.inputs), []
    with counting(f"features {variant.architecture}", len(head.labels)) as done:
        for start in range(0, len(head.labels), 32):
            (batch,) = session.run(["features"], {"image": images[start : start + 32]})
            rows.append(batch)
            done(len(batch))
    _save(part, np.concatenate(rows))


def _pixels(variant: Variant, like: ModelProto, head: LabelledData) -> NDArray[np.float32]:
    session = open_session(standalone(variant.preprocessing, like).SerializeToString())
    (pixels,) = session.run(None, {"image": np.asarray(head.inputs)[:_QUANTIZATION_IMAGES]})
    return np.asarray(pixels, np.float32)


def scores(remote: Path, data: LabelledData, path: Path) -> Path:
    """Where the file's logits on the data are kept, float32 [n, classes]."""

    def make(part: Path) -> None:
        with counting(path.stem, len(data.labels)) as done:
            _save(part, remote_scores(str(remote), data.inputs, threads=_cores(), progress=done))

    return once(path, make)


def _save(part: Path, array: NDArray[Any]) -> None:
    with part.open("wb") as file:  # np.save would add a suffix to a bare name
        np.save(file, array)


def _cores() -> int:
    return os.cpu_count() or 1
