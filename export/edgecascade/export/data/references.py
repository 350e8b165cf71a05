"""Inputs with references: what the answer of a general task should be, as people have it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from edgecascade.export.data.labelled import Inputs, count
from edgecascade.export.data.tables import EncodedImages, read_column, table_files
from edgecascade.runtime.inputs import IMAGE_SUFFIXES, is_hidden, read_image
from edgecascade.types.detections import Detections
from edgecascade.types.errors import ExportError, InputError, first_line, no_file

__all__ = ["InputFiles", "ReferencedData", "data_digest", "read_coco", "read_references"]

_SUFFIXES = (*IMAGE_SUFFIXES, ".npy")
_REFERENCE = "reference"  # the usual column of a table
_REFERENCES = ("references", _REFERENCE, "y")  # and the usual arrays of an npz file


@dataclass(frozen=True)
class ReferencedData:
    """Inputs with the references that a verifier compares answers with.

    Attributes:
        inputs: an array [n, ...]; a sequence of arrays, which are read from their files when they are needed; or, for
            a model with several inputs, one array [n, ...] by name.
        references: n of them: texts, numbers, arrays, `Detections`, or whatever the verifier takes.
        digest: SHA-256 of inputs and references, in hexadecimal; of files, as they are stored.
        files: the path of each input, if they are files.
        names: of the categories by their number, if the data names them.
        columns: other arrays [n] of the data by name, such as sample weights.
    """

    inputs: Inputs
    references: Sequence[Any]
    digest: str
    files: tuple[str, ...] = ()
    names: Mapping[int, str] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if count(self.inputs) != len(self.references) or len(self.references) == 0:
            raise ExportError(
                f"references: expected one for each of {count(self.inputs)} inputs, and at least one, "
                f"got {len(self.references)}"
            )


class InputFiles(Sequence[NDArray[Any]]):
    """A sequence of images and `.npy` arrays, each of which is read from its file whenever it is needed.

    Args:
        paths: of the files.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> InputFiles: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any] | InputFiles:
        """Return the array of one file, an image as uint8 RGB [height, width, 3]; or some of the files.

        Raises:
            ExportError: a file cannot be read.
        """
        if isinstance(index, slice):
            return InputFiles(self._paths[index])
        path = self._paths[index]
        try:
            if path.endswith(".npy"):
                return np.asarray(np.load(path, allow_pickle=False))
            return read_image(path)
        except InputError as error:
            raise ExportError(str(error)) from error
        except (OSError, ValueError, EOFError) as error:
            raise ExportError(f"{path}: not a readable array: {first_line(error)}") from error

    def encoded(self) -> Iterator[bytes]:
        """Yield the bytes of one file after the other.

        Raises:
            ExportError: a file cannot be read.
        """
        for path in self._paths:
            try:
                yield Path(path).read_bytes()
            except OSError as error:
                raise ExportError(f"{path}: {error.strerror or error}") from error


def read_references(
    path: str | os.PathLike[str],
    reference: str | None = None,
    *,
    columns: Sequence[str] = (),
    images: str | os.PathLike[str] | None = None,
    labels: str = "ids",
    units: str = "pixels",
    text: bool = False,
) -> ReferencedData:
    """Read inputs with references.

    - A JSON file of COCO's annotations, as `read_coco` reads it.
    - A folder of images or `.npy` arrays, with a text file of the same name beside each: `7.png` and `7.txt`.
    - A table, parquet or CSV: a column of references (numbers, text or lists), and one of `x`, `image`, `text` or
      `sentence`, or one column of numbers for each feature, which become `x` float32 [n, features]. A column `file`,
      or a column `image` of text, holds the paths of images or `.npy` arrays from the folder of the table.
    - An npz file with the array `references`, `reference` or `y` [n, ...], and with `x` [n, ...] or one array for each
      input of the model, under that input's name.

    Args:
        path: of the data.
        reference: the name of the table's column, or of the npz file's array, with the references; by default the usual
            ones. Other data has none.
        columns: names of other columns of the table, or arrays [n] of the npz file, which are not inputs, such as
            sample weights.
        images: the folder of the images of a COCO file; None for the folder of the file.
        labels: as in `read_coco`.
        units: as in `read_coco`.
        text: whether the references in a CSV file are text, even if all of them look like numbers.

    Raises:
        ExportError: the path is none of these, or is damaged, references and inputs do not fit each other, or a column
            is missing.
        ModuleNotFoundError: the path is a table, and pyarrow is not installed.
    """
    if not os.fspath(path):  # which would be the working folder
        raise ExportError(no_file(path))
    path = Path(path)
    if path.suffix == ".json" and path.is_file():
        _refuse(reference, path)
        found = read_coco(path, images, labels=labels, units=units)
    elif images is not None:
        raise ExportError(f"images: expected with COCO's JSON, got {os.fspath(images)!r} and {path}")
    else:
        found = _read(path, reference, columns, text)
    if missing := [name for name in columns if name not in found.columns]:
        raise ExportError(
            f"{path}: expected the array {missing[0]} beside inputs and references, got none; or an .npy file"
        )
    return found


def _refuse(reference: str | None, path: Path) -> None:
    if reference is not None:
        raise ExportError(f"reference: expected with a table or an npz file, got {reference!r} and {path}")


def _read(path: Path, reference: str | None, columns: Sequence[str], text: bool) -> ReferencedData:
    """Read a table, a folder or an npz file, with those of the columns that there are."""
    files = [path] if path.suffix == ".csv" and path.is_file() else table_files(path)
    if files:
        inputs, references, paths, others = read_column(path, files, reference or _REFERENCE, columns, text=text)
        return _read_data(inputs if inputs is not None else InputFiles(paths), references, paths, columns=others)
    if path.is_dir():
        _refuse(reference, path)
        return _read_folder(path)
    if path.is_file():
        return _read_npz(path, reference, columns)
    raise ExportError(f"{path}: no such file or folder")


def read_coco(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    labels: str = "ids",
    units: str = "pixels",
) -> ReferencedData:
    """Read images with the boxes that COCO's JSON format annotates (cocodataset.org, object detection).

    Images without annotations have no boxes. Annotations of crowds are left out.

    Args:
        path: of the JSON file.
        images: the folder of the images; None for the folder of the file.
        labels: `ids` for the categories' own numbers, or `order` for their places in ascending order, from 0.
        units: `pixels`, or `shares` of the width and the height of the image.

    Returns:
        Data whose references are `Detections` with corners and scores of 1.

    Raises:
        ExportError: the file is damaged or of another format, or lists an image that is not there.
    """
    for name, value, known in (("labels", labels, ("ids", "order")), ("units", units, ("pixels", "shares"))):
        if value not in known:
            raise ExportError(f"{name}: expected {' or '.join(known)}, got {value!r}")
    path = Path(path)
    folder = Path(images) if images is not None else path.parent
    try:
        document = json.loads(path.read_bytes())
        categories = {int(one["id"]): str(one["name"]) for one in document.get("categories", ())}
        sizes = {one["id"]: (float(one["width"]), float(one["height"])) for one in document["images"]}
        paths = {one["id"]: folder / str(one["file_name"]) for one in document["images"]}
        boxes: dict[Any, list[list[float]]] = {one: [] for one in paths}
        categorised: dict[Any, list[int]] = {one: [] for one in paths}
        for one in document["annotations"]:
            left, top, width, height = map(float, one["bbox"])
            if not one.get("iscrowd"):
                boxes[one["image_id"]].append([left, top, left + width, top + height])
                categorised[one["image_id"]].append(int(one["category_id"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(
            f"{path}: expected COCO's JSON with images (id, file_name, width, height) and annotations (image_id, bbox, "
            f"category_id), got {type(error).__name__}: {first_line(error)}"
        ) from error
    missing = [str(file) for file in paths.values() if not file.is_file()]
    if missing or not paths:
        raise ExportError(
            f"{path}: expected images that are there, missing {missing[0]} and {len(missing) - 1} more"
            if missing
            else f"{path}: expected at least one image, got none"
        )
    numbers = sorted({*categories, *(label for several in categorised.values() for label in several)})
    called = {number: place if labels == "order" else number for place, number in enumerate(numbers)}
    references = []
    for image, found in boxes.items():
        scale = np.array(sizes[image] * 2) if units == "shares" else 1.0
        corners = np.array(found, np.float64).reshape(-1, 4) / scale
        own = np.array([called[one] for one in categorised[image]], np.int64)
        references.append(Detections(corners, own, np.ones(len(own))))
    files = tuple(map(str, paths.values()))
    names = {called[number]: name for number, name in categories.items()}
    return _read_data(InputFiles(files), references, files, names)


def _read_folder(folder: Path) -> ReferencedData:
    """Read images and arrays with text files beside them."""
    found = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in _SUFFIXES and file.is_file() and not is_hidden(file, folder)
    )
    if not found:
        raise ExportError(f"{folder}: expected images or .npy files with text files beside them, got none")
    alone = [file for file in found if not file.with_suffix(".txt").is_file()]
    if alone:
        raise ExportError(
            f"{folder}: expected a text file beside every image, got none beside {len(alone)} of {len(found)}, such as "
            f"{alone[0].relative_to(folder)}"
        )
    texts = []
    for file in found:
        try:
            texts.append(file.with_suffix(".txt").read_text(encoding="utf-8-sig").strip("\r\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise ExportError(f"{file.with_suffix('.txt')}: not text in UTF-8: {first_line(error)}") from error
    files = tuple(map(str, found))
    return _read_data(InputFiles(files), texts, files)


def _read_npz(path: Path, reference: str | None, columns: Sequence[str]) -> ReferencedData:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays}
    except Exception as error:  # numpy and zipfile raise many kinds
        reason = "it has pickled objects" if "allow_pickle" in str(error) else first_line(error)
        raise ExportError(f"{path}: not an npz file of plain arrays: {reason}") from error
    known = _REFERENCES if reference is None else (reference,)
    name = next((one for one in known if one in found), None)
    if name is None or len(found) < 2:
        raise ExportError(
            f"{path}: expected the array `x` [n, ...] and `{known[0]}` [n, ...], got {', '.join(found) or 'no arrays'}"
        )
    references = found.pop(name)
    others = {name: found.pop(name) for name in columns if name in found}
    inputs = {"x": found["x"]} if "x" in found else found
    for one, array in inputs.items():
        if array.ndim == 0 or references.ndim == 0 or len(array) != len(references):
            raise ExportError(
                f"{path}: expected one reference in `{name}` for each input in `{one}`, got {list(references.shape)} "
                f"and {list(array.shape)}"
            )
    texts = references.ndim == 1 and references.dtype.kind == "U"
    return _read_data(inputs.get("x", inputs), references.tolist() if texts else references, columns=others)


def _read_data(
    inputs: Any,
    references: Sequence[Any],
    files: tuple[str, ...] = (),
    names: Mapping[int, str] | None = None,
    columns: Mapping[str, NDArray[Any]] | None = None,
) -> ReferencedData:
    """Return the data with its digest."""
    return ReferencedData(inputs, references, data_digest(inputs, references), files, names, columns or {})


def data_digest(inputs: Any, references: Sequence[Any]) -> str:
    """Return the SHA-256 of inputs and references, in hexadecimal; of files, as they are stored."""
    digest = hashlib.sha256()
    for part in (*_bytes_of(inputs), *(part for one in references for part in _bytes_of(one))):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _bytes_of(value: Any) -> Iterator[bytes]:
    """Yield the bytes of inputs or of one reference."""
    if isinstance(value, InputFiles | EncodedImages):
        yield from value.encoded()
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield str(name).encode()
            yield from _bytes_of(one)
    elif isinstance(value, Detections):
        yield from (np.ascontiguousarray(one).tobytes() for one in value)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype.str}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, np.ndarray | list | tuple):
        for one in value:
            yield from _bytes_of(one)
    else:
        yield str(value).encode("utf-8", "surrogatepass")
