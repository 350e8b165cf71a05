"""Experts' saved outputs on labelled rows, read from .npz, .parquet or .npy files."""

from __future__ import annotations

import hashlib
import zipfile
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.cleaning import Experts
from edgecascade.calibration.commands.outputs import in_class_order, numbered_labels, read_array
from edgecascade.cli import rare
from edgecascade.types.errors import CalibrationError, first_line

__all__ = ["ExpertOutputs", "add_expert_arguments", "read_experts", "read_labels", "read_options", "sha256"]

_BESIDE = ("labels", "names", "ids")


@dataclass(frozen=True)
class ExpertOutputs:
    """What several experts said of labelled rows.

    Attributes:
        experts: the outputs [n, classes] of each.
        labels: int64 [n].
        names: of the classes; empty if the file has none.
        ids: text of each row, such as its path; empty if the file has none.
        folds: [n], by which outputs are out of fold; None if not asked for.
        text: whether the labels were names.
        files: name and SHA-256 of each file that was read.
    """

    experts: Experts
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    ids: tuple[str, ...]
    folds: NDArray[Any] | None
    text: bool
    files: tuple[tuple[str, str], ...]


def add_expert_arguments(parser: ArgumentParser) -> None:
    """Add the outputs of the experts, and how they are read."""
    parser.add_argument(
        "outputs",
        nargs="+",
        metavar="OUTPUTS",
        help="Logits or probabilities [n, classes] of each expert, labels [n], and optionally names [classes] and ids "
        "[n], such as paths: one .npz or .parquet file with an array per expert, or .npy files, the labels last.",
    )
    rare(parser.add_argument("--experts", metavar="NAME,...", help="Arrays that are experts (default: all of 2-D)."))
    rare(
        parser.add_argument(
            "--kind",
            action="append",
            default=[],
            metavar="NAME=KIND",
            help="What an expert's outputs are, logits or probabilities, if their values do not tell.",
        )
    )
    rare(parser.add_argument("--names", metavar="FILE", help="Class names beside .npy files: an .npy file of text."))
    rare(parser.add_argument("--ids", metavar="FILE", help="Ids of the judged rows beside .npy files: an .npy file."))


def read_experts(
    paths: Sequence[str],
    arguments: Namespace,
    *,
    like: ExpertOutputs | None = None,
    folds: str | None = None,
) -> ExpertOutputs:
    """Read the outputs of several experts on the same labelled rows.

    Args:
        paths: one .npz or .parquet file, or .npy files, the labels last.
        arguments: those of `add_expert_arguments`.
        like: what was read of the same experts on other rows; the files must have its experts.
        folds: name of an array in the file, or an .npy file.

    Raises:
        CalibrationError: a file cannot be read, lacks an array, or has one that is not as expected.
        ModuleNotFoundError: the file is a .parquet, and pyarrow is not installed.
    """
    wanted = _split(arguments.experts) if like is None else list(like.experts.names)
    beside = (*_BESIDE, *((folds,) if folds and not folds.endswith(".npy") else ()))
    if len(paths) == 1:
        arrays, found = _read_named(Path(paths[0]), wanted, beside)
    else:
        arrays, found = _read_arrays(paths, wanted, like is not None)
    if "labels" not in arrays:
        raise CalibrationError(f"{paths[0]}: expected an array labels [n], got none")
    for name, file in (("names", arguments.names), ("ids", None if like else arguments.ids)):
        if file is not None:
            arrays[name] = read_array(file)
    try:
        return _checked(arrays, found, paths, arguments, like, folds)
    except CalibrationError as error:
        raise CalibrationError(f"{paths[0]}: {error}") from error


def _checked(
    arrays: dict[str, Any],
    found: list[str],
    paths: Sequence[str],
    arguments: Namespace,
    like: ExpertOutputs | None,
    folds: str | None,
) -> ExpertOutputs:
    """Return what was read, once it fits together."""
    names = like.names if like and "names" not in arrays else _texts(arrays, "names")
    if like and like.names and sorted(names) != sorted(like.names):
        raise CalibrationError(f"names: expected the classes of {like.files[0][0]}, got others")
    outputs = [_as_float(in_class_order(arrays[one], arrays, names, one)) for one in found]
    labels = numbered_labels(arrays["labels"], names)
    if like and like.names and names != like.names:
        order = [names.index(one) for one in like.names]
        places = np.argsort(order)
        known = (labels >= 0) & (labels < len(names))  # `check_labels` refuses the others
        labels = np.where(known, places[np.where(known, labels, 0)], labels)
        outputs, names = [one[:, order] for one in outputs], like.names
    kinds = _kinds(arguments.kind, found)
    experts = Experts.of(outputs, found, [kinds.get(one) for one in found])
    if names and len(names) != experts.classes:
        raise CalibrationError(f"names: expected {experts.classes}, one per class, got {len(names)}")
    if len(set(names)) < len(names):
        raise CalibrationError(f"names: expected names that differ, got {Counter(names).most_common(1)[0][0]} twice")
    ids = _texts(arrays, "ids")
    if ids and len(ids) != experts.n:
        raise CalibrationError(f"ids: expected {experts.n}, one per row, got {len(ids)}")
    return ExpertOutputs(
        experts=experts,
        labels=labels,
        names=names,
        ids=ids,
        folds=None if folds is None else _folds(folds, arrays, experts.n),
        text=arrays["labels"].dtype.kind in "US",
        files=tuple((path, sha256(path)) for path in paths),
    )


def read_labels(path: str, names: Sequence[str] = ()) -> tuple[NDArray[np.int64], tuple[str, ...], bool]:
    """Read labels [n] from an .npy file, or `labels` and `names` from an .npz or .parquet file.

    Returns:
        The labels int64 [n], the names of the classes (those given, if the file has none), and whether the labels of
        the file are names.
    """
    arrays = {"labels": read_array(path)} if path.endswith(".npy") else _read_named(Path(path), (), _BESIDE, False)[0]
    if "labels" not in arrays:
        raise CalibrationError(f"{path}: expected an array labels [n], got none")
    found = _texts(arrays, "names") or tuple(names)
    text = arrays["labels"].dtype.kind in "US"
    if text and not found:
        found = tuple(sorted({str(one) for one in arrays["labels"].ravel().tolist()}))
    return numbered_labels(arrays["labels"], found), found, text


def read_options(path: str, n: int, classes: int) -> NDArray[np.bool_] | None:
    """Return which classes each row may have, bool [n, classes]: those that no expert of the file gives -inf.

    None where all rows have all of them, or the file has no outputs of this shape. Raises as `read_labels`.
    """
    if path.endswith(".npy"):
        return None
    options = np.ones((n, classes), bool)
    for array in _read_named(Path(path), (), (), experts=True, required=False)[0].values():
        if array.dtype.kind == "f" and array.shape == options.shape:
            options &= ~np.isneginf(array)
    return None if options.all() else options


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    found = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _read_arrays(paths: Sequence[str], wanted: Sequence[str], given: bool) -> tuple[dict[str, Any], list[str]]:
    """Read one .npy file per expert and one of labels."""
    odd = next((path for path in paths if not path.endswith(".npy")), None)
    if odd is not None:
        raise CalibrationError(f"outputs: expected one .npz or .parquet file, or .npy files only, got {odd} among them")
    stems = [Path(path).stem for path in paths[:-1]]
    names = stems if len(set(stems)) == len(stems) else list(paths[:-1])
    if wanted:
        if len(wanted) != len(names):
            raise CalibrationError(f"outputs: expected {len(wanted)} .npy files of experts, got {len(names)}")
        names = list(wanted)
    arrays = {name: read_array(path) for name, path in zip(names, paths[:-1], strict=True)}
    wrong = next((name for name, array in arrays.items() if array.ndim != 2), None)
    if wrong is not None and not given:
        raise CalibrationError(f"{wrong}: expected outputs [n, classes], got {list(arrays[wrong].shape)}")
    return {**arrays, "labels": read_array(paths[-1])}, names


def _read_named(
    path: Path, wanted: Sequence[str], beside: Sequence[str], experts: bool = True, required: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Read the experts of a file, all if none are named, and the other arrays."""
    if path.is_dir():
        raise CalibrationError(
            f"{path}: expected outputs in one .npz or .parquet file, or .npy files, the labels last, got a folder"
        )
    if not path.is_file():
        raise CalibrationError(f"{path}: no such file")
    if path.suffix == ".parquet":
        shapes, read = _parquet(path)
    elif path.suffix == ".npz":
        shapes, read = _archive(path)
    else:
        raise CalibrationError(f"{path}: expected one .npz or .parquet file, or .npy files, the labels last")
    every = [one for one, dimensions in shapes.items() if dimensions == 2 and one not in beside]
    folds = next((one for one in beside if one not in (*_BESIDE, *shapes)), None)
    if folds is not None:
        raise CalibrationError(f"{path}: expected an array {folds} [n] of folds, got only {', '.join(shapes)}")
    missing = [one for one in wanted if one not in shapes]
    if missing:
        raise CalibrationError(f"{path}: expected the experts {', '.join(wanted)}, got no {', '.join(missing)}")
    found = list(wanted) if wanted else every if experts else []
    if experts and required and not found:
        raise CalibrationError(f"{path}: expected an array [n, classes] for each expert, got none")
    others = [one for one in (*beside, *(f"{name}_names" for name in found)) if one in shapes]
    return {one: read(one) for one in (*found, *others)}, found


def _archive(path: Path) -> tuple[dict[str, int], Any]:
    """Return the number of dimensions of each array of an .npz file, and how to read one."""
    try:
        with zipfile.ZipFile(path) as archive:
            shapes = {}
            for member in archive.namelist():
                with archive.open(member) as stream:
                    version = np.lib.format.read_magic(stream)
                    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else _header_2
                    shapes[member.removesuffix(".npy")] = len(header(stream)[0])
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CalibrationError(f"{path}: is not an .npz file of plain arrays: {first_line(error)}") from error

    def read(name: str) -> NDArray[Any]:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return np.asarray(arrays[name])
        except Exception as error:  # numpy and zipfile raise many types
            raise CalibrationError(f"{path}: {name} is not an array of plain values: {first_line(error)}") from error

    return shapes, read


def _header_2(stream: Any) -> Any:
    return np.lib.format.read_array_header_2_0(stream)


def _parquet(path: Path) -> tuple[dict[str, int], Any]:
    """Return the number of dimensions of each column of a .parquet file, and how to read one."""
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise CalibrationError(f"{path}: is not a readable .parquet file: {first_line(error)}") from error
    shapes = {field.name: _dimensions(field.type) for field in schema}

    def read(name: str) -> NDArray[Any]:
        try:
            column = pyarrow.parquet.read_table(path, columns=[name])[name].combine_chunks()
        except (OSError, pyarrow.ArrowException) as error:
            raise CalibrationError(f"{path}: {name} is not readable: {first_line(error)}") from error
        if column.null_count:
            raise CalibrationError(f"{path}: expected a value in every row of {name}, got {column.null_count} empty")
        if shapes[name] == 1:
            return np.array(column.to_pylist()) if _is_text(column.type) else np.asarray(column.to_numpy(False))
        flat, n = column.flatten(), len(column)
        lengths = np.unique(np.diff(column.offsets.to_numpy())) if hasattr(column, "offsets") else [len(flat) // n]
        if len(lengths) != 1 or flat.null_count:
            raise CalibrationError(f"{path}: expected lists of one length without gaps in {name}")
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(n, -1)

    return shapes, read


def _dimensions(kind: Any) -> int:
    import pyarrow

    listed = pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind)
    if not listed:
        return 1
    return 2 if pyarrow.types.is_floating(kind.value_type) or pyarrow.types.is_integer(kind.value_type) else 3


def _is_text(kind: Any) -> bool:
    import pyarrow

    return bool(
        pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_dictionary(kind)
    )


def _as_float(outputs: NDArray[Any]) -> NDArray[Any]:
    return outputs.astype(np.float32) if outputs.dtype.kind in "iu" else outputs


def _texts(arrays: Mapping[str, NDArray[Any]], name: str) -> tuple[str, ...]:
    values = arrays.get(name)
    if values is None:
        return ()
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise CalibrationError(f"{name}: expected text or integers [n], got {values.dtype} {list(values.shape)}")
    found = tuple(one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in values.tolist())
    odd = next((one for one in found if any("\ud800" <= letter <= "\udfff" for letter in one)), None)
    if odd is not None:
        raise CalibrationError(f"{name}: expected valid Unicode text, got {odd!r}")
    return found


def _folds(folds: str, arrays: Mapping[str, NDArray[Any]], n: int) -> NDArray[Any]:
    values = read_array(folds) if folds.endswith(".npy") else arrays.get(folds)
    if values is None:
        raise CalibrationError(f"expected an array {folds} [n] of folds, got none")
    if values.shape != (n,) or values.dtype.kind not in "USiu":
        raise CalibrationError(
            f"{folds}: expected integers or text [{n}], one per row, got {values.dtype} {list(values.shape)}"
        )
    if len(np.unique(values)) < 2:
        raise CalibrationError(f"{folds}: expected at least 2 folds, got one")
    return values


def _kinds(given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, _, kind = one.rpartition("=")
        if name not in names or kind not in ("logits", "probabilities"):
            raise CalibrationError(
                f"--kind: expected NAME=logits or NAME=probabilities for one of {', '.join(names)}, got {one}"
            )
        found[name] = kind
    return found


def _split(text: str | None) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()] if text else []
