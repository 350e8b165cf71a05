"""The pair `retrieval`: a small network finds the photos of a gallery most like a query, and asks a large one.

The networks are those of the flagship, with their ImageNet weights and no head, and the photos are CIFAR-10's: see
`flagship.py`. An answer is the ten nearest photos of the gallery by the cosine of standardised features. Its value is
the share of them that shows what the query shows. The confidence is the mean cosine of the ten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.benchmarks.cache import once
from edgecascade.benchmarks.pairs.flagship import (
    LITE0_96,
    LITE2_260,
    Protocol,
    Variant,
    export_features,
    save_features,
    split,
)
from edgecascade.benchmarks.pairs.prepared_task import PreparedTask, TaskModels, TaskSplit, prepare_task
from edgecascade.calibration import Objective
from edgecascade.export import LabelledData, prepend, save_model
from edgecascade.export.data import ReferencedData
from edgecascade.export.task.confidence import MeanScore

__all__ = ["PHOTOS", "Found", "prepare_retrieval", "retrieval_models", "retrieval_photos", "same_class", "with_gallery"]

PHOTOS = Protocol(head=2000, calibration=1000, test=2000)  # the first part is the gallery
_RECIPE = 1  # part of the cache's folder name: raise it when the models or the gallery change
_MOST = 10  # photos in an answer


def prepare_retrieval(cache: Path, objective: Objective, *, photos: Protocol = PHOTOS) -> PreparedTask:
    """Return the pair as a cascade file with the queries that test it; finished steps are taken from the cache."""
    return prepare_task(retrieval_models(cache, photos), retrieval_photos(cache, photos), objective, "same-class")


def retrieval_models(cache: Path, photos: Protocol = PHOTOS) -> TaskModels:
    """Return both networks, each with its own index of the gallery in its graph."""
    gallery, _, _ = split(photos, cache)
    work = cache / f"retrieval-r{_RECIPE}-{photos.folder}"
    local, remote = (_body(variant, gallery, cache, work) for variant in (LITE0_96, LITE2_260))
    decode = Found(gallery.labels)
    return TaskModels(
        name="retrieval",
        body=local,
        remote=remote,
        confidence=MeanScore(output="similarity"),
        verifier=same_class,
        decode=decode,
        remote_decode=decode,
    )


def retrieval_photos(cache: Path, photos: Protocol = PHOTOS) -> TaskSplit:
    """Return queries uint8 [n, 32, 32, 3] with the number of their class; none of them is in the gallery."""
    _, planning, test = split(photos, cache)
    return TaskSplit(*(ReferencedData(one.inputs, one.labels.tolist(), one.digest) for one in (planning, test)))


@dataclass(frozen=True)
class Found:
    """The classes of the photos that were found.

    Attributes:
        labels: int64 [gallery], the class of each photo.
    """

    labels: NDArray[np.int64]

    def __call__(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        """Return the classes int64 [10] of one query's `found` int64 [10]."""
        return np.asarray(self.labels[outputs["found"]])


def same_class(answers: Sequence[NDArray[np.int64]], references: Sequence[int]) -> NDArray[np.float64]:
    """Return the share of the photos in each answer that have the class of the query: a verifier.

    >>> same_class([np.array([3, 3, 1, 3])], [3])
    array([0.75])
    """
    return np.array([np.mean(answer == reference) for answer, reference in zip(answers, references, strict=True)])


def with_gallery(features: ModelProto, gallery: NDArray[np.float32]) -> ModelProto:
    """Return a network that answers with the nearest rows of a gallery, `similarity` and `found` [batch, 10].

    Args:
        features: A network whose one output is `features` [batch, width].
        gallery: The features [n, width] of the gallery. They standardise those of queries too.
    """
    mean, std = gallery.mean(axis=0), gallery.std(axis=0) + 1e-6
    index = (gallery - mean) / std
    index /= np.linalg.norm(index, axis=1, keepdims=True)
    constants = {
        "gallery_mean": mean,
        "gallery_std": std,
        "gallery": np.ascontiguousarray(index.T),
        "most": np.array([_MOST], np.int64),
    }
    model = ModelProto()
    model.CopyFrom(features)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.node.extend(
        [
            helper.make_node("Sub", ["features", "gallery_mean"], ["centred"]),
            helper.make_node("Div", ["centred", "gallery_std"], ["standardised"]),
            helper.make_node("LpNormalization", ["standardised"], ["direction"], axis=1, p=2),
            helper.make_node("MatMul", ["direction", "gallery"], ["cosines"]),
            helper.make_node("TopK", ["cosines", "most"], ["similarity", "found"], axis=1),
        ]
    )
    del model.graph.output[:]
    for name, kind in (("similarity", TensorProto.FLOAT), ("found", TensorProto.INT64)):
        model.graph.output.append(helper.make_tensor_value_info(name, kind, ["batch", _MOST]))
    return model


def _body(variant: Variant, gallery: LabelledData, cache: Path, work: Path) -> Path:
    def make(part: Path) -> None:
        saved = once(path.with_suffix(".npy"), lambda one: save_features(variant, gallery, cache, one))
        save_model(prepend(variant.preprocessing, with_gallery(export_features(variant, cache), np.load(saved))), part)

    path = work / f"{variant.architecture}-{variant.size}.onnx"
    return once(path, make)
