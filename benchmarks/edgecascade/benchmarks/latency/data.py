"""Inputs as an application has them: image files, sentences, arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.export.class_names import labelled_as
from edgecascade.export.data import LabelledData, class_folders, count, read_labelled
from edgecascade.runtime.batch import rows

__all__ = ["LIMIT", "Inputs", "read_inputs_as_given"]

LIMIT = 1024  # inputs that are asked about: as many as MLPerf's image tasks hold in memory
_SEED = 2601


@dataclass(frozen=True)
class Inputs:
    """The inputs of a measurement.

    Attributes:
        given: each as an application would pass it to `Cascade.predict`.
        labels: int64 [n].
        kind: "image files", "sentences" or "arrays".
        of: number of inputs in the data, from which at most `LIMIT` are drawn.
        digest: SHA-256 of inputs and labels.
    """

    given: list[Any]
    labels: NDArray[np.int64]
    kind: str
    of: int
    digest: str

    def __str__(self) -> str:
        """Return how many there are, of which kind, and from how many they were drawn."""
        drawn = f", drawn from {self.of}" if self.of > len(self.given) else ""
        return f"{len(self.given)} {self.kind}{drawn}"

    @property
    def preprocessing(self) -> str:
        """What an answer includes beside the graph."""
        return {
            "image files": "end to end from a file on disk: reading, decoding and the graph",
            "sentences": "end to end from a sentence: tokenizing and the graph",
        }.get(self.kind, "end to end from an array in memory: resizing and scaling, if any, are in the graph")


def read_inputs_as_given(path: str | os.PathLike[str], limit: int = LIMIT, *, classes: Sequence[str] = ()) -> Inputs:
    """Return labelled inputs drawn from what `read_labelled` reads, with images in folders as files.

    Args:
        path: of the data.
        limit: the most inputs.
        classes: names of the model's classes, with which those of the data are matched, as by `labelled_as`.

    Raises:
        ExportError: there is no such data, or its classes are not those of the model.
    """
    if Path(path).is_dir() and (folders := class_folders(Path(path))):
        files = [(file, label) for label, (_, images) in enumerate(folders) for file in images]
        found = _files(files, limit)
        data = LabelledData((), found.labels, tuple(name for name, _ in folders), found.digest)
        return replace(found, labels=labelled_as(data, classes).labels)
    data = labelled_as(read_labelled(path), classes)
    chosen = _chosen(count(data.inputs), limit)
    labels = data.labels[chosen]
    if isinstance(data.inputs, np.ndarray) and data.inputs.dtype.kind == "U":
        given: list[Any] = [str(data.inputs[i]) for i in chosen]
        return Inputs(given, labels, "sentences", len(data.labels), data.digest)
    if isinstance(data.inputs, Mapping):
        given = [{name: array[0] for name, array in rows(data.inputs, [i]).items()} for i in chosen]
    else:
        given = [data.inputs[i] for i in chosen]
    return Inputs(given, labels, "arrays", len(data.labels), data.digest)


def _files(files: Sequence[tuple[Path, int]], limit: int) -> Inputs:
    chosen = [files[i] for i in _chosen(len(files), limit)]
    digest = hashlib.sha256()
    for file, label in chosen:
        digest.update(f"{label} {file.name} ".encode() + hashlib.sha256(file.read_bytes()).digest())
    labels = np.array([label for _, label in chosen], np.int64)
    return Inputs([str(file) for file, _ in chosen], labels, "image files", len(files), digest.hexdigest())


def _chosen(n: int, limit: int) -> list[int]:
    """Return positions drawn with a fixed seed, since data are often sorted by class."""
    found: list[int] = np.random.default_rng(_SEED).permutation(n)[:limit].tolist()
    return found
