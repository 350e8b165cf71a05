"""Both models' saved outputs on labelled inputs, from the files that people have."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import are_probabilities

__all__ = ["SavedOutputs", "read_outputs"]

_NAMES = ("local", "remote", "labels")
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class SavedOutputs:
    """Logits of both models, up to a constant per row.

    Attributes:
        local: [n, classes].
        remote: [n, classes].
        labels: int64 [n].
        were_probabilities: the models whose probabilities were turned into logits, by name.
    """

    local: NDArray[np.floating]
    remote: NDArray[np.floating]
    labels: NDArray[np.int64]
    were_probabilities: tuple[str, ...]


def read_outputs(*paths: str | os.PathLike[str]) -> SavedOutputs:
    """Read `local`, `remote` [n, classes] and `labels` [n].

    Args:
        paths: one .npz or .parquet with the three by name, or three .npy in this order. Logits or probabilities,
            which are recognised and turned into logits.

    Raises:
        CalibrationError: a file cannot be read, or lacks one of the three.
        ModuleNotFoundError: a .parquet file, and pyarrow is not installed.
    """
    if len(paths) == 3:
        arrays = {name: _read_npy(Path(path)) for name, path in zip(_NAMES, paths, strict=True)}
    elif len(paths) == 1:
        arrays = _read_named(Path(paths[0]))
    else:
        raise CalibrationError(f"outputs: expected one .npz or .parquet, or three .npy, got {len(paths)} files")
    missing = [name for name in _NAMES if name not in arrays]
    if missing:
        raise CalibrationError(f"{paths[0]}: expected the arrays {', '.join(_NAMES)}, got no {', '.join(missing)}")
    labels = np.asarray(arrays["labels"])
    if labels.dtype.kind not in "iu":
        raise CalibrationError(f"labels: expected integers [n], got {labels.dtype} {list(labels.shape)}")
    turned = tuple(name for name in ("local", "remote") if _is_table(arrays[name]) and are_probabilities(arrays[name]))
    logits = {name: np.log(np.maximum(arrays[name], _TINY)) if name in turned else arrays[name] for name in _NAMES[:2]}
    return SavedOutputs(logits["local"], logits["remote"], labels.astype(np.int64), turned)


def _is_table(array: NDArray[Any]) -> bool:
    return array.ndim == 2 and array.dtype.kind == "f"


def _read_named(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".parquet":
        return _read_parquet(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in _NAMES if name in archive}
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file") from error
    except Exception as error:  # numpy and zipfile raise many kinds
        raise CalibrationError(f"{path}: not an npz file of plain arrays: {error}") from error


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file") from error
    except Exception as error:
        raise CalibrationError(f"{path}: not an npy file of plain numbers: {error}") from error


def _read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    """Columns `local` and `remote` of lists, and `labels` of integers."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        return {name: np.array(table[name].to_pylist()) for name in _NAMES if name in table.column_names}
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise CalibrationError(f"{path}: not a parquet file of numbers: {error}") from error
