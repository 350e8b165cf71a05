"""Models' saved outputs on labelled inputs, read from .npz, .npy, .parquet or .csv files."""

from __future__ import annotations

import csv
import os
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.cli import rare
from edgecascade.types.class_names import positions, some_names
from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import Recognised, in_unit_interval, log_probabilities, recognise, resolution

__all__ = [
    "SavedOutputs",
    "SavedPair",
    "SavedScores",
    "SavedValues",
    "add_kind_argument",
    "check_writable",
    "in_class_order",
    "named_array",
    "numbered_labels",
    "read_array",
    "read_arrays",
    "read_model",
    "read_pair",
    "read_values",
]


@dataclass(frozen=True)
class SavedPair:
    """Logits of both models, up to a constant per row.

    Attributes:
        local: floating [n, classes].
        remote: floating [n, classes].
        labels: int64 [n].
        read: what the outputs were, by `local` and `remote`.
        names: of the classes; empty if the file has none.
    """

    local: NDArray[np.floating]
    remote: NDArray[np.floating]
    labels: NDArray[np.int64]
    read: Mapping[str, Recognised]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class SavedOutputs:
    """Logits of one model, up to a constant per row.

    Attributes:
        logits: floating [n, classes].
        labels: int64 [n].
        read: what the outputs were.
        names: of the classes; empty if the file has none.
    """

    logits: NDArray[np.floating]
    labels: NDArray[np.int64]
    read: Recognised
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class SavedScores:
    """Raw scores of answers, and whether the answers were right.

    Attributes:
        score: floating [n]; higher is surer, on any scale.
        correct: bool [n].
    """

    score: NDArray[np.floating]
    correct: NDArray[np.bool_]


@dataclass(frozen=True)
class SavedValues:
    """Scores of local answers, and how good both models' answers were.

    Attributes:
        score: numbers [n]; higher is surer, on any scale.
        local: numbers [n], in [0, 1].
        remote: numbers [n], in [0, 1].
    """

    score: NDArray[Any]
    local: NDArray[Any]
    remote: NDArray[Any]


def add_kind_argument(parser: ArgumentParser, option: str, outputs: str) -> None:
    """Add the argument that says what outputs are."""
    text = f"What {outputs} are, if their values do not tell."
    rare(parser.add_argument(option, choices=("logits", "probabilities"), help=text))


def check_writable(option: str, path: str | None) -> None:
    """Check that a file can be written, before there is anything to write; None and - stand for no file.

    Raises:
        CalibrationError: the path is that of a folder, or is in one that is missing or cannot be written to.
    """
    if path in (None, "-"):
        return
    place = Path(str(path))
    if place.is_dir():
        raise CalibrationError(f"{option}: expected a file to write, got the folder {path}")
    if not place.exists() and not (place.parent.is_dir() and os.access(place.parent, os.W_OK)):
        raise CalibrationError(f"{option}: expected a file in a folder that can be written to, got {path}")


def read_pair(*paths: str | os.PathLike[str], kind: str | None = None, remote_kind: str | None = None) -> SavedPair:
    """Read the arrays `local` and `remote` [n, classes], `labels` [n], and from an .npz file also `names` [classes].

    Labels are whole numbers, or names where the file has `names`. The columns of a model are in the order of `names`,
    or where an .npz file has `local_names` or `remote_names`, in that order: they are matched by name.

    Args:
        paths: one .npz or .parquet file with the three by name, or three .npy files in this order. Both logits and
            probabilities will do; probabilities are recognised and turned into logits.
        kind: of the local outputs, `logits` or `probabilities`, if their values do not tell.
        remote_kind: the same of the remote's outputs.

    Raises:
        CalibrationError: a file cannot be read, lacks one of the three, or has numbers that may be logits or not.
        ModuleNotFoundError: the file is a .parquet, and pyarrow is not installed.
    """
    arrays = _read(paths, ("local", "remote", "labels"), ("names", "local_names", "remote_names"))
    _require(arrays, ("local", "remote", "labels"), paths[0])
    local, local_read = _as_logits("local", arrays["local"], kind, "--kind")
    remote, remote_read = _as_logits("remote", arrays["remote"], remote_kind, "--remote-kind")
    names, labels = _names(arrays, "local"), arrays["labels"]
    local, remote = (in_class_order(one, arrays, names, name) for one, name in ((local, "local"), (remote, "remote")))
    return SavedPair(local, remote, numbered_labels(labels, names), {"local": local_read, "remote": remote_read}, names)


def read_model(
    *paths: str | os.PathLike[str], array: str = "outputs", kind: str | None = None
) -> SavedOutputs | SavedScores:
    """Read one model's outputs [n, classes] and `labels` [n], or `score` [n] and `correct` [n].

    Class names are read as by `read_pair`, those of the outputs under the name of the array and `_names`.

    Args:
        paths: one .npz or .parquet file with the arrays by name, or two .npy files in this order.
        array: name of the outputs in a file with names.
        kind: of the outputs, `logits` or `probabilities`, if their values do not tell.

    Raises:
        CalibrationError: a file cannot be read, lacks the arrays, or has numbers that may be logits or not.
        ModuleNotFoundError: the file is a .parquet, and pyarrow is not installed.
    """
    if len(paths) == 2:
        first, second = (read_array(path) for path in paths)
        arrays = {array: first, "labels": second} if first.ndim == 2 else {"score": first, "correct": second}
    else:
        arrays = _read(paths, (array, "labels"), ("score", "correct", "names", f"{array}_names"))
    if array not in arrays and "score" in arrays:
        _require(arrays, ("score", "correct"), paths[0])
        return SavedScores(arrays["score"], _correct(arrays["correct"]))
    _require(arrays, (array, "labels"), paths[0])
    logits, read = _as_logits(array, arrays[array], kind, "--kind")
    names = _names(arrays, array)
    return SavedOutputs(
        in_class_order(logits, arrays, names, array), numbered_labels(arrays["labels"], names), read, names
    )


def read_values(*paths: str | os.PathLike[str]) -> SavedValues | None:
    """Read the columns `score`, `local` and `remote` [n] of a general task.

    Args:
        paths: one .npz, .parquet or .csv file with the three by name.

    Returns:
        The columns; or None where there are several files, the file has no `score`, or `local` has classes.

    Raises:
        CalibrationError: the file cannot be read, or has a `score` and lacks one of the others.
        ModuleNotFoundError: the file is a .parquet, and pyarrow is not installed.
    """
    if len(paths) != 1:
        return None
    path = Path(paths[0])
    if path.suffix != ".csv" and not _read_named(path, ("score",)):
        return None
    arrays = _read_named(path, ("score", "local", "remote"))
    _require(arrays, ("score", "local", "remote"), path)
    return None if arrays["local"].ndim > 1 else SavedValues(arrays["score"], arrays["local"], arrays["remote"])


def read_arrays(*paths: str | os.PathLike[str], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read other arrays of the file of outputs, such as sample weights, by name.

    Raises:
        CalibrationError: the file cannot be read or lacks an array, or the outputs are .npy files.
        ModuleNotFoundError: the file is a .parquet, and pyarrow is not installed.
    """
    if not names:
        return {}
    if len(paths) != 1:
        raise CalibrationError(f"{names[0]}: expected an .npy file beside outputs in .npy files, got a name")
    arrays = _read_named(Path(paths[0]), names)
    _require(arrays, names, paths[0])
    return arrays


def _read(
    paths: Sequence[str | os.PathLike[str]], names: Sequence[str], others: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    if len(paths) == 1:
        return _read_named(Path(paths[0]), (*names, *others))
    if len(paths) == len(names):
        return {name: read_array(path) for name, path in zip(names, paths, strict=True)}
    raise CalibrationError(
        f"outputs: expected one .npz, .parquet or .csv file, or {len(names)} .npy files, got {len(paths)}"
    )


def _require(arrays: dict[str, NDArray[Any]], names: Sequence[str], path: str | os.PathLike[str]) -> None:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise CalibrationError(f"{path}: expected the arrays {', '.join(names)}, got no {', '.join(missing)}")


def _as_logits(name: str, scores: NDArray[Any], kind: str | None, option: str) -> tuple[NDArray[Any], Recognised]:
    if scores.ndim == 2 and scores.dtype.kind in "iu":
        scores = scores.astype(np.float32)
    if scores.ndim != 2 or scores.dtype.kind != "f" or kind == "logits":
        return scores, Recognised("logits")
    if kind == "probabilities" and not in_unit_interval(scores):
        raise CalibrationError(
            f"{name}: expected numbers in [0, 1] with {option} probabilities, got {scores.min():g} to {scores.max():g}"
        )
    read = recognise(scores) if kind is None else resolution(scores)
    if read.doubt:
        remedy = f"; say what they are with {option} probabilities or {option} logits"
        if not in_unit_interval(scores):
            remedy = f", or say {option} logits"
        raise CalibrationError(f"{name}: the outputs are {read.doubt}{remedy}")
    return (log_probabilities(scores, read.floor) if read.kind == "probabilities" else scores), read


def _names(arrays: Mapping[str, NDArray[Any]], model: str) -> tuple[str, ...]:
    """Return the names of the classes, else those of a model's outputs, else none."""
    found = next((arrays[name] for name in ("names", f"{model}_names") if name in arrays), np.empty(0, "U1"))
    return tuple(map(str, found.ravel().tolist()))


def in_class_order(
    outputs: NDArray[Any], arrays: Mapping[str, NDArray[Any]], names: Sequence[str], model: str
) -> NDArray[Any]:
    """Return a model's outputs in the order of the classes, where the file names the columns in `MODEL_names`.

    Raises:
        CalibrationError: the columns have other names than the classes.
    """
    own = [str(name) for name in arrays.get(f"{model}_names", np.empty(0)).ravel().tolist()]
    if not own or own == list(names):
        return outputs
    found = positions(names, own)
    if found is None or len(own) != len(names) or outputs.shape[1:] != (len(own),):
        raise CalibrationError(
            f"{model}_names: expected the name of each column of {model} {list(outputs.shape)}, the same classes as in "
            f"names ({some_names(names)}), got {some_names(own)}"
        )
    return outputs[:, found]


def numbered_labels(labels: NDArray[Any], names: Sequence[str]) -> NDArray[np.int64]:
    """Return labels [n], which may be names of classes, as the numbers of the classes.

    Raises:
        CalibrationError: the labels are neither integers nor known names.
    """
    if labels.dtype.kind in "US":
        called = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in labels.ravel().tolist()]
        found = positions(used := sorted(set(called)), names)
        if labels.ndim != 1 or found is None:
            given = f"the names {some_names(names)}" if names else "an array of names beside it"
            raise CalibrationError(f"labels: expected integers, or text [n] with {given}, got {some_names(used)}")
        places = dict(zip(used, found, strict=True))
        return np.array([places[one] for one in called], np.int64)
    if labels.dtype.kind not in "iu":
        raise CalibrationError(f"labels: expected integers [n], got {labels.dtype} {list(labels.shape)}")
    return labels.astype(np.int64)


def _correct(correct: NDArray[Any]) -> NDArray[np.bool_]:
    if not np.isin(correct, (0, 1)).all():
        raise CalibrationError(f"correct: expected true and false, or 1 and 0, got {correct.dtype} with other values")
    return correct.astype(np.bool_)


def _read_named(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    if path.is_dir():
        raise CalibrationError(f"{path}: expected a file of arrays, got a folder")
    if path.suffix == ".parquet":
        return _read_parquet(path, names)
    if path.suffix == ".csv":
        return _read_csv(path, names)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names if name in archive}
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file") from error
    except Exception as error:  # numpy and zipfile raise many types
        raise CalibrationError(f"{path}: is not an .npz file of plain arrays: {error}") from error


def named_array(name: str | None, *paths: str | os.PathLike[str]) -> NDArray[Any] | None:
    """Return an array of the file of outputs, or of an .npy file; None for no name. Errors as `read_arrays`."""
    if name is None:
        return None
    return read_array(name) if name.endswith(".npy") else read_arrays(*paths, names=(name,))[name]


def read_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read the array in an .npy file.

    Raises:
        CalibrationError: the file is missing, or is not an .npy file of plain values.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file") from error
    except Exception as error:
        raise CalibrationError(f"{path}: is not an .npy file of plain numbers: {error}") from error


def _read_parquet(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read outputs from columns of lists, and the others from columns of numbers."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        return {name: np.array(table[name].to_pylist()) for name in names if name in table.column_names}
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise CalibrationError(f"{path}: is not a .parquet file of numbers: {error}") from error


def _read_csv(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read columns of numbers, of `true` and `false` in any case, or else of text, under a row of names."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            found: dict[str, list[str]] = {name: [] for name in names if name in (rows.fieldnames or ())}
            for row in rows:
                for name, column in found.items():
                    if row[name] is None:
                        raise CalibrationError(f"{path}: expected a {name} in line {rows.line_num}, got none")
                    column.append(row[name])
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file") from error
    except (OSError, ValueError, csv.Error) as error:
        raise CalibrationError(f"{path}: is not a .csv file: {error}") from error
    return {name: _numbers_if_all(column) for name, column in found.items()}


def _numbers_if_all(column: Sequence[str]) -> NDArray[Any]:
    if column and {one.lower() for one in column} <= {"true", "false"}:  # as pandas writes them
        return np.array([one.lower() == "true" for one in column])
    try:
        return np.array([float(one) for one in column])
    except ValueError:
        return np.array(column)
