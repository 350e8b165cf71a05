"""Models' saved outputs on labelled inputs, read from .npz, .npy or .parquet files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import are_probabilities, log_probabilities

__all__ = ["SavedOutputs", "SavedPair", "SavedScores", "read_model", "read_pair"]


@dataclass(frozen=True)
class SavedPair:
    """Logits of both models, up to a constant per row.

    Attributes:
        local: floating [n, classes].
        remote: floating [n, classes].
        labels: int64 [n].
        were_probabilities: names of the arrays whose probabilities were turned into logits.
        names: of the classes; empty if the file has none.
    """

    local: NDArray[np.floating]
    remote: NDArray[np.floating]
    labels: NDArray[np.int64]
    were_probabilities: tuple[str, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class SavedOutputs:
    """Logits of one model, up to a constant per row.

    Attributes:
        logits: floating [n, classes].
        labels: int64 [n].
        were_probabilities: whether probabilities were turned into logits.
    """

    logits: NDArray[np.floating]
    labels: NDArray[np.int64]
    were_probabilities: bool


@dataclass(frozen=True)
class SavedScores:
    """Raw scores of answers, and whether the answers were right.

    Attributes:
        score: floating [n]; higher is surer, on any scale.
        correct: bool [n].
    """

    score: NDArray[np.floating]
    correct: NDArray[np.bool_]


def read_pair(*paths: str | os.PathLike[str]) -> SavedPair:
    """Read the arrays `local` and `remote` [n, classes], `labels` [n], and from an .npz file also `names` [classes].

    Args:
        paths: one .npz or .parquet file with the three by name, or three .npy files in this order. Both logits and
            probabilities will do; probabilities are recognised and turned into logits.

    Raises:
        CalibrationError: a file cannot be read, or lacks one of the three.
        ModuleNotFoundError: the file is a .parquet, and pyarrow is not installed.
    """
    arrays = _read(paths, ("local", "remote", "labels"), ("names",))
    _require(arrays, ("local", "remote", "labels"), paths[0])
    (local, local_was), (remote, remote_was) = _as_logits(arrays["local"]), _as_logits(arrays["remote"])
    turned = tuple(name for name, was in (("local", local_was), ("remote", remote_was)) if was)
    names = tuple(map(str, arrays["names"].tolist())) if "names" in arrays else ()
    return SavedPair(local, remote, _labels(arrays["labels"]), turned, names)


def read_model(*paths: str | os.PathLike[str], array: str = "outputs") -> SavedOutputs | SavedScores:
    """Read one model's outputs [n, classes] and `labels` [n], or `score` [n] and `correct` [n].

    Args:
        paths: one .npz or .parquet file with the arrays by name, or two .npy files in this order.
        array: name of the outputs in a file with names.

    Raises:
        CalibrationError: a file cannot be read, or lacks the arrays.
        ModuleNotFoundError: the file is a .parquet, and pyarrow is not installed.
    """
    if len(paths) == 2:
        first, second = (_read_npy(Path(path)) for path in paths)
        arrays = {array: first, "labels": second} if first.ndim == 2 else {"score": first, "correct": second}
    else:
        arrays = _read(paths, (array, "labels"), ("score", "correct"))
    if array not in arrays and "score" in arrays:
        _require(arrays, ("score", "correct"), paths[0])
        return SavedScores(arrays["score"], _correct(arrays["correct"]))
    _require(arrays, (array, "labels"), paths[0])
    logits, turned = _as_logits(arrays[array])
    return SavedOutputs(logits, _labels(arrays["labels"]), turned)


def _read(
    paths: Sequence[str | os.PathLike[str]], names: Sequence[str], others: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    if len(paths) == 1:
        return _read_named(Path(paths[0]), (*names, *others))
    if len(paths) == len(names):
        return {name: _read_npy(Path(path)) for name, path in zip(names, paths, strict=True)}
    raise CalibrationError(f"outputs: expected one .npz or .parquet file, or {len(names)} .npy files, got {len(paths)}")


def _require(arrays: dict[str, NDArray[Any]], names: Sequence[str], path: str | os.PathLike[str]) -> None:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise CalibrationError(f"{path}: expected the arrays {', '.join(names)}, got no {', '.join(missing)}")


def _as_logits(scores: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    turn = scores.ndim == 2 and scores.dtype.kind == "f" and are_probabilities(scores)
    return (log_probabilities(scores) if turn else scores), turn


def _labels(labels: NDArray[Any]) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu":
        raise CalibrationError(f"labels: expected integers [n], got {labels.dtype} {list(labels.shape)}")
    return labels.astype(np.int64)


def _correct(correct: NDArray[Any]) -> NDArray[np.bool_]:
    if not np.isin(correct, (0, 1)).all():
        raise CalibrationError(f"correct: expected true and false, or 1 and 0, got {correct.dtype} with other values")
    return correct.astype(np.bool_)


def _read_named(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    if path.suffix == ".parquet":
        return _read_parquet(path, names)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names if name in archive}
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file") from error
    except Exception as error:  # numpy and zipfile raise many types
        raise CalibrationError(f"{path}: is not an .npz file of plain arrays: {error}") from error


def _read_npy(path: Path) -> NDArray[Any]:
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
