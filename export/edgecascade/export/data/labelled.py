"""Labelled inputs: their type, batches of them, and how they are read from a path."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.export.data.tables import EncodedImages, labelled_table, numbered, read_tables, table_files
from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.inputs import IMAGE_SUFFIXES, image_files, is_hidden, read_image
from edgecascade.runtime.tables import LABEL_COLUMNS
from edgecascade.runtime.watch.recorder import PAIRS
from edgecascade.types.arrays import as_array
from edgecascade.types.class_names import some_names
from edgecascade.types.errors import ExportError, InputError, cut, no_file
from edgecascade.types.softmax import are_probabilities

__all__ = ["Inputs", "LabelledData", "batches", "class_folders", "count", "each", "first", "read_labelled"]

_RECORDED = ("local", "remote", "confidence", "audited")  # what a `Watch` records beside inputs, labels and names
_log = logging.getLogger(__name__)

Inputs = NDArray[Any] | Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class LabelledData:
    """Inputs with the labels that they should get.

    Attributes:
        inputs: an array [n, ...]; a sequence of arrays, where images differ in size or are decoded when they are read;
            or, for a model with several inputs, one array [n, ...] by name.
        labels: int64 [n], from 0.
        names: one per class; empty if unknown. Of class folders and of labels in text, they are in alphabetical order.
        digest: SHA-256 of inputs and labels, in hexadecimal; of images in a table, as they are encoded.
        columns: other arrays [n] of the data by name, such as sample weights.
        files: the path of each input, if they are files.
        recorded: floating [n, classes], the remote's calibrated probabilities, if a `Watch` recorded them.
        estimated: whether the labels are drawn from these probabilities, as a `Watch` does.
        numbered: whether the names are those of a model, and the data has only the numbers of its classes.
    """

    inputs: Inputs
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    digest: str
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    recorded: NDArray[np.floating] | None = None
    estimated: bool = False
    numbered: bool = False

    def describe(self, i: int) -> str:
        """Return in a few words which input number i is: its file, its sentence, or its row."""
        if self.files:
            return self.files[i]
        one = self.inputs[i] if isinstance(self.inputs, np.ndarray) and self.inputs.ndim == 1 else None
        return json.dumps(cut(one, 60), ensure_ascii=False) if isinstance(one, str) else f"row {i}"


def count(inputs: Inputs) -> int:
    """Return the number of inputs."""
    return size(inputs) if isinstance(inputs, Mapping) else len(inputs)


def first(inputs: Inputs, n: int) -> Inputs:
    """Return the first n inputs."""
    return rows(inputs, slice(n)) if isinstance(inputs, Mapping) else inputs[:n]


def each(inputs: Inputs) -> Iterator[Any]:
    """Yield one input after the other, without a batch axis."""
    if isinstance(inputs, Mapping):
        yield from ({name: array[i] for name, array in inputs.items()} for i in range(count(inputs)))
    else:
        yield from inputs


def batches(inputs: Inputs, size: int) -> Iterator[Batch]:
    """Yield consecutive inputs of one shape, at most `size` at a time."""
    if isinstance(inputs, Mapping):
        yield from (rows(inputs, slice(start, start + size)) for start in range(0, count(inputs), size))
        return
    if isinstance(inputs, np.ndarray):
        parts = (inputs[start : start + size] for start in range(0, len(inputs), size))
        yield from (part.astype(np.str_) if part.dtype == object else part for part in parts)
        return
    alike: list[NDArray[Any]] = []
    for one in inputs:
        if alike and (len(alike) == size or one.shape != alike[0].shape):
            yield np.stack(alike)
            alike = []
        alike.append(one)
    if alike:
        yield np.stack(alike)


def read_labelled(data: str | os.PathLike[str] | Any, columns: Sequence[str] = ()) -> LabelledData:
    """Read labelled data from a path:

    - An npz file with the arrays `x`, `y` (whole numbers or text) and optionally `names`. Instead of `x`, it may have
      one array for each input of the model, under that input's name.
    - A folder with one folder of images for each class.
    - A CSV file, or parquet: a file, a folder of files, or a pattern such as `data/test-*.parquet`. It has a column
      `label` (whole numbers or text) and either `x` (numbers, lists or tensors), `image` (bytes, or as Hugging Face
      writes it), `text` or `sentence`; or one column of numbers for each feature, which become `x` float32 [n,
      features]; or one column of lists for each input of the model.
    - A folder that `save_to_disk` of Hugging Face's `datasets` wrote, with the same columns.
    - A folder in which a `Watch` recorded pairs: the file `pairs.npz` in it.

    Or take them from memory:

    - A table with the same columns: of pyarrow, pandas or polars, a `Dataset` of Hugging Face's `datasets`, or any
      other object that exports Arrow data.
    - Batches, such as those of a `DataLoader` of torch: pairs of inputs and labels, or mappings with the key `label` or
      `labels`, of arrays or tensors [batch, ...], or lists of text. Class names are the attribute `classes` of its
      `dataset`, if there is one.

    Tables hold at most five million rows and 8 GiB in the columns that are read. Their images are decoded when they
    are read. Class names come from `ClassLabel`, if there is one.

    Args:
        data: a path, a table, or batches.
        columns: names of other arrays or columns [n] to read, which are not inputs, such as sample weights.

    Raises:
        ExportError: it is none of these, or is damaged, its parts do not fit together, or it lacks a column.
        ModuleNotFoundError: it is a table, and pyarrow is not installed.

    >>> found = read_labelled([(np.zeros((2, 3)), ["cat", "dog"]), (np.ones((1, 3)), ["cat"])])
    >>> found.labels, found.names, np.shape(found.inputs)
    (array([0, 1, 0]), ('cat', 'dog'), (3, 3))
    """
    if isinstance(data, (str, os.PathLike)):
        return _read_path(data, columns)
    table = hasattr(data, "__arrow_c_stream__") or (hasattr(data, "with_format") and hasattr(data, "__len__"))
    inputs, labels, names, others = labelled_table(data, columns) if table else _of_batches(data, columns)
    _check_columns("data", columns, others)
    return LabelledData(inputs, labels, names, _digest(inputs, labels), others)


def _read_path(path: str | os.PathLike[str], columns: Sequence[str]) -> LabelledData:
    if not os.fspath(path):  # which would be the working folder
        raise ExportError(no_file(path))
    path = Path(path)
    if (path / PAIRS).is_file():
        path /= PAIRS
    files = table_files(path)
    others: Mapping[str, NDArray[Any]] = {}
    paths: tuple[str, ...] = ()
    recorded, estimated = None, False
    if files:
        inputs, labels, names, others = read_tables(path, files, columns)
    elif path.is_dir():
        inputs, labels, names, paths = _read_class_folders(path)
    elif path.is_file():
        inputs, labels, names, others, recorded, estimated = _read_npz(path, columns)
    else:
        raise ExportError(f"{path}: no such file or folder{_download_hint(path)}")
    _check_columns(str(path), columns, others)
    return LabelledData(inputs, labels, names, _digest(inputs, labels), others, paths, recorded, estimated)


def _check_columns(where: str, columns: Sequence[str], found: Mapping[str, NDArray[Any]]) -> None:
    if missing := [name for name in columns if name not in found]:
        raise ExportError(
            f"{where}: expected the array {missing[0]} beside inputs and labels, got none; or an .npy file"
        )


def _of_batches(
    data: Any, columns: Sequence[str]
) -> tuple[Inputs, NDArray[np.int64], tuple[str, ...], Mapping[str, NDArray[Any]]]:
    """Return inputs, labels, class names and other arrays from batches of arrays, tensors or lists of text."""
    if not hasattr(data, "__iter__"):
        raise ExportError(f"data: expected a path, a table, or batches of inputs and labels, got {type(data).__name__}")
    parts: dict[str, list[NDArray[Any]]] = {}
    for number, batch in enumerate(data):
        given = batch if isinstance(batch, Mapping) else _pair(batch, number)
        found = {str(name): as_array(one, f"data[{number}]", ExportError) for name, one in given.items()}
        if parts and found.keys() != parts.keys():
            raise ExportError(f"data[{number}]: expected {', '.join(parts)} as before, got {', '.join(found)}")
        for name, array in found.items():
            text = array.dtype.kind == "U" and name not in (*LABEL_COLUMNS, *columns)
            parts.setdefault(name, []).append(array.astype(object) if text else array)  # "U" is as wide as the longest
    try:
        arrays = {name: np.concatenate(some) for name, some in parts.items()}
    except ValueError as error:
        raise ExportError(f"data: expected batches of one shape, but: {error}") from error
    label = next((name for name in LABEL_COLUMNS if name in arrays), None)
    others = {name: arrays.pop(name) for name in columns if name in arrays}
    y = np.zeros(0) if label is None else arrays.pop(label)
    lengths = {len(array) for array in arrays.values()}
    if y.ndim != 1 or not len(y) or lengths != {len(y)} or y.dtype.kind not in "iubUS":
        raise ExportError(
            f"data: expected batches of inputs [batch, ...] with a label [batch] for each, got {y.dtype} "
            f"{list(y.shape)} for {', '.join(map(str, sorted(lengths))) or 'no'} inputs"
        )
    names = tuple(map(str, getattr(getattr(data, "dataset", None), "classes", ())))
    if y.dtype.kind in "US":
        y, names = numbered(_as_text(y), names, "data")
    inputs = next(iter(arrays.values())) if len(arrays) == 1 else arrays
    return inputs, y.astype(np.int64), names, others


def _pair(batch: Any, number: int) -> Mapping[str, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        got = f"{len(batch)} of them" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise ExportError(f"data[{number}]: expected inputs and labels, or a mapping with `label`, got {got}")
    x, label = batch
    return {**(x if isinstance(x, Mapping) else {"x": x}), "label": label}


def _download_hint(path: Path) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path.as_posix()) or path.parent.exists():
        return ""
    return (
        f"; if it is a data set on the Hugging Face hub, download it first: "
        f"hf download {path.as_posix()} --repo-type dataset --local-dir FOLDER"
    )


def _read_npz(
    path: Path, columns: Sequence[str]
) -> tuple[Inputs, NDArray[np.int64], tuple[str, ...], Mapping[str, NDArray[Any]], NDArray[np.floating] | None, bool]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays}
    except Exception as error:  # numpy and zipfile raise many kinds
        pickled = "it has pickled objects, or is another kind of file"  # numpy advises to load them unsafely
        reason = pickled if "allow_pickle" in str(error) else error
        also = "" if path.suffix == ".npz" else "; other data is read from .csv, .parquet, or a folder"
        raise ExportError(f"{path}: not an npz file of plain arrays: {reason}{also}") from error
    if "y" not in found or len(found.keys() - {"y", "names"}) == 0:
        cure = "; for a general task, name it with --task, or its verifier" if "references" in found else ""
        raise ExportError(
            f"{path}: expected the arrays `x` [n, ...] and `y` [n], got {sorted(found) or 'no arrays'}{cure}"
        )
    y, names = found.pop("y"), found.pop("names", np.empty(0, "U1"))
    others = {name: found.pop(name) for name in columns if name in found}
    known = {**found, **others}
    estimated = known.keys() >= {*_RECORDED}
    recorded = known["remote"] if estimated or known.keys() >= {"x", "remote"} else None
    if recorded is not None and not (recorded.ndim == 2 and recorded.dtype.kind == "f" and are_probabilities(recorded)):
        recorded = None  # the user's own array of that name
    if estimated:
        found = {name: array for name, array in found.items() if name not in _RECORDED}
    inputs = {"x": found["x"]} if "x" in found else found
    for name, array in inputs.items():
        if array.ndim == 0 or names.ndim != 1:
            raise ExportError(
                f"{path}: expected `{name}` [n, ...] and `names` [classes], got {list(array.shape)} and "
                f"{list(names.shape)}"
            )
        if y.ndim != 1 or len(array) != len(y) or y.dtype.kind not in "iuUS" or len(y) == 0:
            raise ExportError(
                f"{path}: expected integer labels or class names `y` [{len(array)}], one per input in `{name}`, "
                f"got {y.dtype} {list(y.shape)}"
            )
    called = tuple(_as_text(names))
    if y.dtype.kind in "US":
        y, called = numbered(_as_text(y), called, str(path))
    return inputs.get("x", inputs), y.astype(np.int64), called, others, recorded, estimated


def _as_text(names: NDArray[Any]) -> list[str]:
    return [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in names.tolist()]


def class_folders(path: Path) -> list[tuple[str, list[Path]]]:
    """Return name and image files of each class in a folder, in the order of the labels; none without images."""
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not is_hidden(folder, path))
    found = [(folder.name, image_files(folder, deep=False)) for folder in folders]
    return found if any(files for _, files in found) else []


def _read_class_folders(path: Path) -> tuple[Any, NDArray[np.int64], tuple[str, ...], tuple[str, ...]]:
    folders = class_folders(path)
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    paths: list[str] = []
    for label, (_, files) in enumerate(folders):
        try:
            images += [read_image(file) for file in files]
        except InputError as error:
            raise ExportError(str(error)) from error
        labels += [label] * len(files)
        paths += map(str, files)
    if not images:
        others = [str(file) for file in sorted(path.glob("*.npz"))]
        inside = [str(one) for one in sorted(path.iterdir()) if one.is_dir() and class_folders(one)]
        hint = f"; to read an array file in it, name it: {others[0]}" if others else ""
        hint = f"; such folders are in {some_names(inside)}" if inside else hint
        if any(path.glob("*.txt")):
            hint = "; inputs with text files beside them are for general tasks: see --task"
        raise ExportError(f"{path}: expected one folder of images for each class ({', '.join(IMAGE_SUFFIXES)}){hint}")
    if elsewhere := len(image_files(path, deep=True, quiet=True)) - len(paths):
        _log.warning("%s: skipped %d images that are not directly in the folder of a class", path, elsewhere)
    same = len({image.shape for image in images}) == 1
    names = tuple(name for name, _ in folders)
    return (np.stack(images) if same else images), np.array(labels), names, tuple(paths)


def _digest(inputs: Inputs, labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(labels.tobytes())
    if isinstance(inputs, EncodedImages) or (isinstance(inputs, np.ndarray) and inputs.dtype == object):
        parts = inputs.encoded() if isinstance(inputs, EncodedImages) else (str(one).encode() for one in inputs)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()
    for name, array in inputs.items() if isinstance(inputs, Mapping) else [("", one) for one in inputs]:
        held = array.astype(np.str_) if array.dtype == object else array  # the bytes of objects are addresses
        digest.update(f"{name}{held.dtype.str}{held.shape}".encode())
        digest.update(np.ascontiguousarray(held).tobytes())
    return digest.hexdigest()
