"""Labelled data from tables: parquet files, and data sets as Hugging Face's `datasets` saves them.

Read with pyarrow alone: both carry the names of their classes in the schema's metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.export.table_columns import inputs_of, labels_of, wanted
from edgecascade.types.errors import ExportError

__all__ = ["read_tables", "table_files"]

_MOST_ROWS = 5_000_000
_MOST_BYTES = 8 << 30  # of the columns that are read, uncompressed
_MOST_FILES = 10_000
_SHARD = re.compile(r"(?P<split>[\w.]+?)-\d{5}-of-\d{5}\b.*")


def table_files(path: Path) -> list[Path]:
    """The parquet or arrow files at a path (a file, a folder, or a pattern such as `data/test-*.parquet`), in order.

    Raises:
        ExportError: they belong to several splits of a data set.
    """
    if path.is_file():
        return [path] if path.suffix in (".parquet", ".arrow") else []
    if not path.is_dir():
        return sorted(path.parent.glob(path.name)) if "*" in path.name and path.suffix == ".parquet" else []
    if (path / "dataset_dict.json").is_file():
        splits = sorted(one.name for one in path.iterdir() if one.is_dir())
        raise ExportError(
            f"{path}: it holds the splits {', '.join(splits)}: name the folder of one, such as {path / _likely(splits)}"
            if splits
            else f"{path}: a data set with no splits in it"
        )
    if (path / "state.json").is_file():
        return _saved_files(path)
    files = sorted(file for file in path.rglob("*.parquet"))[: _MOST_FILES + 1]
    if len(files) > _MOST_FILES:
        raise ExportError(f"{path}: expected at most {_MOST_FILES} parquet files, got more")
    _check_one_split(path, files)
    return files


def read_tables(path: Path, files: list[Path]) -> tuple[Any, NDArray[np.int64], tuple[str, ...]]:
    """Inputs, labels int64 [n] and class names (empty if unknown) of files that have the same columns.

    Args:
        path: what to call the data in a refusal.
        files: parquet or arrow.

    Raises:
        ExportError: a file is damaged, or its columns are not as `read_labelled` describes them.
        ModuleNotFoundError: pyarrow is not installed.
    """
    import pyarrow

    with _refusing(path):
        columns = wanted(_schema(files[0]), str(path))
        tables = list(_read(files, columns, path))
        table = pyarrow.concat_tables([one.replace_schema_metadata(None) for one in tables])
    if table.num_rows == 0:
        raise ExportError(f"{path}: expected rows of labelled inputs, got none")
    with _refusing(path):
        labels, names = labels_of(table, str(path))
        inputs = inputs_of(table, str(path))
    named = names or _class_names(_schema(files[0]), path)
    return inputs, labels, named


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (OSError, pyarrow.ArrowException, KeyError) as error:
        raise ExportError(f"{path}: not a readable table: {str(error).partition(chr(10))[0]}") from error


def _schema(file: Path) -> Any:
    import pyarrow.parquet

    if file.suffix == ".parquet":
        return pyarrow.parquet.read_schema(file)
    with _opened(file) as reader:
        return reader.schema


def _read(files: list[Path], columns: list[str], path: Path) -> Iterator[Any]:
    """Each file's columns; what comes of arrow files stays on disk until it is looked at."""
    import pyarrow.parquet

    rows = size = 0
    for file in files:
        if file.suffix == ".parquet":
            with pyarrow.parquet.ParquetFile(file) as parquet:
                _check_size(path, rows + parquet.metadata.num_rows, size + _stored(parquet.metadata, columns))
                table = parquet.read(columns=columns)
        else:
            with _opened(file) as reader:
                table = reader.read_all().select(columns)
        rows, size = rows + table.num_rows, size + table.nbytes
        _check_size(path, rows, size)
        yield table


def _stored(metadata: Any, columns: list[str]) -> int:
    """Bytes of some columns before compression, as the file says."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    cells = (group.column(j) for group in groups for j in range(group.num_columns))
    return sum(cell.total_uncompressed_size for cell in cells if cell.path_in_schema.partition(".")[0] in columns)


def _check_size(path: Path, rows: int, size: int) -> None:
    if rows > _MOST_ROWS or size > _MOST_BYTES:
        raise ExportError(
            f"{path}: expected at most {_MOST_ROWS} rows and {_MOST_BYTES >> 30} GiB in the columns that are read, "
            f"got {rows} rows and {size / (1 << 30):.1f} GiB; take a sample"
        )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """An arrow stream, as `datasets` writes it."""
    import pyarrow.ipc

    with pyarrow.memory_map(str(file)) as mapped, pyarrow.ipc.open_stream(mapped) as reader:
        yield reader


def _saved_files(path: Path) -> list[Path]:
    """The files of a data set that `save_to_disk` wrote, in its order."""
    try:
        named = json.loads((path / "state.json").read_text(encoding="utf-8"))["_data_files"]
        files = [path / Path(str(one["filename"])).name for one in named]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExportError(f"{path}: its state.json is damaged: {error!r}") from error
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise ExportError(
            f"{path}: expected the files that its state.json names, got no {', '.join(missing) or 'file'}"
        )
    return files


def _check_one_split(path: Path, files: list[Path]) -> None:
    matches = [_SHARD.fullmatch(file.name) for file in files]
    splits = {match["split"] if match else file.stem for file, match in zip(files, matches, strict=True)}
    if len(splits) > 1 and splits & {"train", "test", "validation", "valid", "dev", "val"}:
        some = files[0].parent / f"{_likely(sorted(splits))}*.parquet"
        raise ExportError(
            f"{path}: it holds the splits {', '.join(sorted(splits))}: name the files of one, such as '{some}'"
        )


def _likely(splits: list[str]) -> str:
    return "test" if "test" in splits else splits[0]


def _class_names(schema: Any, path: Path) -> tuple[str, ...]:
    """The names that a Hugging Face `ClassLabel` has, or none."""
    texts = [(schema.metadata or {}).get(b"huggingface")]
    described = path / "dataset_info.json"
    if described.is_file():
        texts.append(described.read_bytes())
    for text in texts:
        try:
            document = json.loads(text or b"{}")
            feature = document.get("info", document)["features"][
                next(n for n in ("label", "labels") if n in schema.names)
            ]
            if feature.get("_type") == "ClassLabel":
                return tuple(str(name) for name in feature["names"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # whatever else stands there, it is not the names
    return ()
